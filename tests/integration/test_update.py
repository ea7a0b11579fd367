"""UpdateContainerResources and UpdatePodSandboxResources; ContainerStatus.resources tells what the kernel has."""
import json
import os

import grpc
import pytest

import cgroups
from cri import code_of
from daemon import wait_for
from stubs import pb

pytestmark = pytest.mark.core
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
MIB = 1 << 20


def res(**fields):
    return pb.LinuxContainerResources(**fields)


def allowed_cpus(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(line.split()[1] for line in f if line.startswith("Cpus_allowed_list:"))


def limits(**fields):
    return pb.LinuxContainerConfig(resources=res(**fields))


def told(cri, container):
    return cri.status(container).resources.linux


def info(cri, container):
    return json.loads(cri.ContainerStatus(container_id=container, verbose=True).info["info"])


def kernel(pid):
    """What the kernel has: shares (as v2: weight), quota, period, memory limit."""
    return {
        "shares": int(cgroups.read(pid, "cpu", ("cpu.shares", "cpu.weight"))),
        "quota": cgroups.read(pid, "cpu", ("cpu.cfs_quota_us", "cpu.max")).split()[0],
        "memory": cgroups.read(pid, "memory", ("memory.limit_in_bytes", "memory.max")),
        "cpus": cgroups.read(pid, "cpuset", ("cpuset.cpus", "cpuset.cpus")),
    }


@pytest.mark.vm
def test_only_what_is_set_changes_and_it_is_recorded(cri, pod, crispd):
    container = cri.run(pod, ["sleep", "3600"], linux=limits(
        cpu_shares=512, cpu_quota=20000, cpu_period=100000, memory_limit_in_bytes=64 * MIB, oom_score_adj=100))
    pid = cri.pid_of(container)
    assert (told(cri, container).cpu_shares, told(cri, container).cpu_quota) == (512, 20000)
    cri.UpdateContainerResources(container_id=container, linux=res(
        cpu_quota=50000, cpu_period=50000, memory_limit_in_bytes=32 * MIB + 1, cpuset_cpus="0"),
        annotations={"example.com/x": "y"})
    now = kernel(pid)
    assert now["shares"] == (59 if V2 else 512) and now["quota"] == "50000" and now["cpus"] == "0"
    assert now["memory"] == str(32 * MIB)  # the kernel counts pages
    for _ in range(2):
        r = told(cri, container)
        assert (r.cpu_shares, r.cpu_quota, r.cpu_period) == (512, 50000, 50000)
        assert (r.memory_limit_in_bytes, r.cpuset_cpus, r.oom_score_adj) == (32 * MIB, "0", 100)
        crispd.restart()
        cri.UpdateContainerResources(container_id=container, linux=res(cpu_quota=-1))
        assert kernel(pid)["quota"] == ("max" if V2 else "-1") and told(cri, container).cpu_quota == -1
        cri.UpdateContainerResources(container_id=container, linux=res(cpu_quota=50000))
    cri.UpdateContainerResources(container_id=container)  # nothing set, nothing changed
    assert kernel(pid)["quota"] == "50000"


def test_others_changes_are_told(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=limits(cpu_shares=512))
    assert told(cri, container).cpu_shares == 512
    where = cgroups.file_of(cri.pid_of(container), "cpu", ("cpu.shares", "cpu.weight"))
    with open(where, "w", encoding="utf-8") as f:
        f.write("200")
    wait_for(lambda: told(cri, container).cpu_shares not in (0, 512), 5, "the new shares")
    assert V2 or told(cri, container).cpu_shares == 200


def test_whole_or_not_at_all(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=limits(
        cpu_shares=512, cpu_quota=20000, memory_limit_in_bytes=64 * MIB))
    pid = cri.pid_of(container)
    before, said = kernel(pid), told(cri, container)
    for change, code, text in (
            (res(cpu_shares=100, cpu_quota=7), grpc.StatusCode.INVALID_ARGUMENT, "linux.resources.cpu_quota: 7"),
            (res(cpu_shares=100, cpu_quota=30000, cpuset_cpus="4095"), grpc.StatusCode.INVALID_ARGUMENT,
             "linux.resources.cpuset_cpus: " + ('"4095" is not within' if V2 else 'write "4095" to cpuset.cpus')),
            (res(memory_swap_limit_in_bytes=MIB), grpc.StatusCode.INVALID_ARGUMENT, "is below the memory limit"),
            (res(unified={"memory.procs": "1"}), grpc.StatusCode.INVALID_ARGUMENT, "linux.resources.unified: "),
            (res(unified={"../memory.max": "1"}), grpc.StatusCode.INVALID_ARGUMENT, "linux.resources.unified: "),
            (res(unified={"cgroup.procs": "1"}), grpc.StatusCode.INVALID_ARGUMENT, "linux.resources.unified: ")):
        got, said_text = code_of(cri.UpdateContainerResources, container_id=container, linux=change)
        assert got == code and text in said_text, said_text
        assert kernel(pid) == before and told(cri, container) == said
    got, text = code_of(cri.UpdateContainerResources, container_id=container, windows=pb.WindowsContainerResources())
    assert got == grpc.StatusCode.INVALID_ARGUMENT and "windows: " in text
    got, text = code_of(cri.UpdateContainerResources, container_id=container, annotations={"crisp.run/tmpfs": "/x"})
    assert got == grpc.StatusCode.INVALID_ARGUMENT and "crisp.run/tmpfs" in text


def test_no_memory_limit_while_swap_is_limited(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=limits(
        memory_limit_in_bytes=32 * MIB, memory_swap_limit_in_bytes=64 * MIB))
    pid = cri.pid_of(container)
    before = kernel(pid)
    code, text = code_of(cri.UpdateContainerResources, container_id=container, linux=res(
        cpu_shares=100, memory_limit_in_bytes=-1))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "give memory_swap_limit_in_bytes -1 too" in text, text
    assert kernel(pid) == before
    cri.UpdateContainerResources(container_id=container, linux=res(
        memory_limit_in_bytes=-1, memory_swap_limit_in_bytes=-1))
    assert kernel(pid)["memory"] != before["memory"]


@pytest.mark.vm
def test_a_memory_limit_below_use_changes_nothing(cri, pod):
    container = cri.run(pod, ["sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; echo full;"
                                          " sleep 3600"], linux=limits(
        cpu_shares=512, memory_limit_in_bytes=64 * MIB, memory_swap_limit_in_bytes=64 * MIB))
    wait_for(lambda: cri.log_lines(container), 20, "the memory's use")
    pid = cri.pid_of(container)
    before = kernel(pid)
    code, text = code_of(cri.UpdateContainerResources, container_id=container, linux=res(
        cpu_shares=100, memory_limit_in_bytes=20 * MIB, memory_swap_limit_in_bytes=20 * MIB))
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "in use" in text, text
    assert kernel(pid) == before and told(cri, container).cpu_shares == 512
    assert told(cri, container).memory_limit_in_bytes == 64 * MIB
    if V2:
        code, text = code_of(cri.UpdateContainerResources, container_id=container, linux=res(
            cpu_shares=100, unified={"memory.max": "20M"}))
        assert code == grpc.StatusCode.FAILED_PRECONDITION and "unified: memory.max: " in text, text
        assert kernel(pid) == before
    assert cri.status(container).state == pb.CONTAINER_RUNNING
    # Page cache is no such use: the kernel gives it back.
    cri.sh(container, "rm /dev/shm/x; dd if=/dev/zero of=/y bs=1M count=40 2>/dev/null; sync")
    cri.UpdateContainerResources(container_id=container, linux=res(memory_limit_in_bytes=20 * MIB))
    assert kernel(pid)["memory"] == str(20 * MIB)
    if V2:  # memory and swap together are what they were
        assert cgroups.read(pid, "memory", ("", "memory.swap.max")) == str(44 * MIB)
    assert told(cri, container).memory_swap_limit_in_bytes == 64 * MIB


def test_many_at_once(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=limits(cpu_shares=512))
    calls = [cri.future("UpdateContainerResources", container_id=container,
                        linux=res(cpu_shares=100 + i) if i % 2 else res(cpu_quota=10000 + i)) for i in range(20)]
    for call in calls:
        call.result()
    pid, r = cri.pid_of(container), told(cri, container)
    assert kernel(pid)["quota"] == str(r.cpu_quota) and 10000 <= r.cpu_quota < 10020
    assert 100 < r.cpu_shares < 120 and (V2 or kernel(pid)["shares"] == r.cpu_shares)


def test_before_the_start_and_after_the_end(cri, pod, crispd):
    container = cri.create(pod, ["sleep", "3600"], linux=limits(cpu_shares=512, oom_score_adj=100))
    cri.UpdateContainerResources(container_id=container, linux=res(cpu_shares=256, oom_score_adj=300))
    assert (told(cri, container).cpu_shares, told(cri, container).oom_score_adj) == (256, 300)
    crispd.restart()
    assert (told(cri, container).cpu_shares, told(cri, container).oom_score_adj) == (256, 300)
    cri.StartContainer(container_id=container)
    assert cri.sh(container, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj") == "300\n300\n"
    assert kernel(cri.pid_of(container))["shares"] == (35 if V2 else 256)
    cri.StopContainer(container_id=container, timeout=0)
    code, text = code_of(cri.UpdateContainerResources, container_id=container, linux=res(cpu_shares=512))
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "has exited" in text
    assert told(cri, container).cpu_shares == 256
    code, _ = code_of(cri.UpdateContainerResources, container_id="0123abcd", linux=res(cpu_shares=512))
    assert code == grpc.StatusCode.NOT_FOUND


def test_oom_scores(cri, pod, crispd):
    container = cri.run(pod, ["sh", "-c", "sleep 3600 & echo 900 >/proc/$!/oom_score_adj; sleep 3600 & echo ready; wait"],
                        linux=limits(oom_score_adj=100))
    wait_for(lambda: cri.log_lines(container), 10, "its children")
    scores = "for p in /proc/[0-9]*; do echo $(cat $p/oom_score_adj) $(tr '\\0' ' ' <$p/cmdline | cut -c-9); done"
    cri.UpdateContainerResources(container_id=container, linux=res(oom_score_adj=200))
    lines = cri.sh(container, scores).splitlines()
    assert lines.count("200 sleep 360") == 1 and lines.count("900 sleep 360") == 1  # its own choice stays
    assert told(cri, container).oom_score_adj == 200 and info(cri, container)["warnings"] == []
    # Lowering takes a capability that not every daemon has: reported, and no failure.
    cri.UpdateContainerResources(container_id=container, linux=res(oom_score_adj=-900))
    score = int(cri.sh(container, "cat /proc/1/oom_score_adj"))
    assert told(cri, container).oom_score_adj == score and score in (-900, 200)
    low = cri.run(pod, ["sleep", "3600"], linux=limits(oom_score_adj=-999))
    allowed = int(cri.sh(low, "cat /proc/1/oom_score_adj")) == -999
    assert told(cri, low).oom_score_adj == int(cri.sh(low, "cat /proc/1/oom_score_adj"))
    for one in (low,) if allowed else (low, container):
        warnings = info(cri, one)["warnings"]
        if allowed:
            assert warnings == []
        else:
            assert len(warnings) == 1 and "CAP_SYS_RESOURCE" in warnings[0] and "oom_score_adj" in warnings[0]
            with open(crispd.log, encoding="utf-8") as f:
                assert any("keeps another OOM score" in line and one in line for line in f)


def test_pods(cri, crispd):
    overhead, resources = res(cpu_shares=100, memory_limit_in_bytes=10 * MIB), res(
        cpu_shares=512, cpu_quota=20000, cpu_period=100000, memory_limit_in_bytes=50 * MIB)
    linux = pb.LinuxPodSandboxConfig(overhead=overhead, resources=resources)
    pod = cri.run_pod(linux=linux)
    place = json.loads(cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])["cgroup"]

    def read(controller, file):
        return cgroups.read_path(place, controller, file)

    def told_pod(name):
        return json.loads(cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])[name]

    # A place of our own has the sum.
    assert read("memory", ("memory.limit_in_bytes", "memory.max")) == str(60 * MIB)
    assert V2 or read("cpu", ("cpu.shares", "")) == "612"
    cri.UpdatePodSandboxResources(pod_sandbox_id=pod, overhead=res(memory_limit_in_bytes=20 * MIB))
    assert read("memory", ("memory.limit_in_bytes", "memory.max")) == str(70 * MIB)
    crispd.restart()
    assert told_pod("overhead") == {"cpuShares": 100, "memoryLimitInBytes": 20 * MIB}
    assert told_pod("resources")["memoryLimitInBytes"] == 50 * MIB
    if os.cpu_count() > 1:  # what is below follows, a container that was asked to have some as far as it can
        pids = [cri.pid_of(cri.run(pod, ["sleep", "3600"], linux=limits(cpuset_cpus=asked))) for asked in ("", "1")]
        for cpus, first, second in (("0", "0", "0"), ("0-1", "0-1", "1"), ("1", "1", "1"), ("0", "0", "0")):
            cri.UpdatePodSandboxResources(pod_sandbox_id=pod, resources=res(cpuset_cpus=cpus))
            assert [allowed_cpus(pid) for pid in pids] == [first, second]
    code, text = code_of(cri.UpdatePodSandboxResources, pod_sandbox_id=pod, overhead=res(cpuset_cpus="0"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "linux.overhead.cpuset_cpus: " in text
    code, text = code_of(cri.UpdatePodSandboxResources, pod_sandbox_id=pod, resources=res(cpu_quota=3))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "cpu_quota" in text
    cri.StopPodSandbox(pod_sandbox_id=pod)
    code, text = code_of(cri.UpdatePodSandboxResources, pod_sandbox_id=pod, resources=resources)
    assert code == grpc.StatusCode.FAILED_PRECONDITION and "not ready" in text
    code, _ = code_of(cri.UpdatePodSandboxResources, pod_sandbox_id="0123abcd", resources=resources)
    assert code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("how", ["kubelet's place", "kubelet without places"])
def test_pods_of_kubelet_are_limited_by_kubelet(cri, crispd, how):
    linux = pb.LinuxPodSandboxConfig(resources=res(memory_limit_in_bytes=50 * MIB))
    labels = {}
    if how == "kubelet's place":
        linux.cgroup_parent, path = crispd.below("kubelets")
        cgroups.make(path)
    else:
        labels["io.kubernetes.pod.uid"] = "u"
    pod = cri.run_pod(linux=linux, labels=labels)
    place = json.loads(cri.PodSandboxStatus(pod_sandbox_id=pod, verbose=True).info["info"])["cgroup"]
    before = cgroups.read_path(place, "memory", ("memory.limit_in_bytes", "memory.max"))
    assert before != str(50 * MIB)
    cri.UpdatePodSandboxResources(pod_sandbox_id=pod, resources=res(memory_limit_in_bytes=60 * MIB))
    assert cgroups.read_path(place, "memory", ("memory.limit_in_bytes", "memory.max")) == before
    cri.remove_pod(pod)
    if how == "kubelet's place":
        cgroups.remove(path)


def test_a_named_parent_is_not_limited(cri, crispd):
    """It may be another pod's as well, also where it had to be made for this one."""
    parent, _ = crispd.below("shared")
    files = ("memory.limit_in_bytes", "memory.max")
    first = cri.run_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent,
                                                       resources=res(memory_limit_in_bytes=30 * MIB)))
    second = cri.run_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    place = json.loads(cri.PodSandboxStatus(pod_sandbox_id=second, verbose=True).info["info"])["cgroup"]
    unlimited = cgroups.read_path(place, "memory", files)
    assert unlimited != str(30 * MIB)
    cri.UpdatePodSandboxResources(pod_sandbox_id=first, resources=res(memory_limit_in_bytes=20 * MIB))
    assert cgroups.read_path(place, "memory", files) == unlimited
    cri.remove_pod(second)
    cri.remove_pod(first)
