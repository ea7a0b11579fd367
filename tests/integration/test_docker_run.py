"""Each option of `crisp run`, against crispd: its effect is read back from the kernel (or its error read, where the
kernel, the cgroup version or the file system here hasn't got it)."""
import json
import os
import re
import socket
import subprocess
import time

import pytest

import cgroups
from client import Client
from cri import E2E, Cri
from daemon import Crispd, wait_for

MIB = 1 << 20
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
WEB = E2E + "nginx:1.14-2"
FUSE = "/dev/fuse"
HOST = ("--network", "host")  # where the network is of no concern


class Docker(Client):
    """The command, and what the kernel says of what it has run."""

    def __init__(self, daemon):
        super().__init__(daemon.endpoint, f"{daemon.base}/crisp")  # its logs are apart from other tests' pods'
        self.daemon, self.cri = daemon, Cri(daemon)

    def run(self, *words, image="busybox", command=("sleep", "3600")):
        """Runs it in the background: (id, process id)."""
        container = self.ok("run", "-d", *words, image, *command)
        return container, self.cri.pid_of(container)

    def output(self, *words, image="busybox", command=()):
        """What a container in the foreground prints."""
        return self.ok("run", "--rm", *words, image, *command)

    def refused(self, *words, code=125):
        """The error of a run that fails, and leaves nothing."""
        got, out, err = self("run", "-d", *words, "busybox", "sleep", "3600")
        assert (got, out) == (code, ""), err
        assert not self.cri.ListPodSandbox().items and not os.listdir(self.logs)
        return err


@pytest.fixture(scope="module")
def daemon(registry):
    from conftest import finish
    crispd = Crispd(registry.url, settings={"annotations": {"allowed": ["*"]}})
    try:
        yield crispd.start()
    finally:
        finish(crispd)


@pytest.fixture
def docker(daemon):
    it = Docker(daemon)
    yield it
    it.cri.clean()
    for name in os.listdir(it.logs):
        subprocess.run(["rm", "-rf", f"{it.logs}/{name}"], check=True)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def status_of(pid):
    """/proc/PID/status: {name: value}."""
    return {key: value.strip() for key, value in (line.split(":", 1) for line in read(f"/proc/{pid}/status").splitlines())}


def mounts_of(pid):
    """{mount point: (root, options, file system, its options)}."""
    found = {}
    for line in read(f"/proc/{pid}/mountinfo").splitlines():
        left, right = line.split(" - ")
        words = left.split()
        found[words[4]] = (words[3], words[5].split(","), right.split()[0], right.split()[2].split(","))
    return found


def namespace(pid, name):
    return os.readlink(f"/proc/{pid}/ns/{name}")


def same_namespace(pid, name):
    return namespace(pid, name) == namespace("self", name)


def cgroup(pid, controller, v1, v2):
    return cgroups.read(pid, controller, (v1, v2))


def disk():
    """A whole disk: its node and its number."""
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/dev/{name}") and read(f"/sys/block/{name}/size") != "0\n":
            number = os.stat(f"/dev/{name}").st_rdev
            return f"/dev/{name}", f"{os.major(number)}:{os.minor(number)}"
    raise AssertionError("no disk here")


# ---- The container's life ----

def test_detach_name_rm_cidfile_label(docker, tmp_path):
    cid = f"{tmp_path}/cid"
    container, pid = docker.run(*HOST, "--name", "box", "--cidfile", cid, "--label", "team=one", "--annotation", "x.y/z=1")
    assert read(cid) == container and os.path.exists(f"/proc/{pid}")
    listed, = docker.cri.ListContainers().containers
    assert listed.labels["team"] == "one" and listed.annotations["x.y/z"] == "1" and listed.metadata.name == "box"
    assert docker.ok("ps").splitlines()[1].split()[-2:] == ["box", "default"]
    code, _, err = docker("run", *HOST, "--name", "box", "busybox", "true")
    assert code == 125 and "crisp rm -f box" in err
    assert docker.ok("stop", "-t", "1", "box") == "box"
    assert not os.path.exists(f"/proc/{pid}")
    assert docker.ok("rm", "box") == "box" and not docker.cri.ListPodSandbox().items and not os.listdir(docker.logs)
    assert docker("run", "--rm", *HOST, "busybox", "sh", "-c", "echo out; exit 3")[:2] == (3, "out\n")
    assert not docker.cri.ListPodSandbox().items and not os.listdir(docker.logs)


def test_two_ask_for_one_name(docker):
    """At the same moment: one gets it, and the other leaves the first one's pod alone."""
    docker.output(*HOST, command=["true"])
    for _ in range(2):
        both = [docker.start("run", "-d", *HOST, "--name", "box", "busybox", "sleep", "3600") for _ in range(2)]
        errors = [process.communicate(timeout=60)[1].decode() for process in both]
        assert sorted(process.returncode for process in both) == [0, 125], errors
        assert any("--name box: " in err for err in errors) and len(os.listdir(docker.logs)) == 1
        assert docker.ok("rm", "-f", "box") == "box" and not docker.cri.ListPodSandbox().items


def test_detached_and_removed(docker):
    container = docker.ok("run", "--detach", "--rm", *HOST, "busybox", "sleep", "0.3")
    assert len(container) == 64
    wait_for(lambda: not docker.cri.ListPodSandbox().items and not os.listdir(docker.logs), 20, "it is removed")


def test_pull(docker):
    docker.output(*HOST, command=["true"])
    assert "pulling" in docker("run", "--rm", *HOST, "--pull", "always", "busybox", "true")[2]
    assert "forbids pulling" in docker("run", "--pull", "never", "example.com/nothing", "true")[2]


def test_codes(docker):
    for command, code in ((["/no/such"], 127), (["no-such"], 127), (["/etc"], 126), (["/etc/passwd"], 126)):
        got, _, err = docker("run", "--rm", *HOST, "busybox", *command)
        assert got == code, err
    assert not docker.cri.ListPodSandbox().items and not os.listdir(docker.logs)


# ---- Processes ----

def test_process(docker, tmp_path):
    with open(f"{tmp_path}/env", "w", encoding="utf-8") as f:
        f.write("FROM_FILE=1\nBOTH=file\n")
    _, pid = docker.run(*HOST, "--entrypoint", "/bin/sleep", "--env", "A=b c", "--env-file", f"{tmp_path}/env", "-e", "BOTH=flag",
                        "--workdir", "/tmp", "--user", "1234:5678", "--group-add", "42", command=["3601"])
    assert read(f"/proc/{pid}/cmdline") == "/bin/sleep\x003601\0"
    env = dict(item.split("=", 1) for item in read(f"/proc/{pid}/environ").split("\0") if item)
    assert (env["A"], env["FROM_FILE"], env["BOTH"]) == ("b c", "1", "flag")
    assert os.readlink(f"/proc/{pid}/cwd") == "/tmp"
    status = status_of(pid)
    assert status["Uid"].split() == ["1234"] * 4 and status["Gid"].split() == ["5678"] * 4
    assert set(status["Groups"].split()) == {"5678", "42"}
    _, pid = docker.run(*HOST, "-u", "www-data")
    assert status_of(pid)["Uid"].split()[0] == "33"


def test_stop_signal_and_timeout(docker):
    script = "trap 'echo got usr1' USR1; trap : TERM; while :; do sleep 0.1; done"
    container, pid = docker.run(*HOST, "--stop-signal", "USR1", "--stop-timeout", "1", "--name", "deaf",
                                command=["sh", "-c", script])
    wait_for(lambda: int(status_of(pid)["SigCgt"], 16) & 1 << 9, 10, "the trap is set")
    began = time.monotonic()
    docker.ok("stop", "deaf")
    assert time.monotonic() - began >= 1
    status = docker.cri.status(container)
    assert status.exit_code == 137 and "got usr1" in read(status.log_path)


# ---- Resources ----

def test_cpu(docker):
    _, pid = docker.run(*HOST, "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0")
    if V2:
        assert cgroup(pid, "", "", "cpu.max") == "50000 100000" and cgroup(pid, "", "", "cpu.weight") != "100"
    else:
        assert cgroup(pid, "cpu", "cpu.cfs_quota_us", "") == "50000" and cgroup(pid, "cpu", "cpu.cfs_period_us", "") == "100000"
        assert cgroup(pid, "cpu", "cpu.shares", "") == "512"
    assert status_of(pid)["Cpus_allowed_list"] == "0" and cgroup(pid, "cpuset", "cpuset.mems", "cpuset.mems") == "0"
    _, pid = docker.run(*HOST, "--cpu-period", "50000", "--cpu-quota", "20000")
    assert cgroup(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "20000"
    assert cgroup(pid, "cpu", "cpu.cfs_period_us", "cpu.max").split()[-1] == "50000"


@pytest.mark.vm
def test_cpu_rt(docker):
    words = (*HOST, "--cpu-rt-period", "500000", "--cpu-rt-runtime", "1000")
    if V2 or not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        assert "cpu-rt-" in docker.refused(*words)
        return
    _, pid = docker.run(*words)
    assert (cgroup(pid, "cpu", "cpu.rt_period_us", ""), cgroup(pid, "cpu", "cpu.rt_runtime_us", "")) == ("500000", "1000")


@pytest.mark.vm
def test_memory(docker):
    _, pid = docker.run(*HOST, "--memory", "100m", "--memory-swap", "150m", "--memory-reservation", "50m", "--pids-limit", "40",
                        "--oom-score-adj", "500")
    assert cgroup(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(100 * MIB)
    if V2:
        assert cgroup(pid, "", "", "memory.swap.max") == str(50 * MIB)
    else:
        assert cgroup(pid, "memory", "memory.memsw.limit_in_bytes", "") == str(150 * MIB)
    assert cgroup(pid, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(50 * MIB)
    assert cgroup(pid, "pids", "pids.max", "pids.max") == "40"
    assert read(f"/proc/{pid}/oom_score_adj") == "500\n"


@pytest.mark.vm
def test_what_one_cgroup_version_lacks(docker):
    for words, v1, v2 in ((("--memory-swappiness", "10"), ("memory.swappiness", "10"), None),
                          (("--oom-kill-disable",), ("memory.oom_control", "oom_kill_disable 1"), None),
                          (("--cgroup-conf", "memory.high=50000000"), None, ("memory.high", "49999872"))):
        here = v2 if V2 else v1
        if here:
            _, pid = docker.run(*HOST, *words)
            assert here[1] in cgroup(pid, "memory", here[0], here[0])
            docker.cri.clean()
            docker.ok("ps")
            subprocess.run(["rm", "-rf", *(f"{docker.logs}/{name}" for name in os.listdir(docker.logs))], check=True)
        else:
            err = docker.refused(*HOST, *words)
            assert "cgroup v2" in err and words[0].strip("-") in err or "unified" in err, err


def test_oom(docker):
    code, _, err = docker("run", "--rm", *HOST, "-m", "15m", "--memory-swap", "15m", "busybox",
                          "sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=100M")
    assert code == 137 and "out of memory" in err


def test_cgroup_parent(docker):
    parent = f"{docker.daemon.cgroup}/mine"
    cgroups.make(parent)
    _, pid = docker.run(*HOST, "--cgroup-parent", parent)
    assert set(path.startswith(parent + "/") for key, path in cgroups.of_process(pid).items()
               if key in ("memory", "pids", "cpu")) <= {True} and parent in read(f"/proc/{pid}/cgroup")


@pytest.mark.vm
def test_disk_rates(docker):
    path, number = disk()
    _, pid = docker.run(*HOST, "--device-read-bps", f"{path}:1m", "--device-write-bps", f"{path}:2m",
                        "--device-read-iops", f"{path}:100", "--device-write-iops", f"{path}:200")
    if V2:
        assert cgroup(pid, "", "", "io.max") == f"{number} rbps=1048576 wbps=2097152 riops=100 wiops=200"
        return
    for file, rate in (("read_bps", 1048576), ("write_bps", 2097152), ("read_iops", 100), ("write_iops", 200)):
        assert cgroup(pid, "blkio", f"blkio.throttle.{file}_device", "") == f"{number} {rate}"


def test_blkio_weight(docker):
    """Where no scheduler has weights, that is told."""
    weight_of = lambda pid: [  # noqa: E731
        read(path).split()[-1] for name in ("io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight")
        if os.path.exists(path := cgroups.file_of(pid, "blkio", (name, name)))]
    _, pid = docker.run(*HOST, "--name", "plain")
    there = weight_of(pid)
    docker.ok("rm", "-f", "plain")
    if not there:
        assert "blkio-weight" in docker.refused(*HOST, "--blkio-weight", "300")
        return
    _, pid = docker.run(*HOST, "--blkio-weight", "300")
    assert weight_of(pid) != there


def test_ulimit(docker):
    _, pid = docker.run(*HOST, "--ulimit", "nofile=100:200", "--ulimit", "core=0")
    limits = read(f"/proc/{pid}/limits")
    assert re.search(r"Max open files +100 +200 ", limits) and re.search(r"Max core file size +0 +0 ", limits)


def test_update(docker):
    _, pid = docker.run(*HOST, "--memory", "100m", "--cpus", "0.5", "--name", "box")
    docker.ok("update", "--memory", "200m", "--cpus", "1", "--cpuset-cpus", "0", "box")
    assert cgroup(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(200 * MIB)
    assert cgroup(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "100000"
    assert status_of(pid)["Cpus_allowed_list"] == "0"


# ---- File systems and devices ----

@pytest.fixture
def shared(tmp_path):
    """A folder whose mounts go on to containers."""
    path = f"{tmp_path}/shared"
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
    subprocess.run(["mount", "--make-shared", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_volumes_and_mounts(docker, tmp_path, shared):
    with open(f"{tmp_path}/file", "w", encoding="utf-8") as f:
        f.write("text")
    _, pid = docker.run(*HOST, "--volume", f"{tmp_path}:/v", "-v", f"{shared}:/ro:ro,rslave",
                        "--mount", f"type=bind,source={tmp_path},target=/m,readonly", "--mount", "type=tmpfs,target=/t,tmpfs-size=64k",
                        "--mount", "type=image,source=busybox,target=/i", "--tmpfs", "/scratch:size=128k,mode=700", "--tmpfs", "/run")
    mounts = mounts_of(pid)
    assert read(f"/proc/{pid}/root/v/file") == read(f"/proc/{pid}/root/m/file") == "text"
    assert "rw" in mounts["/v"][1] and "ro" in mounts["/ro"][1] and "ro" in mounts["/m"][1] and "ro" in mounts["/i"][1]
    assert "master:" in next(line for line in read(f"/proc/{pid}/mountinfo").splitlines() if " /ro " in line)
    assert mounts["/t"][2] == mounts["/run"][2] == "tmpfs" and "size=64k" in mounts["/t"][3]
    assert {"size=128k", "mode=700"} <= set(mounts["/scratch"][3]) and "noexec" in mounts["/scratch"][1]
    assert os.path.exists(f"/proc/{pid}/root/i/bin/busybox")


def test_read_only(docker):
    _, pid = docker.run(*HOST, "--read-only")
    assert "ro" in mounts_of(pid)["/"][1]
    _, pid = docker.run(*HOST)
    assert "rw" in mounts_of(pid)["/"][1]


def test_shm_size(docker):
    _, pid = docker.run(*HOST, "--shm-size", "1m")
    assert "size=1024k" in mounts_of(pid)["/dev/shm"][3]


def test_storage_opt(docker):
    """The limit holds where the file system of the writable layers has quotas; else that is told, naming what lacks."""
    code, out, err = docker("run", "--rm", *HOST, "--storage-opt", "size=8m", "busybox",
                            "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=32")
    assert "storage-size" in err if code == 125 else code == 1 and re.search("No space left|quota", err), (code, out, err)
    assert not docker.cri.ListPodSandbox().items and not os.listdir(docker.logs)


def test_device(docker):
    container, pid = docker.run(*HOST, "--device", f"{FUSE}:/dev/mine:r", "--name", "box")
    assert os.stat(f"/proc/{pid}/root/dev/mine").st_rdev == os.stat(FUSE).st_rdev
    assert docker("exec", "box", "sh", "-c", ": </dev/mine")[0] == 0
    code, _, err = docker("exec", "box", "sh", "-c", ": >/dev/mine")
    assert code != 0 and "Operation not permitted" in err
    assert "vendor.com/class=none" in docker_error(docker, "--device", "vendor.com/class=none")


def docker_error(docker, *words):
    code, _, err = docker("run", "--rm", *HOST, *words, "busybox", "true")
    assert code == 125
    return err


# ---- Health ----

def test_health(docker):
    docker.run(*HOST, "--name", "box", "--health-cmd", "test -e /well", "--health-interval", "200ms", "--health-timeout", "10s",
               "--health-retries", "2", "--health-start-period", "1ms", "--health-start-interval", "100ms")
    wait_for(lambda: "(unhealthy)" in docker.ok("ps"), 20, "it is unhealthy")
    assert re.search(r"^health +unhealthy$", docker.ok("inspect", "box"), re.M)
    docker("exec", "box", "touch", "/well")
    wait_for(lambda: "(healthy)" in docker.ok("ps"), 20, "it is healthy")
    docker.ok("stop", "-t", "1", "box")
    assert "healthy" not in docker.ok("ps", "-a")


# ---- Security ----

def test_capabilities(docker):
    effective = lambda pid: int(status_of(pid)["CapEff"], 16)  # noqa: E731
    net_admin, mknod = 1 << 12, 1 << 27
    usual = effective(docker.run(*HOST)[1])
    assert not usual & net_admin and usual & mknod
    assert effective(docker.run(*HOST, "--cap-add", "NET_ADMIN", "--cap-drop", "CAP_MKNOD")[1]) == (usual | net_admin) & ~mknod
    assert effective(docker.run(*HOST, "--cap-drop", "all", "--cap-add", "net_admin")[1]) == net_admin
    _, pid = docker.run(*HOST, "--privileged")
    assert effective(pid) == int(status_of("self")["CapBnd"], 16) and status_of(pid)["Seccomp"] == "0"
    assert os.path.exists(f"/proc/{pid}/root{disk()[0]}") and "/proc/sys" not in mounts_of(pid)


def test_security_opt(docker, tmp_path):
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}
    with open(f"{tmp_path}/profile.json", "w", encoding="utf-8") as f:
        json.dump(profile, f)
    code, _, err = docker("run", "--rm", *HOST, "--security-opt", f"seccomp={os.path.relpath(f'{tmp_path}/profile.json')}",
                          "busybox", "mkdir", "/x")
    assert code == 1 and "No space left" in err
    _, pid = docker.run(*HOST, "--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges",
                        "--security-opt", "systempaths=unconfined")
    assert (status_of(pid)["Seccomp"], status_of(pid)["NoNewPrivs"]) == ("0", "1") and "/proc/sys" not in mounts_of(pid)
    _, pid = docker.run(*HOST)
    assert (status_of(pid)["Seccomp"], status_of(pid)["NoNewPrivs"]) == ("2", "0") and "/proc/sys" in mounts_of(pid)


def test_security_modules(docker):
    """A profile that isn't there, or a module that the kernel hasn't got, is told of."""
    assert "AppArmor" in docker.refused(*HOST, "--security-opt", "apparmor=no-such") or \
        "not loaded" in docker.refused(*HOST, "--security-opt", "apparmor=no-such")
    assert "selinux" in docker.refused(*HOST, "--security-opt", "label=type:no_such_t").lower()


# ---- The pod ----

def test_namespaces(docker):
    _, pid = docker.run("--name", "own")
    assert not any(same_namespace(pid, name) for name in ("pid", "ipc", "net", "uts", "mnt")) and same_namespace(pid, "user")
    _, pid = docker.run("--pid", "host", "--ipc", "host", "--network", "host", "--userns", "host")
    assert all(same_namespace(pid, name) for name in ("pid", "ipc", "net", "user")) and not same_namespace(pid, "mnt")


def test_userns(docker):
    kernel = tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())
    if kernel < (5, 19):
        assert "user namespace" in docker.refused("--userns", "auto")
        return
    _, pid = docker.run("--userns", "auto")
    first, host, size = read(f"/proc/{pid}/uid_map").split()
    assert first == "0" and int(host) % 65536 == 0 and size == "65536" and status_of(pid)["Uid"].split()[0] == host
    _, pid = docker.run("--userns", "300000:65536")
    assert read(f"/proc/{pid}/uid_map").split() == ["0", "300000", "65536"]


def test_hostname_sysctl_dns(docker):
    _, pid = docker.run("--hostname", "box.local", "--sysctl", "net.ipv4.ip_forward=1", "--name", "box",
                        "--dns", "192.0.2.1", "--dns-search", "x.test", "--dns-option", "ndots:3")
    assert docker.ok("exec", "box", "hostname") == "box.local"
    assert docker.ok("exec", "box", "cat", "/proc/sys/net/ipv4/ip_forward") == "1"
    assert read(f"/proc/{pid}/root/etc/resolv.conf").split() == [
        "search", "x.test", "nameserver", "192.0.2.1", "options", "ndots:3"]
    assert "linux.sysctls" in docker_error(docker, "--sysctl", "kernel.panic=1")


def test_publish(docker):
    docker.run("--publish", "18123:80", image=WEB, command=[])

    def fetch():
        try:
            with socket.create_connection(("127.0.0.1", 18123), 2) as web:
                web.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return web.recv(12).startswith(b"HTTP/1.")
        except OSError:
            return False
    wait_for(fetch, 15, "the port answers")


def test_runtime(docker):
    docker.output(*HOST, "--runtime", "crisp", command=["true"])
    assert 'runtime_handler "nope"' in docker.refused(*HOST, "--runtime", "nope")


def test_annotations_must_be_allowed(crispd):
    """What CRI has no field for is refused by a daemon whose operator didn't allow it."""
    careful = Docker(crispd)
    err = careful.refused(*HOST, "--memory-reservation", "1m")
    assert "crisp.run/memory-reservation" in err and "annotations.allowed" in err
    assert careful.output(*HOST, "--memory", "20m", command=["echo", "fields are fine"]) == "fields are fine"
    os.removedirs(careful.logs)


def test_every_option_is_tried(docker):
    """Each option of the table stands in this file's runs."""
    options = set(re.findall(r"^  (?:-\w,|   ) (--[\w-]+)", docker.ok("run", "--help"), re.M)) - {"--help"}
    tried = set(re.findall(r'"(--[\w-]+)', read(__file__)))
    assert sorted(options - tried) == []


# ---- A day with redis, as README tells it ----

def test_redis(docker):
    ask = lambda *words: subprocess.run(["redis-cli", "-h", address, *words], check=False, capture_output=True,  # noqa: E731
                                        text=True, timeout=60).stdout.strip()
    container = docker.ok("run", "-d", "--memory", "100m", "--cpus", "0.5", "--name", "cache", "redis")
    pid = docker.cri.pid_of(container)
    address = re.search(r"^ip +([\d.]+)$", docker.ok("inspect", "cache"), re.M)[1]
    wait_for(lambda: ask("ping") == "PONG", 20, "redis answers at the pod's address")
    assert ask("set", "key", "value") == "OK" and ask("get", "key") == "value"
    assert cgroup(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(100 * MIB)
    assert cgroup(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    row = docker.ok("ps").splitlines()[1].split()
    assert row[:2] == [container[:12], "redis"] and row[3:5] == ["RUNNING", "cache"]

    # It holds 20 MB of ours, and is kept busy: `crisp top` sees both.
    ask("eval", "for i = 1, 20000 do redis.call('set', i, string.rep('x', 1000)) end", "0")
    ask("config", "set", "busy-reply-threshold", "1")  # ms, after which a script can be killed
    with subprocess.Popen(["redis-cli", "-h", address, "eval", "for i = 1, 1e12 do end", "0"], stdout=subprocess.DEVNULL) as busy:
        before = cpu_ns(pid)
        wait_for(lambda: cpu_ns(pid) > before + 10_000_000, 10, "it is busy")
        heading, _, _, line = docker.ok("top").splitlines()
        ask("script", "kill")
        busy.wait(60)
    cells = re.split(r"\s{2,}", line)
    assert cells[:2] == [container[:12], "cache"] and cells[3].endswith("/ 100.0MiB") and "1 container " in heading
    assert 1 < float(cells[2].rstrip("%")) < 70 and 1 <= int(cells[7]) <= 10, line
    facts, = [json.loads(text) for text in docker.ok("stats", "--no-stream", "-o", "json").splitlines()]
    assert 20 * MIB < facts["memory_bytes"] < 100 * MIB == facts["memory_limit_bytes"]
    assert facts["network_rx_bytes"] > 1000 and facts["network_tx_bytes"] > 1000 and facts["name"] == "cache"
    assert docker.ok("stop", "cache") == "cache" and not os.path.exists(f"/proc/{pid}")
    assert docker.cri.status(container).exit_code == 0  # redis ends in good order
    assert docker.ok("rm", "cache") == "cache" and not docker.cri.ListPodSandbox().items


def cpu_ns(pid):
    if V2:
        return int(re.search(r"usage_usec (\d+)", cgroup(pid, "", "", "cpu.stat"))[1]) * 1000
    return int(cgroup(pid, "cpuacct", "cpuacct.usage", ""))
