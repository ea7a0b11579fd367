"""What somebody else does to a pod's cgroups: kubelet's kill of all that is in them, a freezer, a removed directory."""
import os
import signal

import grpc
import pytest

import cgroups
from daemon import wait_for
from stubs import pb

pytestmark = pytest.mark.core


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def freezer_of(pid):
    """(file, frozen, thawed) of a process's cgroup."""
    places = cgroups.of_process(pid)
    for top in cgroups.hierarchies():
        if os.path.basename(top) == "freezer" and "freezer" in places:
            return f"{top}{places['freezer']}/freezer.state", "FROZEN", "THAWED"
    top = next(t for t in cgroups.hierarchies() if os.path.exists(t + "/cgroup.controllers"))
    return f"{top}{places['']}/cgroup.freeze", "1", "0"


@pytest.mark.vm
def test_all_of_a_pod_is_killed(cri, crispd):
    """As kubelet does before it removes a pod's cgroup."""
    parent, path = crispd.below("killed")
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    made = cri.create(pod, ["sleep", "3600"])
    running = [cri.run(pod, ["sh", "-c", "sleep 3600 & sleep 3600"]) for _ in range(2)]
    ended = cri.run(pod, ["sh", "-c", "exit 3"])
    assert cri.wait(ended).exit_code == 3
    for pid in cgroups.processes(path):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for(lambda: cri.pod_status(pod).state == pb.SANDBOX_NOTREADY, 3, "the pod is NOTREADY")
    for container in running:
        wait_for(lambda c=container: cri.status(c).state == pb.CONTAINER_EXITED, 3, "the container is EXITED")
        status = cri.status(container)
        assert status.exit_code == 137 and status.reason != "OOMKilled"
        assert status.created_at < status.started_at < status.finished_at
    assert cri.status(ended).exit_code == 3
    assert cri.status(made).state == pb.CONTAINER_CREATED
    with pytest.raises(grpc.RpcError):
        cri.StartContainer(container_id=made)
    cri.StopPodSandbox(pod_sandbox_id=pod)
    left = [d for d in cgroups.directories(path) if not d.endswith(path)]
    assert not left
    cgroups.remove(path)
    assert not cgroups.directories(path)
    cri.RemovePodSandbox(pod_sandbox_id=pod)


@pytest.mark.vm
@pytest.mark.parametrize("timeout", [0, 1])
def test_frozen_containers_are_stopped(cri, pod, timeout):
    container = cri.run(pod, ["sleep", "3600"])
    file, frozen, _ = freezer_of(cri.pid_of(container))
    write(file, frozen)
    cri.StopContainer(container_id=container, timeout=timeout)
    status = cri.status(container)
    assert status.state == pb.CONTAINER_EXITED and status.exit_code in (137, 143)
    cri.RemoveContainer(container_id=container)
    assert not os.path.exists(os.path.dirname(file))


def test_a_removed_leaf(cri, crispd, pod):
    """Nobody can remove one with a process in it; of one without, the start tells what is wrong or works."""
    container = cri.create(pod, ["sleep", "3600"])
    running = cri.run(pod, ["sleep", "3600"])
    for path in cgroups.directories(crispd.cgroup):
        if path.endswith((container, running)):
            try:
                os.rmdir(path)
            except OSError:
                pass
    assert cri.exec(running, "echo", "x") == (0, "x\n", "")
    try:
        cri.StartContainer(container_id=container)
        assert cri.exec(container, "echo", "x") == (0, "x\n", "")
    except grpc.RpcError as e:
        assert "cgroup" in e.details()
        assert cri.status(container).reason == "StartError"
    for each in (container, running):
        cri.StopContainer(container_id=each, timeout=0)
        cri.RemoveContainer(container_id=each)
    assert not [p for p in cgroups.directories(crispd.cgroup) if container in p or running in p]


@pytest.mark.cgroup1  # test_cgroup2.py has v2's
def test_what_a_privileged_container_nests(cri, crispd, privileged_pod):
    container = cri.run(privileged_pod, ["sh", "-c", """
        cd /sys/fs/cgroup/freezer; i=0
        while [ $i -lt 60 ]; do mkdir wide$i deep; cd deep; i=$((i + 1)); done
        (trap '' TERM HUP INT; while :; do sleep 1; done) & echo $! >tasks
        (setsid sleep 3600) & echo $! >../tasks; echo ready; while :; do sleep 1; done"""], linux=pb.LinuxContainerConfig(
            security_context=pb.LinuxContainerSecurityContext(privileged=True)))
    wait_for(lambda: cri.log_lines(container), what="the container's own cgroups")
    deep = [d for d in cgroups.directories(crispd.cgroup) if d.count("/deep") > 58]
    assert deep and cgroups.processes(crispd.cgroup)
    cri.StopContainer(container_id=container, timeout=0)
    cri.RemoveContainer(container_id=container)
    wait_for(lambda: not [d for d in cgroups.directories(crispd.cgroup) if container in d], 5, "the cgroups go")
