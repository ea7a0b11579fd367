"""Stop signals, grace, attempts, failed starts: what a container's end looks like."""
import os
import signal
import time

import grpc
import pytest

from cri import code_of
from daemon import wait_for
from stubs import pb

SIGNALS = [name for name in pb.Signal.keys() if name != "RUNTIME_DEFAULT"]
# Ends with the number of the signal that comes. Reading from a pipe, and not sleeping: the shell gets no SIGCHLD then.
TRAPS = """mkfifo /f; exec 3<>/f
i=1; while [ $i -le 64 ]; do trap "exit $i" $i 2>/dev/null; i=$((i+1)); done
echo ready; while :; do read x <&3; done"""


def number_of(name):
    """What a kernel calls it; the real-time ones begin at 34, as C libraries keep two for themselves."""
    for prefix, start, sign in (("SIGRTMINPLUS", 34, 1), ("SIGRTMAXMINUS", 64, -1)):
        if name.startswith(prefix):
            return start + sign * int(name[len(prefix):])
    return {"SIGRTMIN": 34, "SIGRTMAX": 64}.get(name) or int(getattr(signal, name))


def test_there_are_65_signals():
    assert len(SIGNALS) == 65
    assert {number_of(name) for name in SIGNALS} == set(range(1, 65)) - {32, 33}


def test_stop_signals(cri, pod):
    """Each of the 65 reaches the program, and Status tells it."""
    containers = {name: cri.run(pod, ["sh", "-c", TRAPS], stop_signal=pb.Signal.Value(name)) for name in SIGNALS}
    stops = {}
    for name, container in containers.items():
        wait_for(lambda c=container: cri.log_lines(c), 10, "the traps are set")
        uncaught = name in ("SIGKILL", "SIGSTOP")
        stops[name] = cri.future("StopContainer", container_id=container, timeout=1 if uncaught else 30)
    for name, container in containers.items():
        stops[name].result(40)
        number, status = number_of(name), cri.status(container)
        assert number_of(pb.Signal.Name(status.stop_signal)) == number
        assert status.exit_code == (137 if name in ("SIGKILL", "SIGSTOP") else number), name
        assert status.reason == "Error"


def test_the_images_stop_signal(cri, pod):
    image = "registry.k8s.io/e2e-test-images/nginx:1.14-2"
    assert cri.status(cri.create(pod, ["true"], image=image)).stop_signal == pb.SIGQUIT
    own = cri.create(pod, ["true"], image=image, stop_signal=pb.SIGUSR1)
    assert cri.status(own).stop_signal == pb.SIGUSR1
    assert cri.status(cri.create(pod, ["true"])).stop_signal == pb.SIGTERM


def test_an_unknown_stop_signal(cri, pod):
    code, text = code_of(cri.create, pod, ["true"], stop_signal=66)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and text == "stop_signal: unknown signal 66"


def test_a_longer_stop_does_not_put_off_a_shorter_one(cri, pod):
    """The earliest deadline counts, whichever call brought it; each call returns when the exit is visible."""
    container = cri.run(pod, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    wait_for(lambda: cri.log_lines(container), 5, "the trap is set")
    started = time.monotonic()
    short = cri.future("StopContainer", container_id=container, timeout=1)
    long = cri.future("StopContainer", container_id=container, timeout=40)
    short.result(20)
    assert 0.9 < time.monotonic() - started < 15
    assert cri.status(container).state == pb.CONTAINER_EXITED
    long.result(5)


@pytest.mark.core
def test_attempts(cri, pod):
    """kubelet's restart: the same name, the next attempt, in the same pod; the old one is still told of."""
    ids = []
    for attempt in range(3):
        config = cri.container_config(["sh", "-c", f"exit {attempt}"], name="main", log_path=f"main_{attempt}.log")
        config.metadata.attempt = attempt
        ids.append(cri.create(pod, config=config))
        cri.StartContainer(container_id=ids[-1])
        assert cri.wait(ids[-1]).exit_code == attempt
    assert [cri.status(i).metadata.attempt for i in ids] == [0, 1, 2]
    assert [c.id for c in cri.ListContainers().containers] == ids[::-1]
    config.metadata.attempt = 1
    code, text = code_of(cri.create, pod, config=config)
    assert code == grpc.StatusCode.ALREADY_EXISTS and ids[1] in text


@pytest.mark.core
def test_a_failed_start_is_the_end(cri, pod):
    """128 and StartError, with what StartContainer said; times that make sense; not to be started again."""
    before = time.time_ns()
    container = cri.create(pod, ["/no/such/program"])
    code, text = code_of(cri.StartContainer, container_id=container)
    status = cri.status(container)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "/no/such/program" in text
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 128, "StartError")
    assert "/no/such/program" in status.message and "no such file or directory" in status.message.lower()
    assert before < status.created_at < status.started_at <= status.finished_at <= time.time_ns()
    again = code_of(cri.StartContainer, container_id=container)
    assert again[0] == grpc.StatusCode.FAILED_PRECONDITION and "StartError" in again[1]
    cri.StopContainer(container_id=container, timeout=5)
    assert code_of(cri.exec, container, "true")[0] == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.core
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_ends_by_a_signal(cri, pod, number):
    """A program that dies of a signal itself: 128 and its number."""
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        namespace_options=pb.NamespaceOption(pid=pb.POD)))  # as another process than the first, which is protected
    shared = pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(pid=pb.POD)))
    container = cri.run(cri.run_pod(linux=shared), ["sh", "-c", f"kill -{int(number)} $$"], linux=linux)
    status = cri.wait(container)
    assert (status.exit_code, status.reason) == (128 + number, "Error")


@pytest.mark.core
def test_what_was_wrong_at_the_creation_is_looked_at_again(cri, pod, tmp_path):
    """A mount's source that changes between CreateContainer and StartContainer, after a root was prepared in vain."""
    source = tmp_path / "later"
    source.mkdir()
    mount = pb.Mount(host_path=str(source), container_path="/etc/passwd")
    container = cri.create(pod, ["cat", "/etc/passwd"], mounts=[mount])
    time.sleep(0.2)
    source.rmdir()
    source.write_text("here\n")
    cri.StartContainer(container_id=container)
    assert cri.wait(container).exit_code == 0 and [line.text for line in cri.log_lines(container)] == ["here"]
    source.unlink()
    source.mkdir()
    container = cri.create(pod, ["true"], mounts=[mount])
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "/etc/passwd is no directory" in text


@pytest.mark.core
def test_a_killed_prepared_process_is_made_anew(cri, pod):
    for wait in (0, 0.2):
        container = cri.create(pod, ["sh", "-c", "exit 5"])
        os.kill(wait_for(lambda c=container: cri.pid_in(c), 10, "it is prepared"), signal.SIGKILL)
        time.sleep(wait)
        cri.StartContainer(container_id=container)
        assert cri.wait(container).exit_code == 5
