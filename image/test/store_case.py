"""What the tests of whole pulls share: an image store in a process of its own, and a registry in memory.

SCRIPT STORE_TOOL CRISP_PULL [unittest arguments]; needs root.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import fake_registry
from fake_registry import oci

TOOL, CRISP_PULL = sys.argv[1:3]


class Store:
    """A store_tool process: store("pull x") returns the answer's words, or raises its error."""

    def __init__(self, root, *mirror, prefix=(), **environment):
        self.root = Path(root)
        environment = {**os.environ, **{key: str(value) for key, value in environment.items()}}
        self.process = subprocess.Popen([*prefix, TOOL, str(root), CRISP_PULL, *mirror], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        threading.Thread(target=self._read_log, daemon=True).start()

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)

    def __call__(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        if not answer.startswith("ok"):
            raise StoreError(answer)
        return answer[3:]

    def status(self, ref):
        fields = dict(word.split("=", 1) for word in self(f"status {ref}").split(" "))
        for key in ("tags", "digests", "layers"):
            fields[key] = [x for x in fields[key].split(",") if x]
        return fields

    def tree(self, ref):
        return [self.root / "layers" / name for name in self.status(ref)["layers"]]

    def logged(self, text, seconds=60):
        """Whether the log has it, or gets it soon: it comes through another pipe than the answers."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in list(self.log)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self):
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        assert status == 0, f"store_tool ended with {status}: {''.join(self.log)}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class StoreError(Exception):
    def __init__(self, answer):
        super().__init__(answer)
        self.status = answer.split(" ")[1] if " " in answer else "NO_ANSWER"


def simple_image(n_layers=2, config=None, **more):
    layers = []
    for i in range(n_layers):
        layers.append(oci.Layer().dir("etc").add(f"etc/file{i}", f"layer {i}\n".encode() * 1000, mode=0o640))
    return oci.Image(layers, config, **more)


class PullTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="crisp-image-test-")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir)
        self.registry = fake_registry.Registry()
        self.addCleanup(self.registry.close)
        self.host = f"127.0.0.1:{self.registry.port}"
        self.store = self.open()

    def open(self, *mirror, **environment):
        store = Store(Path(self.dir) / "image", *mirror, **environment)
        self.addCleanup(self.close_quietly, store)
        return store

    @staticmethod
    def close_quietly(store):
        if store.process.poll() is None:
            store.close()
        store.process.stderr.close()

    def reopen(self, *mirror, sweep=True, **environment):
        if self.store.process.poll() is None:
            self.store.close()
        self.store = self.open(*mirror, **environment)
        if sweep:
            self.store("sweep")
        return self.store

    def fails(self, status, text, command):
        with self.assertRaises(StoreError) as caught:
            self.store(command)
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        self.assertIn(text, str(caught.exception))
        self.expect_clean()
        return str(caught.exception)

    def expect_clean(self, layers=()):
        """No staging, no trash, and no layers but these, at least soon: deleting is the background's."""
        root, want = self.store.root, [[], [], sorted(set(layers))]
        deadline = time.monotonic() + 60
        while (left := [sorted(os.listdir(root / "staging")), sorted(os.listdir(root / "trash")),
                        sorted(set(os.listdir(root / "layers")) - {"base", "empty"})]) != want:
            self.assertLess(time.monotonic(), deadline, f"staging, trash and layers have {left}, not {want}")
            time.sleep(0.01)


def main():
    if os.geteuid() != 0:
        sys.exit("needs root")
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)  # tells what is skipped
