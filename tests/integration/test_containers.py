"""Containers: their life, exit codes, identity, environment."""
import os
import signal
import time

import grpc
import pytest

from cri import BUSYBOX, code_of, env
from daemon import limit, wait_for
from stubs import pb

pytestmark = pytest.mark.core


def security(**fields):
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields))


def test_states_and_times(cri, pod):
    before = time.time_ns()
    config = cri.container_config(["sh", "-c", "exit 7"], labels={"l": "1"}, annotations={"a": "2"})
    container = cri.create(pod, config=config)
    created = cri.status(container)
    assert created.state == pb.CONTAINER_CREATED and before <= created.created_at
    assert created.started_at == 0 and created.finished_at == 0
    cri.StartContainer(container_id=container)
    status = cri.wait(container)
    assert status.created_at < status.started_at <= status.finished_at <= time.time_ns()
    assert status.exit_code == 7 and status.reason == "Error"
    assert status.metadata == config.metadata and status.image.image == BUSYBOX
    assert dict(status.labels) == {"l": "1"} and dict(status.annotations) == {"a": "2"}
    assert status.image_ref == status.image_id == cri.image(BUSYBOX).id
    listed = cri.ListContainers().containers
    assert [c.id for c in listed] == [container]
    assert listed[0].image_id == status.image_id and listed[0].pod_sandbox_id == pod


@pytest.mark.parametrize("script,code,reason", [
    ("exit 0", 0, "Completed"), ("exit 255", 255, "Error"), ("nosuchcommand", 127, "Error")])
def test_exit_codes(cri, pod, script, code, reason):
    status = cri.wait(cri.run(pod, ["sh", "-c", script]))
    assert (status.exit_code, status.reason) == (code, reason)


def test_killed_from_outside(cri, pod, busy):
    os.kill(cri.pid_of(busy), signal.SIGKILL)
    status = cri.wait(busy)
    assert (status.exit_code, status.reason) == (137, "Error")


@pytest.mark.parametrize("mode", [pb.POD, pb.CONTAINER, pb.NODE, pb.TARGET], ids=pb.NamespaceMode.keys())
def test_exit_kills_what_is_left_of_the_container(cri, crispd, mode):
    import cgroups
    own = pb.CONTAINER if mode == pb.TARGET else mode
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(pid=own))))
    options = pb.NamespaceOption(pid=mode)
    if mode == pb.TARGET:
        options.target_id = cri.run(pod, ["sleep", "3600"], linux=security(
            namespace_options=pb.NamespaceOption(pid=pb.CONTAINER)))
    container = cri.run(pod, ["sh", "-c", "setsid sleep 4242 & setsid sleep 4243 & exit 3"],
                        linux=security(namespace_options=options))
    assert cri.wait(container).exit_code == 3
    for pid in cgroups.processes(crispd.cgroup):
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
            assert not {"4242", "4243"} & set(f.read().split("\0"))


def test_stop_right_after_start_reaches_the_program(cri, pod):
    """The kernel drops a signal to PID 1 that has no handler yet: it has to be sent again."""
    container = cri.run(pod, ["sh", "-c", "sleep 0.3; trap 'exit 5' TERM; while :; do sleep 0.05; done"])
    started = time.monotonic()
    cri.StopContainer(container_id=container, timeout=limit(20))
    assert time.monotonic() - started < limit(10)
    assert cri.status(container).exit_code == 5


def test_stop_with_signal_then_kill(cri, pod):
    polite = cri.run(pod, ["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: cri.log_lines(polite), 5, "the trap is set")
    cri.StopContainer(container_id=polite, timeout=10)
    assert cri.status(polite).exit_code == 5
    stubborn = cri.run(pod, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: cri.log_lines(stubborn), 5, "the trap is set")
    started = time.monotonic()
    cri.StopContainer(container_id=stubborn, timeout=1)
    assert 0.9 < time.monotonic() - started < limit(4)
    status = cri.status(stubborn)
    assert status.state == pb.CONTAINER_EXITED and status.exit_code == 137
    cri.StopContainer(container_id=stubborn, timeout=1)


def test_stop_timeout_zero_kills_at_once(cri, pod, busy):
    started = time.monotonic()
    cri.StopContainer(container_id=busy, timeout=0)
    assert time.monotonic() - started < limit(2)
    assert cri.status(busy).exit_code == 137


def test_second_stop_with_shorter_timeout_preempts(cri, pod):
    container = cri.run(pod, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: cri.log_lines(container), 5, "the trap is set")
    patient = cri.future("StopContainer", container_id=container, timeout=40)
    time.sleep(0.3)
    cri.StopContainer(container_id=container, timeout=0, deadline=limit(10))
    patient.result(10)
    assert cri.status(container).exit_code == 137


def test_one_waiting_stop_does_not_hold_up_others(cri, pod):
    container = cri.run(pod, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: cri.log_lines(container), 5, "the trap is set")
    stops = [cri.future("StopContainer", container_id=container, timeout=30) for _ in range(40)]
    time.sleep(0.2)
    cri.wait(cri.run(pod, ["true"]))
    cri.StopContainer(container_id=container, timeout=0)
    for stop in stops:
        stop.result(10)


def test_stop_and_remove_of_what_is_not_there(cri):
    cri.StopContainer(container_id="f" * 64, timeout=1)
    cri.RemoveContainer(container_id="f" * 64)
    code, text = code_of(cri.status, "f" * 64)
    assert code == grpc.StatusCode.NOT_FOUND and "f" * 12 in text
    assert code_of(cri.StartContainer, container_id="f" * 64)[0] == grpc.StatusCode.NOT_FOUND


def test_remove_of_a_running_container(cri, pod, busy):
    pid = cri.pid_of(busy)
    cri.RemoveContainer(container_id=busy)
    assert not os.path.exists(f"/proc/{pid}")
    assert code_of(cri.status, busy)[0] == grpc.StatusCode.NOT_FOUND
    cri.RemoveContainer(container_id=busy)


def test_prefix_of_an_id(cri, pod, busy):
    assert cri.status(busy[:16]).id == busy
    assert [c.id for c in cri.ListContainers(filter=pb.ContainerFilter(id=busy[:16])).containers] == [busy]


def test_start_twice_is_refused(cri, pod, busy):
    code, text = code_of(cri.StartContainer, container_id=busy)
    assert code == grpc.StatusCode.FAILED_PRECONDITION and text
    assert cri.status(busy).state == pb.CONTAINER_RUNNING


def test_create_again_adopts(cri, pod):
    config = cri.container_config(["sleep", "3600"])
    first = cri.create(pod, config=config)
    assert cri.create(pod, config=config) == first
    other = pb.ContainerConfig()
    other.CopyFrom(config)
    other.args.append("x")
    code, text = code_of(cri.create, pod, config=other)
    assert code == grpc.StatusCode.ALREADY_EXISTS and first[:12] in text
    cri.StartContainer(container_id=first)
    assert code_of(cri.create, pod, config=config)[0] == grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("command,working_dir,words", [
    (["/no/such/program"], "", ["/no/such/program", "No such file"]),
    (["nosuchprogram"], "", ["nosuchprogram"]),
    (["/etc/passwd"], "", ["/etc/passwd", "ermission denied"]),
    (["true"], "/etc/passwd", ["/etc/passwd"]),
])
def test_what_cannot_start(cri, pod, command, working_dir, words):
    container = cri.create(pod, command, working_dir=working_dir)
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN), text
    assert all(word in text for word in words), text
    status = cri.status(container)
    assert status.state == pb.CONTAINER_EXITED and status.exit_code == 128 and status.reason == "StartError"
    assert words[0] in status.message and status.finished_at > 0
    cri.RemoveContainer(container_id=container)
    assert cri.output(pod, ["echo", "fine"]) == "fine\n"


def test_unknown_user_is_an_error(cri, pod):
    container = cri.create(pod, ["true"], linux=security(run_as_username="nosuchuser"))
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code != grpc.StatusCode.UNKNOWN and "nosuchuser" in text
    assert cri.status(container).exit_code == 128


def test_mount_source_that_cannot_be_made(cri, pod):
    mount = pb.Mount(host_path="/dev/null/x", container_path="/data")
    code, text = code_of(lambda: cri.run(pod, ["true"], mounts=[mount]))
    assert code != grpc.StatusCode.UNKNOWN and "/dev/null/x" in text


def test_workdir_is_made_when_missing(cri, pod):
    assert cri.output(pod, ["pwd"], working_dir="/made/for/me") == "/made/for/me\n"


def test_env_args_and_workdir(cri, pod):
    out = cri.output(pod, ["sh", "-c", "echo $A-$B; pwd; echo $0 $1"], args=["zero", "one"], working_dir="/tmp",
                     envs=env(A="1", B="two words=x"))
    assert out == "1-two words=x\n/tmp\nzero one\n"
    assert "PATH=" in cri.output(pod, ["env"])


def test_image_entrypoint_and_env(cri, pod):
    assert cri.output(pod, image="docker.io/library/myrand:latest", command=[]) == "VAL is 1\n"
    assert cri.output(pod, image="docker.io/library/myrand:latest", command=[],
                      envs=env(VAL="5")) == "VAL is 5\n"
    assert "Hello from a container!" in cri.output(pod, image="docker.io/library/hello-world", command=[])


def test_run_as_user_and_groups(cri, pod):
    def ids(**fields):
        return cri.output(pod, ["sh", "-c", "id -u; id -g; id -G"], linux=security(**fields)).split("\n")[:3]

    assert ids() == ["0", "0", "0"]
    assert ids(run_as_user=pb.Int64Value(value=1001)) == ["1001", "0", "0"]
    assert ids(run_as_user=pb.Int64Value(value=1001), run_as_group=pb.Int64Value(value=77),
               supplemental_groups=[5, 6]) == ["1001", "77", "77 5 6"]
    assert ids(run_as_username="www-data") == ["33", "33", "33"]
    code, text = code_of(cri.create, pod, ["id"], linux=security(run_as_group=pb.Int64Value(value=7)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and text


def test_image_user_and_status_user(cri, pod):
    image = "gcr.io/k8s-staging-cri-tools/test-image-predefined-group"
    container = cri.run(pod, ["sh", "-c", "id -u; id -G; sleep 3600"], image=image)
    wait_for(lambda: len(cri.log_lines(container)) == 2, 5, "two lines")
    user = cri.status(container).user.linux
    assert user.uid == 1000 and sorted(user.supplemental_groups) == [1000, 50000]
    assert [line.text for line in cri.log_lines(container)] == ["1000", "1000 50000"]


@pytest.mark.vm
def test_seccomp_default_and_unconfined(cri, pod):
    def mode(profile):
        context = {"seccomp": pb.SecurityProfile(profile_type=profile)} if profile is not None else {}
        return cri.output(pod, ["sh", "-c", "grep ^Seccomp: /proc/self/status"], linux=security(**context)).split()[1]

    assert mode(pb.SecurityProfile.RuntimeDefault) == "2"
    assert mode(pb.SecurityProfile.Unconfined) == "0"
    assert mode(None) == "0"


def test_writable_layers_are_separate(cri, pod):
    one, two = cri.run(pod, ["sleep", "3600"]), cri.run(pod, ["sleep", "3600"])
    cri.sh(one, "echo mine >/etc/mine; rm /etc/nsswitch.conf")
    assert cri.exec(two, "cat", "/etc/mine")[0] != 0
    assert "passwd" in cri.sh(two, "cat /etc/nsswitch.conf")


def test_tty(cri, pod):
    container = cri.run(pod, ["sh", "-c", "tty; echo err >&2"], tty=True)
    assert cri.wait(container).exit_code == 0
    lines = cri.log_lines(container)
    assert {line.stream for line in lines} == {"stdout"}
    assert lines[0].text.startswith("/dev/pts/")


def test_config_that_makes_no_sense(cri, pod):
    for broken in (pb.ContainerConfig(),
                   pb.ContainerConfig(metadata=pb.ContainerMetadata(name="x")),
                   cri.container_config(["true"], mounts=[pb.Mount(host_path="/tmp", container_path="")])):
        code, text = code_of(cri.CreateContainer, pod_sandbox_id=pod, config=broken)
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND) and text
    code, text = code_of(cri.CreateContainer, pod_sandbox_id=pod,
                         config=cri.container_config(["true"], image="docker.io/library/absent"))
    assert code == grpc.StatusCode.NOT_FOUND and "absent" in text
    assert code_of(cri.CreateContainer, pod_sandbox_id="0" * 64,
                   config=cri.container_config(["true"]))[0] == grpc.StatusCode.NOT_FOUND
