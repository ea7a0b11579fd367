"""A power cut at any instant of pulling and removing images: after the boot each is whole or absent.

The store's file system is on a disk that logs its writes (tests/lib/logdisk.py). A log is taken once; then, for
random instants of it, the disk is made as the cut may have left it: what was flushed is there, of what came after
any part. A crispd is started on it, in what it must take for another boot.
"""
import os
import random
import shutil
import subprocess
import sys
import time

import pytest

import logdisk
import storecheck
from cri import Cri
from daemon import Crispd, wait_for
from registry import Registry
from stubs import pb

CUTS = int(os.environ.get("CRISP_CUTS", "6"))  # tests/power/run makes it 50
BLOCK = 10
MKFS = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f"), "btrfs": ("mkfs.btrfs", "-q", "-f")}
FILE_SYSTEM = os.environ.get("CRISP_FILE_SYSTEM", "ext4")
NAMES = ("registry.test/one:1", "registry.test/two:1")
IN_ANOTHER_BOOT = """mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@" """


class Recording:
    """What a daemon did to its disk: positions in the log, and what must be true from which to which."""

    def __init__(self, base, seed):
        self.base, self.chance = base, random.Random(seed)
        self.registry = Registry(f"{base}/storage", f"{base}/work")
        one = storecheck.ten_layers("one")
        self.images = dict(zip(NAMES, (one, storecheck.ten_layers("two", one.layers[:6]))))
        for name, image in self.images.items():
            self.registry.push(name, image)
        self.disk = logdisk.LogDisk(base, (320 if FILE_SYSTEM == "xfs" else 160) << 20, MKFS[FILE_SYSTEM])
        self.trees, self.durable = {}, []  # durable: (name, from, to)
        self.since = {}
        try:
            self.record()
        finally:
            self.disk.close()

    def record(self):
        os.mkdir(f"{self.base}/crispd")
        crispd = Crispd(self.registry.url, base=f"{self.base}/crispd", settings={"root": f"{self.disk.path}/root"})
        self.root = f"{self.disk.path}/root"
        try:
            crispd.start()
            self.cri = Cri(crispd)
            subprocess.run(["sync", "-f", self.disk.path], check=True)
            self.first = self.disk.position()
            for _ in range(3):
                for name in self.chance.sample(NAMES, 2):
                    self.pull(name)
                for name in self.chance.sample(NAMES, 2):
                    self.remove(name)
            self.pull(NAMES[0])
            self.settle()
            self.last = self.disk.position()
            self.durable += [(name, since, self.last) for name, since in self.since.items()]
            crispd.kill()
        finally:
            crispd.destroy()

    def settle(self):
        """Until the disk has all layers for good."""
        wait_for(lambda: all(durable for _, durable in storecheck.layers(self.root).values()), 30, "layers settle")
        for name in NAMES:
            if self.cri.image(name):
                self.since.setdefault(name, self.disk.position())

    def pull(self, name):
        assert self.cri.pull(name) == self.images[name].id
        for diff_id, (path, _) in storecheck.layers(self.root).items():
            if diff_id not in self.trees:
                self.trees[diff_id] = storecheck.tree(path)
        what = self.chance.random()
        if what < 0.5:
            self.settle()
        if what < 0.3:
            time.sleep(self.chance.random() * 0.5)

    def remove(self, name):
        if name in self.since:
            self.durable.append((name, self.since.pop(name), self.disk.position()))
        self.cri.RemoveImage(image=pb.ImageSpec(image=name))
        time.sleep(self.chance.choice((0, 0.05, 0.5)))

    def instants(self, n):
        """Positions where a record begins, from the first on; rising."""
        found, at = [], 0
        with open(self.disk.log, "rb") as log:
            while head := log.read(logdisk.RECORD.size):
                if self.first <= at <= self.last:
                    found.append(at)
                length = logdisk.RECORD.unpack(head)[1]
                at += logdisk.RECORD.size + (0 if length == logdisk.FLUSH else length)
                log.seek(at)
        return sorted(self.chance.choices(found, k=n))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    if logdisk.why_not():
        pytest.skip(logdisk.why_not())
    seed = os.environ.get("CRISP_SEED") or str(time.time_ns())
    base = str(tmp_path_factory.mktemp("power"))
    made = Recording(base, seed)
    made.seed = seed
    made.cuts = made.instants(CUTS)
    made.replay = logdisk.Replay(made.disk)
    os.mkdir(f"{base}/cut-mnt")
    yield made
    made.replay.close()
    made.registry.stop()
    shutil.rmtree(base)


class Boot:
    """The machine after a cut."""

    def __init__(self, recording, disk, number):
        self.recording, self.mounted = recording, f"{recording.base}/cut-mnt"
        self.root = f"{self.mounted}/root"
        base = f"{recording.base}/boot{number}"
        os.mkdir(base)
        with open(f"{base}/boot_id", "w", encoding="ascii") as f:
            f.write(f"00000000-0000-4000-8000-{number:012}\n")
        subprocess.run(["mount", "-o", "loop,nosuid,noatime", disk, self.mounted], check=True)  # replays the journal
        self.crispd = Crispd(recording.registry.url, base=base, settings={"root": self.root})
        self.crispd.prefix = ["unshare", "-m", "sh", "-c", IN_ANOTHER_BOOT, f"{base}/boot_id"]

    def end(self):
        self.crispd.destroy()
        logdisk.unmount(self.mounted)

    def check(self, expected):
        self.crispd.start()
        cri = Cri(self.crispd)
        self.check_images(cri, expected)
        for name in NAMES:
            assert cri.pull(name) == self.recording.images[name].id
        self.check_images(cri, NAMES)
        for name in NAMES:
            cri.RemoveImage(image=pb.ImageSpec(image=name))
        wait_for(lambda: not storecheck.layers(self.root), 30, "the layers' records are gone")
        storecheck.wait_clean(self.root)
        assert self.crispd.terminate() == 0

    def check_images(self, cri, expected):
        storecheck.wait_clean(self.root)
        found = storecheck.check_layers(self.root, self.recording.trees)
        for name in NAMES:
            image = cri.image(name)
            assert image or name not in expected, f"{name} was on disk and is gone"
            if image:
                assert image.id == self.recording.images[name].id
                missing = {layer.diff_id for layer in self.recording.images[name].layers} - set(found)
                missing |= {f"mend:{image.id}"} - set(found)
                assert not missing, f"{name} is there without {missing}"


@pytest.mark.parametrize("block", range((CUTS + BLOCK - 1) // BLOCK))
def test_power_cut(recording, block):
    for number in range(block * BLOCK, min(CUTS, (block + 1) * BLOCK)):
        position = recording.cuts[number]
        expected = {name for name, since, until in recording.durable if since <= position < until}
        print(f"CRISP_SEED={recording.seed} cut {number} of {CUTS} at {position}, there must be {sorted(expected)}",
              file=sys.stderr)
        boot = Boot(recording, recording.replay.cut(position, f"{recording.seed} {number}"), number)
        try:
            boot.check(expected)
        except BaseException:
            print(boot.crispd.log_tail(), file=sys.stderr)
            raise
        finally:
            boot.end()
