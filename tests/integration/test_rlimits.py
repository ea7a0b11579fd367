"""Resource limits that the configuration gives to containers."""
import json
import resource

from cri import Cri
from stubs import pb


def limits_of(text):
    """/proc/self/limits: {name: (soft, hard)}."""
    return {line[:26].strip(): tuple(line[26:].split()[:2]) for line in text.splitlines()[1:]}


def test_containers_and_execs_have_them(make_crispd):
    """What can be had is had; what can't be raised stays as it is and is told, and containers run."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    crispd = make_crispd(cni="", settings={"runtime": {"rlimits": [
        "core=0", "nofile=100:200", "nproc=unlimited", "stack=1048576:unlimited", "nofile=1000:unlimited"]}}).start()
    cri = Cri(crispd)
    host = pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(network=pb.NODE)))
    container = cri.run(cri.run_pod(linux=host), ["sh", "-c", "cat /proc/self/limits; sleep 3600"])
    cri.sh(container, "true")
    for text in (cri.sh(container, "cat /proc/self/limits"), "\n".join(x.text for x in cri.log_lines(container))):
        limits = limits_of(text)
        assert limits["Max core file size"] == ("0", "0")
        # The kernel lets nobody have more descriptors than fs.nr_open: the hard limit stays.
        assert limits["Max open files"] == ("1000", str(hard))
        assert limits["Max stack size"] == ("1048576", "unlimited")
    told = [line for line in open(crispd.log, encoding="utf-8") if "runtime.rlimits" in line]
    assert len([line for line in told if "limit=nofile" in line and f"hard={hard}" in line]) == 1
    info = json.loads(cri.Status(verbose=True).info["host"])
    assert info["rlimits"]["nofile"] == {"soft": 1000, "hard": hard}
    assert info["rlimits"]["core"] == {"soft": 0, "hard": 0}
    assert set(info) == {"apparmor", "selinux", "rlimits"}
    cri.clean()


def test_without_them_they_are_crispds_own(cri, pod):
    limits = limits_of(cri.output(pod, ["cat", "/proc/self/limits"]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limits["Max open files"] == (str(soft), str(hard))
