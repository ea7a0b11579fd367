"""The crisp command against a runtime that isn't crispd and doesn't always behave."""
import contextlib
import os
import signal
import socket
import threading
import time

import grpc
import pytest

from client import crisp, runtime  # noqa: F401
from daemon import limit, wait_for


def line(text, stream="stdout", tag="F"):
    return f"2026-11-22T03:04:05.123456789Z {stream} {tag} {text}\n".encode()


def log_dir(runtime):
    return runtime.named("RunPodSandbox")[0].config.log_directory


def gone(runtime):
    """Neither pod nor log is left."""
    return not runtime.pods and not os.path.exists(log_dir(runtime))


def test_run_passes_output_and_code(runtime, crisp):
    runtime.chunks = [line("one"), line("half-", tag="P") + line("oops", "stderr"), line("line")[:20], line("line")[20:],
                      line("ü" * 16000, tag="P"), line("")]
    runtime.exit = (3, "Error", "")
    code, out, err = crisp("run", "--rm", "-e", "A=1=2", "-e", "HOME", "--name", "box", "img:1", "sh", "-c", "x")
    assert (code, out) == (3, "one\nhalf-line\n" + "ü" * 16000 + "\n")
    assert err.endswith("oops\n") and "pulling img:1" in err
    config = runtime.named("CreateContainer")[0].config
    assert list(config.args) == ["sh", "-c", "x"] and not config.command
    assert {e.key: e.value for e in config.envs} == {"A": b"1=2", "HOME": os.environ["HOME"].encode()}
    assert config.metadata.name == "box" and config.image.image == "img:1"
    assert runtime.named("RunPodSandbox")[0].config.hostname == "box"
    assert gone(runtime)


def test_run_keeps_without_rm(runtime, crisp):
    runtime.chunks = [line("kept")]
    code, out, _ = crisp("run", "img:1")
    assert (code, out) == (0, "kept\n")
    assert runtime.pods and runtime.named("StopPodSandbox") and not runtime.named("RemovePodSandbox")
    with open(os.path.join(log_dir(runtime), "container.log"), "rb") as log:
        assert log.read() == line("kept")
    crisp("run", "img:1")
    assert len(runtime.named("PullImage")) == 1  # it was there the second time


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops(runtime, crisp, how):
    runtime.chunks, runtime.exit = [line("up")], None
    process = crisp.start("run", "--rm", "img:1")
    assert process.stdout.readline() == b"up\n"
    process.send_signal(how)
    assert process.wait(limit(10)) == 143
    assert runtime.named("StopContainer")[0].timeout == 10
    assert gone(runtime)


def test_second_signal_kills(runtime, crisp):
    runtime.chunks, runtime.exit = [line("up")], None
    runtime.delay["StopContainer"] = 2
    process = crisp.start("run", "--rm", "img:1")
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    wait_for(lambda: runtime.named("StopContainer"))
    process.send_signal(signal.SIGINT)
    wait_for(lambda: len(runtime.named("StopContainer")) == 2)
    assert runtime.named("StopContainer")[1].timeout == 0
    assert process.wait(limit(20)) in (137, 143)
    assert gone(runtime)


@pytest.mark.parametrize("rpc", ["PullImage", "RunPodSandbox", "CreateContainer", "StartContainer"])
def test_signal_while_making(runtime, crisp, rpc):
    runtime.delay[rpc] = 30
    process = crisp.start("run", "--rm", "img:1")
    wait_for(lambda: runtime.named(rpc))
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(limit(10)) == 143
    assert time.monotonic() - started < limit(5)
    if rpc != "PullImage":
        assert gone(runtime)


@pytest.mark.parametrize("rpc", ["ImageStatus", "PullImage", "RunPodSandbox", "CreateContainer", "StartContainer"])
def test_failures_leave_nothing(runtime, crisp, rpc):
    runtime.fail[rpc] = (grpc.StatusCode.INVALID_ARGUMENT, f"because of {rpc}\033[31m")
    code, out, err = crisp("run", "img:1")  # without --rm, too: it never ran
    assert (code, out) == (125, "")
    assert f"{rpc}: because of {rpc}?[31m (INVALID_ARGUMENT)" in err
    assert not runtime.pods and not os.listdir(crisp.logs)


def test_start_error_is_told(runtime, crisp):
    runtime.exit = (128, "StartError", "exec /nope: no such file")
    code, _, err = crisp("run", "--rm", "img:1")
    assert code == 127 and "StartError: exec /nope: no such file" in err
    runtime.exit = (137, "OOMKilled", "")
    code, _, err = crisp("run", "--rm", "img:1")
    assert code == 137 and "out of memory" in err


def test_restart_of_the_runtime(runtime, crisp):
    runtime.chunks, runtime.pace, runtime.exit = [line(str(i)) for i in range(20)], 0.1, (5, "Error", "")
    process = crisp.start("run", "--rm", "img:1")
    assert process.stdout.readline() == b"0\n"
    runtime.stop()
    time.sleep(0.5)
    runtime.start()
    out, err = process.communicate(timeout=limit(30))
    assert process.returncode == 5, err
    assert out == b"".join(b"%d\n" % i for i in range(1, 20))
    assert gone(runtime)


def test_stop_survives_a_restart(runtime, crisp):
    runtime.chunks, runtime.exit = [line("up")], None
    runtime.delay["StopContainer"] = 30
    process = crisp.start("run", "--rm", "img:1")
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    wait_for(lambda: runtime.named("StopContainer"))
    runtime.fail["StopContainer"] = (grpc.StatusCode.UNAVAILABLE, "shutting down")
    runtime.stop()
    runtime.fail, runtime.delay = {}, {}
    runtime.start()
    assert process.wait(limit(20)) == 143
    assert gone(runtime)


def test_closed_output(runtime, crisp):
    runtime.chunks, runtime.exit = [line("x" * 1000)] * 1000, None
    process = crisp.start("run", "--rm", "img:1")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(limit(20)) == 141
    assert runtime.named("StopContainer")[-1].timeout == 0
    assert gone(runtime)


def test_not_a_cri_log(runtime, crisp):
    runtime.chunks, runtime.exit = [b'{"log":"docker"}\n'], None
    code, _, err = crisp("run", "--rm", "img:1")
    assert code == 125 and "isn't in CRI format" in err
    assert gone(runtime)


def test_big_output_is_exact(runtime, crisp):
    runtime.pace = 0
    runtime.chunks = [b"".join(line(f"{i}-{j}") for j in range(1000)) for i in range(200)]
    code, out, _ = crisp("run", "--rm", "img:1")
    assert code == 0
    assert out == "".join(f"{i}-{j}\n" for i in range(200) for j in range(1000))


def test_lists(runtime, crisp):
    runtime.chunks = [line("x")]
    crisp("run", "--name", "done", "registry.local:5000/team/img:1")
    code, out, _ = crisp("ps")
    assert code == 0 and "done" not in out and out.startswith("CONTAINER ")
    code, out, _ = crisp("ps", "-a")
    header, row = out.splitlines()
    assert row.split()[1] == "registry.local:5000/team/img:1" and row.split()[3:] == ["EXITED", "done", "done", "default"]
    assert header.index("STATE") == row.index("EXITED")
    code, out, _ = crisp("images")
    assert code == 0 and out.splitlines()[1].split() == ["registry.local:5000/team/img:1", "ab" * 6, "4.3MB", "no", "-"]


def test_exec(runtime, crisp):
    crisp("run", "--name", "box", "img:1")
    container = next(iter(runtime.containers))
    for name in ("box", container, container[:61]):
        assert crisp("exec", name, "echo", "a  b") == (7, "echo a  b\n\0", "warned\n")
    assert runtime.named("ExecSync")[0].container_id == container and runtime.named("ExecSync")[0].timeout == 0
    crisp("--timeout", "5", "exec", "box", "x")
    assert runtime.named("ExecSync")[-1].timeout == 5
    code, out, err = crisp("exec", "nobody", "x")
    assert code == 125 and not out and 'no container "nobody"' in err
    runtime.fail["ExecSync"] = (grpc.StatusCode.FAILED_PRECONDITION, "it has exited")
    code, _, err = crisp("exec", "box", "x")
    assert code == 125 and "ExecSync: it has exited (FAILED_PRECONDITION)" in err


def test_inspect(runtime, crisp):
    runtime.exit = (3, "Error", "bad\033[31m")
    crisp("run", "--name", "box", "img:1")
    code, out, _ = crisp("inspect", "box")
    facts = dict(row.split(None, 1) for row in out.replace("exit code", "exit-code").splitlines())
    assert code == 0 and facts["name"] == "box" and facts["image"] == "img:1" and facts["exit-code"] == "3 (Error)"
    assert facts["message"] == "bad?[31m" and "10.1.2.3" in out and "fd00::3" in out
    code, _, err = crisp("inspect", "nobody")
    assert code == 1 and "crisp ps -a" in err


def test_info(runtime, crisp):
    code, out, _ = crisp("info")
    facts = dict(row.split(None, 1) for row in out.splitlines())
    assert code == 0
    assert facts["runtime"] == "fake 1.2" and facts["CRI"] == "v1" and facts["images"] == "5.0MB in /var/lib/fake"
    assert facts["RuntimeReady"] == facts["NetworkReady"] == "yes"
    runtime.ready = False
    code, out, _ = crisp("info")
    assert code == 1 and "no: NoNetwork: no conflist" in out


def test_time_out(runtime, crisp):
    runtime.delay["Version"] = 10
    code, _, err = crisp("--timeout", "1", "info")
    assert code == 1 and "DEADLINE_EXCEEDED" in err


def relay(source, target):
    with contextlib.suppress(OSError):  # whoever ends first
        while data := source.recv(65536):
            target.sendall(data)


def test_slow_greeting(runtime, crisp, tmp_path):
    """A runtime on a loaded machine takes its time before its first byte."""
    path = f"{tmp_path}/slow.sock"

    def serve(listener):
        client, _ = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as server:
            time.sleep(1)
            server.connect(runtime.socket_path)
            threading.Thread(target=relay, args=(client, server), daemon=True).start()
            relay(server, client)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        code, out, err = crisp("--endpoint", f"unix://{path}", "info")
        assert code == 0 and "fake 1.2" in out, err


def test_nobody_there(runtime, crisp, tmp_path):
    for endpoint, words in ((f"unix://{tmp_path}/none.sock", "no such socket"), (f"{tmp_path}/none.sock", "no such socket")):
        code, _, err = crisp("--endpoint", endpoint, "ps")
        assert code == 1 and words in err and "none.sock" in err
    runtime.stop()
    code, _, err = crisp("info")
    assert code == 1 and ("nobody listens" in err or "no such socket" in err)
    runtime.start()


@pytest.mark.parametrize("words", [[], ["nope"], ["ps", "x"], ["images", "--what"], ["images", "-o", "xml"], ["images", "-f", "size=1"], ["pull"], ["pull", "--progress", "dots", "x"], ["pull", "-u", "me", "x"], ["rmi"], ["rmi", "-a", "x"], ["prune", "x"], ["prune", "--older-than", "9"], ["info", "x"], ["ps", "-z"], ["exec"], ["exec", "box"], ["exec", "-it", "box", "sh"], ["inspect"], ["inspect", "a", "b"],
                                   ["stop"], ["stop", "-t", "x", "box"], ["rm"], ["rm", "-z"], ["top", "--what"],
                                   ["update"], ["update", "box"], ["stats", "-o", "xml"], ["--timeout", "0", "ps"], ["--timeout", "x", "ps"], ["--endpoint", "tcp://x", "ps"],
                                   ["--endpoint", "unix:///" + "x" * 200, "ps"], ["--what"]])
def test_usage_errors(crisp, words):
    code, out, err = crisp(*words)
    assert code == 2 and err and not out


def test_help_needs_no_runtime(crisp, runtime):
    for words in (["--help"], ["--version"], ["run", "--help"], ["ps", "--help"], ["images", "--help"], ["info", "--help"], ["pull", "--help"], ["rmi", "--help"], ["prune", "--help"],
                  ["exec", "--help"], ["inspect", "--help"]):
        code, out, err = crisp(*words)
        assert code == 0 and out and not err
    assert not runtime.calls
