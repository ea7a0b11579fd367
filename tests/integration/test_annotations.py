"""What CRI has no field for: annotations of crisp's own, and what becomes of them in the kernel."""
import os
import re
import time

import grpc
import pytest

import cgroups
from conftest import finish
from cri import Cri
from daemon import Crispd, wait_for
from stubs import pb

pytestmark = [pytest.mark.vm]

V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
SLEEP = ["sleep", "3600"]


@pytest.fixture(scope="module")
def permissive(registry):
    daemon = Crispd(registry.url, cni="", settings={"annotations": {"allowed": ["*"]}})
    try:
        yield daemon.start()
    finally:
        finish(daemon)


@pytest.fixture
def own(permissive):
    cri = Cri(permissive)
    yield cri
    cri.clean()


def host_network(**more):
    return pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(network=pb.NODE, pid=pb.CONTAINER)), **more)


def keys(annotations):
    return {"crisp.run/" + k.replace("_", "-"): v for k, v in annotations.items()}


def pod_with(cri, **annotations):
    return cri.run_pod(linux=host_network(), annotations=keys(annotations))


def run_with(cri, pod, command=None, **annotations):
    return cri.run(pod, command or SLEEP, annotations=keys(annotations))


def refused(cri, pod, **annotations):
    """Status and message of a creation that fails and leaves nothing."""
    of_pod = pb.ContainerFilter(pod_sandbox_id=pod)
    before = len(cri.ListContainers(filter=of_pod).containers)
    with pytest.raises(grpc.RpcError) as e:
        cri.create(pod, SLEEP, annotations=keys(annotations))
    assert len(cri.ListContainers(filter=of_pod).containers) == before
    return e.value.code(), e.value.details()


def disk():
    """A whole disk: the path of its node."""
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/dev/{name}") and open(f"/sys/block/{name}/size", encoding="ascii").read() != "0\n":
            return f"/dev/{name}"
    raise AssertionError("no disk here")


def test_not_allowed_by_default(cri, pod):
    code, details = refused(cri, pod, tmpfs="/scratch")
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "crisp.run/tmpfs" in details and "annotations.allowed" in details
    code, details = refused(cri, pod, tmpfz="/scratch")
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "crisp.run/tmpfz" in details
    with pytest.raises(grpc.RpcError) as e:
        cri.run_pod(annotations={"crisp.run/shm-size": "1m"})
    assert e.value.code() == grpc.StatusCode.PERMISSION_DENIED
    # Other people's are other people's.
    cri.create(pod, SLEEP, annotations={"example.com/tmpfs": "x", "crisp.running": "y"})


def test_no_longer_allowed(make_crispd, registry):
    """What a pod was given when it was made is asked about again for each container."""
    crispd = make_crispd(settings={"annotations": {"allowed": ["shm-size", "ulimit"]}})
    cri = Cri(crispd.start())
    pod = pod_with(cri, **{"shm-size": "1m", "ulimit": "core=1"})
    before = run_with(cri, pod)
    crispd.terminate()
    crispd.write_config(registry.url, {"annotations": {"allowed": ["shm-size"]}})
    crispd.start()
    code, details = refused(cri, pod)
    assert code == grpc.StatusCode.PERMISSION_DENIED and "crisp.run/ulimit" in details
    assert "size=1024k" in cri.sh(before, "grep ' /dev/shm ' /proc/mounts")
    cri.clean()


def test_a_pattern_that_matches_nothing_is_a_mistake(make_crispd):
    wrong = make_crispd(settings={"annotations": {"allowed": ["ulimit", "temp*"]}})
    with pytest.raises(AssertionError, match="annotations.allowed: .*temp.* matches no annotation"):
        wrong.start()
    wrong.process = None


def test_tmpfs(own):
    pod = pod_with(own)
    container = run_with(own, pod, tmpfs="/scratch:size=64k,mode=0711,uid=7;/run/deep/er:exec,ro;/tmp/")
    mounts = {line.split()[1]: line.split() for line in own.sh(container, "cat /proc/mounts").splitlines()}
    scratch = mounts["/scratch"]
    assert scratch[2] == "tmpfs" and {"rw", "nosuid", "nodev", "noexec", "size=64k", "mode=711",
                                      "uid=7"} <= set(scratch[3].split(","))
    options = mounts["/run/deep/er"][3].split(",")
    assert "ro" in options and "noexec" not in options
    assert mounts["/tmp"][2] == "tmpfs"
    assert own.sh(container, "stat -c '%a %u' /scratch; stat -c %a /tmp") == "711 7\n1777\n"
    assert "No space left" in own.sh(container, "dd if=/dev/zero of=/scratch/x bs=128k count=1 2>&1; true")
    status, details = refused(own, pod, tmpfs="/x:size=bad")
    assert status == grpc.StatusCode.INVALID_ARGUMENT and "size=bad" in details


def test_tmpfs_through_links(own, tmp_path):
    """Links in a volume lead to places of the container, and not into /proc."""
    for name, target in (("out", "../../../../../../../tmp"), ("sys", "/sys/fs"), ("proc", "/proc/sys")):
        (tmp_path / name).symlink_to(target)
    before, pod = open("/proc/mounts", encoding="utf-8").read(), pod_with(own)
    mounts = [pb.Mount(host_path=str(tmp_path), container_path="/vol")]
    container = own.run(pod, SLEEP, mounts=mounts, annotations={"crisp.run/tmpfs": "/vol/out;/vol/sys"})
    inside = [line.split()[1:3] for line in own.sh(container, "cat /proc/mounts").splitlines()]
    assert ["/tmp", "tmpfs"] in inside and ["/sys/fs", "tmpfs"] in inside
    new = set(open("/proc/mounts", encoding="utf-8").read().splitlines()) - set(before.splitlines())
    assert not [line for line in new if line.split()[1] in ("/tmp", "/sys/fs")]
    with pytest.raises(grpc.RpcError) as e:
        own.run(pod, SLEEP, mounts=mounts, annotations={"crisp.run/tmpfs": "/vol/proc"})
    assert "/vol/proc is a link to a place in /proc" in e.value.details()


def test_ulimit(own):
    container = run_with(own, pod_with(own), ulimit="nofile=50:60,core=0")
    for text in (own.sh(container, "cat /proc/1/limits"), own.sh(container, "cat /proc/self/limits")):
        assert re.search(r"Max open files +50 +60 ", text) and re.search(r"Max core file size +0 +0 ", text)


def test_memory_and_processes(own):
    pod = pod_with(own)
    pid = own.pid_of(run_with(own, pod, memory_reservation="16m", pids_limit="40"))
    assert cgroups.read(pid, "memory", ("memory.soft_limit_in_bytes", "memory.low")) == str(16 << 20)
    assert cgroups.read(pid, "pids", ("pids.max", "pids.max")) == "40"
    if V2:
        for name, value in (("memory_swappiness", "10"), ("oom_kill_disable", "true")):
            code, details = refused(own, pod, **{name: value})
            assert code == grpc.StatusCode.FAILED_PRECONDITION
            assert name.replace("_", "-") in details and "cgroup v2" in details
    else:
        pid = own.pid_of(run_with(own, pod, memory_swappiness="10", oom_kill_disable="true"))
        assert cgroups.read(pid, "memory", ("memory.swappiness", "")) == "10"
        assert "oom_kill_disable 1" in cgroups.read(pid, "memory", ("memory.oom_control", ""))


def test_disk_limits(own):
    path = disk()
    number = os.stat(path).st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    pid = own.pid_of(run_with(own, pod_with(own), device_read_bps=f"{path}:1m", device_write_bps=f"{path}:2048k",
                              device_read_iops=f"{path}:100", device_write_iops=f"{path}:200"))
    if V2:
        assert cgroups.read(pid, "", ("", "io.max")) == f"{device} rbps=1048576 wbps=2097152 riops=100 wiops=200"
        return
    for file, rate in (("read_bps", 1048576), ("write_bps", 2097152), ("read_iops", 100), ("write_iops", 200)):
        assert cgroups.read(pid, "blkio", (f"blkio.throttle.{file}_device", "")) == f"{device} {rate}"


def budgets(directories):
    found = []
    for path in directories:
        with open(path + "/cpu.rt_runtime_us", encoding="utf-8") as f:
            found.append(int(f.read()))
    return found


def test_real_time(own):
    pod = pod_with(own)
    if V2 or not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        code, details = refused(own, pod, cpu_rt_runtime="1000")
        assert code == grpc.StatusCode.FAILED_PRECONDITION and "cpu-rt-runtime" in details
        return
    container = run_with(own, pod, cpu_rt_period="500000", cpu_rt_runtime="1000")
    pid = own.pid_of(container)
    assert cgroups.read(pid, "cpu", ("cpu.rt_period_us", "")) == "500000"
    assert cgroups.read(pid, "cpu", ("cpu.rt_runtime_us", "")) == "1000"
    # Given back at the container's end, since kubelet keeps it while it starts the next attempt; and at its removal.
    leaf = os.path.dirname(cgroups.file_of(pid, "cpu", ("cpu.rt_runtime_us", "")))
    levels = [leaf, os.path.dirname(leaf), os.path.dirname(os.path.dirname(leaf))]
    assert budgets(levels) == [1000, 2000, 2000]
    own.StopContainer(container_id=container, timeout=0)
    wait_for(lambda: budgets(levels) == [0, 0, 0], 5, "the budget is given back")
    second = run_with(own, pod, cpu_rt_runtime="1000")
    assert budgets(levels) == [0, 1000, 1000]
    own.RemoveContainer(container_id=second)
    assert budgets(levels) == [0, 0, 0]


def test_of_the_pod(own):
    """kubelet hands a pod's annotations to the pod only: there they hold for its containers."""
    pod = pod_with(own, **{"shm-size": "1m", "ulimit": "core=1", "ulimit.special": "core=2"})
    one = run_with(own, pod)
    special = own.run(pod, SLEEP, name="special")
    third = run_with(own, pod, ulimit="core=3")
    for container, soft in ((one, 1), (special, 2), (third, 3)):
        assert re.search(rf"Max core file size +{soft} ", own.sh(container, "cat /proc/1/limits"))
    assert "size=1024k" in own.sh(one, "grep ' /dev/shm ' /proc/mounts")


def test_a_disk_rate_holds(own):
    number = os.stat(own.crispd.base).st_dev
    block = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not os.path.exists(block):
        pytest.skip("the containers' file system is on no disk of its own")
    if os.path.exists(block + "/partition"):
        block = os.path.dirname(block)
    path = "/dev/" + os.path.basename(block)
    write = "dd if=/dev/zero of=/file bs=256k count=48 oflag=direct 2>/dev/null"  # 12 MiB
    free = own.run(pod := pod_with(own), SLEEP)
    held = run_with(own, pod, device_write_bps=f"{path}:4m")
    took = {}
    for container in (free, held):
        began = time.monotonic()
        own.sh(container, write)
        took[container] = time.monotonic() - began
    # Never faster than it may; how much slower is the machine's affair.
    assert took[held] >= 2.5, f"{12 / took[held]:.1f} MiB/s; without a limit {12 / took[free]:.1f} MiB/s"
    assert took[held] > took[free]
