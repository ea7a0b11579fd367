"""What hostile images and processes try, to get out of their container or at the node.

Each test fails when its protection is taken out: tests/escape/prove shows that. docs/security.md names the tests.
"""
import contextlib
import glob
import os
import re
import stat
import time

import grpc
import pytest

from cri import code_of
from daemon import SCALE, wait_for
from stubs import pb

ESCAPE = "docker.io/library/escape"
MINUS_PTRACE = 0xa80425fb  # what a container has by default


def security(**fields):
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields))


def refusal(cri, pod, **more):
    """The text of the error that a container's create or start is answered with; fails if it runs."""
    container = None

    def both():
        nonlocal container
        container = cri.create(pod, more.pop("command", ["true"]), **more)
        cri.StartContainer(container_id=container, deadline=15)

    code, text = code_of(both)
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL,
                    grpc.StatusCode.FAILED_PRECONDITION), f"it was not refused: {code}"
    return text


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    path.mkdir()
    (path / "seen").write_text("from the host\n")
    return str(path)


class Background:
    """A command of the attacker's container that runs beside the test."""

    def __init__(self, cri, pod, *command, **more):
        self.cri = cri
        self.container = cri.run(pod, ["/escape", *command], image=ESCAPE, **more)
        wait_for(lambda: any(line.text == "ready" for line in cri.log_lines(self.container)), 10, "it begins")

    def result(self):
        status = self.cri.wait(self.container, 40)
        assert status.exit_code == 0
        return [line.text for line in self.cri.log_lines(self.container)][1:]


# ---- paths ----

def on_the_node(crispd, name):
    """Where a path that isn't resolved inside the root would lead: what the launch itself sees as /container."""
    return glob.glob(f"{crispd.base}/root/image/containers/*/{name}") + glob.glob(f"/container/{name}")


@pytest.mark.core
@pytest.mark.parametrize("link", ["absolute", "relative"])
def test_linked_mount_target_stays_inside(cri, pod, volume, link):
    name = f"crisp-escape-{os.getpid()}"
    mount = pb.Mount(host_path=volume, container_path=f"/{link}/{name}")
    container = cri.run(pod, ["sleep", "3600"], image=ESCAPE, mounts=[mount])
    assert cri.sh(container, f"cat /container/{name}/seen") == "from the host\n"
    assert not on_the_node(cri.crispd, name)


@pytest.mark.parametrize("path", ["/magic/x", "/self/x", "/proc/1/root/container/x", "/proc/self/root/container/x",
                                  "/proc/self/fd/3/x", "/proc/self/cwd/x", "/proc/1/cwd"])
def test_mount_target_through_proc_is_refused(cri, pod, volume, path):
    text = refusal(cri, pod, image=ESCAPE, mounts=[pb.Mount(host_path=volume, container_path=path)])
    assert path in text or "/proc" in text


@pytest.mark.parametrize("path", ["/kernel/core_pattern", "/attributes/exec", "/attributes"])
def test_mount_target_that_links_into_proc(cri, pod, volume, path):
    """CVE-2025-52881, CVE-2019-16884: a volume over what the kernel's users, and the launch itself, trust."""
    source = volume if path == "/attributes" else f"{volume}/seen"
    text = refusal(cri, pod, image=ESCAPE, mounts=[pb.Mount(host_path=source, container_path=path)])
    assert "a place in /proc" in text


def test_mount_target_that_changes_meanwhile(cri, pod, volume):
    """A neighbour with the same volume swaps the target's parent for a link; the mount lands inside all the same."""
    name = f"crisp-escape-{os.getpid()}"
    os.mkdir(f"{volume}/dir")
    os.symlink("/../../../../../../container", f"{volume}/link")
    outer = pb.Mount(host_path=volume, container_path="/v")
    attacker = Background(cri, pod, "swap", "/v/dir", "/v/link", "8", mounts=[outer])
    inner = pb.Mount(host_path=volume, container_path=f"/v/dir/{name}")
    landed = 0
    for _ in range(12):
        container = cri.create(pod, ["sleep", "3600"], image=ESCAPE, mounts=[outer, inner])
        try:
            cri.StartContainer(container_id=container)
        except grpc.RpcError as e:  # what it had just made was gone
            assert e.code() == grpc.StatusCode.INVALID_ARGUMENT and name in e.details()
        else:
            places = cri.sh(container, f"grep -o '[^ ]*/{name} ' /proc/mounts").split()
            assert places and set(places) <= {f"/v/{parent}/{name}" for parent in ("dir", "link")} | {f"/container/{name}"}
            landed += 1
        assert not on_the_node(cri.crispd, name)
        cri.RemoveContainer(container_id=container)
    assert landed, "no start came through: the race wasn't tried"
    cri.StopContainer(container_id=attacker.container, timeout=0)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_image_without_its_system_directory(cri, pod, name):
    """CVE-2019-19921, CVE-2023-27561: a link in the place of /proc would put masks elsewhere."""
    assert f"/{name} is a link" in refusal(cri, pod, image=f"docker.io/library/linked-{name}")
    assert f"/{name}" in refusal(cri, pod, image=f"docker.io/library/filed-{name}")


@pytest.mark.parametrize("fd", range(3, 14))
def test_working_directory_through_a_descriptor(cri, pod, fd):
    """CVE-2024-21626: a descriptor of the host as the working directory, of a start and of an exec."""
    text = refusal(cri, pod, image=ESCAPE, working_dir=f"/proc/self/fd/{fd}")
    assert "working directory" in text


def test_working_directory_of_an_exec_through_a_descriptor(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], working_dir="/job/here")
    for fd in range(3, 14):
        cri.sh(container, f"rm -rf /job/here; ln -s /proc/self/fd/{fd} /job/here")
        code, text = code_of(cri.ExecSync, container_id=container, cmd=["ls", "/proc/self/cwd/"], timeout=5)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "working directory" in text, (fd, text)
        undo_from_host(cri, container)


def undo_from_host(cri, container):
    """The container's working directory as it was, done from the host: nobody can be let in before."""
    root = f"/proc/{cri.pid_of(container)}/root/job"
    os.unlink(f"{root}/here")
    os.mkdir(f"{root}/here")


# ---- users ----

def big_passwd(path):
    with open(path, "w", encoding="utf-8") as f:
        f.write("www-data:x:33:33::/:/bin/sh\n" + "user:x:1000:1000::/:/bin/sh\n" * 600000)


def endless_line(path):
    with open(path, "w", encoding="utf-8") as f:
        f.write("www-data:x:33:33::/:/bin/sh\n" + "x" * (16 << 20))


def zero_device(path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


@pytest.mark.core
@pytest.mark.parametrize("make", [
    os.mkfifo, zero_device, lambda path: os.symlink(os.path.basename(path), path), lambda path: os.symlink("/proc/self/mem", path),
    big_passwd, endless_line, os.mkdir], ids=["fifo", "device", "loop", "proc", "huge", "endless-line", "directory"])
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_hostile_accounts(cri, pod, tmp_path, make, name):
    etc = tmp_path / "etc"
    etc.mkdir()
    if name == "group":
        (etc / "passwd").write_text("www-data:x:33:33::/:/bin/sh\n")
    make(str(etc / name))
    text = refusal(cri, pod, command=["true"], mounts=[pb.Mount(host_path=str(etc), container_path="/etc")],
                   linux=security(run_as_username="www-data"))
    assert f"/etc/{name}" in text


# ---- what a process is given ----

@pytest.mark.core
def test_descriptors(cri, pod):
    container = cri.run(pod, ["sh", "-c", "/escape fds; exec sleep 3600"], image=ESCAPE)
    wait_for(lambda: len(cri.log_lines(container)) >= 3, 10, "it lists its descriptors")
    given = [line.text.split()[0] for line in cri.log_lines(container)]
    assert given == ["0", "1", "2"]
    code, out, _ = cri.exec(container, "/escape", "fds")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == ["0", "1", "2"]
    assert [line[1].split(":")[0] for line in lines] == ["/dev/null", "pipe", "pipe"]


def masked_file():
    """A file that is masked, as far as this kernel has it."""
    return next(path for path in ("/proc/timer_list", "/proc/keys", "/proc/kcore", "/proc/sched_debug")
                if os.path.exists(path))


@contextlib.contextmanager
def null_device_kept():
    """The host's /dev/null keeps its mode, and gets it back if it doesn't."""
    mode = os.stat("/dev/null").st_mode
    yield
    now = os.stat("/dev/null").st_mode
    os.chmod("/dev/null", stat.S_IMODE(mode))
    assert now == mode, "the host's /dev/null was changed"


@pytest.mark.core
def test_masks_do_not_open_the_hosts_null(cri, pod):
    """What masked files show is the host's inode."""
    with null_device_kept():
        assert cri.output(pod, ["/escape", "chmod", masked_file()], image=ESCAPE) == "chmod Read-only file system\n"


@pytest.mark.core
def test_unused_streams_are_not_the_hosts_null(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], image=ESCAPE)
    cri.sh(container, "rm /dev/null")
    with null_device_kept():
        assert cri.exec(container, "/escape", "chmod-stdin") == (0, "chmod SUCCEEDED\n", "")
    code, out, _ = cri.exec(container, "cat")
    assert (code, out) == (0, "")


def test_program_of_the_entering_process(cri, pod):
    """CVE-2019-5736: the runtime's program, reached through /proc/PID/exe, and what it is a copy of."""
    attacker = Background(cri, pod, "watch", "25")
    for _ in range(200):
        try:
            cri.exec(attacker.container, "/entry")
        except grpc.RpcError:
            break  # it ended: it got hold of something, or its time is over
    lines = attacker.result()
    assert lines[0].startswith("held"), f"{lines}: the attack didn't come off"
    assert [line for line in lines[1:] if "Read-only file system" not in line and "link" not in line] == []
    assert not [line for line in lines if "SUCCEEDED" in line]


# ---- masks and terminals ----

@pytest.fixture
def dev_volume(volume):
    """A volume for /dev, as an attacker who shares it has prepared it."""
    for name in ("null", "console"):
        os.symlink("/proc/sys/kernel/core_pattern", f"{volume}/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{volume}/{name}")
    return volume


@pytest.mark.core
def test_mask_with_a_linked_null(cri, pod, dev_volume):
    """CVE-2025-31133: the mask must not be what the container calls /dev/null."""
    out = cri.output(pod, ["stat", "-c", "%F %t:%T", masked_file()],
                     mounts=[pb.Mount(host_path=dev_volume, container_path="/dev")])
    assert out == "character special file 1:3\n"


@pytest.mark.core
def test_console_is_no_link(cri, pod, dev_volume):
    """CVE-2025-52565: the terminal must not be bound over what /dev/console points to."""
    mounts = [pb.Mount(host_path=dev_volume, container_path="/dev"),
              pb.Mount(host_path="/dev/pts", container_path="/dev/pts")]
    assert "/dev/console" in refusal(cri, pod, mounts=mounts, tty=True)


@pytest.mark.core
def test_proc_of_the_containers_own_making(cri, pod, volume):
    """CVE-2025-52881: what the runtime writes to /proc goes to the true one, whatever is at /proc in the container."""
    fake = {}
    for path in ("self/oom_score_adj", "self/attr/exec", "sys/net/ipv4/ip_forward", "sysrq-trigger"):
        os.makedirs(os.path.dirname(f"{volume}/{path}"), exist_ok=True)
        fake[path] = f"{volume}/{path}"
        with open(fake[path], "w", encoding="utf-8") as f:
            f.write("untouched")
    linux = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(oom_score_adj=777))
    try:
        container = cri.run(pod, ["sleep", "3600"], linux=linux,
                            mounts=[pb.Mount(host_path=volume, container_path="/proc")])
    except grpc.RpcError as e:
        assert "/proc" in e.details()
    else:
        with open(f"/proc/{cri.pid_of(container)}/oom_score_adj", encoding="utf-8") as f:
            assert f.read() == "777\n"
        with contextlib.suppress(grpc.RpcError):  # its process gets a score and labels among the container's mounts
            cri.exec(container, "true")
    for path in fake.values():
        with open(path, encoding="utf-8") as f:
            assert f.read() == "untouched"


def test_kernel_settings_are_read_only(cri, pod):
    """core_pattern, modprobe, sysrq-trigger: root of the container owns these files."""
    script = "for f in core_pattern modprobe hostname; do /escape open /proc/sys/kernel/$f; done; cat /proc/mounts"
    lines = cri.output(pod, ["sh", "-c", script], image=ESCAPE).splitlines()
    assert set(lines[:3]) <= {"open Read-only file system", "open No such file or directory"}
    assert lines[0].startswith("open Read-only")
    options = {line.split()[1]: line.split()[3].split(",") for line in lines[3:]}
    for path in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"):
        assert not os.path.exists(path) or "ro" in options[path], path


# ---- privileges ----

def parse(lines):
    return {key: int(value, 16 if key == "caps" else 10) for key, value in
            (word.split("=") for word in lines[-1].split())}


ATTACK_SECONDS = 3 + SCALE


def attempts(count):
    """Counts so far, or as far as it fits into half of the attack on a slow machine: its container ends with it."""
    end = time.monotonic() + ATTACK_SECONDS / 2
    for done in range(count):
        yield done
        if done > 3 and time.monotonic() > end:
            break


def run_execs(cri, container, count):
    for _ in attempts(count):
        assert cri.exec(container, "/escape", "nap")[0] == 0


@pytest.mark.parametrize("filtered", [False, True], ids=["unconfined", "default-profile"])
def test_exec_beside_a_hostile_tracer(cri, pod, filtered):
    """With CAP_SYS_PTRACE whatever appears in the pid namespace can be taken over: it may be nothing of value."""
    profile = pb.SecurityProfile.RuntimeDefault if filtered else pb.SecurityProfile.Unconfined
    attacker = Background(cri, pod, "tracer", str(ATTACK_SECONDS), linux=security(
        capabilities=pb.Capability(add_capabilities=["SYS_PTRACE"]),
        seccomp=pb.SecurityProfile(profile_type=profile)))
    run_execs(cri, attacker.container, 60)
    seen = parse(attacker.result())
    assert seen["traced"] > 0, f"the attack didn't come off: {seen}"
    assert seen["outside"] == 0, f"it got hold of a process in the host's mount namespace: {seen}"
    assert seen["caps"] & ~(MINUS_PTRACE | 1 << 19) == 0, f"it got capabilities that it hasn't: {seen}"


def shares(pod_options, **more):
    return {"linux": security(namespace_options=pb.NamespaceOption(**pod_options), **more)}


def shared_pid_pod(cri):
    """Its containers share one pid namespace."""
    return cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(pid=pb.POD))))


def hostile_tracer(cri, pod, pid):
    """Nothing but what is tested stands in its way: AppArmor would already forbid to trace."""
    return Background(cri, pod, "tracer", str(ATTACK_SECONDS), **shares(
        {"pid": pid}, capabilities=pb.Capability(add_capabilities=["SYS_PTRACE"]),
        apparmor=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined),
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)))


@pytest.mark.parametrize("mode", ["pod", "target"])
def test_start_beside_a_hostile_tracer(cri, mode):
    """A start, too, has nothing that it would lose when it appears where others are."""
    pod = shared_pid_pod(cri)
    attacker = hostile_tracer(cri, pod, pb.POD if mode == "pod" else pb.CONTAINER)
    options = {"pid": pb.POD} if mode == "pod" else {"pid": pb.TARGET, "target_id": attacker.container}
    for _ in attempts(12):
        container = cri.run(pod, ["/escape", "nap"], image=ESCAPE, **shares(options))
        assert cri.wait(container, 10).exit_code == 0
    seen = parse(attacker.result())
    assert seen["traced"] > 0 and seen["early"] > 0, f"the attack didn't come off: {seen}"
    assert seen["caps"] & ~MINUS_PTRACE == 0, f"it got capabilities that it hasn't: {seen}"


@pytest.mark.core
def test_volume_as_the_targets_proc(cri, pod):
    """What the container has at /proc whose pid namespace is joined is looked at before it is shared."""
    target = cri.run(pod, ["sleep", "3600"], mounts=[pb.Mount(host_path="/proc", container_path="/proc")])
    text = refusal(cri, pod, **shares({"pid": pb.TARGET, "target_id": target}))
    assert "does not show that namespace" in text


def test_exec_beside_a_tracer_without_the_capability(cri, pod):
    """Of the same user, with the same capabilities in the end: until then it is undumpable."""
    attacker = Background(cri, pod, "tracer", str(ATTACK_SECONDS), linux=security(
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)))
    run_execs(cri, attacker.container, 60)
    seen = parse(attacker.result())
    assert seen["traced"] + seen["refused"] > 0, f"the attack didn't come off: {seen}"
    assert seen["early"] == 0 and seen["opened"] == 0, f"it got hold of a process that isn't the container's: {seen}"


@pytest.mark.core
def test_shared_pid_namespaces_first_process(cri):
    """It is the runtime's, and visible to all containers of the pod: there is nothing to be had from it."""
    options = pb.NamespaceOption(pid=pb.POD)
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=options)))
    linux = security(namespace_options=options, capabilities=pb.Capability(add_capabilities=["SYS_PTRACE"]))
    container = cri.run(pod, ["sleep", "3600"], linux=linux)
    assert cri.sh(container, "cat /proc/1/comm") == "crisp-pod-init\n"
    assert cri.sh(container, "grep CapPrm /proc/1/status").split() == ["CapPrm:", "0" * 16]
    # Where the container has an AppArmor profile, that forbids even to look.
    code, out, err = cri.exec(container, "ls", "-A", "/proc/1/root/")
    assert not out and (code == 0 or "Permission denied" in err), (code, out, err)
    _, out, _ = cri.exec(container, "sh", "-c", "for fd in /proc/1/fd/*; do readlink $fd; done")
    assert not [name for name in out.split() if name.startswith("/") and name != "/dev/null"]


@pytest.mark.core
def test_shared_pid_namespaces_first_process_as_a_puppet(cri):
    """It is under none of the containers' filters and limits: who traces it makes it call nothing new by that."""
    pod = shared_pid_pod(cri)
    container = cri.run(pod, ["sleep", "3600"], image=ESCAPE, **shares(
        {"pid": pb.POD}, capabilities=pb.Capability(add_capabilities=["SYS_PTRACE"]),
        apparmor=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)))
    assert cri.sh(container, "grep ^Seccomp: /proc/1/status; cat /proc/1/oom_score_adj").split() == ["Seccomp:", "2", "0"]
    _, out, _ = cri.exec(container, "/escape", "puppet", "1")
    lines = out.splitlines()
    assert lines[:2] == ["trace SUCCEEDED", "read Bad file descriptor"], f"the attack didn't come off: {out}"
    assert lines[2:] == ["unshare Operation not permitted", "mmap Operation not permitted",
                         "userfaultfd Operation not permitted"]
    # It still does its work: an orphan is reaped.
    cri.sh(container, "(sleep 0.01 &)")
    wait_for(lambda: " Z " not in cri.sh(container, "cat /proc/[0-9]*/stat"), 10, "orphans are reaped")


@pytest.mark.core
def test_host_pids_without_privileges(cri, crispd):
    """In the host's pid namespace, root of the container sees crispd and crisp-pod, and reaches neither."""
    options = pb.NamespaceOption(pid=pb.NODE)
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=options)))
    for pid in (crispd.process.pid, crispd.supervisors()[0]):
        for name in ("mem", "environ", "root/etc/shadow"):
            out = cri.output(pod, ["/escape", "open", f"/proc/{pid}/{name}"], image=ESCAPE,
                             linux=security(namespace_options=options))
            assert out == "open Permission denied\n", (name, out)


def test_set_user_id_under_no_new_privs(cri, pod):
    image = "registry.k8s.io/e2e-test-images/nonewprivs:1.3"
    for no_new_privs, uid in ((True, 1000), (False, 0)):
        out = cri.output(pod, [], image=image, linux=security(no_new_privs=no_new_privs,
                                                              run_as_user=pb.Int64Value(value=1000)))
        assert out == f"Effective uid: {uid}\n"


def test_cgroups(cri, pod):
    """Nothing of the hierarchy above is seen, and nothing can be written: no release_agent, no devices.allow."""
    out = cri.output(pod, ["sh", "-c", "find /sys/fs/cgroup -name release_agent; grep cgroup /proc/self/mountinfo;"
                           "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>&1; done; true"])
    assert "release_agent\n" not in out
    lines = out.splitlines()
    mounts = [line.split() for line in lines if " - cgroup" in line]
    assert mounts and all(fields[3] == "/" and "ro" in fields[5].split(",") for fields in mounts)
    attempts = [line for line in lines if line.startswith("mkdir")]
    assert attempts and all(re.search("Read-only file system|No space left|File exists|Not a directory", line)
                            for line in attempts), attempts


# ---- the node's files ----

@pytest.mark.core
@pytest.mark.parametrize("make", ["link", "fifo"])
def test_log_file_in_a_hostile_place(cri, pod, tmp_path, make):
    """Should somebody be able to write to a log directory: no link is followed, and nothing waits."""
    directory = cri.configs[pod].log_directory
    os.makedirs(directory, exist_ok=True)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    if make == "link":
        os.symlink(victim, f"{directory}/hostile.log")
    else:
        os.mkfifo(f"{directory}/hostile.log")
    container = cri.run(pod, ["echo", "hostile"], log_path="hostile.log")
    assert cri.wait(container).exit_code == 0
    assert victim.read_text() == "untouched"


def test_socket_and_directories(crispd):
    """Who may speak to the socket is root of the node."""
    assert stat.S_IMODE(os.stat(crispd.socket).st_mode) & 0o007 == 0
    assert stat.S_IMODE(os.stat(f"{crispd.base}/root").st_mode) == 0o700


def test_pod_files_are_the_pods_own(cri):
    """A container may write to its /etc/hosts: that reaches no other pod, and not the host."""
    before = open("/etc/hosts", "rb").read()
    one, two = cri.run_pod(), cri.run_pod()
    cri.output(one, ["sh", "-c", "echo 10.6.6.6 evil >>/etc/hosts; echo nameserver 10.6.6.6 >/etc/resolv.conf"])
    assert "evil" not in cri.output(two, ["cat", "/etc/hosts", "/etc/resolv.conf"])
    assert open("/etc/hosts", "rb").read() == before
