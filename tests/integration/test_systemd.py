"""crispd as a unit of systemd: what its restart and its end leave alone."""
import os
import subprocess
import textwrap

import pytest

import cgroups
from cri import BUSYBOX, Cri
from daemon import limit, program, wait_for
from stubs import pb

pytestmark = [pytest.mark.systemd, pytest.mark.vm]


def systemctl(*words):
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True, timeout=limit(60)).stdout


@pytest.fixture
def unit(make_crispd):
    """(a daemon's directories and configuration, the name of its running unit)."""
    crispd = make_crispd()
    name = f"crispd-test-{os.getpid()}.service"
    path = f"/run/systemd/system/{name}"
    # KillMode: pods outlive the daemon. No directive that gives a unit mounts of its own: the pods' would be there, too.
    # nsenter: the test's registry and networks are in the test's network namespace.
    with open(path, "w", encoding="utf-8") as f:
        f.write(textwrap.dedent(f"""\
            [Service]
            Type=exec
            ExecStart=nsenter --net=/proc/{os.getpid()}/ns/net {program("crispd")} --config {crispd.config}
            Delegate=yes
            KillMode=process
            TasksMax=infinity
            LimitNOFILE=1048576
            OOMScoreAdjust=-999
            StandardError=append:{crispd.log}
            """))
    systemctl("daemon-reload")
    systemctl("start", name)
    wait_for(lambda: os.path.exists(crispd.socket) and crispd.connect(), 30, "crispd serves")
    yield crispd, name
    systemctl("start", name)
    wait_for(crispd.connect, 30, "crispd serves")
    Cri(crispd).clean()
    crispd.disconnect()
    systemctl("stop", name)
    os.unlink(path)
    systemctl("daemon-reload")


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
