"""kill -9 of crispd and of crisp-pull at any instant of a pull: the image is whole or absent, and nothing is left."""
import contextlib
import os
import random
import sqlite3
import subprocess
import time

import grpc
import pytest

import storecheck
from cri import BUSYBOX, Cri, code_of
from daemon import program, wait_for
from registry import Registry
from stubs import pb

NAME = "registry.test/ten:1"
ROUNDS = int(os.environ.get("CRISP_KILLS", "8"))  # of each kind; tests/power/run makes it 100
BLOCK = 12
LAYERS = 11  # with the one that mends the others


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


@pytest.fixture
def pod_of():
    """A started daemon with an image and a pod."""
    def make(crispd):
        crispd.start()
        cri = Cri(crispd)
        cri.pull(BUSYBOX)
        return crispd, cri, cri.run_pod()
    return make


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
        assert len(self.trees) == LAYERS
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
            assert len(found) == LAYERS and self.cri.image(NAME).id == self.ten
        storecheck.wait_clean(self.crispd.root)
        assert self.cri.pull(NAME) == self.ten
        assert len(storecheck.check_layers(self.crispd.root, self.trees)) == LAYERS
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


def test_container_of_an_image_that_a_power_cut_took(make_crispd, pod_of):
    """Its layers were not on disk yet. The daemon starts, tells of the container, and pulls the image again."""
    crispd, cri, pod = pod_of(make_crispd())
    image = cri.image(BUSYBOX).id
    container = cri.create(pod, ["sleep", "60"])
    crispd.kill()
    with contextlib.closing(sqlite3.connect(f"{crispd.root}/crisp.db")) as db:
        db.execute("UPDATE layer SET boot = 'another'")
        db.commit()
    crispd.start()
    assert cri.image(BUSYBOX) is None and cri.image(image) is None and not cri.ListImages().images
    assert cri.status(container).image_id == image
    code, message = code_of(cri.CreateContainer, pod_sandbox_id=pod, config=cri.container_config(["sleep", "60"]),
                            sandbox_config=cri.configs[pod])
    assert code == grpc.StatusCode.NOT_FOUND and "pull it" in message
    assert cri.pull(BUSYBOX) == image
    assert "root" in cri.sh(cri.run(pod, ["sleep", "60"]), "cat /etc/passwd")
    cri.RemoveContainer(container_id=container)
    cri.clean()
    cri.RemoveImage(image=pb.ImageSpec(image=image))
    storecheck.wait_clean(crispd.root)


def test_verify_images(make_crispd):
    """crispd --verify-images: 0 when all is whole, 1 and the layer in the log when one isn't."""
    crispd = make_crispd().start()
    cri = Cri(crispd)
    image = cri.pull(BUSYBOX)

    def verify(status):
        done = subprocess.run([program("crispd"), "--config", crispd.config, "--verify-images"], capture_output=True,
                              text=True)
        assert done.returncode == status, done
        return done.stdout + done.stderr

    assert "in use by another crispd" in verify(2)
    crispd.terminate()
    assert "0 damaged" in verify(0) and ", 0 without a checksum" in verify(0)
    path = next(f"{folder}/busybox" for path, _ in storecheck.layers(crispd.root).values()
                for folder, _, names in os.walk(path) if "busybox" in names)
    before = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(1000)
        f.write(b"damage")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    said = verify(1)
    assert "its content is not what was unpacked" in said and "1 images: 1 to be pulled again" in said
    crispd.start()
    assert cri.image(image) is None
    assert cri.pull(BUSYBOX) == image
    crispd.terminate()
    assert "0 damaged" in verify(0)
    crispd.start()


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
