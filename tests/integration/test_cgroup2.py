"""What is different with cgroup v2 alone: controllers, device programs, the container's own cgroup tree."""
import math
import os
import stat

import grpc
import pytest

import cgroups
from cri import code_of
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


def unified(**fields):
    return pb.LinuxContainerResources(unified={key.replace("_", "."): value for key, value in fields.items()})


def test_unified_values(cri, pod, crispd):
    number = os.stat(crispd.base).st_dev
    disk = f"{os.major(number)}:{os.minor(number)}"
    resources = unified(memory_low="1048576", memory_high="64M", io_max=f"{disk} wbps=4194304\n", cpu_weight="200",
                        memory_oom_group="1")
    resources.cpu_shares = 1024  # what is unified counts
    container = cri.run(pod, ["sh", "-c", "sleep 3600 & exec sleep 3600"], linux=pb.LinuxContainerConfig(
        resources=resources))
    here = cgroup_of(cri.pid_of(container))
    rate = f"{disk} rbps=max wbps=4194304 riops=max wiops=max"
    assert [read(f"{here}/{x}") for x in ("memory.low", "memory.high", "io.max", "cpu.weight", "memory.oom.group")] == \
        ["1048576", str(64 << 20), rate, "200", "1"]
    told = cri.status(container).resources.linux
    assert told.unified["memory.high"] == str(64 << 20) and told.unified["io.max"] == rate
    assert told.cpu_shares == cgroups_shares(200)
    for change, text in (
            ({"io.max": f"{disk} rbps=1048576", "memory.low": "2097152", "cpu.weight": "many"}, 'write "many" to cpu.weight'),
            ({"memory.low": "2097152", "memory.current": "1"}, '"memory.current" is nothing that can be set'),
            ({"memory.low": "2097152", "memory.nosuch": "1"}, 'no "memory.nosuch"'),
            ({"memory.low": "2097152", "memory.pressure": "some 1 1"}, '"memory.pressure" is not a resource'),
            ({"cpuset.cpus": "0", "memory.swap.max": "none"}, 'write "none" to memory.swap.max')):
        code, details = code_of(cri.UpdateContainerResources, container_id=container,
                                linux=pb.LinuxContainerResources(unified=change))
        assert code == grpc.StatusCode.INVALID_ARGUMENT and text in details, details
        assert (read(here + "/io.max"), read(here + "/memory.low")) == (rate, "1048576")
        assert read(here + "/cpu.weight") == "200"
        # Linux 6.1 doesn't let it be emptied again.
        assert read(here + "/cpuset.cpus") in ("", read(os.path.dirname(here) + "/cpuset.cpus.effective"))
    cri.UpdateContainerResources(container_id=container, linux=pb.LinuxContainerResources(
        unified={"memory.high": "max", "memory.max": "33554432", "memory.swap.max": "0"}))
    assert (read(here + "/memory.high"), read(here + "/memory.max")) == ("max", str(32 << 20))
    # memory.oom.group: one process's hunger ends all of the container.
    code, _, _ = cri.exec(container, "dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1", timeout=30)
    assert code == 137
    status = cri.wait(container)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def cgroups_shares(weight):
    """The least cpu.shares that have a weight, by the curve through (2, 1), (1024, 100) and (262144, 10000)."""
    def of(shares):
        log = math.log2(shares)
        return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))
    return next(shares for shares in range(3, 262144) if of(shares) >= weight)


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
