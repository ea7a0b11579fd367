"""One run of the emulated machine: its disks, qemu, and what comes back."""
import os
import subprocess
import sys
import threading

KERNEL_LINE = ("console=ttyS0 root=/dev/nvme0n1 rw rootwait tsc=reliable mitigations=off random.trust_cpu=on quiet "
               "systemd.show_status=0 panic=-1 audit=0 init_on_alloc=0 nokaslr no_timer_check ")
LSM = {"apparmor": "apparmor=1 security=apparmor", "selinux": "security=selinux selinux=1 enforcing=0"}
OUTPUT_BYTES = 512 << 20


class Machine:
    """Boots the kernel and root disk in `root`; work files go to `work`. Neither disk that is given to it changes."""

    def __init__(self, root, work, lsm, memory):
        self.root, self.work, self.lsm, self.memory = root, work, lsm, memory

    def command(self):
        # qemu64 is up to twice as fast as the `max` processor. NVMe and ext4 are built into Debian's cloud kernel.
        return ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "qemu64",
                "-smp", "2", "-m", str(self.memory), "-nodefaults", "-display", "none", "-no-reboot", "-nic", "none",
                "-device", "virtio-rng-pci", "-device", "nvme,id=n,serial=crisp",
                "-drive", f"if=none,id=root,format=raw,snapshot=on,file={self.root}/root.img",
                "-device", "nvme-ns,bus=n,drive=root,nsid=1",
                "-drive", f"if=none,id=in,format=raw,cache=unsafe,file={self.work}/in.img",
                "-device", "nvme-ns,bus=n,drive=in,nsid=2",
                "-drive", f"if=none,id=out,format=raw,cache=unsafe,file={self.work}/out.img",
                "-device", "nvme-ns,bus=n,drive=out,nsid=3",
                "-serial", "stdio", "-kernel", f"{self.root}/vmlinuz", "-append", KERNEL_LINE + LSM[self.lsm]]

    def disks(self, directory):
        """The second disk from a directory, with room to work in, and an empty third one."""
        used = int(subprocess.run(["du", "-sm", directory], check=True, capture_output=True).stdout.split()[0])
        subprocess.run(["truncate", "-s", f"{used + used // 4 + 1024}M", f"{self.work}/in.img"], check=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", directory,
                        f"{self.work}/in.img"], check=True)
        with open(f"{self.work}/out.img", "wb") as f:
            f.truncate(OUTPUT_BYTES)

    def run(self, directory, seconds):
        """Runs the machine over the given content of its second disk; (status or None, directory of its output)."""
        self.disks(directory)
        with open(f"{self.work}/console.log", "wb") as log:
            qemu = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT)
            timer = threading.Timer(seconds, qemu.kill)
            timer.start()
            try:
                for line in qemu.stdout:
                    log.write(line)
                    log.flush()
                    sys.stdout.write("  | " + line.decode("utf-8", "replace").rstrip() + "\n")
                    sys.stdout.flush()
                qemu.wait()
            finally:
                timer.cancel()
                if qemu.poll() is None:
                    qemu.kill()
                    qemu.wait()
        return self.result()

    def result(self):
        out = f"{self.work}/out"
        os.makedirs(out)
        subprocess.run(["tar", "--no-same-owner", "-xf", f"{self.work}/out.img", "-C", out], check=False,
                       stderr=subprocess.DEVNULL)  # a machine that was killed has left nothing
        try:
            with open(f"{out}/rc", encoding="utf-8") as f:
                return int(f.read()), out
        except (OSError, ValueError):
            return None, out
