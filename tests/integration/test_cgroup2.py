"""What is different with cgroup v2 alone: controllers, device programs, the container's own cgroup tree."""
import os
import stat

import pytest

import cgroups
from daemon import wait_for
from stubs import pb

pytestmark = [pytest.mark.cgroup2, pytest.mark.vm]
TREE = "/sys/fs/cgroup"


def privileged():
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))


def cgroup_of(pid):
    return TREE + cgroups.of_process(pid)[""]


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def test_controllers_are_handed_down(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(
        memory_limit_in_bytes=32 << 20, unified={"memory.high": str(24 << 20), "pids.max": "77"},
        hugepage_limits=[pb.HugepageLimit(page_size="2MB", limit=4 << 20)])))
    here = cgroup_of(cri.pid_of(container))
    assert set(read(here + "/cgroup.controllers").split()) >= {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}
    assert read(here + "/memory.high") == str(24 << 20) and read(here + "/pids.max") == "77"
    assert read(here + "/hugetlb.2MB.max") == str(4 << 20)
    # Processes live in leaves only; crisp-pod has one of its own beside the container's.
    assert not read(os.path.dirname(here) + "/cgroup.procs")


def test_the_container_sees_its_own_tree(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=pb.LinuxContainerConfig(
        resources=pb.LinuxContainerResources(memory_limit_in_bytes=32 << 20)))
    assert cri.sh(container, "cat /proc/1/cgroup") == "0::/\n"
    assert cri.sh(container, "cat /sys/fs/cgroup/memory.max") == f"{32 << 20}\n"
    line = next(x for x in cri.sh(container, "cat /proc/self/mountinfo").splitlines() if x.split()[4] == TREE)
    assert " - cgroup2 " in line and line.split()[3] == "/" and "ro" in line.split()[5].split(",")
    code, _, err = cri.exec(container, "mkdir", TREE + "/x")
    assert code and "Read-only file system" in err


def a_disk():
    """(device path, major, minor) of a disk of this machine with something on it."""
    for name in sorted(os.listdir("/sys/block")):
        path = f"/dev/{name}"
        if int(read(f"/sys/block/{name}/size")) and os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode):
            number = os.stat(path).st_rdev
            return path, os.major(number), os.minor(number)
    raise AssertionError("this machine has no disk to try a device rule with")


def test_devices_are_filtered(cri, pod, privileged_pod):
    disk, major, minor = a_disk()
    make = f"mknod /tmp/disk b {major} {minor}; head -c 1 /tmp/disk | wc -c"
    plain = cri.run(pod, ["sleep", "3600"])
    _, out, err = cri.exec(plain, "sh", "-c", make)
    assert out == "0\n" and "Operation not permitted" in err
    assert cri.sh(plain, "echo x >/dev/null; head -c 3 /dev/zero | wc -c") == "3\n"
    reader = cri.run(pod, ["sleep", "3600"], devices=[
        pb.Device(container_path="/dev/disk", host_path=disk, permissions="r")])
    assert cri.sh(reader, "head -c 1 /dev/disk | wc -c") == "1\n"
    code, _, err = cri.exec(reader, "sh", "-c", ": >>/dev/disk")
    assert code and "Operation not permitted" in err
    free = cri.run(privileged_pod, ["sleep", "3600"], linux=privileged())
    assert cri.sh(free, make) == "1\n"
    assert stat.S_ISBLK(os.stat(disk).st_mode)


def test_what_a_container_makes_below_itself_ends_with_it(cri, privileged_pod):
    # A privileged container sees the host's tree, and finds itself in it.
    container = cri.run(privileged_pod, ["sh", "-c", f"""
        here={TREE}$(cut -d: -f3 /proc/self/cgroup); mkdir -p $here/a/b $here/c
        for d in a/b c; do sleep 4243 & echo $! >$here/$d/cgroup.procs; done
        echo ready; trap '' TERM; while :; do sleep 1; done"""], linux=privileged())
    wait_for(lambda: cri.log_lines(container), what="the container's own cgroups")
    here = cgroup_of(cri.pid_of(container))
    assert read(here + "/a/b/cgroup.procs") and read(here + "/c/cgroup.procs")
    cri.StopContainer(container_id=container, timeout=0)
    cri.RemoveContainer(container_id=container)
    assert not os.path.exists(here)
