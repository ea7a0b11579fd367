"""The real crictl, command by command, and crisp's own client."""
import json
import os
import subprocess

import pytest

from cri import BUSYBOX
from daemon import TOP, limit, program, wait_for

CRICTL = f"{TOP}/build/go/bin/crictl"


@pytest.fixture
def crictl(crispd, tmp_path):
    if not os.path.exists(CRICTL):
        pytest.skip("crictl is not built (no Go)")
    config = tmp_path / "crictl.yaml"
    config.write_text(f"runtime-endpoint: {crispd.endpoint}\nimage-endpoint: {crispd.endpoint}\ntimeout: 30\n")

    def run(*args, ok=True):
        done = subprocess.run([CRICTL, "--config", str(config), *args], check=False, capture_output=True, text=True,
                              timeout=limit(90))
        assert not ok or done.returncode == 0, f"crictl {args}: {done.stdout}{done.stderr}"
        return done.stdout.strip() if ok else done

    return run


@pytest.mark.core
def test_every_command(crictl, crispd, tmp_path):
    assert "crisp" in crictl("version")
    assert json.loads(crictl("info"))["status"]["conditions"]
    crictl("pull", BUSYBOX)
    assert "e2e-test-images/busybox" in crictl("images")
    assert json.loads(crictl("inspecti", BUSYBOX))["status"]["repoTags"] == [BUSYBOX]
    pod_json, container_json = tmp_path / "pod.json", tmp_path / "container.json"
    pod_json.write_text(json.dumps({
        "metadata": {"name": "first", "namespace": "default", "uid": "u1"},
        "log_directory": str(tmp_path / "logs"), "linux": {}}))
    container_json.write_text(json.dumps({
        "metadata": {"name": "hello"}, "image": {"image": BUSYBOX}, "log_path": "hello.log", "linux": {},
        "command": ["sh", "-c", "echo hello from crisp; trap 'exit 3' TERM; while :; do sleep 0.1; done"]}))
    pod = crictl("runp", str(pod_json))
    container = crictl("create", pod, str(container_json), str(pod_json))
    crictl("start", container)
    assert container[:13] in crictl("ps") and pod[:13] in crictl("pods")
    assert json.loads(crictl("inspect", container))["status"]["state"] == "CONTAINER_RUNNING"
    assert json.loads(crictl("inspectp", pod))["status"]["state"] == "SANDBOX_READY"
    wait_for(lambda: crictl("logs", container) == "hello from crisp", 5, "the log")
    assert crictl("exec", "-s", container[:10], "echo", "inside") == "inside"
    stats = json.loads(crictl("stats", "-o", "json"))["stats"][0]
    assert stats["attributes"]["id"] == container and int(stats["memory"]["workingSetBytes"]["value"]) > 0
    assert container[:13] in crictl("stats", "--id", container)
    stats = json.loads(crictl("statsp", "-o", "json"))["stats"][0]
    assert stats["attributes"]["id"] == pod and stats["linux"]["network"]["defaultInterface"]["name"] == "eth0"
    crictl("imagefsinfo")
    crispd.restart()
    crictl("stop", "-t", "5", container)
    assert json.loads(crictl("inspect", container))["status"]["exitCode"] == 3
    crictl("rm", container)
    crictl("stopp", pod)
    crictl("rmp", pod)
    assert crictl("ps", "-aq") == "" and crictl("pods", "-q") == ""
    crictl("rmi", BUSYBOX)
    assert "busybox" not in crictl("images", "-q", BUSYBOX)


def test_crictl_errors_are_clear(crictl):
    run = crictl("inspect", "0" * 64, ok=False)
    assert run.returncode != 0 and "0" * 12 in run.stdout + run.stderr
    run = crictl("pull", "docker.io/library/absent", ok=False)
    assert run.returncode != 0 and "absent" in run.stdout + run.stderr


@pytest.fixture
def crisp(crispd):
    try:
        path = program("crisp")
    except FileNotFoundError:
        pytest.skip("crisp is not built")

    def run(*args):
        return subprocess.run([path, "--endpoint", crispd.endpoint, *args], check=False, capture_output=True, text=True,
                              timeout=limit(90))

    return run


def test_crisp_run(crisp):
    run = crisp("run", "--rm", "-e", "WHO=world", BUSYBOX, "sh", "-c", "echo hello $WHO; echo oops >&2; exit 9")
    assert run.returncode == 9 and run.stdout == "hello world\n" and "oops" in run.stderr
    run = crisp("run", "--rm", "docker.io/library/myrand")
    assert run.stdout == "VAL is 1\n" and run.returncode == 0


def test_crisp_ps_images_info(crisp, busy):
    assert busy[:12] in crisp("ps").stdout
    assert "busybox" in crisp("images").stdout
    assert "crisp" in crisp("info").stdout


def test_crisp_errors(crisp):
    run = crisp("run", "--rm", "docker.io/library/absent")
    assert run.returncode != 0 and "absent" in run.stderr
    assert crisp("nosuchcommand").returncode != 0
