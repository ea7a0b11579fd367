"""kill -9 of the daemon between any two calls, of a supervisor, and restarts."""
import os
import shutil
import signal
import subprocess
import time

import grpc
import pytest

import cgroups
from cri import BUSYBOX, E2E, code_of
from daemon import limit, program, wait_for
from stubs import pb

pytestmark = pytest.mark.core


def crash(crispd):
    crispd.kill()
    crispd.start()


def test_killed_between_any_two_calls(cri, crispd):
    """What crictl's runp, create, start, exec, stop, rm, stopp, rmp do, with a kill after each."""
    cri.have(BUSYBOX)
    crash(crispd)
    assert cri.image(BUSYBOX)
    config = cri.pod_config()
    pod = cri.run_pod(config)
    crash(crispd)
    assert cri.pod_status(pod).state == pb.SANDBOX_READY
    assert cri.run_pod(config) == pod
    ip = cri.pod_status(pod).network.ip
    container = cri.create(pod, ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"])
    crash(crispd)
    assert cri.status(container).state == pb.CONTAINER_CREATED
    cri.StartContainer(container_id=container)
    pid = cri.pid_of(container)
    crash(crispd)
    assert cri.status(container).state == pb.CONTAINER_RUNNING
    assert cri.pid_of(container) == pid and cri.pod_status(pod).network.ip == ip
    assert cri.exec(container, "echo", "x") == (0, "x\n", "")
    crash(crispd)
    cri.ReopenContainerLog(container_id=container)
    cri.StopContainer(container_id=container, timeout=1)
    crash(crispd)
    status = cri.status(container)
    assert status.state == pb.CONTAINER_EXITED and status.exit_code in (137, 143)
    numbers = [int(line.text) for line in cri.log_lines(container)]
    assert numbers == list(range(1, len(numbers) + 1)), "the log is whole"
    cri.RemoveContainer(container_id=container)
    crash(crispd)
    assert code_of(cri.status, container)[0] == grpc.StatusCode.NOT_FOUND
    cri.StopPodSandbox(pod_sandbox_id=pod)
    crash(crispd)
    assert cri.pod_status(pod).state == pb.SANDBOX_NOTREADY
    cri.RemovePodSandbox(pod_sandbox_id=pod)
    crash(crispd)
    assert not cri.ListPodSandbox().items


@pytest.mark.vm
def test_exit_while_the_daemon_is_down(cri, crispd, pod):
    container = cri.run(pod, ["sh", "-c", "sleep 0.7; seq 1 50000; exit 42"])
    crispd.kill()
    time.sleep(2)
    crispd.start()
    status = cri.status(container)
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 42, "Error")
    assert status.started_at < status.finished_at < time.time_ns() - 500_000_000
    assert [line.text for line in cri.log_lines(container)] == [str(i) for i in range(1, 50001)]


def test_terminated_and_started_again(cri, crispd, pod, busy):
    pid = cri.pid_of(busy)
    assert crispd.terminate() == 0
    assert os.path.exists(f"/proc/{pid}")
    crispd.start()
    assert cri.status(busy).state == pb.CONTAINER_RUNNING
    cri.StopContainer(container_id=busy, timeout=0)
    assert cri.status(busy).exit_code == 137


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08])
def test_killed_during_run_pod(cri, crispd, delay):
    config = cri.pod_config()
    call = cri.future("RunPodSandbox", config=config)
    time.sleep(delay)
    crash(crispd)
    assert call.exception() or call.result()
    pod = cri.run_pod(config)
    assert cri.pod_status(pod).state == pb.SANDBOX_READY
    assert len(cri.ListPodSandbox().items) == 1
    assert cri.output(pod, ["echo", "ok"]) == "ok\n"


def test_killed_while_a_supervisor_starts(cri, crispd):
    """A crisp-pod that no record and no cgroup leads to yet: the leak check looks for it."""
    for step in range(16):
        call = cri.future("RunPodSandbox", config=cri.pod_config())
        time.sleep(0.0005 + step * 0.0004)
        crash(crispd)
        assert call.exception() or call.result()
    cri.clean()
    wait_for(lambda: not crispd.strays(), 10, "no crisp-pod is left")


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01, 0.03])
def test_killed_during_pull(cri, crispd, delay):
    name = E2E + "nginx:1.14-2"
    cri.RemoveImage(image=pb.ImageSpec(image=name))
    call = cri.future("PullImage", image=pb.ImageSpec(image=name))
    time.sleep(delay)
    crash(crispd)
    assert call.exception() or call.result()
    cri.pull(name)


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01])
def test_killed_during_create_and_start(cri, crispd, pod, delay):
    cri.have(BUSYBOX)
    config = cri.container_config(["sleep", "3600"])
    call = cri.future("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=cri.configs[pod])
    time.sleep(delay)
    crash(crispd)
    assert call.exception() or call.result()
    container = cri.create(pod, config=config)
    call = cri.future("StartContainer", container_id=container)
    time.sleep(delay)
    crash(crispd)
    assert call.exception() or call.result() is not None
    if cri.status(container).state == pb.CONTAINER_CREATED:
        cri.StartContainer(container_id=container)
    assert cri.status(container).state == pb.CONTAINER_RUNNING
    assert cri.exec(container, "true")[0] == 0


def test_killed_supervisor_takes_its_containers_along(cri, crispd, pod, busy):
    pid = cri.pid_of(busy)
    os.kill(crispd.supervisor_of(pod), signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 2, "the container dies with its supervisor")
    wait_for(lambda: cri.pod_status(pod).state == pb.SANDBOX_NOTREADY, 2, "the pod is NOTREADY")
    wait_for(lambda: cri.status(busy).state == pb.CONTAINER_EXITED, 2, "the container is EXITED")
    status = cri.status(busy)
    assert status.exit_code != 0 and status.reason and status.message
    cri.remove_pod(pod)


def test_supervisor_killed_while_the_daemon_is_down(cri, crispd, pod, busy):
    pid = cri.pid_of(busy)
    supervisor = crispd.supervisor_of(pod)
    crispd.kill()
    os.kill(supervisor, signal.SIGKILL)
    crispd.start()
    wait_for(lambda: cri.pod_status(pod).state == pb.SANDBOX_NOTREADY, 5, "the pod is NOTREADY")
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 5, "the container is dead")
    wait_for(lambda: cri.status(busy).state == pb.CONTAINER_EXITED, 5, "the container is EXITED")


def test_pods_that_share_a_cgroup_parent_survive_a_restart(cri, crispd):
    """The sweep at the start sees each other's supervisors in the common parent."""
    parent, path = crispd.below("shared")
    linux = pb.LinuxPodSandboxConfig(cgroup_parent=parent)
    pods = [cri.run_pod(linux=linux) for _ in range(2)]
    containers = [cri.run(pod, ["sleep", "3600"]) for pod in pods]
    crash(crispd)
    time.sleep(0.5)
    assert [cri.pod_status(pod).state for pod in pods] == [pb.SANDBOX_READY] * 2
    assert [cri.status(c).state for c in containers] == [pb.CONTAINER_RUNNING] * 2
    for pod in pods:
        cri.remove_pod(pod)
    cgroups.remove(path)


def test_a_level_above_pods_goes_with_the_last_of_them(cri, crispd):
    """Who made it goes first, and crispd is another one by then."""
    top = crispd.below("levels")[1]
    pods = []
    for name in ("levels/a", "levels/b"):
        parent = crispd.below(name if crispd.driver == "cgroupfs" else name.replace("/", "-"))[0]
        pods.append(cri.run_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent)))
    cri.remove_pod(pods[0])
    crash(crispd)
    assert cri.pod_status(pods[1]).state == pb.SANDBOX_READY
    cri.remove_pod(pods[1])
    wait_for(lambda: not cgroups.directories(top), 5, "the level is gone")


def test_killed_container_process(cri, busy):
    os.kill(cri.pid_of(busy), signal.SIGKILL)
    assert cri.wait(busy).exit_code == 137


def test_second_daemon_on_the_same_directories_is_refused(crispd, cri, pod):
    run = subprocess.run([program("crispd"), "--config", crispd.config], check=False, capture_output=True, text=True,
                         timeout=limit(20))
    assert run.returncode != 0 and crispd.base in run.stderr
    assert cri.pod_status(pod).state == pb.SANDBOX_READY


def test_reports_are_true_after_a_reboot(cri, crispd, pod, busy):
    """A reboot: nothing runs, and the run directory is empty."""
    crispd.kill()
    for pid in cgroups.processes(crispd.cgroup):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for(lambda: not cgroups.processes(crispd.cgroup), 5, "all are dead")
    crispd.unmount()
    shutil.rmtree(crispd.run_dir)
    if os.environ.get("CRISP_ISOLATED") == "1":  # tests/lib/isolate: the rules are our own network namespace's
        subprocess.run(["iptables", "-t", "nat", "-F"], check=True)
    crispd.start()
    assert cri.pod_status(pod).state == pb.SANDBOX_NOTREADY
    status = cri.status(busy)
    assert status.state == pb.CONTAINER_EXITED and status.finished_at > 0
    cri.remove_pod(pod)
