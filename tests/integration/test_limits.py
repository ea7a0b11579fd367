"""Limits hold: CPU time, processes, memory. What is measured is the kernel's own counters."""
import os
import signal
import time

import pytest

import cgroups
from cri import Cri
from daemon import limit, wait_for
from stubs import pb

MIB = 1 << 20


def limits(**fields):
    return pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(**fields))


def keyed(text):
    return dict(line.split() for line in text.splitlines() if len(line.split()) == 2)


def cpu_seconds(pid):
    """Seconds of CPU, periods and throttled periods of a process's cgroup."""
    stat = keyed(cgroups.read(pid, "cpu", ("cpu.stat", "cpu.stat")))
    used = int(stat["usage_usec"]) / 1e6 if "usage_usec" in stat else \
        int(cgroups.read(pid, "cpuacct", ("cpuacct.usage", ""))) / 1e9
    return used, int(stat["nr_periods"]), int(stat["nr_throttled"])


@pytest.mark.vm
def test_a_fifth_of_a_cpu(cri, pod):
    container = cri.run(pod, ["sh", "-c", "while :; do :; done"], linux=limits(cpu_quota=20000, cpu_period=100000))
    pid = cri.pid_of(container)
    began, (used, periods, throttled) = time.monotonic(), cpu_seconds(pid)
    time.sleep(6)
    passed, now = time.monotonic() - began, cpu_seconds(pid)
    share = (now[0] - used) / passed
    assert share <= 0.22, f"{share:.3f} of a CPU"
    # Held back nearly every time: then it had all that it was allowed. Else the machine had not that much for it.
    if now[2] - throttled >= 0.9 * (now[1] - periods) > 0:
        assert share >= 0.18, f"{share:.3f} of a CPU, throttled {now[2] - throttled} of {now[1] - periods} periods"


def test_forks_stop_at_the_pids_limit(make_crispd):
    crispd = make_crispd(cni="", settings={"runtime": {"pids_limit": 100}})
    crispd.start()
    cri = Cri(crispd)
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(network=pb.NODE))))
    bomb = cri.run(pod, ["sh", "-c", "(i=0; while [ $i -lt 10000 ]; do sleep 3600 & i=$((i+1)); done); echo stopped;"
                                     " exec sleep 3600"])
    wait_for(lambda: any(line.text == "stopped" for line in cri.log_lines(bomb)), 60, "the forks to fail")
    pid = cri.pid_of(bomb)
    assert cgroups.read(pid, "pids", ("pids.max", "pids.max")) == "100"
    assert int(cgroups.read(pid, "pids", ("pids.current", "pids.current"))) <= 100
    assert int(keyed(cgroups.read(pid, "pids", ("pids.events", "pids.events")))["max"]) > 0
    assert any("can't fork" in line.text for line in cri.log_lines(bomb))
    other = cri.run(pod, ["sleep", "3600"])  # has a limit of its own
    assert cri.sh(other, "echo well") == "well\n"
    cri.remove_pod(pod)


def test_an_eater_ends_and_its_neighbour_does_not(cri, pod):
    neighbour = cri.run(pod, ["sleep", "3600"], linux=limits(memory_limit_in_bytes=32 * MIB))
    eater = cri.run(pod, ["sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=200M count=1"], linux=limits(
        memory_limit_in_bytes=32 * MIB, memory_swap_limit_in_bytes=32 * MIB))
    status = cri.wait(eater, 30)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")
    assert cri.status(neighbour).state == pb.CONTAINER_RUNNING
    assert cri.sh(neighbour, "echo well") == "well\n"


EATER = "dd if=/dev/zero of=/dev/null bs=200M count=1"


def end_of(cri, pod, script, timeout=limit(30), **more):
    container = cri.run(pod, ["sh", "-c", script], linux=limits(
        memory_limit_in_bytes=32 * MIB, memory_swap_limit_in_bytes=32 * MIB, **more))
    status = cri.wait(container, timeout)
    cri.RemoveContainer(container_id=container)
    return status.exit_code, status.reason


@pytest.mark.core
@pytest.mark.vm
def test_a_child_that_is_killed_for_its_memory(cri, pod):
    # The shell ends as its child did, or with an error of its own, or gets over it.
    assert end_of(cri, pod, EATER) == (137, "OOMKilled")
    assert end_of(cri, pod, EATER + "; exit $?") == (137, "OOMKilled")
    assert end_of(cri, pod, EATER + " || exit 1") == (1, "OOMKilled")
    assert end_of(cri, pod, EATER + "; exit 0") == (0, "Completed")


@pytest.mark.core
def test_kills_at_the_very_end(cri, pod):
    for _ in range(5):
        assert end_of(cri, pod, f"{EATER} & exec {EATER}") == (137, "OOMKilled")


@pytest.mark.core
@pytest.mark.vm
def test_an_end_long_after_an_oom_kill_is_not_its(cri, pod):
    # The child's end is survived; what ends the container is a signal, from us or from outside.
    script = f"{EATER}; echo survived; trap 'exit 3' TERM; while :; do sleep 0.1; done"

    def survivor():
        container = cri.run(pod, ["sh", "-c", script], linux=limits(
            memory_limit_in_bytes=32 * MIB, memory_swap_limit_in_bytes=32 * MIB))
        wait_for(lambda: any(line.text == "survived" for line in cri.log_lines(container)), 30, "the child's end")
        return container

    soon = survivor()
    time.sleep(1)  # what the kernel has killed knows it by then
    os.kill(cri.pid_of(soon), signal.SIGKILL)
    assert (cri.wait(soon).exit_code, cri.status(soon).reason) == (137, "Error")
    stopped, killed, outsiders = survivor(), survivor(), survivor()
    time.sleep(2.5)
    cri.StopContainer(container_id=stopped, timeout=limit(10))
    cri.StopContainer(container_id=killed, timeout=0)
    os.kill(cri.pid_of(outsiders), signal.SIGKILL)
    assert (cri.status(stopped).exit_code, cri.status(stopped).reason) == (3, "Error")
    assert (cri.status(killed).exit_code, cri.status(killed).reason) == (137, "Error")
    assert (cri.wait(outsiders).exit_code, cri.status(outsiders).reason) == (137, "Error")
