"""OCI hooks, as CDI devices bring them: their namespaces, their state, their bundle, their deadlines, their failures."""
import json
import os
import time

import grpc
import pytest

import cgroups
import test_escape
from cdispecs import Specs
from cri import Cri, code_of
from daemon import limit, wait_for
from stubs import pb

# Writes what a hook sees: its state, its arguments and environment, its namespaces, and what is in its bundle.
SCRIPT = """#!/bin/sh
out="$OUT/$1"
cat >"$out.state"
echo "$0 $*" >"$out.args"
env | sort >"$out.env"
for ns in mnt net pid uts ipc; do readlink /proc/self/ns/$ns; done >"$out.ns"
bundle=$(sed 's/.*"bundle": *"\\([^"]*\\)".*/\\1/' "$out.state")
if [ -n "$bundle" ] && [ -e "$bundle/config.json" ]; then
    cp "$bundle/config.json" "$out.config"
    ls -d "$bundle/mnt/root/bin" >"$out.root" 2>/dev/null
fi
eval "$2"
"""
POINTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.fixture(scope="module")
def daemon(registry):
    from conftest import finish
    from daemon import Crispd
    crispd = Crispd(registry.url)
    crispd.specs = Specs(crispd.base)
    crispd.write_config(registry.url, {"cdi": {"spec_dirs": [crispd.specs.etc, crispd.specs.run]}})
    crispd.start()
    yield crispd
    finish(crispd)


@pytest.fixture
def cri(daemon):
    client = Cri(daemon)
    yield client
    client.clean()
    daemon.specs.clear()


class Hooks:
    """Hooks that tell what they see in files of a folder."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.out = f"{daemon.base}/hooks"
        os.makedirs(self.out, mode=0o777, exist_ok=True)
        self.script = f"{daemon.base}/hook.sh"
        with open(self.script, "w", encoding="utf-8") as f:
            f.write(SCRIPT)
        os.chmod(self.script, 0o755)

    def hook(self, point, command="", **more):
        return {"hookName": point, "path": self.script, "args": ["hook", point, command],
                "env": [f"OUT={self.out}", "PATH=/usr/bin:/bin"], **more}

    def device(self, *hooks, **edits):
        self.daemon.specs.put("hooks.json", {"d": {"hooks": list(hooks), **edits}})
        return {"CDI_devices": [pb.CDIDevice(name="vendor.com/dev=d")]}

    def saw(self, name):
        with open(f"{self.out}/{name}", encoding="utf-8") as f:
            return f.read()

    def ran(self):
        return sorted(name[:-6] for name in os.listdir(self.out) if name.endswith(".state"))

    def bundles(self):
        return [d for _, dirs, _ in os.walk(f"{self.daemon.run_dir}/pods") if "bundles" in dirs for d in dirs]


@pytest.fixture
def hooks(daemon):
    h = Hooks(daemon)
    yield h
    for name in os.listdir(h.out):
        os.unlink(f"{h.out}/{name}")


def bundles_of(daemon, pod):
    try:
        return os.listdir(f"{daemon.run_dir}/pods/{pod}/bundles")
    except FileNotFoundError:
        return []


def namespaces(pid):
    return [os.readlink(f"/proc/{pid}/ns/{ns}") for ns in ("mnt", "net", "pid", "uts", "ipc")]


@pytest.mark.core
def test_hooks_of_the_host(cri, pod, hooks, daemon):
    """prestart, createRuntime, poststart, poststop: namespaces of the host, state on stdin, a true bundle."""
    asked = hooks.device(*(hooks.hook(p) for p in ("prestart", "createRuntime", "poststart", "poststop")),
                         env=["DEVICE=here"])
    container = cri.create(pod, ["sleep", "3600"], annotations={"key": "va\"lue"}, **asked)
    cri.UpdateContainerResources(container_id=container, linux=pb.LinuxContainerResources(cpu_shares=256))
    cri.StartContainer(container_id=container)
    assert hooks.ran() == ["createRuntime", "poststart", "prestart"]
    pid = cri.pid_of(container)
    for point, status in (("prestart", "creating"), ("createRuntime", "creating"), ("poststart", "running")):
        state = json.loads(hooks.saw(point + ".state"))
        assert state == {"ociVersion": "1.2.0", "id": container, "status": status, "pid": pid,
                         "bundle": f"{daemon.run_dir}/pods/{pod}/bundles/{container}", "annotations": {"key": "va\"lue"}}
        assert hooks.saw(point + ".ns").split() == namespaces(daemon.process.pid)
        assert hooks.saw(point + ".env").split() == [f"OUT={hooks.out}", "PATH=/usr/bin:/bin"] or \
            "PWD=" in hooks.saw(point + ".env")
    config = json.loads(hooks.saw("createRuntime.config"))
    assert config["ociVersion"] == "1.2.0" and config["process"]["args"] == ["sleep", "3600"]
    assert "DEVICE=here" in config["process"]["env"] and config["annotations"] == {"key": "va\"lue"}
    assert config["root"] == {"path": f"{daemon.run_dir}/pods/{pod}/bundles/{container}/mnt/root", "readonly": False}
    assert "CAP_CHOWN" in config["process"]["capabilities"]["bounding"]
    assert {"/proc", "/dev", "/sys", "/etc/hosts"} <= {m["destination"] for m in config["mounts"]}
    assert "/dev/null" in [d["path"] for d in config["linux"]["devices"]]
    assert config["linux"]["cgroupsPath"] == cgroups.of_process(pid).get("devices", config["linux"]["cgroupsPath"])
    assert config["linux"]["resources"]["cpu"]["shares"] == 256
    assert [h["path"] for h in config["hooks"]["prestart"]] == [hooks.script]
    cri.StopContainer(container_id=container, timeout=0)
    wait_for(lambda: "poststop" in hooks.ran() and bundles_of(daemon, pod) == [], 10, "poststop")
    state = json.loads(hooks.saw("poststop.state"))
    assert state["status"] == "stopped" and "pid" not in state
    assert json.loads(hooks.saw("poststop.config")) == config


@pytest.mark.core
def test_create_container_hook_edits_the_root(cri, pod, hooks, daemon):
    """In the container's namespaces, with the host's files, before pivot_root: also a root that becomes read-only."""
    edit = 'root=$(sed \'s/.*"root":{"path":"\\([^"]*\\)".*/\\1/\' "$out.config"); echo by-the-hook >"$root/etc/edited"'
    asked = hooks.device(hooks.hook("createContainer", edit))
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        readonly_rootfs=True, run_as_user=pb.Int64Value(value=1000)))
    container = cri.run(pod, ["sleep", "3600"], linux=linux, **asked)
    assert cri.sh(container, "cat /etc/edited") == "by-the-hook\n"
    assert cri.exec(container, "sh", "-c", "touch /x")[0] != 0
    pid = cri.pid_of(container)
    assert hooks.saw("createContainer.ns").split() == namespaces(pid)
    state = json.loads(hooks.saw("createContainer.state"))
    assert state["status"] == "creating" and state["pid"] == 1  # as the container sees it
    assert hooks.saw("createContainer.root").strip().endswith("/mnt/root/bin")
    # Nothing of the host's mounts, and nothing on the host, is left.
    points = {line.split()[4] for line in open(f"/proc/{pid}/mountinfo", encoding="utf-8")}
    assert "/" in points and not [p for p in points if daemon.base in p]
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        assert "/bundles/" not in f.read()


@pytest.mark.core
def test_in_a_pod_with_a_user_namespace(cri, hooks, daemon):
    """What a createContainer hook makes is the pod's root's; what CDI devices mount and make is too."""
    ids = [pb.IDMapping(container_id=0, host_id=700000, length=65536)]
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(pid=pb.CONTAINER, userns_options=pb.UserNamespace(
            mode=pb.POD, uids=ids, gids=ids)))))
    os.makedirs(f"{daemon.root}/driver", exist_ok=True)
    with open(f"{daemon.root}/driver/lib", "w", encoding="utf-8") as f:
        f.write("lib\n")
    edit = 'root=$(sed \'s/.*"root":{"path":"\\([^"]*\\)".*/\\1/\' "$out.config"); echo hook >"$root/etc/edited"; id -u >"$out.id"'
    asked = hooks.device(hooks.hook("createContainer", edit), hooks.hook("prestart"),
                         mounts=[{"hostPath": f"{daemon.root}/driver/lib", "containerPath": "/lib/driver"}],
                         deviceNodes=[{"path": "/dev/f", "hostPath": "/dev/fuse"}])
    container = cri.run(pod, ["sleep", "3600"], **asked)
    assert cri.sh(container, "cat /etc/edited; stat -c %u:%g /etc/edited /lib/driver /dev/f") == "hook\n0:0\n0:0\n0:0\n"
    assert hooks.saw("createContainer.id") == "700000\n"
    # Its mounts are locked, as without hooks.
    assert cri.exec(container, "sh", "-c", "umount /proc")[0] != 0
    pid = cri.pid_of(container)
    assert os.stat(f"/proc/{pid}").st_uid == 700000
    cri.StopContainer(container_id=container, timeout=0)


@pytest.mark.core
def test_start_container_hook_has_the_containers_privileges(cri, pod, daemon, hooks):
    """Its program is the container's, and so are its user, its capabilities and its filter."""
    daemon.specs.put("hooks.json", {"d": {"hooks": [{
        "hookName": "startContainer", "path": "/bin/sh",
        "args": ["sh", "-c", "cat >/tmp/state; id -u >/tmp/id; grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status >>/tmp/id;"
                             " pwd >>/tmp/id; ls /proc | grep -c '^[0-9]*$' >>/tmp/id"], "env": ["PATH=/bin"]}]}})
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        run_as_user=pb.Int64Value(value=1000), no_new_privs=True,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)))
    container = cri.run(pod, ["sleep", "3600"], linux=linux, CDI_devices=[pb.CDIDevice(name="vendor.com/dev=d")])
    lines = cri.sh(container, "cat /tmp/id").split("\n")
    assert lines[0] == "1000" and "CapEff:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines and "Seccomp:\t2" in lines
    state = json.loads(cri.sh(container, "cat /tmp/state"))
    assert state["status"] == "created" and state["pid"] == 1 and state["id"] == container


@pytest.mark.core
def test_order_of_all(cri, pod, hooks):
    order = [hooks.hook(p, 'echo "$1" >>"$OUT/order"') for p in reversed(POINTS) if p != "startContainer"]
    container = cri.run(pod, ["true"], **hooks.device(*order))
    cri.wait(container)
    wait_for(lambda: "poststop" in hooks.saw("order"), 10, "poststop")
    assert hooks.saw("order").split() == [p for p in POINTS if p != "startContainer"]


@pytest.mark.core
@pytest.mark.parametrize("point", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_failing_hook_fails_the_start(cri, pod, hooks, daemon, point):
    """With its own words; nothing is left running, and poststop has run."""
    failing = hooks.hook(point, "echo it broke >&2; exit 3")
    if point == "startContainer":
        failing = {"hookName": point, "path": "/bin/sh", "args": ["sh", "-c", "echo it broke >&2; exit 3"]}
    container = cri.create(pod, ["sleep", "3600"], **hooks.device(failing, hooks.hook("poststop")))
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert f"{point} hook" in text and failing["path"] in text and "exit code 3: it broke" in text and container in text
    status = cri.status(container)
    assert status.state == pb.CONTAINER_EXITED
    if point != "poststart":
        assert (status.exit_code, status.reason) == (128, "StartError") and "it broke" in status.message
    wait_for(lambda: "poststop" in hooks.ran() and bundles_of(daemon, pod) == [], 10, "poststop")
    wait_for(lambda: not [d for d in cgroups.directories(daemon.cgroup) if container in d and cgroups_busy(d)], 5, "no process")
    assert cri.output(pod, ["echo", "next"]) == "next\n"


def cgroups_busy(path):
    with open(path + "/cgroup.procs", encoding="utf-8") as f:
        return f.read().strip() != ""


@pytest.mark.parametrize("point", ["createRuntime", "createContainer"])
def test_deadline(cri, pod, hooks, point):
    asked = hooks.device(hooks.hook(point, "sleep 4747 & sleep 4747", timeout=1))
    container = cri.create(pod, ["sleep", "3600"], **asked)
    begun = time.monotonic()
    code, text = code_of(cri.StartContainer, container_id=container)
    assert 0.9 < time.monotonic() - begun < limit(10)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED and f"{point} hook" in text and hooks.script in text
    assert cri.status(container).reason == "StartError"
    wait_for(lambda: not running("4747"), 5, "the hook's processes are dead")


@pytest.mark.parametrize("point", ["createRuntime", "createContainer", "poststart"])
@pytest.mark.parametrize("way", ["StopContainer", "RemoveContainer", "StopPodSandbox"])
def test_a_hanging_hook_holds_nobody_up(cri, pod, hooks, point, way):
    asked = hooks.device(hooks.hook(point, "sleep 4848", timeout=300), hooks.hook("poststop"))
    container = cri.create(pod, ["sleep", "3600"], **asked)
    call = cri.future("StartContainer", container_id=container)
    wait_for(lambda: point in hooks.ran(), 10, "the hook runs")
    begun = time.monotonic()
    if way == "StopPodSandbox":
        cri.StopPodSandbox(pod_sandbox_id=pod)
    elif way == "RemoveContainer":
        cri.RemoveContainer(container_id=container)
    else:
        cri.StopContainer(container_id=container, timeout=1)
    assert time.monotonic() - begun < limit(8)
    assert call.exception() is not None
    if point != "createContainer":
        assert call.exception().code() == grpc.StatusCode.ABORTED and f"{point} hook" in call.exception().details()
    if way != "RemoveContainer":
        assert cri.status(container).state == pb.CONTAINER_EXITED
    wait_for(lambda: "poststop" in hooks.ran() and not running("4848"), 5, "poststop, and no hook")


def test_nobody_waits_for_others_hooks(cri, pod, hooks):
    """More containers than there are threads for hooks have ended, and their poststart hooks still run."""
    asked = hooks.device(hooks.hook("poststart", "sleep 4849", timeout=300))
    some = [cri.create(pod, ["true"], name=f"slow{i}", **asked) for i in range(6)]
    calls = [cri.future("StartContainer", container_id=container) for container in some]
    wait_for(lambda: all(cri.status(c).state == pb.CONTAINER_EXITED for c in some), 10, "their ends")
    container = cri.run(pod, ["true"], name="other", **hooks.device(hooks.hook("poststop")))
    cri.wait(container)
    wait_for(lambda: "poststop" in hooks.ran(), 5, "poststop")
    assert not any(call.done() for call in calls)
    for container in some:
        cri.RemoveContainer(container_id=container)


def test_the_daemon_ends_while_a_removal_runs_hooks(cri, pod, hooks, daemon):
    """The removal fails, and the next daemon runs what is owed."""
    asked = hooks.device(hooks.hook("poststop", '[ -e "$OUT/again" ] && touch "$OUT/whole" || sleep 30'))
    container = cri.run(pod, ["sleep", "3600"], **asked)
    call = cri.future("RemoveContainer", container_id=container)
    wait_for(lambda: "poststop" in hooks.ran(), 10, "the hook runs")
    daemon.process.terminate()
    assert call.exception().code() == grpc.StatusCode.UNAVAILABLE
    daemon.terminate()
    with open(f"{hooks.out}/again", "w", encoding="utf-8"):
        pass
    daemon.start()
    wait_for(lambda: os.path.exists(f"{hooks.out}/whole"), 10, "poststop")
    assert cri.status(container).state == pb.CONTAINER_EXITED
    cri.RemoveContainer(container_id=container)


@pytest.mark.parametrize("point", ["createRuntime", "createContainer"])
def test_what_a_hook_leaves_behind(cri, pod, hooks, point):
    cri.run(pod, ["sleep", "3600"], **hooks.device(hooks.hook(point, "sleep 4850 >/dev/null 2>&1 &")))
    wait_for(lambda: not running("4850"), 2, "its processes are dead")


def running(word):
    found = []
    for pid in os.listdir("/proc"):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
                if f.read() == f"sleep\0{word}\0":
                    found.append(pid)
        except OSError:
            pass
    return found


@pytest.mark.core
def test_a_missing_program(cri, pod, hooks):
    for point in ("prestart", "createContainer", "startContainer"):
        asked = hooks.device({"hookName": point, "path": "/no/such/hook"})
        container = cri.create(pod, ["sleep", "3600"], **asked)
        code, text = code_of(cri.StartContainer, container_id=container)
        assert code == grpc.StatusCode.FAILED_PRECONDITION and f"{point} hook" in text and "/no/such/hook" in text
        assert "No such file" in text


@pytest.mark.core
def test_daemon_dies_while_a_hook_runs(cri, pod, hooks, daemon):
    """The held launch ends with the connection; the container can be started by the next daemon."""
    asked = hooks.device(hooks.hook("createRuntime", '[ -e "$OUT/again" ] || sleep 30'), hooks.hook("poststop"))
    container = cri.create(pod, ["sleep", "3600"], **asked)
    call = cri.future("StartContainer", container_id=container)
    wait_for(lambda: "createRuntime" in hooks.ran(), 10, "the hook runs")
    daemon.kill()
    assert call.exception() is not None
    wait_for(lambda: not [d for d in cgroups.directories(daemon.cgroup) if container in d and cgroups_busy(d)], 10,
             "the held process is gone")
    with open(f"{hooks.out}/again", "w", encoding="utf-8"):
        pass
    daemon.start()
    assert cri.status(container).state == pb.CONTAINER_CREATED
    cri.StartContainer(container_id=container)
    assert cri.status(container).state == pb.CONTAINER_RUNNING
    cri.StopContainer(container_id=container, timeout=0)
    wait_for(lambda: "poststop" in hooks.ran(), 10, "poststop")


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_poststart_is_owed_over_a_restart(cri, pod, hooks, daemon, end):
    """The daemon is gone in the midst of it: the container runs on, and the next daemon runs the hook to its end."""
    asked = hooks.device(hooks.hook("poststart", 'echo $$ >>"$OUT/begun"; [ -e "$OUT/again" ] || sleep 30; touch "$OUT/whole"'),
                         hooks.hook("poststop"))
    container = cri.create(pod, ["sleep", "3600"], **asked)
    call = cri.future("StartContainer", container_id=container)
    wait_for(lambda: os.path.exists(f"{hooks.out}/begun"), 10, "the hook runs")
    pid = cri.pid_of(container)
    getattr(daemon, end)()
    assert call.exception() is not None
    with open(f"{hooks.out}/again", "w", encoding="utf-8"):
        pass
    daemon.start()
    wait_for(lambda: os.path.exists(f"{hooks.out}/whole"), 10, "poststart")
    assert cri.status(container).state == pb.CONTAINER_RUNNING and cri.pid_of(container) == pid
    assert json.loads(hooks.saw("poststart.state"))["pid"] == pid
    assert len(hooks.saw("begun").split()) == 2
    daemon.kill()
    daemon.start()  # it is owed no more
    cri.StopContainer(container_id=container, timeout=0)
    wait_for(lambda: "poststop" in hooks.ran(), 10, "poststop")
    assert len(hooks.saw("begun").split()) == 2


def test_poststart_that_fails_over_a_restart(cri, pod, hooks, daemon):
    """It ends the container, as it would have in the start."""
    asked = hooks.device(hooks.hook("poststart", '[ -e "$OUT/again" ] || sleep 30; exit 7'), hooks.hook("poststop"))
    container = cri.create(pod, ["sleep", "3600"], **asked)
    call = cri.future("StartContainer", container_id=container)
    wait_for(lambda: "poststart" in hooks.ran(), 10, "the hook runs")
    daemon.kill()
    assert call.exception() is not None
    with open(f"{hooks.out}/again", "w", encoding="utf-8"):
        pass
    daemon.start()
    assert cri.wait(container).exit_code == 137
    wait_for(lambda: "poststop" in hooks.ran(), 10, "poststop")
    assert "poststart hook" in daemon.log_tail(200) and "exit code 7" in daemon.log_tail(200)


@pytest.mark.core
def test_poststop_is_owed_over_a_restart(cri, pod, hooks, daemon):
    """The container ends while no daemon runs, and its pod is stopped right after: the hook runs before that is done."""
    script = "until [ -e /end/now ]; do sleep 0.1; done"
    container = cri.run(pod, ["sh", "-c", script], mounts=[pb.Mount(host_path=hooks.out, container_path="/end")],
                        **hooks.device(hooks.hook("poststop"), hooks.hook("prestart")))
    daemon.kill()
    with open(f"{hooks.out}/now", "w", encoding="utf-8"):
        pass
    wait_for(lambda: not [d for d in cgroups.directories(daemon.cgroup) if container in d and cgroups_busy(d)], 10, "its end")
    assert "poststop" not in hooks.ran()
    daemon.start()
    cri.StopPodSandbox(pod_sandbox_id=pod)
    assert "poststop" in hooks.ran()
    assert json.loads(hooks.saw("poststop.state"))["id"] == container
    assert not os.path.exists(f"{daemon.run_dir}/pods/{pod}")


def test_start_container_hook_beside_a_tracer(cri, hooks):
    """In a shared pid namespace such a hook appears, as the container itself, with no more than it keeps."""
    pod = test_escape.shared_pid_pod(cri)
    attacker = test_escape.hostile_tracer(cri, pod, pb.POD)
    asked = hooks.device({"hookName": "startContainer", "path": "/escape", "args": ["escape", "nap"]})
    done = 0
    for done in test_escape.attempts(8):
        container = cri.run(pod, ["/escape", "nap"], image=test_escape.ESCAPE, **test_escape.shares({"pid": pb.POD}), **asked)
        assert cri.wait(container, 10).exit_code == 0
    seen = test_escape.parse(attacker.result())
    assert seen["traced"] > done + 1 and seen["early"] > 0, f"the attack didn't come off: {seen}"
    assert seen["caps"] & ~test_escape.MINUS_PTRACE == 0, f"it got capabilities that it hasn't: {seen}"


@pytest.mark.core
def test_start_container_hook_in_a_shared_pid_namespace(cri, hooks):
    """It is in the container's namespaces, this one too; what goes wrong in it is told, and it is bounded in time."""
    pod = test_escape.shared_pid_pod(cri)
    linux = test_escape.shares({"pid": pb.POD})
    neighbour = cri.run(pod, ["sleep", "4711"], **linux)
    asked = {"hookName": "startContainer", "path": "/bin/sh"}
    seen = hooks.device({**asked, "args": ["sh", "-c", "(cat; echo; ps) >/tmp/seen"]})
    container = cri.run(pod, ["sleep", "3600"], **linux, **seen)
    text = cri.sh(container, "cat /tmp/seen")
    assert json.loads(text.splitlines()[0])["id"] == container and "sleep 4711" in text
    assert os.readlink(f"/proc/{cri.pid_of(container)}/ns/pid") == os.readlink(f"/proc/{cri.pid_of(neighbour)}/ns/pid")
    for args, more, told in ((["sh", "-c", "echo no; exit 3"], {}, "failed with exit code 3: no"),
                             (["sh", "-c", "sleep 60"], {"timeout": 1}, "was killed after 1000 ms")):
        container = cri.create(pod, ["sleep", "3600"], **linux, **hooks.device({**asked, "args": args, **more}))
        code, text = code_of(cri.StartContainer, container_id=container)
        assert code != grpc.StatusCode.OK and told in text
    assert "sleep 60" not in cri.sh(neighbour, "ps")
