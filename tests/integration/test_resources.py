"""CPU, memory and other limits."""
import os
import signal

import pytest

import cgroups
from stubs import pb

pytestmark = [pytest.mark.core, pytest.mark.vm]


def limits(**fields):
    return pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(**fields))


def test_cpu_and_memory(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=limits(
        cpu_period=100000, cpu_quota=50000, cpu_shares=512, memory_limit_in_bytes=64 << 20, oom_score_adj=500))
    pid = cri.pid_of(container)
    assert cgroups.read(pid, "memory", ("memory.limit_in_bytes", "memory.max")) == str(64 << 20)
    assert cgroups.read(pid, "cpu", ("cpu.cfs_quota_us", "cpu.max")).split()[0] == "50000"
    with open(f"/proc/{pid}/oom_score_adj", encoding="utf-8") as f:
        assert f.read().strip() == "500"
    resources = cri.status(container).resources.linux
    assert (resources.cpu_quota, resources.cpu_period, resources.cpu_shares) == (50000, 100000, 512)
    assert resources.memory_limit_in_bytes == 64 << 20


def test_out_of_memory(cri, pod):
    # The spec critest has: 15 MiB, no swap beyond it.
    container = cri.run(pod, ["sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=100M"], linux=limits(
        memory_limit_in_bytes=15 << 20, memory_swap_limit_in_bytes=15 << 20))
    status = cri.wait(container, 30)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")
    assert cri.output(pod, ["echo", "the pod is well"]) == "the pod is well\n"


def test_exit_137_without_oom_is_not_oomkilled(cri, pod):
    container = cri.run(pod, ["sleep", "3600"])
    os.kill(cri.pid_of(container), signal.SIGKILL)
    status = cri.wait(container)
    assert (status.exit_code, status.reason) == (137, "Error")


def test_cpuset(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], linux=limits(cpuset_cpus="0"))
    assert "Cpus_allowed_list:\t0\n" in cri.sh(container, "cat /proc/1/status")
