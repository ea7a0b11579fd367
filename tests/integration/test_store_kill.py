"""kill -9 of crispd and of crisp-pull at any instant of a pull: the image is whole or absent, and nothing is left."""
import contextlib
import os
import random
import time

import grpc
import pytest

import storecheck
from cri import Cri
from daemon import wait_for
from registry import Registry
from stubs import pb

NAME = "registry.test/ten:1"
ROUNDS = int(os.environ.get("CRISP_KILLS", "8"))  # of each kind; tests/power/run makes it 100
BLOCK = 12


@pytest.fixture(scope="module")
def kill_registry(tmp_path_factory):
    """One that has an image of ten layers; its id is .ten."""
    base = tmp_path_factory.mktemp("kill")
    server = Registry(str(base / "storage"), str(base / "work"))
    image = storecheck.ten_layers("kill")
    server.push(NAME, image)
    server.ten = image.id
    yield server
    server.stop()


class Victim:
    def __init__(self, crispd, registry):
        self.crispd, self.ten = crispd, registry.ten
        self.crispd.start()
        self.cri = Cri(crispd)
        started = time.monotonic()
        assert self.cri.pull(NAME) == self.ten
        self.seconds = time.monotonic() - started
        self.trees = {diff_id: storecheck.tree(path)
                      for diff_id, (path, _) in storecheck.layers(crispd.root).items()}
        assert len(self.trees) == 10
        self.remove()

    def remove(self):
        self.cri.RemoveImage(image=pb.ImageSpec(image=NAME))
        assert self.cri.image(NAME) is None
        wait_for(lambda: not storecheck.layers(self.crispd.root), 30, "the layers' records are gone")
        storecheck.wait_clean(self.crispd.root)

    def check(self):
        """Whole or absent; then a new pull makes it whole."""
        found = storecheck.check_layers(self.crispd.root, self.trees)
        if self.cri.image(NAME):
            assert len(found) == 10 and self.cri.image(NAME).id == self.ten
        storecheck.wait_clean(self.crispd.root)
        assert self.cri.pull(NAME) == self.ten
        assert len(storecheck.check_layers(self.crispd.root, self.trees)) == 10
        self.remove()


def pullers(crispd):
    """crisp-pull and what it forked: they are children of crispd, or in the session of one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as f:
            name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
            if name == "crisp-pull" and int(rest.split()[1]) == crispd.process.pid:
                found.append(int(pid))
    return found


@pytest.mark.parametrize("block", range((ROUNDS + BLOCK - 1) // BLOCK))
@pytest.mark.parametrize("victim", ["crispd", "crisp-pull"])
def test_kill(make_crispd, kill_registry, victim, block):
    seed = os.environ.get("CRISP_SEED") or f"{victim} {block} {time.time_ns()}"
    print(f"CRISP_SEED='{seed}'")  # shown when it fails
    chance = random.Random(seed)
    v = Victim(make_crispd(registry_url=kill_registry.url), kill_registry)
    for _ in range(min(BLOCK, ROUNDS - block * BLOCK)):
        pull = v.cri.future("PullImage", image=pb.ImageSpec(image=NAME))
        time.sleep(chance.random() * v.seconds * 1.2)
        if victim == "crispd":
            v.crispd.kill()
            v.crispd.start()
        else:
            for pid in pullers(v.crispd):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            with contextlib.suppress(grpc.RpcError):
                pull.result()
        v.check()
