"""Whole pulls against Debian's docker-registry and a registry that misbehaves. See store_case.py."""
import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest
import urllib.request
from pathlib import Path

import fake_registry
import store_case
from store_case import PullTest, StoreError, oci, simple_image


class Ordinary(PullTest):
    def test_pull_status_remove(self):
        image = simple_image(3, {"User": "1000:50", "Cmd": ["/bin/sh"]})
        digest = self.registry.push("a/b", "v1", image)
        ref = f"{self.host}/a/b:v1"
        self.store("sweep")
        self.assertEqual(self.store(f"pull {ref}"), image.id)
        status = self.store.status(ref)
        self.assertEqual(status["id"], image.id)
        self.assertEqual(status["tags"], [ref])
        self.assertEqual(status["digests"], [f"{self.host}/a/b@{digest}"])
        self.assertEqual(status["user"], "1000:50")
        for other in (image.id, image.id[7:], image.id[7:19], f"{self.host}/a/b@{digest}"):
            self.assertEqual(self.store.status(other), status)
        trees = self.store.tree(ref)
        for i, tree in enumerate(reversed(trees)):  # top first
            self.assertEqual((tree / f"etc/file{i}").read_text(), f"layer {i}\n" * 1000)
            self.assertEqual(stat.S_IMODE((tree / f"etc/file{i}").stat().st_mode), 0o640)
            self.assertEqual((tree / "etc").stat().st_mtime, oci.MTIME)
        self.assertEqual(self.store("list"), image.id)
        self.reopen()
        self.assertEqual(self.store.status(ref), status)
        self.store(f"remove {ref}")
        self.store(f"remove {ref}")  # absent: fine
        with self.assertRaises(StoreError):
            self.store(f"status {ref}")
        self.expect_clean()

    def test_index_and_digest(self):
        for oci_types in (False, True):
            amd, arm = simple_image(1, {"User": str(oci_types)}, oci=oci_types), simple_image(2, arch="arm64", oci=oci_types)
            digest = self.registry.push("multi", "x", oci.Index([arm, amd]))
            ref = f"{self.host}/multi@{digest}"
            self.assertEqual(self.store(f"pull {ref}"), amd.id)
            status = self.store.status(ref)
            self.assertEqual((status["tags"], status["digests"]), ([], [ref]))
            # A tag beside the digest says nothing.
            self.assertEqual(self.store(f"pull {self.host}/multi:x@{digest}"), amd.id)
            self.assertEqual(self.store.status(ref), status)

    def test_platform_missing(self):
        self.registry.push("multi", "x", oci.Index([simple_image(2, arch="arm64"), simple_image(1, arch="s390x")]))
        self.fails("FAILED_PRECONDITION", "linux/arm64, linux/s390x", f"pull {self.host}/multi:x")
        self.registry.push("one", "x", simple_image(1, arch="arm64"))
        self.fails("FAILED_PRECONDITION", "linux/arm64", f"pull {self.host}/one:x")

    def test_shared_layers_and_moved_tag(self):
        self.store("sweep")
        base = oci.Layer().add("base", b"base" * 5000)
        one = oci.Image([base, oci.Layer().add("one", b"1")])
        two = oci.Image([base, oci.Layer().add("two", b"2")])
        self.registry.push("app", "v", one)
        self.store(f"pull {self.host}/app:v")
        fetched = len(self.registry.requests)
        self.registry.push("app", "v", two)
        self.store(f"pull {self.host}/app:v")
        blobs = [path for path, _, _ in self.registry.requests[fetched:] if "/blobs/" in path]
        self.assertEqual(len(blobs), 2)  # config and one layer
        self.assertEqual(self.store.status(one.id)["tags"], [])
        self.assertEqual(self.store.status(two.id)["tags"], [f"{self.host}/app:v"])
        self.store(f"remove {one.id}")
        self.expect_clean(self.store.status(two.id)["layers"])
        self.assertTrue((self.store.tree(two.id)[1] / "base").exists())

    def test_same_layer_twice(self):
        layer = oci.Layer().add("x", b"x")
        image = oci.Image([layer, oci.Layer().add("y", b"y"), layer])
        self.registry.push("twice", "v", image)
        self.store(f"pull {self.host}/twice:v")
        layers = self.store.status(image.id)["layers"]
        self.assertEqual(layers[0], layers[2])
        self.assertEqual(self.mounted(f"rootfs {image.id} c1"), ["dev", "etc", "proc", "sys", "x", "y"])
        self.store("unroot c1")
        self.store("sweep")
        self.store(f"remove {image.id}")
        self.expect_clean()

    def mounted(self, command):
        """What a container of this root filesystem sees in its root."""
        rootfs = dict(x.split("=") for x in self.store(command).split(" "))
        options = "lowerdir={},upperdir={},workdir={}".format(
            rootfs["lowers"].replace(",", ":"), rootfs["upper"], rootfs["work"])
        script = 'cd "$1" && mount -t overlay o -o "$2" "$3" && ls "$3"'
        os.mkdir(f"{self.dir}/mnt")
        seen = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", rootfs["layers_dir"], options,
                               f"{self.dir}/mnt"], capture_output=True, text=True)
        self.assertEqual(seen.returncode, 0, seen.stderr)
        return seen.stdout.split()

    def test_no_layers_and_rootfs(self):
        image = oci.Image([])
        self.registry.push("scratch", "v", image)
        self.store(f"pull {self.host}/scratch:v")
        rootfs = dict(x.split("=") for x in self.store(f"rootfs {image.id} c1").split(" "))
        self.assertEqual(rootfs["lowers"], "empty,base")
        base = Path(rootfs["layers_dir"], "base")
        self.assertEqual(sorted(str(p.relative_to(base)) for p in base.rglob("*")), [
            "dev", "etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"])
        (base / "etc/resolv.conf").unlink()
        self.store(f"rootfs {image.id} c1")
        self.assertEqual((base / "etc/resolv.conf").read_bytes(), b"")
        self.assertTrue(os.path.isdir(rootfs["upper"]))
        self.assertTrue(os.path.isdir(rootfs["work"]))
        Path(rootfs["upper"], "f").write_bytes(b"x" * 10000)
        self.store = self.reopen(sweep=False)  # usage is measured anew
        self.assertEqual(self.store("usage").split(" ")[1].split("/")[1], "2")
        self.store("unroot c1")
        self.store("unroot c1")
        self.expect_usage_of_hostile_containers(image)
        self.assertFalse(os.path.exists(rootfs["upper"]))
        self.expect_clean()

    def expect_usage_of_hostile_containers(self, image):
        """Directories nested deeper than any path can be long, and a symlink to outside."""
        rootfs = dict(x.split("=") for x in self.store(f"rootfs {image.id} c2").split(" "))
        script = 'cd "$1"; ln -s / s; for i in $(seq 1000); do mkdir dddddddd; cd -P dddddddd; done'
        subprocess.run(["sh", "-c", script, "sh", rootfs["upper"]], check=True)
        store = self.reopen(sweep=False)  # usage is measured anew
        until = time.monotonic() + 30
        while not (inodes := int(store("usage").split(" ")[1].split("/")[1])) and time.monotonic() < until:
            time.sleep(0.1)
        self.assertEqual(inodes, 1002)
        store("sweep c2")
        store("unroot c2")

    def test_holds(self):
        image = simple_image(2)
        self.registry.push("held", "v", image)
        self.store("sweep")
        self.store(f"pull {self.host}/held:v")
        layers = self.store.status(image.id)["layers"]
        self.store(f"hold {image.id} c1")
        self.store(f"rootfs {image.id} c1")
        self.store(f"remove {self.host}/held:v")
        with self.assertRaises(StoreError):
            self.store(f"status {image.id}")
        self.expect_clean(layers)
        self.reopen(sweep=False)
        self.expect_clean(layers)
        self.store(f"hold {image.id} c1")
        self.store("sweep c1")
        self.expect_clean(layers)
        self.assertTrue((self.store.root / "containers" / "c1").exists())
        self.store(f"release {image.id} c1")
        self.expect_clean()
        self.store("sweep")
        self.assertFalse((self.store.root / "containers" / "c1").exists())

    def test_removed_and_pulled_again_while_held(self):
        image = simple_image(2)
        self.registry.push("held", "v", image)
        self.store("sweep")
        self.store(f"pull {self.host}/held:v")
        layers = self.store.status(image.id)["layers"]
        self.store(f"hold {image.id} c1")
        self.store(f"remove {image.id}")
        self.store(f"pull {self.host}/held:v")
        self.store(f"release {image.id} c1")
        self.assertEqual(self.store.status(image.id)["layers"], layers)
        self.reopen()
        self.assertEqual(self.store.status(image.id)["layers"], layers)
        self.expect_clean(layers)

    def test_damaged_layer_is_fetched_again(self):
        image = simple_image(2)
        self.registry.push("app", "v", image)
        ref = f"{self.host}/app:v"
        self.store(f"pull {ref}")
        lost, kept = self.store.status(ref)["layers"]
        self.store.close()
        shutil.rmtree(self.store.root / "layers" / lost)
        self.reopen()
        self.assertTrue(self.store.logged("lacks a layer"))
        with self.assertRaises(StoreError):
            self.store(f"status {ref}")
        self.store(f"pull {ref}")
        self.assertEqual(self.store.status(ref)["layers"][1], kept)
        self.reopen()
        self.store(f"remove {ref}")
        self.expect_clean()

    def test_damaged_image_is_removed(self):
        image = simple_image(2)
        self.registry.push("damaged", "v", image)
        self.store(f"pull {self.host}/damaged:v")
        top, below = self.store.tree(image.id)
        self.store.close()
        shutil.rmtree(top)
        self.reopen()
        with self.assertRaises(StoreError):
            self.store(f"status {image.id}")
        self.assertTrue(below.exists())
        self.store(f"remove {self.host}/damaged:v")
        self.expect_clean()

    def test_damaged_images_are_pruned(self):
        images = [simple_image(2), oci.Image([oci.Layer().add("x", b"y" * 100000)])]
        for i, image in enumerate(images):
            self.registry.push("damaged", str(i), image)
            self.store(f"pull {self.host}/damaged:{i}")
        top, below = self.store.tree(images[0].id)
        kept = self.store.tree(images[1].id)
        self.store.close()
        shutil.rmtree(top)
        self.reopen(sweep=False)
        self.store(f"hold {images[0].id} c1")
        self.store("sweep c1")
        self.assertEqual(self.store("prune"), "0 0")
        self.assertTrue(below.exists())
        self.store(f"release {images[0].id} c1")
        number, freed = map(int, self.store("prune").split())
        self.assertEqual(number, 0)  # it is in no list
        self.assertGreater(freed, 0)
        self.expect_clean([path.name for path in kept])
        self.assertEqual(self.store("prune all").split()[0], "1")
        self.expect_clean()

    def test_groups_of_the_root(self):
        """A set-group-id folder gives its group to all that is made below."""
        self.store.close()
        for name in ("staging", "trash", "layers", "containers"):
            shutil.rmtree(self.store.root / name)
        os.chown(self.store.root, -1, 7)
        os.chmod(self.store.root, 0o2755)
        self.reopen()
        image = oci.Image([oci.Layer().add("f", b"f").dir("d").add("implicit/g", b"g")])
        self.registry.push("groups", "v", image)
        self.store(f"pull {self.host}/groups:v")
        root, = self.store.tree(image.id)
        for path in (root, *root.rglob("*")):
            self.assertEqual((path.stat().st_gid, path.stat().st_mode & 0o6000), (0, 0), path)

    def test_pinned(self):
        image = simple_image(1)
        self.registry.push("pinned.example/a", "b", image)
        self.reopen(self.registry.url, "strict")
        self.store("pull pinned.example/a:b")
        self.assertEqual(self.store.status(image.id)["pinned"], "1")

    def test_mirror_path(self):
        image = simple_image(1)
        self.registry.push("registry.k8s.io/e2e/busybox", "1", image)
        self.reopen(self.registry.url, "strict")
        self.store("pull registry.k8s.io/e2e/busybox:1")
        self.assertIn("/v2/registry.k8s.io/e2e/busybox/manifests/1", self.registry.requests[0][0])
        self.assertEqual(self.store.status(image.id)["tags"], ["registry.k8s.io/e2e/busybox:1"])
        self.fails_after(image, "NOT_FOUND", "registry.k8s.io/e2e/other:1")

    def fails_after(self, image, status, ref):
        with self.assertRaises(StoreError) as caught:
            self.store(f"pull {ref}")
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        self.expect_clean(self.store.status(image.id)["layers"])

    def test_joined_pulls(self):
        image = simple_image(2)
        self.registry.push("join", "v", image)
        self.registry.faults["*"] = "slow"
        self.assertEqual(self.store(f"together 5 {self.host}/join:v"), image.id)
        blobs = [path for path, _, _ in self.registry.requests if "/blobs/" in path]
        self.assertEqual(len(blobs), 3)

    def test_shared_layers_are_fetched_once(self):
        """Different images at once; the layer that both have waits for whoever began."""
        base = oci.Layer().add("base", b"base" * 5000)
        images = [oci.Image([base, oci.Layer().add("f", str(i).encode())]) for i in range(4)]
        for i, image in enumerate(images):
            self.registry.push("shared", f"v{i}", image)
        self.registry.faults[oci.digest(base.blob)] = "slow"
        refs = " ".join(f"{self.host}/shared:v{i}" for i in range(4))
        self.store(f"together 1 {refs}")
        self.assertEqual(sorted(self.store("list").split(" ")), sorted(image.id for image in images))
        fetched = [path for path, _, _ in self.registry.requests if oci.digest(base.blob) in path]
        self.assertEqual(len(fetched), 1)

    def test_waiter_takes_over_from_a_dead_fetcher(self):
        base = oci.Layer().add("base", b"base" * 5000)
        bad, good = (oci.Image([base, oci.Layer().add("f", name)]) for name in (b"bad", b"good"))
        self.registry.push("shared", "bad", bad)
        self.registry.push("shared", "good", good)
        answers = iter(["stall", None])
        self.registry.faults[oci.digest(base.blob)] = lambda start: next(answers)
        self.store("sweep")
        answer = self.store(f"race {self.host}/shared:bad 700 {self.host}/shared:good")
        self.assertEqual(answer, f"DEADLINE_EXCEEDED {good.id}")
        self.expect_clean(self.store.status(good.id)["layers"])


class Registries(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")

    def test_bad_references(self):
        for ref in ("UPPER", "UPPER/cAsE", "a:b:c", "x@sha256:123", "http://x/y"):
            self.fails("INVALID_ARGUMENT", "image reference", f"pull {ref}")

    def test_node_without_certificates(self):
        """libcurl then refuses every https by itself, before it knows whether the other side speaks it."""
        hide = 'mount -t tmpfs none /etc/ssl/certs && exec "$@"'
        self.store.close()
        self.store = self.open(prefix=["unshare", "-m", "sh", "-c", hide, "sh"])
        self.registry.push("lib/plain", "1", simple_image())
        self.assertEqual(len(self.store.tree(self.store(f"pull {self.host}/lib/plain:1"))), 2)

    def test_not_found_and_down(self):
        self.fails("NOT_FOUND", "not found", f"pull {self.host}/nothing:here")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.fails("UNAVAILABLE", "RegistryUnavailable", f"pull 127.0.0.1:{port}/x:y")
        for status, code in ((403, "PERMISSION_DENIED"), (401, "UNAUTHENTICATED"), (429, "UNAVAILABLE"),
                             (500, "UNAVAILABLE")):
            self.registry.status = status
            self.fails(code, "", f"pull {self.host}/x:y")

    def test_digest_mismatch(self):
        image = simple_image(1)
        digest = self.registry.push("app", "v", image)
        other = simple_image(2)
        wrong = oci.digest(other.manifest)
        self.registry.manifests["app", wrong] = image.media_type, image.manifest
        message = self.fails("DATA_LOSS", digest, f"pull {self.host}/app@{wrong}")
        self.assertIn(wrong, message)

    def test_layer_faults(self):
        image = simple_image(2)
        self.registry.push("app", "v", image)
        layer = oci.digest(image.layers[1].blob)
        for fault, code, text in (("corrupt", "DATA_LOSS", layer), ("long", "DATA_LOSS", "larger"),
                                  ("short", "DATA_LOSS", "truncated"), (404, "NOT_FOUND", "layer"),
                                  (500, "UNAVAILABLE", "RegistryUnavailable")):
            self.registry.faults = {layer: fault}
            self.fails(code, text, f"pull {self.host}/app:v")

    def test_resume(self):
        layer = oci.Layer().add("big", os.urandom(3_000_000))
        image = oci.Image([layer])
        self.registry.push("app", "v", image)
        digest = oci.digest(layer.blob)
        cuts = iter(["cut", "cut", None])
        self.registry.faults = {digest: lambda start: next(cuts)}
        self.store(f"pull {self.host}/app:v")
        ranges = [r for path, _, r in self.registry.requests if digest in path and r]
        self.assertEqual(len(ranges), 2)
        want = hashlib.sha256(layer.raw).hexdigest()
        self.assertEqual("sha256:" + want, layer.diff_id)
        self.assertEqual((self.store.tree(image.id)[0] / "big").stat().st_size, 3_000_000)

    def test_basic_auth(self):
        image = simple_image(1)
        self.registry.push("app", "v", image)
        self.registry.basic = ("user", "secret-word")
        self.fails("UNAUTHENTICATED", "credentials", f"pull {self.host}/app:v")
        message = self.fails("UNAUTHENTICATED", "credentials", f"pull {self.host}/app:v user wrong-word")
        self.assertNotIn("wrong-word", message)
        self.assertEqual(self.store(f"pull {self.host}/app:v user secret-word"), image.id)
        self.assertNotIn("secret-word", "".join(self.store.log))

    def test_bearer(self):
        image = simple_image(2)
        self.registry.push("app", "v", image)
        self.registry.tokens = set()
        self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)
        self.assertIn("scope=repository%3Ax%3Apull", next(p for p, _, _ in self.registry.requests if "/token" in p))
        self.store(f"remove {image.id}")
        self.registry.token_user = ("user", "pass")
        self.fails("UNAUTHENTICATED", "token server", f"pull {self.host}/app:v")
        self.assertEqual(self.store(f"pull {self.host}/app:v user pass"), image.id)

    def test_identity_token(self):
        self.registry.push("private", "v", simple_image())
        self.registry.tokens = set()
        self.registry.identity_token = "refresh-me"
        self.fails("UNAUTHENTICATED", "credentials are not accepted", f"pull {self.host}/private:v = wrong")
        self.store(f"pull {self.host}/private:v = refresh-me")
        self.assertIn("grant_type=refresh_token", self.registry.forms[-1])

    def test_redirected_token_request_is_not_followed(self):
        thief = fake_registry.Registry()
        self.addCleanup(thief.close)
        self.registry.push("private", "v", simple_image())
        self.registry.tokens = set()
        self.registry.redirect_tokens_to = thief.url + "/token"
        self.fails("UNAVAILABLE", "HTTP status 307", f"pull {self.host}/private:v = refresh-me")
        self.assertEqual(thief.forms, [])

    def test_redirect_keeps_credentials_home(self):
        image = simple_image(1)
        self.registry.push("app", "v", image)
        self.registry.basic = ("user", "pass")
        other = fake_registry.Registry()
        self.addCleanup(other.close)
        other.blobs = self.registry.blobs
        self.registry.redirect_to = other.url
        self.store(f"pull {self.host}/app:v user pass")
        self.assertEqual(len(other.requests), 2)
        self.assertEqual([a for _, a, _ in other.requests], [None, None])

    def test_credentials_are_not_the_mirrors(self):
        image = simple_image(1)
        self.registry.push("private.example/app", "v", image)
        self.registry.basic = ("user", "pass")
        self.reopen(self.registry.url, "strict")
        self.fails("UNAUTHENTICATED", "credentials", "pull private.example/app:v user pass")
        self.assertEqual([a for _, a, _ in self.registry.requests if a], [])

    def test_deadline_and_cancel(self):
        image = simple_image(2)
        self.registry.push("app", "v", image)
        self.fails("DEADLINE_EXCEEDED", "", f"pull {self.host}/app:v - 1")
        self.registry.faults["*"] = "stall"
        start = time.monotonic()
        self.fails("DEADLINE_EXCEEDED", "", f"pull {self.host}/app:v - 300")
        self.assertLess(time.monotonic() - start, 60)  # of the registry's stall there is no end
        self.registry.faults = {}
        self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)

    def test_killed_daemon(self):
        image = simple_image(2)
        self.registry.push("app", "v", image)
        self.registry.faults["*"] = "stall"
        self.store.process.stdin.write(f"pull {self.host}/app:v\n")
        self.store.process.stdin.flush()
        while not any("/blobs/" in path for path, _, _ in self.registry.requests):
            time.sleep(0.01)
        self.store.kill()
        self.registry.faults = {}
        self.reopen()
        self.expect_clean()
        self.assertEqual(self.store("list"), "")
        self.store(f"pull {self.host}/app:v")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and pull_processes(self.dir):
            time.sleep(0.05)
        self.assertEqual(pull_processes(self.dir), [])


class Crashes(PullTest):
    """kill -9 of the daemon or of crisp-pull at any instant: the image is whole or absent, nothing else is left."""

    ROUNDS = int(os.environ.get("CRISP_CRASH_ROUNDS", "12"))

    def setUp(self):
        super().setUp()
        self.layers = [oci.Layer().add(f"f{i}", random.Random(i).randbytes(300_000)).add(f"g{i}", b"g" * 2_000_000)
                       for i in range(5)]
        self.image = oci.Image(self.layers)
        self.registry.push("app", "v", self.image)
        self.ref = f"{self.host}/app:v"
        self.store("sweep")
        start = time.monotonic()
        self.store(f"pull {self.ref}")
        self.seconds = time.monotonic() - start
        self.store(f"remove {self.ref}")
        seed = os.environ.get("CRISP_CRASH_SEED") or str(time.time_ns())
        print(f"CRISP_CRASH_SEED={seed}", file=sys.stderr)  # shown when it fails
        self.random = random.Random(seed)

    def check_whole_or_absent(self):
        present = self.store("list")
        if not present:
            return self.expect_clean()
        self.assertEqual(present, self.image.id)
        trees = self.store.tree(self.image.id)
        for i, tree in enumerate(reversed(trees)):
            self.assertEqual((tree / f"f{i}").read_bytes(), random.Random(i).randbytes(300_000))
            self.assertEqual((tree / f"g{i}").stat().st_size, 2_000_000)
        self.expect_clean(tree.name for tree in trees)
        return self.store(f"remove {self.ref}")

    def start_pull(self):
        self.store.process.stdin.write(f"pull {self.ref}\n")
        self.store.process.stdin.flush()
        time.sleep(self.random.random() * self.seconds * 1.2)

    def test_daemon(self):
        for _ in range(self.ROUNDS):
            self.start_pull()
            self.store.kill()
            self.reopen()
            self.check_whole_or_absent()
        self.store(f"pull {self.ref}")
        self.check_whole_or_absent()

    def test_crisp_pull(self):
        for _ in range(self.ROUNDS):
            self.start_pull()
            children = Path(f"/proc/{self.store.process.pid}/task")
            for child in " ".join(f.read_text() for f in children.glob("*/children")).split():
                with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                    os.kill(int(child), signal.SIGKILL)
            answer = self.store.process.stdout.readline()
            self.assertTrue(answer.startswith(("ok sha256:", "error INTERNAL")), answer)
            self.check_whole_or_absent()


def pull_processes(directory):
    """crisp-pull processes whose parent is gone (ours are few: those that hold files below directory)."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            root = os.readlink(f"/proc/{pid}/root")
        except OSError:
            continue
        if root.startswith(directory):
            found.append(pid)
    return found


class RealRegistry(PullTest):
    def setUp(self):
        super().setUp()
        config = Path(self.dir) / "registry.yml"
        for _ in range(5):  # somebody else may take the port first
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                self.port = s.getsockname()[1]
            config.write_text("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: "
                              f"{self.dir}/registry}}}}\nhttp: {{addr: '127.0.0.1:{self.port}'}}\n")
            server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
            self.addCleanup(server.wait)
            self.addCleanup(server.kill)
            self.url = f"http://127.0.0.1:{self.port}"
            if self.answers(server):
                return
        self.fail("docker-registry doesn't start")

    def answers(self, server):
        for _ in range(1200):
            try:
                urllib.request.urlopen(self.url + "/v2/").close()
                return server.poll() is None
            except OSError:
                if server.poll() is not None:
                    return False
                time.sleep(0.05)
        return False

    def request(self, method, url, data=None, media_type="application/octet-stream"):
        request = urllib.request.Request(url, data, {"Content-Type": media_type}, method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.headers

    def push(self, repository, tag, image):
        for blob in image.blobs:
            location = self.request("POST", f"{self.url}/v2/{repository}/blobs/uploads/", b"")["Location"]
            glue = "&" if "?" in location else "?"
            self.request("PUT", f"{location}{glue}digest={oci.digest(blob)}", blob)
        self.request("PUT", f"{self.url}/v2/{repository}/manifests/{tag}", image.manifest, image.media_type)

    def test_pull(self):
        image = oci.Image([oci.Layer().add(f"f{i}", os.urandom(200_000)) for i in range(6)])
        self.push("some/app", "v1", image)
        self.store("sweep")
        self.assertEqual(self.store(f"pull 127.0.0.1:{self.port}/some/app:v1"), image.id)
        self.assertEqual(len(self.store.tree(image.id)), 6)
        self.fails_with("NOT_FOUND", f"pull 127.0.0.1:{self.port}/some/app:v2")
        self.fails_with("NOT_FOUND", f"pull 127.0.0.1:{self.port}/other/app:v1")

    def fails_with(self, status, command):
        with self.assertRaises(StoreError) as caught:
            self.store(command)
        self.assertEqual(caught.exception.status, status)


if __name__ == "__main__":
    store_case.main()
