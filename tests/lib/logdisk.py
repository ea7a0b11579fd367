"""A disk that remembers: a block device whose every write and flush is kept in order, so that what a power cut at
any instant could have left can be made again.

It is a loop device over the one file of a FUSE file system that this program serves by itself (no library): writes
arrive directly, as the kernel sends them to the disk, and a flush as fsync. Run as a program it is the server:
    logdisk.py MOUNTPOINT IMAGE LOG     until the file system is unmounted
LOG gets records `offset, length` and the data; length FLUSH is a flush.
"""
import ctypes
import errno
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

FLUSH = (1 << 64) - 1
RECORD = struct.Struct("<QQ")
BLOCK = 4096  # what a disk writes whole or not at all
NAME = "disk"

# ---- The server: linux/fuse.h, version 7.31 ----

IN, OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH_FILE, INIT, ACCESS, INTERRUPT, \
    DESTROY, BATCH_FORGET = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 34, 36, 38, 42
DIRECT_IO, BIG_WRITES, MAX_PAGES = 1, 1 << 5, 1 << 22
MAX_WRITE = 1 << 20
HOUR = 3600


class Server:
    def __init__(self, mountpoint, image, log):
        self.image = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.log = open(log, "ab", buffering=0)
        self.device = os.open("/dev/fuse", os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0"
        if libc.mount(b"logdisk", mountpoint.encode(), b"fuse.logdisk", 6, options.encode()):  # nosuid, nodev
            raise OSError(ctypes.get_errno(), "mount a FUSE file system")

    def attr(self, node):
        mode, size, links = (0o40700, 0, 2) if node == 1 else (0o100600, self.size, 1)
        return ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, BLOCK, 0)

    def serve(self):
        while True:
            try:
                request = os.read(self.device, MAX_WRITE + 65536)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                if e.errno == errno.ENODEV:  # unmounted
                    return
                raise
            _, code, unique, node, *_ = IN.unpack_from(request)
            if code in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            try:
                answer, status = self.answer(code, node, request[IN.size:]), 0
            except OSError as e:
                answer, status = b"", -e.errno
            os.writev(self.device, [OUT.pack(OUT.size + len(answer), status, unique), answer])
            if code == DESTROY:
                return

    def answer(self, code, node, body):
        if code == INIT:
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, BIG_WRITES | MAX_PAGES, 12, 9, MAX_WRITE, 1,
                               MAX_WRITE // 4096, 0, 0, *[0] * 7)
        if code == LOOKUP:
            if body.rstrip(b"\0") != NAME.encode():
                raise OSError(errno.ENOENT, "")
            return struct.pack("<QQQQII", 2, 0, HOUR, HOUR, 0, 0) + self.attr(2)
        if code in (GETATTR, SETATTR):
            return struct.pack("<QII", HOUR, 0, 0) + self.attr(node)
        if code == OPEN:
            return struct.pack("<QIi", 0, DIRECT_IO, 0)
        if code == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return os.pread(self.image, size, offset)
        if code == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40:40 + size]
            os.pwrite(self.image, data, offset)
            self.log.write(RECORD.pack(offset, size) + data)
            return struct.pack("<II", size, 0)
        if code == FSYNC:
            self.log.write(RECORD.pack(0, FLUSH))
            return b""
        if code in (FLUSH_FILE, RELEASE, ACCESS, DESTROY):
            return b""
        if code == STATFS:
            return struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, BLOCK, 255, BLOCK, 0)
        raise OSError(errno.ENOSYS, "")


# ---- Its user ----

def why_not():
    """Why there can't be one here, or None."""
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    if not os.path.exists("/dev/loop-control"):
        return "no loop devices"
    return None if shutil.which("mkfs.ext4") else "no mkfs.ext4"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def unmount(path):
    """A process that has just been killed may hold it for a moment."""
    deadline = time.monotonic() + 20
    while os.path.ismount(path):
        done = subprocess.run(["umount", path], check=False, capture_output=True, text=True)
        if done.returncode and time.monotonic() > deadline:
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)
            raise RuntimeError(f"{path} can't be unmounted: {done.stderr}")
        time.sleep(0.05 if done.returncode else 0)


class LogDisk:
    """Made with a file system, mounted at self.path. Every change since mkfs is in the log."""

    def __init__(self, base, size, mkfs=("mkfs.ext4", "-q", "-F")):
        self.base, self.path, self.log = base, f"{base}/mnt", f"{base}/log"
        self.start, self.fuse, self.loop = f"{base}/start", f"{base}/fuse", None
        for path in (self.path, self.fuse):
            os.mkdir(path)
        with open(self.start, "wb") as f:
            f.truncate(size)
        run(*mkfs, self.start)
        run("cp", "--sparse=always", self.start, f"{base}/now")
        open(self.log, "wb").close()
        self.server = subprocess.Popen([sys.executable, __file__, self.fuse, f"{base}/now", self.log])
        deadline = time.monotonic() + 30
        while not os.path.ismount(self.fuse):
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the logging disk's server doesn't start")
            time.sleep(0.01)
        self.loop = run("losetup", "--find", "--show", f"{self.fuse}/{NAME}")
        run("mount", "-o", "nosuid,noatime", self.loop, self.path)

    def position(self):
        """Now, in the log."""
        return os.path.getsize(self.log)

    def close(self):
        unmount(self.path)
        subprocess.run(["losetup", "-d", self.loop or "none"], check=False, capture_output=True)
        unmount(self.fuse)
        try:
            self.server.wait(30)
        except subprocess.TimeoutExpired:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait()


class Replay:
    """Disks as power cuts at positions of the log would leave them; the positions have to rise."""

    def __init__(self, disk):
        self.base = disk.base
        self.log = open(disk.log, "rb")
        self.image = f"{disk.base}/durable"
        run("cp", "--sparse=always", disk.start, self.image)
        self.fd = os.open(self.image, os.O_RDWR)
        self.done = 0  # of the log: what is in the image, which ends with a flush
        self.ahead = []  # (offset, data) after it

    def record(self, position):
        """The record that begins before `position`, or None; and whether it is a flush."""
        if self.log.tell() >= position:
            return None
        head = self.log.read(RECORD.size)
        if len(head) < RECORD.size:
            return None
        offset, length = RECORD.unpack(head)
        return offset, None if length == FLUSH else self.log.read(length)

    def cut(self, position, seed):
        """The path of a disk: all up to the last flush before position, and of what was written after it any
        blocks, or none, in any order that a disk's cache may choose."""
        while (record := self.record(position)) is not None:
            offset, data = record
            if data is not None:
                self.ahead.append((offset, data))
                continue
            for at, written in self.ahead:
                os.pwrite(self.fd, written, at)
            self.ahead = []
        chance = random.Random(seed)
        share = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        path = f"{self.base}/cut"
        run("cp", "--sparse=always", self.image, path)
        with open(path, "r+b", buffering=0) as f:
            for at, written in self.ahead:
                for i in range(0, len(written), BLOCK):
                    if chance.random() < share:
                        os.pwrite(f.fileno(), written[i:i + BLOCK], at + i)
        return path

    def close(self):
        os.close(self.fd)
        self.log.close()


if __name__ == "__main__":
    Server(*sys.argv[1:4]).serve()
