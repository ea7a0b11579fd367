"""AppArmor, on a host that has it: the default profile, profiles by name, none."""
import json
import os
import subprocess

import grpc
import pytest

from cri import code_of
from stubs import pb

pytestmark = pytest.mark.apparmor

PROFILES = "/sys/kernel/security/apparmor/profiles"
MINE = f"crisp-test-{os.getpid()}-no-writes"
TEXT = f"profile {MINE} flags=(attach_disconnected) {{ file, network, signal, capability, deny /** w, }}\n"
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = 0, 1, 2


def parser(*options, text):
    subprocess.run(["apparmor_parser", "--skip-cache", "--quiet", *options], input=text, text=True, check=True)


@pytest.fixture(name="mine", scope="module")
def loaded_profile():
    """A profile that forbids writing, in the kernel."""
    parser("--replace", text=TEXT)
    yield MINE
    parser("--remove", text=TEXT)


def confined(kind=None, ref="", **more):
    if kind is not None:
        more["apparmor"] = pb.SecurityProfile(profile_type=kind, localhost_ref=ref)
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**more))


def profile_of(cri, pod, linux):
    return cri.output(pod, ["cat", "/proc/self/attr/current"], linux=linux).strip()


def test_the_default_profile(cri, pod):
    """Asked for, by either field, or not asked for: crisp-default, in execs too."""
    for linux in (confined(), confined(RUNTIME_DEFAULT), confined(apparmor_profile="runtime/default"),
                  confined(no_new_privs=True)):
        assert profile_of(cri, pod, linux) == "crisp-default (enforce)"
    # Execs into a container that may trace take two stages: the profile has to pass from one to the other.
    tracing = confined(capabilities=pb.Capability(add_capabilities=["SYS_PTRACE"]))
    for linux in (tracing, confined(no_new_privs=True), confined()):
        container = cri.run(pod, ["sleep", "3600"], linux=linux)
        assert cri.sh(container, "cat /proc/self/attr/current").strip() == "crisp-default (enforce)"
    # Its processes are among themselves, and stop when they are told to.
    assert cri.sh(container, "sleep 100 & kill $! && wait $! || echo ended").strip() == "ended"
    cri.StopContainer(container_id=container, timeout=0)
    assert cri.wait(container).exit_code == 137


def test_the_default_profile_confines(cri, pod):
    """What capabilities and mounts would allow: mounting, and writing to the node's /proc and /sys."""
    context = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(add_capabilities=["SYS_ADMIN"]),
        masked_paths=["/proc/none"], readonly_paths=["/proc/none"],
        seccomp=pb.SecurityProfile(profile_type=UNCONFINED))
    denied = [f"/proc/sys/{f}" for f in ("kernel/core_pattern", "kernel/sysrq", "kernel/modprobe", "kernel/printk",
                                         "kernel/shutdown", "vm/drop_caches", "fs/file-max", "fs/mount-max")]
    denied = [f for f in denied if os.path.exists(f)] + ["/proc/sysrq-trigger"]
    allowed = ["/proc/sys/kernel/shmmax", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/sem",
               "/proc/sys/net/ipv4/ip_forward", "/proc/self/comm", "/tmp/x", "/etc/x"]
    # Opened and closed: nothing is written to the node, even if it could be.
    script = "mkdir /m; mount -t tmpfs none /m 2>/dev/null && echo mount; for f in %s; do true 2>/dev/null >>$f && echo $f; done"
    script %= " ".join(denied + allowed)
    linux = pb.LinuxContainerConfig(security_context=context)
    assert cri.output(pod, ["sh", "-c", script], linux=linux).split() == allowed
    context.apparmor.profile_type = UNCONFINED
    linux = pb.LinuxContainerConfig(security_context=context)
    assert cri.output(pod, ["sh", "-c", script], linux=linux).split() == ["mount"] + denied + allowed


def test_unconfined(cri, pod):
    for linux in (confined(UNCONFINED), confined(apparmor_profile="unconfined")):
        assert profile_of(cri, pod, linux) == "unconfined"
    # CRI: a privileged container has AppArmor disabled, whatever its profile.
    allowing = pb.LinuxSandboxSecurityContext(privileged=True)
    privileged = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=allowing))
    assert profile_of(cri, privileged, confined(RUNTIME_DEFAULT, privileged=True)) == "unconfined"


def test_a_profile_by_name(cri, pod, mine):
    other = "localhost/no-such-profile"
    for linux in (confined(LOCALHOST, mine), confined(LOCALHOST, "localhost/" + mine),
                  confined(apparmor_profile="localhost/" + mine), confined(LOCALHOST, mine, apparmor_profile=other)):
        assert profile_of(cri, pod, linux) == f"{mine} (enforce)"
        created = cri.ContainerStatus(container_id=cri.create(pod, ["true"], linux=linux), verbose=True)
        assert json.loads(created.info["info"])["plan"]["apparmorProfile"] == mine
        code, _, err = cri.run_to_end(pod, ["touch", "/tmp/foo"], linux=linux)
        assert code == 1 and "Permission denied" in err
    container = cri.run(pod, ["sleep", "3600"], linux=confined(LOCALHOST, mine))
    code, _, err = cri.exec(container, "touch", "/tmp/foo")
    assert code == 1 and "Permission denied" in err


def test_a_profile_that_is_not_loaded(cri, pod):
    for linux in (confined(LOCALHOST, "no-such-profile"), confined(apparmor_profile="localhost/no-such-profile")):
        code, text = code_of(cri.create, pod, ["true"], linux=linux)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert text.startswith('linux.security_context.apparmor: the profile "no-such-profile" is not loaded')
    assert not cri.ListContainers().containers


def test_a_profile_that_vanishes_before_the_start(cri, pod):
    name = MINE + "-gone"
    text = TEXT.replace(MINE, name)
    parser("--replace", text=text)
    container = cri.create(pod, ["true"], linux=confined(LOCALHOST, name))
    parser("--remove", text=text)
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.FAILED_PRECONDITION and f'"{name}" is not loaded' in text
    status = cri.status(container)
    assert (status.exit_code, status.reason) == (128, "StartError") and name in status.message


def test_the_default_is_loaded_again(cri, pod):
    """Somebody unloads all profiles (aa-teardown): the next container brings ours back."""
    assert profile_of(cri, pod, confined()) == "crisp-default (enforce)"
    parser("--remove", text="profile crisp-default { }\n")
    with open(PROFILES, encoding="utf-8") as f:
        assert "crisp-default" not in f.read()
    assert profile_of(cri, pod, confined()) == "crisp-default (enforce)"
