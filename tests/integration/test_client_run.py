"""What `crisp run` and its kin ask a runtime for: the messages, not their effect (see test_docker_run.py)."""
import json
import os
import re
import time

import grpc
import pytest

from client import crisp, runtime  # noqa: F401
from daemon import TOP, limit, wait_for
from fakecri import NOW
from stubs import pb

MIB = 1 << 20


def run(runtime, crisp, *words, image=("img:1",)):
    """Runs it; (the pod's configuration, the container's)."""
    code, _, err = crisp("run", *words, *image)
    assert code == 0, err
    return runtime.named("RunPodSandbox")[-1].config, runtime.named("CreateContainer")[-1].config


def on_v2():
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def test_resources(runtime, crisp):
    _, c = run(runtime, crisp, "--cpus", "0.5", "-c", "512", "--cpuset-cpus", "0-1", "--cpuset-mems=0", "-m", "100m",
               "--memory-swap", "1.5g", "--oom-score-adj", "-5", "--cgroup-conf", "memory.high=5=6")
    r = c.linux.resources
    assert (r.cpu_period, r.cpu_quota, r.cpu_shares, r.cpuset_cpus, r.cpuset_mems) == (100000, 50000, 512, "0-1", "0")
    assert (r.memory_limit_in_bytes, r.memory_swap_limit_in_bytes, r.oom_score_adj) == (100 * MIB, 1536 * MIB, -5)
    assert dict(r.unified) == {"memory.high": "5=6"} and not c.annotations
    _, c = run(runtime, crisp, "--cpu-period=50000", "--cpu-quota", "-1", "-m100m", "--memory-swap=-1", "--pids-limit", "50")
    r = c.linux.resources
    assert (r.cpu_period, r.cpu_quota, r.memory_swap_limit_in_bytes) == (50000, -1, -1)
    assert (dict(r.unified), dict(c.annotations)) == (({"pids.max": "50"}, {}) if on_v2() else ({}, {"crisp.run/pids-limit": "50"}))


def test_annotations(runtime, crisp):
    pod, c = run(runtime, crisp, "--cpu-rt-period", "1000000", "--cpu-rt-runtime=950000", "--memory-reservation", "50m",
                 "--memory-swappiness", "0", "--oom-kill-disable", "--blkio-weight", "300",
                 "--device-read-bps", "/dev/sda:1m", "--device-read-bps", "/dev/sdb:2k", "--device-write-bps", "/dev/sda:5",
                 "--device-read-iops", "/dev/sda:100", "--device-write-iops", "/dev/sda:200", "--storage-opt", "size=10g",
                 "--ulimit", "nofile=10:20", "--ulimit", "core=-1", "--tmpfs", "/run:size=1m,mode=755", "--tmpfs", "/x",
                 "--mount", "type=tmpfs,dst=/y,tmpfs-size=64k,readonly", "--shm-size", "1m", "--annotation", "a.b/c=d")
    assert dict(c.annotations) == {"a.b/c": "d", **{f"crisp.run/{key}": value for key, value in {
        "cpu-rt-period": "1000000", "cpu-rt-runtime": "950000", "memory-reservation": str(50 * MIB), "memory-swappiness": "0",
        "oom-kill-disable": "true", "blkio-weight": "300", "device-read-bps": "/dev/sda:1m,/dev/sdb:2k",
        "device-write-bps": "/dev/sda:5", "device-read-iops": "/dev/sda:100", "device-write-iops": "/dev/sda:200",
        "storage-size": str(10 << 30), "ulimit": "nofile=10:20,core=-1",
        "tmpfs": "/run:size=1m,mode=755;/x;/y:ro,size=64k"}.items()}}
    assert dict(pod.annotations) == {"crisp.run/shm-size": str(MIB)}


def test_only_crispd_knows_the_annotations(runtime, crisp):
    code, _, err = crisp("run", "--memory-reservation", "50m", "--annotation", "a.b/c=d", "img:1")
    assert code == 0 and "warning: fake ignores the annotation crisp.run/memory-reservation" in err and "a.b/c" not in err
    runtime.name = "crisp"
    code, _, err = crisp("run", "--memory-reservation", "50m", "img:1")
    assert code == 0 and "warning" not in err


def test_health(runtime, crisp):
    _, c = run(runtime, crisp, "--health-cmd", 'test "$X" = ü', "--health-interval", "1s", "--health-timeout=500ms",
               "--health-retries", "2", "--health-start-period", "1m30s", "--health-start-interval", "2s")
    assert json.loads(c.annotations["crisp.run/health"]) == {
        "test": ["CMD-SHELL", 'test "$X" = ü'], "interval": "1s", "timeout": "500ms", "retries": 2, "start_period": "1m30s",
        "start_interval": "2s"}
    runtime.exit = None
    crisp.ok("run", "-d", "--name", "checked", "--health-cmd", "true", "img:1")
    runtime.info = {"info": json.dumps({"pid": 1, "health": {"status": "unhealthy"}})}
    assert "RUNNING (unhealthy)   checked" in crisp.ok("ps")
    assert re.search(r"^health +unhealthy$", crisp.ok("inspect", "checked"), re.M)


def test_process(runtime, crisp, tmp_path):
    with open(f"{tmp_path}/env", "w", encoding="utf-8") as f:
        f.write("# comment\nA=from file\n\nB=b=b \r\nHOME\nNO_SUCH_\n")
    _, c = run(runtime, crisp, "--entrypoint", "/bin/prog", "-w", "/work", "-u", "1000:50", "--group-add", "7", "--group-add=8",
               "--env-file", f"{tmp_path}/env", "-e", "A=last", "--stop-signal", "SIGQUIT", "--stop-timeout", "3",
               image=("img:1", "-x", "--name"))
    assert list(c.command) == ["/bin/prog"] and list(c.args) == ["-x", "--name"] and c.working_dir == "/work"
    security = c.linux.security_context
    assert (security.run_as_user.value, security.run_as_group.value, security.run_as_username) == (1000, 50, "")
    assert list(security.supplemental_groups) == [7, 8]
    assert [(e.key, e.value) for e in c.envs] == [("A", b"from file"), ("B", b"b=b "), ("HOME", os.environ["HOME"].encode()),
                                                  ("A", b"last")]
    assert c.stop_signal == pb.SIGQUIT and c.labels["crisp.run/timeout"] == "3"
    _, c = run(runtime, crisp, "-u", "nobody", "--entrypoint", "", "--stop-signal", "rtmin+3", image=("img:1", "a", "b"))
    assert list(c.command) == ["a", "b"] and not c.args and c.linux.security_context.run_as_username == "nobody"
    assert c.stop_signal == pb.SIGRTMINPLUS3
    _, c = run(runtime, crisp, "--stop-signal", "10", "-u", "nobody:65534")
    assert c.stop_signal == pb.SIGUSR1 and c.linux.security_context.run_as_group.value == 65534


def test_security(runtime, crisp, tmp_path):
    profile = f"{tmp_path}/p.json"
    open(profile, "w", encoding="utf-8").close()
    pod, c = run(runtime, crisp, "--cap-add", "net_admin", "--cap-add=CAP_SYS_TIME", "--cap-drop", "ALL", "--read-only",
                 "--security-opt", f"seccomp={os.path.relpath(profile)}", "--security-opt", "apparmor=mine",
                 "--security-opt", "no-new-privileges", "--security-opt", "label=type:x_t", "--security-opt", "label=level:s0:c1")
    s = c.linux.security_context
    assert list(s.capabilities.add_capabilities) == ["NET_ADMIN", "SYS_TIME"] and list(s.capabilities.drop_capabilities) == ["ALL"]
    assert s.readonly_rootfs and s.no_new_privs and not s.privileged and "/proc/kcore" in s.masked_paths
    assert (s.seccomp.profile_type, s.seccomp.localhost_ref) == (pb.SecurityProfile.Localhost, os.path.realpath(profile))
    assert (s.apparmor.profile_type, s.apparmor.localhost_ref) == (pb.SecurityProfile.Localhost, "mine")
    assert (s.selinux_options.type, s.selinux_options.level, s.selinux_options.user) == ("x_t", "s0:c1", "")
    pod, c = run(runtime, crisp, "--privileged", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
    s = c.linux.security_context
    assert s.privileged and pod.linux.security_context.privileged and not s.masked_paths and not s.readonly_paths
    assert s.seccomp.profile_type == s.apparmor.profile_type == pb.SecurityProfile.Unconfined
    _, c = run(runtime, crisp, "--security-opt=systempaths=unconfined", "--security-opt=no-new-privileges:false", "--read-only=false")
    s = c.linux.security_context
    assert not any(map(os.path.exists, s.masked_paths)) and not s.readonly_paths and not s.no_new_privs and not s.readonly_rootfs and not s.HasField("apparmor")
    assert s.seccomp.profile_type == pb.SecurityProfile.RuntimeDefault


def test_mounts_and_devices(runtime, crisp):
    _, c = run(runtime, crisp, "-v", "/a:/b", "-v", "/c:/d:ro,rslave,z", "--mount", "type=bind,src=/e,dst=/f,readonly",
               "--mount", "type=bind,source=/g,target=/h,bind-recursive=readonly,bind-propagation=rprivate",
               "--mount", "type=image,source=vol:1,target=/i,image-subpath=sub",
               "--device", "/dev/null", "--device", "/dev/zero:/dev/z", "--device", "/dev/full:/dev/f:r", "--device", "/dev/tty:rw",
               "--device", "vendor.com/gpu=all")
    mounts = [pb.Mount(host_path="/a", container_path="/b"),
              pb.Mount(host_path="/c", container_path="/d", readonly=True, selinux_relabel=True,
                       propagation=pb.PROPAGATION_HOST_TO_CONTAINER),
              pb.Mount(host_path="/e", container_path="/f", readonly=True),
              pb.Mount(host_path="/g", container_path="/h", readonly=True, recursive_read_only=True),
              pb.Mount(container_path="/i", readonly=True, image_sub_path="sub",
                       image=pb.ImageSpec(image="vol:1", user_specified_image="vol:1"))]
    assert list(c.mounts) == mounts
    assert [(d.host_path, d.container_path, d.permissions) for d in c.devices] == [
        ("/dev/null", "/dev/null", "rwm"), ("/dev/zero", "/dev/z", "rwm"), ("/dev/full", "/dev/f", "r"),
        ("/dev/tty", "/dev/tty", "rw")]
    assert [d.name for d in c.CDI_devices] == ["vendor.com/gpu=all"]
    assert [p.image.image for p in runtime.named("PullImage")] == ["img:1", "vol:1"]


def test_pod(runtime, crisp):
    pod, c = run(runtime, crisp, "-h", "box.local", "--sysctl", "net.ipv4.ip_forward=1", "-p", "8080:80", "-p", "127.0.0.1:53:5353/udp",
                 "-p", "[::1]:81:82", "--dns", "1.1.1.1", "--dns-search", "x.y", "--dns-option", "ndots:2",
                 "--cgroup-parent", "/mine", "--runtime", "fast", "-l", "a=b", "--label=c=", "--pid=host", "--ipc", "host")
    assert pod.hostname == "box.local" and dict(pod.linux.sysctls) == {"net.ipv4.ip_forward": "1"}
    assert [(p.host_ip, p.host_port, p.container_port, p.protocol) for p in pod.port_mappings] == [
        ("", 8080, 80, pb.TCP), ("127.0.0.1", 53, 5353, pb.UDP), ("::1", 81, 82, pb.TCP)]
    assert pod.dns_config == pb.DNSConfig(servers=["1.1.1.1"], searches=["x.y"], options=["ndots:2"])
    assert pod.linux.cgroup_parent == "/mine" and runtime.named("RunPodSandbox")[0].runtime_handler == "fast"
    assert (pod.labels["a"], pod.labels["c"], c.labels["a"], c.labels["c"]) == ("b", "", "b", "")
    options = pod.linux.security_context.namespace_options
    assert options == c.linux.security_context.namespace_options
    assert (options.pid, options.ipc, options.network) == (pb.NODE, pb.NODE, pb.POD)
    pod, _ = run(runtime, crisp, "--network", "host", "--pid", "pod", "--ipc", "private", "--userns=host")
    options = pod.linux.security_context.namespace_options
    assert (options.pid, options.ipc, options.network) == (pb.POD, pb.POD, pb.NODE) and not options.HasField("userns_options")


def test_userns(runtime, crisp):
    pod, _ = run(runtime, crisp, "--userns", "200000")
    options = pod.linux.security_context.namespace_options.userns_options
    assert options.mode == pb.POD and list(options.uids) == list(options.gids) == [pb.IDMapping(host_id=200000, length=65536)]
    pod, _ = run(runtime, crisp, "--userns", "200000:1000")
    assert pod.linux.security_context.namespace_options.userns_options.uids[0].length == 1000
    pod, _ = run(runtime, crisp, "--userns", "auto")
    one = pod.linux.security_context.namespace_options.userns_options.uids[0]
    assert one.host_id % 65536 == 0 and one.length == 65536 and 131072 <= one.host_id and one.host_id != 196608


BAD = {
    ("--memory", "lots"): "--memory \"lots\": must be a number of bytes", ("--memory-swap", "1g"): "needs --memory",
    ("-m", "1g", "--memory-swap", "1m"): "must not be less", ("--cpus", "0.001"): "at least 0.01",
    ("--cpus", "1", "--cpu-quota", "5000"): "exclude each other", ("--cpu-quota", "10"): "at least 1000",
    ("--cpu-shares", "1"): "from 2 to 262144", ("--cpu-period", "999"): "from 1000 to 1000000",
    ("--pids-limit", "0"): "-1 for no limit", ("--oom-score-adj", "1001"): "from -1000 to 1000",
    ("--cgroup-conf", "memory.high"): "a file of cgroup v2", ("--memory-swappiness", "101"): "from 0 to 100",
    ("--device-read-bps", "sda:1m"): "DEVICE:SIZE", ("--device-read-iops", "/dev/sda:1m"): "--device-read-iops \"1m\"",
    ("--storage-opt", "dm.x=1"): "size=SIZE", ("--ulimit", "files=1"): "NAME=SOFT", ("--tmpfs", "run"): "an absolute path",
    ("--health-interval", "1s"): "needs a --health-cmd", ("--health-cmd", "x", "--health-interval", "1"): "500ms, 30s or 1m30s",
    ("--env", "=x"): "NAME=VALUE", ("-e", "NO_SUCH_"): "no such variable", ("--env-file", "/no/such"): "--env-file",
    ("--user", "a:b"): "CRI takes no group's name", ("--user", ""): "a name or a number", ("--workdir", "x"): "an absolute path",
    ("--stop-signal", "SIGWHAT"): "a signal's name", ("--entrypoint", ""): "takes the image's entrypoint away",
    ("--cap-add", "net-admin"): "a capability's name", ("--security-opt", "what"): "seccomp=FILE",
    ("--security-opt", "seccomp=/no/such"): "No such file", ("--security-opt", "label=x"): "label=user:U",
    ("-v", "data:/x"): "no named volumes", ("-v", "/a:/b:what"): "ro, rw, z", ("--mount", "type=volume,dst=/x"): "type=bind",
    ("--mount", "what=1"): "isn't one of type=", ("--mount", "type=bind,dst=/x"): "source=PATH",
    ("--device", "/dev/null:x"): "HOST:PATH:rwm", ("-h", "x" * 64): "1 to 63", ("--pid", "container:x"): "of one pod",
    ("--ipc", "none"): "of one pod", ("--network", "none"): "CRI has no pod without a network", ("--network", "mine"): "one network",
    ("--userns", "keep-id"): "host, auto, or HOST_ID", ("-p", "80"): "HOST_PORT:PORT", ("-p", "1:2/icmp"): "HOST_PORT:PORT",
    ("--sysctl", "x"): "NAME=VALUE", ("--label", "x"): "NAME=VALUE", ("--name", "a b"): "--name \"a b\"", ("--name", ""): "--name",
    ("--pull", "x"): "missing, always or never", ("--read-only=x",): "must be true or false", ("--nope",): "no option --nope",
    ("-t",): "there is no terminal", ("--gpus", "all"): "nvidia.com/gpu=all", ("--restart=always",): "started once",
    ("-h", "x", "--network", "host"): "exclude each other", ("--memory",): "--memory \"img:1\"", ("--network", "host", "-z"): "no option -z",
}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_errors(runtime, crisp, words):
    code, out, err = crisp("run", *words, "img:1", *(["x"] if words == ("--memory",) else []))
    assert (code, out) == (125, "") and BAD[words] in err, err
    assert not runtime.calls


def test_no_image(runtime, crisp):
    for words in ([], [""], ["--rm"], ["--name"]):
        code, _, err = crisp("run", *words)
        assert code == 125 and "crisp run --help" in err
    code, _, err = crisp("run", "--pull", "never", "img:1")
    assert code == 125 and "forbids pulling" in err and not runtime.pods and not os.listdir(crisp.logs)
    crisp.ok("run", "--rm", "img:1")
    crisp.ok("run", "--rm", "--pull", "always", "img:1")
    assert len(runtime.named("PullImage")) == 2


def test_codes_of_commands(runtime, crisp):
    """docker's: 127 for what isn't there, 126 for what can't be executed."""
    for words, code in (('exec "x": no such file or directory (not found in PATH)', 127),
                        ('exec: "x": executable file not found in $PATH: unknown', 127), ('exec "/etc": permission denied', 126),
                        ("cgroup: no such file", 125)):
        runtime.fail["StartContainer"] = (grpc.StatusCode.INVALID_ARGUMENT, words)
        assert crisp("run", "--rm", "img:1")[0] == code
    assert not runtime.pods and not os.listdir(crisp.logs)


def test_names_are_unique(runtime, crisp):
    crisp.ok("run", "--name", "box", "img:1")
    code, _, err = crisp("run", "--name", "box", "img:1")
    assert code == 125 and "crisp rm -f box" in err and len(runtime.pods) == 1
    runtime.containers.clear()
    runtime.pod_of.clear()
    code, _, err = crisp("run", "--name", "box", "img:1")  # somebody was faster: the runtime refuses
    assert code == 125 and "has this name already" in err and len(runtime.pods) == 1 and len(os.listdir(crisp.logs)) == 1


def test_detach_stop_rm(runtime, crisp, tmp_path):
    runtime.exit = None
    cid = f"{tmp_path}/cid"
    out = crisp.ok("run", "-d", "--name", "box", "--stop-timeout", "7", "--cidfile", cid, "img:1")
    container, = runtime.containers
    assert out == container and open(cid, encoding="utf-8").read() == container
    code, _, err = crisp("run", "-d", "--cidfile", cid, "img:1")
    assert code == 125 and "exists" in err and len(runtime.pods) == 1
    code, _, err = crisp("rm", "box")
    assert code == 1 and "crisp rm -f" in err
    for words in (("rm", "-f", ""), ("stop", ""), ("update", "--cpus", "1", "")):  # an unset variable
        code, _, err = crisp(*words)
        assert code not in (0, None) and "an empty word names no container" in err, words
    assert runtime.containers and not runtime.named("StopContainer")
    assert crisp("stop", "nobody", "box")[:2] == (1, "box\n")
    assert runtime.named("StopContainer")[-1].timeout == 7 and len(runtime.named("StopPodSandbox")) == 1
    assert "EXITED   box" in crisp.ok("ps", "-a")
    assert crisp.ok("rm", container[:61]) == container[:61]
    assert not runtime.pods and not runtime.containers and not os.listdir(crisp.logs)
    crisp.ok("run", "-d", "--name", "box", "img:1")
    crisp.ok("stop", "-t", "0", "box")
    crisp.ok("rm", "-f", "box")
    assert runtime.named("StopContainer")[-1].timeout == 0 and not runtime.pods


def test_detached_and_removed(runtime, crisp):
    runtime.exit = None
    crisp.ok("run", "-d", "--rm", "--name", "a", "img:1")
    crisp.ok("stop", "a")
    assert not runtime.pods and not os.listdir(crisp.logs)
    container = crisp.ok("run", "-d", "--rm", "--name", "b", "img:1")
    runtime.finish(runtime.containers[container], 0, "Completed", "")  # by itself
    wait_for(lambda: not runtime.pods and not os.listdir(crisp.logs), 20, "it is removed")


def test_logs(runtime, crisp):
    runtime.chunks, runtime.exit, runtime.pace = [line("one"), line("oops", "stderr"), line("two")], (0, "Completed", ""), 0.3
    container = crisp.ok("run", "-d", "--name", "box", "img:1")
    follower = crisp.start("logs", "-f", "box")
    assert follower.stdout.readline() == b"one\n"
    assert follower.communicate(timeout=limit(20)) == (b"two\n", b"oops\n") and follower.returncode == 0
    assert crisp("logs", container) == (0, "one\ntwo\n", "oops\n")
    code, _, err = crisp("logs", "nobody")
    assert code == 1 and "crisp ps -a" in err
    os.unlink(runtime.containers[container].log_path)
    code, _, err = crisp("logs", "box")
    assert code == 1 and "open the log" in err
    assert crisp("logs")[0] == crisp("logs", "a", "b")[0] == 2


def line(text, stream="stdout"):
    return f"2026-11-22T03:04:05.123456789Z {stream} F {text}\n".encode()


def test_other_peoples_containers(runtime, crisp):
    """kubelet's pods stay."""
    runtime.exit = None
    crisp.ok("run", "-d", "--name", "box", "img:1")
    container, = runtime.containers
    runtime.containers[container].labels.clear()
    crisp.ok("stop", "box")
    crisp.ok("rm", "box")
    assert runtime.pods and not runtime.containers and not runtime.named("StopPodSandbox")


def test_detach_fails_clean(runtime, crisp, tmp_path):
    runtime.fail["StartContainer"] = (grpc.StatusCode.INVALID_ARGUMENT, "no")
    code, out, _ = crisp("run", "-d", "--cidfile", f"{tmp_path}/cid", "img:1")
    assert (code, out) == (125, "") and not runtime.pods and not os.listdir(crisp.logs) and not os.path.exists(f"{tmp_path}/cid")


def test_pull_of_a_runtime_without_progress(runtime, crisp):
    code, out, err = crisp("pull", "img:1")
    assert code == 0 and out and re.search(r"^crisp: pulled img:1: [\d.]+ s$", err, re.M) and "layer" not in err
    code, _, err = crisp("prune", "-f")
    assert code == 1 and "can't prune (crispd can)" in err


def test_update(runtime, crisp):
    runtime.exit = None
    container = crisp.ok("run", "-d", "--name", "box", "img:1")
    assert crisp.ok("update", "--memory", "200m", "--cpus", "1.5", "box") == "box"
    request, = runtime.named("UpdateContainerResources")
    assert request.container_id == container
    assert request.linux == pb.LinuxContainerResources(cpu_period=100000, cpu_quota=150000, memory_limit_in_bytes=200 * MIB)
    assert not request.annotations
    assert crisp("update", "box")[0] == crisp("update", "-m", "1m")[0] == crisp("update", "-m", "x", "box")[0] == 2
    runtime.fail["UpdateContainerResources"] = (grpc.StatusCode.FAILED_PRECONDITION, "in use")
    code, _, err = crisp("update", "-m", "1m", "box")
    assert code == 1 and "box: UpdateContainerResources: in use" in err


def test_what_removes_ends_without_a_runtime(runtime, crisp):
    """A runtime that stays away isn't waited for without an end."""
    runtime.exit = None
    container = crisp.ok("run", "-d", "img:1")
    runtime.fail["ContainerStatus"] = (grpc.StatusCode.UNAVAILABLE, "not yet")
    waiting = crisp.start("--timeout", "1", "rm", "--wait", container)
    wait_for(lambda: len(runtime.named("ContainerStatus")) >= 3, 20, "it asks again")
    runtime.stop()
    begin = time.monotonic()
    assert waiting.wait(limit(60)) == 1 and b"can't reach a CRI runtime" in waiting.communicate()[1]
    assert time.monotonic() - begin < limit(30)
    runtime.start()


def stats(cpu_ns, at_ns, **more):
    """A pod with the containers "busy" (of a limit) and "idle" (without)."""
    value = lambda n: pb.UInt64Value(value=n)  # noqa: E731
    def one(name, number, cpu, memory):
        return pb.ContainerStats(attributes=pb.ContainerAttributes(id=f"{number:064x}", metadata=pb.ContainerMetadata(name=name)),
                                 cpu=pb.CpuUsage(timestamp=NOW + at_ns, usage_core_nano_seconds=value(cpu), **more), memory=memory,
                                 writable_layer=pb.FilesystemUsage(used_bytes=value(5 * MIB), inodes_used=value(3)))
    busy = one("busy", 0xabc, cpu_ns, pb.MemoryUsage(working_set_bytes=value(25 * MIB), available_bytes=value(75 * MIB)))
    idle = one("idle", 0xdef, 0, pb.MemoryUsage(working_set_bytes=value(MIB)))
    network = pb.NetworkUsage(default_interface=pb.NetworkInterfaceUsage(name="eth0", rx_bytes=value(2048), tx_bytes=value(1024)))
    return [pb.PodSandboxStats(
        attributes=pb.PodSandboxAttributes(id="9" * 64, metadata=pb.PodSandboxMetadata(name="pod", namespace="ns")),
        linux=pb.LinuxPodSandboxStats(network=network, process=pb.ProcessUsage(process_count=value(4)), containers=[idle, busy]))]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"])
@pytest.mark.parametrize("rpc", ["ListContainers", "ContainerStatus", "StopPodSandbox", "RemovePodSandbox"])
def test_what_removes_survives_a_runtime_that_is_away(runtime, crisp, rpc, code):
    runtime.fail[rpc] = (getattr(grpc.StatusCode, code), "shutting down")
    container = crisp.ok("run", "-d", "--rm", "img:1")
    wait_for(lambda: len(runtime.named(rpc)) >= 3, 20, "it asks again")
    assert runtime.pods and os.listdir(crisp.logs)
    del runtime.fail[rpc]
    wait_for(lambda: not runtime.pods and not os.listdir(crisp.logs), 20, "it is removed")
    # It is as patient neither with other failures nor without --wait.
    runtime.fail["ListContainers"] = (grpc.StatusCode.INTERNAL, "broken")
    assert crisp("rm", "--wait", container)[0] == 1
    runtime.fail["ListContainers"] = (getattr(grpc.StatusCode, code), "shutting down")
    assert crisp("rm", container)[0] == 1


def test_a_memory_limit_that_is_reached(runtime, crisp):
    """Nothing available isn't the same as no limit."""
    runtime.pod_stats = [stats(0, 0)]
    _, busy = runtime.pod_stats[0][0].linux.containers
    busy.memory.available_bytes.value = 0
    facts = json.loads(crisp.ok("stats", "--no-stream", "-o", "json").splitlines()[0])
    assert facts["memory_bytes"] == 25 * MIB == facts["memory_limit_bytes"]
    assert "25.0MiB / 25.0MiB  100.00%" in re.sub(r"\s{2,}", "  ", crisp.ok("top", "--once"))


def test_top(runtime, crisp):
    runtime.pod_stats = [stats(0, 0), stats(500_000_000, 1_000_000_000)]
    out = crisp.ok("top")
    heading, empty, titles, first, second = out.splitlines()
    assert "2 containers  CPU 50.0%  memory 26.0MiB" in heading and not empty and titles.startswith("CONTAINER")
    assert re.split(r"\s{2,}", first) == ["0" * 12, "busy", "50.00%", "25.0MiB / 100.0MiB", "25.00%", "2.0KiB / 1.0KiB", "5.0MiB", "4"]
    assert re.split(r"\s{2,}", second)[1:5] == ["idle", "0.00%", "1.0MiB / -", "-"]
    assert "idle" in crisp.ok("top", "--once", "--sort", "name").splitlines()[4]


def test_stats(runtime, crisp):
    runtime.pod_stats = [stats(0, 0), stats(250_000_000, 1_000_000_000)]
    busy, idle = [json.loads(line) for line in crisp.ok("stats", "--no-stream", "-o", "json").splitlines()]
    assert busy == {"id": f"{0xabc:064x}", "name": "busy", "pod": "pod", "namespace": "ns", "cpu_percent": 25.0, "cpu_ns": 250_000_000,
                    "memory_bytes": 25 * MIB, "memory_limit_bytes": 100 * MIB, "network_rx_bytes": 2048, "network_tx_bytes": 1024,
                    "disk_bytes": 5 * MIB, "disk_inodes": 3, "pids": 4}
    assert idle["memory_limit_bytes"] is None and idle["cpu_percent"] == 0
    # The runtime looks more seldom than we: its own figure is taken.
    runtime.pod_stats = [stats(1, 0, usage_nano_cores=pb.UInt64Value(value=300_000_000))]
    assert json.loads(crisp.ok("stats", "--no-stream", "-o", "json").splitlines()[0])["cpu_percent"] == 30
    # One without statistics of pods, one that can't make them.
    for status in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN):
        runtime.fail["ListPodSandboxStats"] = (status, "no")
        facts = json.loads(crisp.ok("stats", "--no-stream", "-o", "json").splitlines()[0])
        assert facts["memory_bytes"] == 25 * MIB and facts["pids"] is None and facts["network_rx_bytes"] is None
    runtime.fail["ListPodSandboxStats"] = (grpc.StatusCode.PERMISSION_DENIED, "not you")
    assert "ListPodSandboxStats: not you" in crisp("stats", "--no-stream")[2]
    runtime.fail["ListPodSandboxStats"] = (grpc.StatusCode.UNIMPLEMENTED, "no")
    runtime.fail["ListContainerStats"] = (grpc.StatusCode.UNIMPLEMENTED, "not even")
    code, _, err = crisp("stats", "--no-stream")
    assert code == 1 and "ListContainerStats: not even" in err


def test_stats_stream(runtime, crisp):
    runtime.exit, runtime.pod_stats = None, [stats(0, 0)]
    process = crisp.start("stats", "--interval", "100ms", "-o", "json")
    lines = [json.loads(process.stdout.readline()) for _ in range(6)]
    assert [line["name"] for line in lines] == ["busy", "idle"] * 3
    process.terminate()
    assert process.wait(limit(10)) == 0
    assert crisp("stats", "nobody")[0] == 1


def test_top_on_a_terminal(runtime, crisp):
    runtime.pod_stats = [stats(0, 0), stats(500_000_000, 1_000_000_000)]
    ours, theirs = os.openpty()
    process = crisp.start("top", "--interval", "100ms", stdout=theirs)
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + limit(20)
    while seen.count(b"\033[H") < 3 and time.monotonic() < deadline:
        seen += os.read(ours, 4096)
    process.terminate()
    assert process.wait(limit(10)) == 0
    os.close(ours)
    assert seen.count(b"\033[H") >= 3 and b"busy" in seen and b"50.00%" in seen


def flags_of_help(text):
    return set(re.findall(r"^  (?:-\w,|   ) --([\w-]+)", text, re.M)) - {"help"}


def test_every_flag_is_documented(crisp):
    """docs/docker-run.md has a line for each flag of `crisp run`, and no others but those said to be missing."""
    flags = flags_of_help(crisp.ok("run", "--help"))
    with open(f"{TOP}/docs/docker-run.md", encoding="utf-8") as f:
        there, missing = f.read().split("## What there is no option for")
    documented = set(re.findall(r"^\| (?:`-\w`, )?`--([\w-]+)", there, re.M))
    assert flags == documented
    for name in re.findall(r"`-(-?[\w-]+)`", "".join(row.split("|")[1] for row in missing.splitlines() if row.startswith("| `"))):
        code, _, err = crisp("run", f"-{name}", "img:1")
        assert code == 125 and f"run has no option -{name}: " in err, err
