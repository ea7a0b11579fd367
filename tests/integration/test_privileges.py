"""What a container may do: capabilities, no_new_privs, masked and read-only paths, read-only root, privileged."""
import os

import grpc
import pytest

from cri import code_of, text_of
from daemon import wait_for
from stubs import pb

pytestmark = pytest.mark.core
DEFAULT = ("CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT "
           "KILL AUDIT_WRITE").split()
NUMBER = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
          "NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_CHROOT": 18, "SYS_PTRACE": 19, "SYS_ADMIN": 21,
          "SYS_TIME": 25, "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31}


def bits(*names):
    return sum(1 << NUMBER[name] for name in names)


def held():
    """What this daemon, and so the runtime, has itself: tests run as its parent."""
    with open("/proc/self/status", encoding="utf-8") as f:
        return int(dict(line.split(":", 1) for line in f)["CapBnd"], 16)


def security(**fields):
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields))


def status(cri, pod, add=(), drop=(), ambient=(), **fields):
    """(/proc/self/status of the first process, that of an exec'd one): each a dict with the sets as numbers."""
    caps = pb.Capability(add_capabilities=add, drop_capabilities=drop, add_ambient_capabilities=ambient)
    container = cri.run(pod, ["sh", "-c", "cat /proc/self/status; exec sleep 3600"],
                        linux=security(capabilities=caps, **fields))
    wait_for(lambda: "nonvoluntary" in text_of(cri.log_lines(container)), 10, "the status is in the log")
    texts = [text_of(cri.log_lines(container)), cri.sh(container, "cat /proc/self/status")]
    cri.RemoveContainer(container_id=container)
    found = []
    for text in texts:
        lines = dict(line.split(":\t", 1) for line in text.splitlines())
        found.append({key: int(lines[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")})
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("add,drop,expected", [
    ([], [], DEFAULT),
    (["SYS_ADMIN", "cap_sys_time"], [], DEFAULT + ["SYS_ADMIN", "SYS_TIME"]),
    ([], ["NET_RAW", "CAP_MKNOD"], [name for name in DEFAULT if name not in ("NET_RAW", "MKNOD")]),
    ([], ["ALL"], []),
    (["NET_ADMIN"], ["ALL"], ["NET_ADMIN"]),
    (["NET_RAW"], ["NET_RAW"], [name for name in DEFAULT if name != "NET_RAW"]),
])
def test_add_and_drop(cri, pod, add, drop, expected):
    got = status(cri, pod, add, drop)
    want = bits(*expected) & held()
    assert got["CapEff"] == got["CapPrm"] == got["CapBnd"] == want
    assert got["CapInh"] == got["CapAmb"] == 0


def test_all(cri, pod, privileged_pod):
    """"All" are those that the runtime holds itself."""
    assert status(cri, pod, ["ALL"])["CapEff"] == held()
    assert status(cri, pod, ["CAP_ALL"], ["SYS_TIME"])["CapBnd"] == held() & ~bits("SYS_TIME")
    got = status(cri, privileged_pod, privileged=True)
    assert got["CapEff"] == got["CapPrm"] == got["CapBnd"] == held() and got["CapAmb"] == 0


@pytest.mark.vm
def test_users_and_ambient_capabilities(cri, pod):
    """Who isn't root has none of its capabilities, but for the ambient ones."""
    user = pb.Int64Value(value=1000)
    got = status(cri, pod, ["SYS_ADMIN"], run_as_user=user)
    assert got["CapEff"] == got["CapPrm"] == got["CapAmb"] == 0
    assert got["CapBnd"] == bits(*DEFAULT, "SYS_ADMIN") & held()
    got = status(cri, pod, [], ["ALL"], ["NET_BIND_SERVICE", "CAP_SYS_TIME"], run_as_user=user, no_new_privs=True)
    assert set(got.values()) == {bits("NET_BIND_SERVICE", "SYS_TIME"), 1}
    # What is dropped by name is not given by another list; root has them as well.
    got = status(cri, pod, [], ["NET_RAW"], ["NET_RAW", "NET_ADMIN"])
    assert got["CapAmb"] == got["CapInh"] == bits("NET_ADMIN")
    assert got["CapEff"] == (bits(*DEFAULT, "NET_ADMIN") & ~bits("NET_RAW")) & held()


def test_ambient_capabilities_take_effect(cri, pod):
    fields = {"run_as_user": pb.Int64Value(value=1000)}
    for ambient, works in (([], False), (["CHOWN"], True)):
        linux = security(capabilities=pb.Capability(add_ambient_capabilities=ambient), **fields)
        code, _, err = cri.run_to_end(pod, ["sh", "-c", "cd /tmp && touch f && chown 5 f"], linux=linux)
        assert (code == 0) == works and (works or "not permitted" in err)


@pytest.mark.parametrize("field", ["add_capabilities", "drop_capabilities", "add_ambient_capabilities"])
def test_unknown_capabilities(cri, pod, field):
    for name in ("NO_SUCH", "", "CAP_", "cap_cap_chown"):
        code, text = code_of(cri.create, pod, ["true"], linux=security(capabilities=pb.Capability(**{field: [name]})))
        assert code == grpc.StatusCode.INVALID_ARGUMENT and field in text and f'"{name}"' in text


def test_privileged_needs_a_privileged_pod(cri, pod):
    code, text = code_of(cri.create, pod, ["true"], linux=security(privileged=True))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "security_context.privileged" in text


def test_privileged(cri, privileged_pod):
    linux = security(privileged=True, masked_paths=["/proc/kcore"], readonly_paths=["/proc/sys"],
                     seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault))
    container = cri.run(privileged_pod, ["sleep", "3600"], linux=linux)
    options = {line.split()[1]: line.split()[3].split(",") for line in cri.sh(container, "cat /proc/mounts").splitlines()}
    assert options["/sys"][0] == options["/proc"][0] == "rw" and not {"/proc/kcore", "/proc/sys"} & set(options)
    assert cri.sh(container, "grep ^Seccomp: /proc/self/status").split()[1] == "0"


def test_no_new_privs(cri, pod):
    image = "registry.k8s.io/e2e-test-images/nonewprivs:1.3"
    user = pb.Int64Value(value=1000)
    assert cri.output(pod, [], image=image, linux=security(run_as_user=user, no_new_privs=True)) == \
        "Effective uid: 1000\n"
    assert cri.output(pod, [], image=image, linux=security(run_as_user=user)) == "Effective uid: 0\n"


def test_readonly_root(cri, pod):
    code, _, err = cri.run_to_end(pod, ["touch", "test.go"], linux=security(readonly_rootfs=True))
    assert code == 1 and "touch: test.go: Read-only file system" in err


def test_readonly_root_with_writable_mounts(cri, pod, tmp_path):
    linux = security(readonly_rootfs=True)
    mounts = [pb.Mount(host_path=str(tmp_path), container_path="/made/for/it"),
              pb.Mount(host_path=str(tmp_path), container_path="/made/ro", readonly=True)]
    container = cri.run(pod, ["sleep", "3600"], linux=linux, mounts=mounts)
    cri.sh(container, "touch /made/for/it/x /dev/shm/x && test -e /made/ro/x")
    for path in ("/made/y", "/made/ro/y", "/etc/hosts"):
        assert "Read-only file system" in cri.exec(container, "sh", "-c", f"echo >{path}")[2]


def test_masked_and_readonly_paths(cri, pod):
    linux = security(masked_paths=["/bin/ls", "/proc/kcore"], readonly_paths=["/tmp"])
    container = cri.run(pod, ["sleep", "3600"], linux=linux)
    assert "ermission denied" in cri.exec(container, "sh", "-c", "ls")[2]
    assert "Read-only file system" in cri.exec(container, "touch", "/tmp/x")[2]


def test_default_masks(cri, pod):
    """For clients that name none; those that do get theirs alone."""
    container = cri.run(pod, ["sleep", "3600"])
    code, _, err = cri.exec(container, "sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
    assert code != 0 and "Read-only file system" in err
    for path in ("/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"):
        if os.path.exists(path):  # as the kernel was built
            assert "Read-only file system" in cri.exec(container, "sh", "-c", f"echo f >{path}")[2]
    assert cri.sh(container, "wc -c </proc/keys; wc -c </proc/timer_list; ls /sys/firmware | wc -l").split() == ["0"] * 3
    points = [line.split()[4] for line in cri.sh(container, "cat /proc/self/mountinfo").splitlines()]
    assert "/proc/keys" in points and "/proc/sys" in points
    linux = security(masked_paths=["/proc/version"])
    container = cri.run(pod, ["sleep", "3600"], linux=linux)
    points = [line.split()[4] for line in cri.sh(container, "cat /proc/self/mountinfo").splitlines()]
    assert "/proc/version" in points and "/proc/keys" not in points and "/proc/sys" not in points


def test_masks_of_what_is_not_there(cri, pod):
    linux = security(masked_paths=["/no/such", "/etc/passwd/x", "/etc"], readonly_paths=["/no/such/too", "/tmp"])
    container = cri.run(pod, ["sleep", "3600"], linux=linux)
    assert cri.sh(container, "ls -A /etc; ls -d /no 2>/dev/null || echo none") == "none\n"


def test_writes_of_the_host_stay_the_hosts(cri, pod):
    """The kernel's knobs are out of reach of root in a container."""
    before = open("/proc/sys/kernel/core_pattern", encoding="utf-8").read()
    container = cri.run(pod, ["sleep", "3600"])
    code, _, err = cri.exec(container, "sh", "-c", "echo '|/x' >/proc/sys/kernel/core_pattern")
    assert code != 0 and "Read-only file system" in err
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as f:
        assert f.read() == before and os.getuid() == 0
