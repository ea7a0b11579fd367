"""crispd as a unit of systemd: what its restart and its end leave alone; the cgroups that kubelet makes for pods."""
import os
import signal
import subprocess

import pytest

import cgroups
from cri import BUSYBOX, Cri
from daemon import BUILD, limit, program, wait_for
from stubs import pb

pytestmark = [pytest.mark.systemd]
TREE = "/sys/fs/cgroup"
CONTROLLERS = "+cpuset +cpu +io +memory +pids"
DEFAULTS = {"memory.max": "max", "memory.high": "max", "memory.min": "0", "cpu.max": "max 100000", "cpu.weight": "100",
            "cpuset.cpus": "", "pids.max": "max", "io.weight": "default 100"}
DRIVERS = ["cgroupfs", pytest.param("systemd", marks=pytest.mark.vm)]  # CI has time for one: the other is all the rest's


def systemctl(*words):
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True, timeout=limit(60)).stdout


@pytest.fixture(params=DRIVERS)
def unit(request, make_crispd):
    """(a daemon's directories and configuration, the name of its running unit): the unit that is installed."""
    crispd = make_crispd(driver=request.param)
    name = f"crispd-test-{os.getpid()}.service"
    path = f"/run/systemd/system/{name}"
    with open(f"{BUILD}/packaging/crispd.service", encoding="utf-8") as f:
        installed = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(installed)
    os.makedirs(path + ".d")
    # nsenter: the test's registry and networks are in the test's network namespace. It becomes the daemon itself.
    with open(path + ".d/test.conf", "w", encoding="utf-8") as f:
        f.write(f"[Service]\nExecStart=\nExecStart=nsenter --net=/proc/{os.getpid()}/ns/net {program('crispd')}"
                f" --config {crispd.config}\nStandardError=append:{crispd.log}\n")
    systemctl("daemon-reload")
    systemctl("start", name)
    assert crispd.connect(), "systemd has been told that it is ready"
    yield crispd, name
    systemctl("start", name)
    wait_for(crispd.connect, 30, "crispd serves")
    Cri(crispd).clean()
    crispd.disconnect()
    systemctl("stop", name)
    os.unlink(path + ".d/test.conf")
    os.rmdir(path + ".d")
    os.unlink(path)
    systemctl("daemon-reload")


@pytest.fixture
def kubelets(unit):
    """The cgroup of one pod as kubelet makes it: (linux.cgroup_parent, directory). Kubelet removes it with the pod."""
    driver, name = unit[0].driver, f"kubetest{os.getpid()}"
    if driver == "systemd":
        parent = f"{name}-podx.slice"
        systemctl("start", parent)
        systemctl("set-property", "--runtime", parent, "MemoryMax=256M", "CPUWeight=50", "TasksAccounting=yes")
        top, path = f"{TREE}/{name}.slice", f"{TREE}/{name}.slice/{parent}"
    else:
        parent = f"/{name}/podx"
        top, path = f"{TREE}/{name}", TREE + parent
        os.makedirs(path)
        for directory in (TREE, top):
            write(f"{directory}/cgroup.subtree_control", CONTROLLERS)
        write(f"{path}/memory.max", str(256 << 20))
    yield parent, path
    if driver == "systemd":
        systemctl("stop", parent, f"{name}.slice")
    cgroups.remove(top.removeprefix(TREE))


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def settings(path):
    """What a cgroup's owner has set there, with its extended attributes. A file that is not there is as good as the
    kernel's default: a controller may be handed down later, for what is made below."""
    found = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    for name, default in DEFAULTS.items():
        found[name] = default
        if os.path.exists(f"{path}/{name}"):
            with open(f"{path}/{name}", encoding="utf-8") as f:
                found[name] = f.read().strip()
    assert found["memory.max"] == str(256 << 20)
    return found


def main_pid(name):
    return int(systemctl("show", "-P", "MainPID", name))


def test_pods_outlive_the_unit(unit):
    crispd, name = unit
    cri = Cri(crispd)
    assert cri.have(BUSYBOX)
    pod = cri.run_pod()
    container = cri.run(pod, ["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"])
    wait_for(lambda: cri.log_lines(container), what="the container is up")
    pid, daemon = cri.pid_of(container), main_pid(name)
    for process in [pid] + crispd.supervisors():
        assert name not in cgroups.of_process(process)[""], "nothing of a pod lives in the unit"
    systemctl("restart", name)
    wait_for(crispd.connect, 30, "crispd serves again")
    assert main_pid(name) != daemon
    assert cri.status(container).state == pb.CONTAINER_RUNNING and cri.pid_of(container) == pid
    assert cri.exec(container, "echo", "x") == (0, "x\n", "")
    crispd.disconnect()
    systemctl("stop", name)
    assert os.path.exists(f"/proc/{pid}")
    os.kill(pid, 15)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="the container ends")
    systemctl("start", name)
    wait_for(crispd.connect, 30, "crispd serves again")
    assert cri.status(container).exit_code == 7


def test_a_reload_of_systemd_keeps_limits(unit):
    """systemd goes over the cgroups that it knows; those of pods are not among them."""
    cri = Cri(unit[0])
    pod = cri.run_pod()
    container = cri.run(pod, ["sleep", "3600"], linux=pb.LinuxContainerConfig(
        resources=pb.LinuxContainerResources(memory_limit_in_bytes=32 << 20, cpu_quota=50000, cpu_period=100000,
                                             cpuset_cpus="1")))
    here = "/sys/fs/cgroup" + cgroups.of_process(cri.pid_of(container))[""]

    def limits():
        found = []
        for file in ("memory.max", "cpu.max", "cpuset.cpus"):
            with open(f"{here}/{file}", encoding="utf-8") as f:
                found.append(f.read().strip())
        return found

    assert limits() == [str(32 << 20), "50000 100000", "1"]
    subprocess.run(["systemd-run", "--wait", "--quiet", "-p", "CPUWeight=50", "-p", "AllowedCPUs=0", "true"], check=True,
                   timeout=limit(60))
    systemctl("daemon-reload")
    assert limits() == [str(32 << 20), "50000 100000", "1"]


def test_its_process_is_started_again(unit):
    """Restart=always: also after kill -9."""
    crispd, name = unit
    cri = Cri(crispd)
    pod = cri.run_pod()
    daemon = main_pid(name)
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: main_pid(name) not in (0, daemon), 30, "systemd starts it again")
    wait_for(crispd.connect, 30, "crispd serves again")
    assert cri.pod_status(pod).state == pb.SANDBOX_READY


def test_kubelets_cgroup_is_left_as_it_was(unit, kubelets):
    """Nothing in it is changed, and it can be removed right after StopPodSandbox, without another try."""
    cri, (parent, path) = Cri(unit[0]), kubelets
    before = settings(path)
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    containers = [cri.run(pod, ["sh", "-c", "sleep 3600 & sleep 3600"]) for _ in range(2)]
    assert cri.exec(containers[0], "sh", "-c", "sleep 3600 & echo x")[1] == "x\n"
    for container in containers:
        assert cgroups.of_process(cri.pid_of(container))[""].startswith(path.removeprefix(TREE) + "/")
    assert settings(path) == before
    cri.StopPodSandbox(pod_sandbox_id=pod)
    assert settings(path) == before
    os.rmdir(path)
    for container in containers:
        assert cri.status(container).state == pb.CONTAINER_EXITED
    cri.RemovePodSandbox(pod_sandbox_id=pod)


def kill_all(path):
    """What kubelet does with a pod that it doesn't know: every process below its cgroup gets SIGKILL, until none is left."""
    def none_left():
        pids = cgroups.processes(path.removeprefix(TREE))
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not pids

    wait_for(none_left, 10, "all processes end")


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_all_of_a_pod_killed_by_an_outsider(unit, kubelets, runs):
    (crispd, name), (parent, path) = unit, kubelets
    cri = Cri(crispd)
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    containers = [cri.run(pod, ["sh", "-c", "echo up; sleep 3600"]) for _ in range(2)]
    for container in containers:
        wait_for(lambda c=container: cri.log_lines(c), what="the container is up")
    if not runs:
        crispd.disconnect()
        systemctl("stop", name)
    kill_all(path)
    if not runs:
        systemctl("start", name)
        assert crispd.connect()
    wait_for(lambda: cri.pod_status(pod).state == pb.SANDBOX_NOTREADY, 10, "the pod is known to have ended")
    for container in containers:
        status = cri.wait(container)
        assert (status.exit_code, status.reason in ("Error", "SupervisorDied")) == (137, True), status
        assert status.started_at <= status.finished_at and [line.text for line in cri.log_lines(container)] == ["up"]
    cri.StopPodSandbox(pod_sandbox_id=pod)
    os.rmdir(path)
    cri.RemovePodSandbox(pod_sandbox_id=pod)
