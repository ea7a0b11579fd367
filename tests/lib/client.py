"""The crisp command for tests, and the fixtures of those that run it against a runtime that runs nothing."""
import os
import subprocess

import pytest

from daemon import limit, program
from fakecri import FakeRuntime


class Client:
    """crisp("ps", "-a") runs the command: (exit code, stdout, stderr)."""

    def __init__(self, endpoint, tmp):
        self.logs = f"{tmp}/logs"
        os.makedirs(self.logs, exist_ok=True)
        self.env = {**os.environ, "CRISP_ENDPOINT": endpoint, "CRISP_LOG_DIR": self.logs}

    def start(self, *words, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([program("crisp"), *words], env=self.env, **options)

    def __call__(self, *words, **options):
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=limit(60))
        return process.returncode, out.decode(), err.decode()

    def ok(self, *words):
        """stdout of a command that must succeed, without the last newline."""
        code, out, err = self(*words)
        assert code == 0, f"crisp {words}: {code}: {out}{err}"
        return out.removesuffix("\n")


@pytest.fixture
def runtime(tmp_path):
    fake = FakeRuntime(f"{tmp_path}/fake.sock").start()
    yield fake
    fake.stop()


@pytest.fixture
def crisp(runtime, tmp_path):
    return Client(f"unix://{runtime.socket_path}", tmp_path)
