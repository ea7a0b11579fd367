"""Seccomp: what the default profile says of every system call, and profiles from files."""
import json
import os
import re

import grpc
import pytest

from cri import code_of
from stubs import pb

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
EXPECTED = os.path.join(os.path.dirname(__file__), "syscalls.expected")
SYSCALLS = "docker.io/library/syscalls:latest"
ABIS = ["x86_64", "i386", "x32"]
# In newer kernels no filter is asked about these two.
UNFILTERED = {"uretprobe", "uprobe"}
CAPABILITIES = {
    "none": pb.Capability(drop_capabilities=["ALL"]),
    "sys_admin": pb.Capability(drop_capabilities=["ALL"], add_capabilities=["SYS_ADMIN"]),
    "all": pb.Capability(add_capabilities=["ALL"]),
}
NEW_NAMESPACES = {"NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000,
                  "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}


def security(profile_type=pb.SecurityProfile.RuntimeDefault, ref="", **fields):
    profile = pb.SecurityProfile(profile_type=profile_type, localhost_ref=ref)
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(seccomp=profile, **fields))


def localhost(path, **fields):
    return security(pb.SecurityProfile.Localhost, str(path), **fields)


@pytest.fixture
def profile(tmp_path):
    """profile(dict or text): the path of a profile with that content."""
    def write(content, name="profile.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path
    return write


def numbers():
    """{abi: {number: name}} of all calls that the runtime knows."""
    table = {abi: {} for abi in ABIS}
    with open(f"{TOP}/runtime/seccomp_numbers.def", encoding="utf-8") as f:
        for name, *columns in re.findall(r"^NR\((\w+), +(-?\d+), +(-?\d+), +(-?\d+), ", f.read(), re.M):
            for abi, nr in zip(ABIS, columns):
                if nr != "-1":
                    table[abi][int(nr)] = name
    assert all(len(calls) > 350 for calls in table.values())
    return table


def expected():
    """{name: {capabilities: verdict}}"""
    with open(EXPECTED, encoding="utf-8") as f:
        rows = [line.split() for line in f if not line.startswith("#")]
    return {name: dict(zip(CAPABILITIES, verdicts)) for name, *verdicts in rows}


def verdicts(output):
    """{(abi, number) or what was asked for: verdict} of what the program printed."""
    result = {}
    for line in output.splitlines():
        where, _, rest = line.partition(" ")
        if where in ABIS:
            nr, _, rest = rest.partition(" ")
            where = (where, int(nr))
        result[where] = rest
    return result


@pytest.mark.vm
@pytest.mark.parametrize("capabilities", CAPABILITIES)
def test_default_profile_call_by_call(cri, pod, capabilities):
    table, want = numbers(), expected()
    linux = security(capabilities=CAPABILITIES[capabilities])
    got = verdicts(cri.output(pod, [], image=SYSCALLS, linux=linux))
    assert len(got) == 3 * 600
    wrong, seen = [], set()
    for (abi, nr), verdict in got.items():
        # The two 64-bit kinds share all but x32's own numbers, and each tree answers for the other's.
        name = table[abi].get(nr) or (abi != "i386" and (table["x32"].get(nr) or table["x86_64"].get(nr)))
        seen.add(name)
        if name in UNFILTERED and abi == "x86_64":
            continue
        should = want[name][capabilities] if name else "ENOSYS"
        if verdict != should:
            wrong.append(f"{abi} {nr} {name}: {verdict}, not {should}")
    assert not wrong, "\n".join(wrong)
    assert set(want) <= seen, set(want) - seen


def test_default_profile_argument_by_argument(cri, pod):
    refused = {12, 20, 34, 37, 38, 40, 46, 47, 255}  # DECnet, ATMSVC, ISDN, CAIF, ALG, VSOCK, and what comes later
    want = {f"x86_64:41:{family}": "EPERM" if family in refused else "allow"
            for family in [*range(48), 255]}
    # A register may hold more than the int that the kernel takes.
    want |= {"x86_64:41:0x100000028": "EPERM", "i386:359:38": "EPERM", "i386:359:2": "allow", "x32:41:40": "EPERM"}
    want |= {f"x86_64:56:{flag:#x}": "EPERM" for flag in NEW_NAMESPACES.values()}
    want |= {f"x86_64:56:{flag | 17:#x}": "EPERM" for flag in NEW_NAMESPACES.values()}
    want |= {f"i386:120:{flag:#x}": "EPERM" for flag in NEW_NAMESPACES.values()}
    want |= {"x86_64:56:17": "allow", "x86_64:56:0x3d0f00": "allow", "i386:120:17": "allow", "x86_64:56:0xffffffff00000000": "allow"}
    personalities = {0: "allow", 8: "allow", 0x20000: "allow", 0x20008: "allow", 0xffffffff: "allow",
                     0x40000: "EPERM", 0x400000: "EPERM", 0x20009: "EPERM", 1: "EPERM"}
    want |= {f"x86_64:135:{value:#x}": verdict for value, verdict in personalities.items()}
    got = verdicts(cri.output(pod, [], image=SYSCALLS, args=list(want), linux=security()))
    assert {key: got[key] for key in want} == want
    # With SYS_ADMIN clone may make namespaces; the socket families stay closed, also with all capabilities.
    flags = [key for key in want if key.startswith("x86_64:56:")]
    sockets = [key for key in want if key.startswith("x86_64:41:")]
    for capabilities in ("sys_admin", "all"):
        got = verdicts(cri.output(pod, [], image=SYSCALLS, args=flags + sockets,
                                  linux=security(capabilities=CAPABILITIES[capabilities])))
        assert all(got[key] == "allow" for key in flags)
        assert all(got[key] == want[key] for key in sockets)


def test_unconfined_and_privileged_allow_all(cri, crispd):
    """That no verdict above comes from elsewhere than the profile."""
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(
        security_context=pb.LinuxSandboxSecurityContext(privileged=True)))
    for linux in (security(pb.SecurityProfile.Unconfined), security(privileged=True), pb.LinuxContainerConfig()):
        got = verdicts(cri.output(pod, [], image=SYSCALLS, linux=linux))
        del got["x86_64", 335], got["x86_64", 336]
        assert set(got.values()) == {"allow"}


@pytest.mark.core
@pytest.mark.vm
def test_profile_from_file_denies_mkdir(cri, pod, profile):
    path = profile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]})
    script = "mkdir /tmp/d; test -d /tmp/d || echo no; touch /tmp/f && chmod 600 /tmp/f; echo done"
    code, out, err = cri.run_to_end(pod, ["sh", "-c", script], linux=localhost(path))
    assert (code, out) == (0, "no\ndone\n")
    assert "mkdir: can't create directory '/tmp/d': Operation not permitted" in err
    assert "No space left on device" in err
    # So it is for what is executed later.
    container = cri.run(pod, ["sleep", "3600"], linux=localhost(path))
    assert "Operation not permitted" in cri.exec(container, "mkdir", "/tmp/d")[2]
    # And the file is read anew for each container.
    profile({"defaultAction": "SCMP_ACT_ALLOW"})
    assert cri.output(pod, ["sh", "-c", "mkdir /tmp/d && echo made"], linux=localhost(path)) == "made\n"


def test_profile_from_file_call_by_call(cri, pod, profile):
    """Denied calls give EPERM up to the newest one named, and ENOSYS beyond."""
    base = ["execve", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "set_tid_address", "set_robust_list", "rseq",
            "prlimit64", "readlink", "readlinkat", "getrandom", "newfstatat", "fstat", "prctl", "seccomp", "pipe",
            "pipe2", "clone", "fork", "close", "poll", "ioctl", "wait4", "write", "exit_group", "capset", "openat2"]
    path = profile({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": base, "action": "SCMP_ACT_ALLOW"}]})
    got = verdicts(cri.output(pod, [], image=SYSCALLS, linux=localhost(path)))
    table = numbers()["x86_64"]
    for nr in range(600):
        name = table.get(nr)
        if name not in UNFILTERED:
            want = "allow" if name in base else "ENOSYS" if nr > 437 or not name else "EPERM"
            assert got["x86_64", nr] == want, (nr, name)
        # Other architectures are none of the profile's: death, by SIGSYS.
        assert got["i386", nr] == got["x32", nr] == "signal 31"


def test_deprecated_forms(cri, pod, profile):
    path = profile({"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]})

    def mode(text):
        linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(seccomp_profile_path=text))
        return cri.output(pod, ["sh", "-c", "mkdir /tmp/d 2>/dev/null; echo $?; grep ^Seccomp: /proc/self/status"],
                          linux=linux).split()

    assert mode("") == mode("unconfined") == ["0", "Seccomp:", "0"]
    assert mode("runtime/default") == mode("docker/default") == ["0", "Seccomp:", "2"]
    assert mode(f"localhost/{path}") == ["1", "Seccomp:", "2"]


def test_bad_profiles_are_refused(cri, pod, profile, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    bad = profile('{\n"defaultAction": "SCMP_ACT_ALLOW",\n"syscalls": [\n{"names": ["mkdir"], "action": "ERRNO"}]}')
    big = profile("{}" + " " * 300000, name="big.json")
    field = "linux.security_context.seccomp.localhost_ref"
    for ref, text in ((bad, f"{field}: {bad}:4: syscalls[0].action: unknown action \"ERRNO\""),
                      (fifo, "is not a regular file"), (tmp_path, "is not a regular file"),
                      (big, "is larger than the 262144 bytes"), (tmp_path / "none", "No such file"),
                      ("relative.json", f"{field}: \"relative.json\" is not an absolute path"),
                      ("/a/../b", f"{field}: \"/a/../b\" has a \"..\""), ("", f"{field}: is empty")):
        code, message = code_of(cri.create, pod, ["true"], linux=localhost(ref))
        assert code == grpc.StatusCode.INVALID_ARGUMENT and text in message, message
        assert field in message
