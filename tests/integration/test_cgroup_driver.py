"""The systemd cgroup driver: scopes in slices, as kubelet asks for them, beside a systemd that is reloaded and restarted."""
import os
import subprocess
import uuid

import grpc
import pytest

import cgroups
from cri import BUSYBOX, Cri
from daemon import limit, wait_for
from stubs import pb

pytestmark = [pytest.mark.systemd, pytest.mark.cgroup2]
TREE = "/sys/fs/cgroup"


def systemctl(*words, check=True):
    return subprocess.run(["systemctl", *words], check=check, capture_output=True, text=True, timeout=limit(60)).stdout.strip()


def show(unit, name):
    return systemctl("show", "-P", name, unit)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def state_of(path, files):
    return {name: read(f"{path}/{name}") for name in files}


@pytest.fixture(name="daemon")
def fixture_daemon(make_crispd):
    daemon = make_crispd(driver="systemd")
    daemon.start()
    yield daemon
    Cri(daemon).clean()


@pytest.fixture(name="kube")
def fixture_kube():
    """A pod's slice as kubelet makes it, with limits: (name, path)."""
    name = f"kubetest{os.getpid()}-burstable-pod{uuid.uuid4().hex[:8]}.slice"
    with open(f"/run/systemd/system/{name}", "w", encoding="utf-8") as f:
        f.write("[Slice]\nMemoryMax=256M\nCPUWeight=50\n")
    systemctl("daemon-reload")
    systemctl("start", name)
    parts = name[:-len(".slice")].split("-")
    path = "".join("/" + "-".join(parts[:i + 1]) + ".slice" for i in range(len(parts)))
    wait_for(lambda: os.path.isdir(TREE + path), what="the slice is there")
    yield name, path
    systemctl("stop", f"kubetest{os.getpid()}.slice")
    os.unlink(f"/run/systemd/system/{name}")
    systemctl("daemon-reload")


def in_slice(parent):
    return pb.LinuxPodSandboxConfig(cgroup_parent=parent)


def limited():
    return pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(
        memory_limit_in_bytes=32 << 20, cpu_quota=50000, cpu_period=100000, cpuset_cpus="1",
        unified={"pids.max": "77"}, hugepage_limits=[pb.HugepageLimit(page_size="2MB", limit=4 << 20)]))


LIMITS = {"memory.max": str(32 << 20), "cpu.max": "50000 100000", "cpuset.cpus": "1", "pids.max": "77",
          "hugetlb.2MB.max": str(4 << 20)}


def test_a_pod_is_a_scope_in_kubelets_slice(kube, daemon):
    name, path = kube
    cri = Cri(daemon)
    assert cri.RuntimeConfig().linux.cgroup_driver == pb.SYSTEMD
    own = ("memory.max", "cpu.weight", "cpu.max", "pids.max", "memory.high")
    before, attributes = state_of(TREE + path, own), os.listxattr(TREE + path)
    assert before["memory.max"] == str(256 << 20)
    pod = cri.run_pod(linux=in_slice(path))  # as kubelet sends it
    scope = f"crisp-{pod}.scope"
    assert {key: show(scope, key) for key in ("ActiveState", "Slice", "ControlGroup", "Delegate", "TasksMax")} == {
        "ActiveState": "active", "Slice": name, "ControlGroup": f"{path}/{scope}", "Delegate": "yes", "TasksMax": "infinity"}
    cri.have(BUSYBOX)
    container = cri.run(pod, ["sleep", "3600"], linux=limited())
    here = TREE + path + f"/{scope}/{container}"
    assert TREE + cgroups.of_process(cri.pid_of(container))[""] == here
    assert cri.exec(container, "cat", "/proc/self/cgroup")[1].splitlines()[-1].startswith("0::/exec-")
    # systemd goes over what is its own; and is replaced by itself, which ends the connection.
    assert state_of(here, LIMITS) == LIMITS
    subprocess.run(["systemd-run", "--wait", "--quiet", f"--slice={name}", "-p", "DefaultDependencies=no", "-p", "CPUWeight=50", "true"], check=True,
                   timeout=limit(60))
    systemctl("daemon-reload")
    systemctl("daemon-reexec")
    assert state_of(here, LIMITS) == LIMITS
    other = cri.run_pod(linux=in_slice(name))
    assert show(f"crisp-{other}.scope", "Slice") == name
    assert not read(f"{TREE}{path}/cgroup.procs") and not read(f"{TREE}{path}/{scope}/cgroup.procs")
    assert state_of(TREE + path, own) == before and os.listxattr(TREE + path) == attributes
    for each in (pod, other):
        cri.StopPodSandbox(pod_sandbox_id=each)
    # Right after: nothing is left in the slice, and kubelet's removal works.
    assert [x for x in os.listdir(TREE + path) if os.path.isdir(f"{TREE}{path}/{x}")] == []
    systemctl("stop", name)
    assert not os.path.exists(TREE + path)
    wait_for(lambda: show(scope, "LoadState") == "not-found", 5, "systemd forgets the scope")
    assert not systemctl("list-units", "--all", "--failed", "--plain", "--no-legend", "crisp-*")


def test_pods_without_a_parent_and_wrong_ones(daemon):
    cri = Cri(daemon)
    pod = cri.run_pod()
    assert show(f"crisp-{pod}.scope", "Slice") == daemon.cgroup[1:]
    assert all(f"{daemon.cgroup}/crisp-{pod}.scope/{pod}" == cgroups.of_process(p)[""] for p in daemon.supervisors())
    for bad in ("/kubepods/burstable", "kubepods", "-.slice", "a--b.slice", "/a.slice/../b.slice", "x" * 300 + ".slice"):
        with pytest.raises(grpc.RpcError) as e:
            cri.run_pod(linux=in_slice(bad))
        assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "linux.cgroup_parent" in e.value.details()
    # One that systemd makes for this pod goes with it, with what it made on the way.
    name = f"crisptest{os.getpid()}-a-b.slice"
    pod = cri.run_pod(linux=in_slice(name))
    assert show(name, "ActiveState") == "active"
    cri.remove_pod(pod)
    wait_for(lambda: not os.path.exists(f"{TREE}/crisptest{os.getpid()}.slice"), 10, "the slices go")


def test_the_driver_changes_while_pods_run(daemon):
    cri = Cri(daemon)
    cri.have(BUSYBOX)
    pod = cri.run_pod()
    container = cri.run(pod, ["sleep", "3600"], linux=limited())
    scope = f"crisp-{pod}.scope"
    daemon.terminate()
    with open(daemon.config, encoding="utf-8") as f:
        systemd = f.read()
    plain = f"/crisp-test-{os.getpid()}-plain"
    with open(daemon.config, "w", encoding="utf-8") as f:
        f.write(systemd.replace('"systemd"', '"cgroupfs"').replace(f'"{daemon.cgroup[1:]}"', f'"{plain}"'))
    daemon.start()
    assert cri.status(container).state == pb.CONTAINER_RUNNING
    assert cri.exec(container, "echo", "x") == (0, "x\n", "")
    second = cri.run(pod, ["sleep", "3600"], linux=limited())
    assert state_of(f"{TREE}{daemon.cgroup}/{scope}/{second}", LIMITS) == LIMITS
    other = cri.run_pod()
    assert os.path.isdir(f"{TREE}{plain}/{other}")
    with pytest.raises(grpc.RpcError) as e:
        cri.run_pod(linux=in_slice("/a.slice"))
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "cgroup driver is cgroupfs" in e.value.details()
    cri.remove_pod(pod)
    assert not os.path.exists(f"{TREE}{daemon.cgroup}/{scope}")
    wait_for(lambda: show(scope, "LoadState") == "not-found", 5, "systemd forgets the scope")
    daemon.terminate()
    with open(daemon.config, "w", encoding="utf-8") as f:
        f.write(systemd)
    daemon.start()
    assert cri.pod_status(other).state == pb.SANDBOX_READY
    cri.remove_pod(other)
    assert not os.path.exists(f"{TREE}{plain}/{other}")
    cgroups.remove(plain)
