"""Whole pulls: image store and crisp-pull against Debian's docker-registry and a registry that misbehaves.

store_pull_test.py STORE_TOOL CRISP_PULL [unittest arguments]; needs root.
"""
import hashlib
import io
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path

import fake_registry
from fake_registry import oci

TOOL, CRISP_PULL = sys.argv[1:3]


class Store:
    """A store_tool process: store("pull x") returns the answer's words, or raises its error."""

    def __init__(self, root, *mirror):
        self.root = Path(root)
        self.process = subprocess.Popen([TOOL, str(root), CRISP_PULL, *mirror], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

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

    def open(self, *mirror):
        store = Store(Path(self.dir) / "image", *mirror)
        self.addCleanup(self.close_quietly, store)
        return store

    @staticmethod
    def close_quietly(store):
        if store.process.poll() is None:
            store.close()
        store.process.stderr.close()

    def reopen(self, *mirror, sweep=True):
        if self.store.process.poll() is None:
            self.store.close()
        self.store = self.open(*mirror)
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
        """No staging, no trash, and no layers but these."""
        root = self.store.root
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            left = sorted(os.listdir(root / "staging")) + sorted(os.listdir(root / "trash"))
            if not left:
                break
            time.sleep(0.01)
        self.assertEqual(left, [])
        self.assertEqual(sorted(set(os.listdir(root / "layers")) - {"empty"}), sorted(layers))


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
        self.store("sweep")
        self.store(f"remove {image.id}")
        self.expect_clean()

    def test_no_layers_and_rootfs(self):
        image = oci.Image([])
        self.registry.push("scratch", "v", image)
        self.store(f"pull {self.host}/scratch:v")
        rootfs = dict(x.split("=") for x in self.store(f"rootfs {image.id} c1").split(" "))
        self.assertEqual(rootfs["lowers"], "empty")
        self.assertTrue(os.path.isdir(rootfs["upper"]))
        self.assertTrue(os.path.isdir(rootfs["work"]))
        Path(rootfs["upper"], "f").write_bytes(b"x" * 10000)
        self.assertEqual(self.store("usage").split(" ")[1].split("/")[1], "2")
        self.store("unroot c1")
        self.store("unroot c1")
        self.assertFalse(os.path.exists(rootfs["upper"]))
        self.expect_clean()

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
        self.assertTrue(any("lacks a layer" in line for line in self.store.log))
        with self.assertRaises(StoreError):
            self.store(f"status {ref}")
        self.store(f"pull {ref}")
        self.assertEqual(self.store.status(ref)["layers"][1], kept)
        self.reopen()
        self.store(f"remove {ref}")
        self.expect_clean()

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


class Content(PullTest):
    def pull_layers(self, *layers):
        image = oci.Image(list(layers))
        self.registry.push("content", "v", image)
        self.store(f"pull {self.host}/content:v")
        return self.store.tree(image.id)

    def test_everything(self):
        layer = oci.Layer()
        layer.dir("./", mode=0o750)
        layer.dir("d", mode=0o1777, uid=5, gid=6)
        layer.add("d/suid", b"s", mode=0o4755, uid=7, gid=8)
        layer.add("empty")
        layer.hardlink("hard", "d/suid")
        layer.symlink("sym", "/nowhere/at/all")
        layer.add("fifo", kind=tarfile.FIFOTYPE, mode=0o600)
        layer.add("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        layer.add("implicit/parent/file", b"x")
        layer.add("n" * 200 + "/" + "m" * 200, b"long")
        layer.add("nfd-e\u0301", b"decomposed")
        layer.add("nfc-\u00e9", b"composed")
        layer.add("\udcff\udcfe-bytes", b"not UTF-8")
        layer.add("with-xattr", b"x", pax_headers={"SCHILY.xattr.user.comment": "hello",
                                                     "SCHILY.xattr.security.selinux": "dropped"})
        layer.add("nanoseconds", b"x", pax_headers={"mtime": "1700000000.123456789"})
        (tree,) = self.pull_layers(layer)
        path = os.fsencode(tree)
        names = os.listdir(path)
        self.assertEqual(stat.S_IMODE(tree.stat().st_mode), 0o750)
        st = (tree / "d").stat()
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime), (0o1777, 5, 6, oci.MTIME))
        st = (tree / "d/suid").stat()
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_nlink), (0o4755, 7, 8, 2))
        self.assertEqual((tree / "hard").stat().st_ino, st.st_ino)
        self.assertEqual(os.readlink(tree / "sym"), "/nowhere/at/all")
        self.assertEqual((tree / "sym").lstat().st_mtime, oci.MTIME)
        self.assertTrue(stat.S_ISFIFO((tree / "fifo").stat().st_mode))
        st = (tree / "null").stat()
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_rdev), (0o666, os.makedev(1, 3)))
        st = (tree / "implicit/parent").stat()
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid), (0o755, 0))
        self.assertEqual((tree / ("n" * 200) / ("m" * 200)).read_bytes(), b"long")
        for name in ("nfd-e\u0301".encode(), "nfc-\u00e9".encode(), b"\xff\xfe-bytes"):
            self.assertIn(name, names)
        self.assertEqual(os.listxattr(tree / "with-xattr"), ["user.comment"])
        self.assertEqual(os.getxattr(tree / "with-xattr", "user.comment"), b"hello")
        self.assertEqual((tree / "nanoseconds").stat().st_mtime_ns, 1700000000123456789)

    def test_whiteouts(self):
        lower = oci.Layer().dir("dir").add("dir/a", b"a").add("gone", b"g")
        upper = oci.Layer().add(".wh.gone").dir("dir").add("dir/.wh..wh..opq").add("dir/b", b"b")
        upper.add(".wh.both").dir("both").add("both/new", b"n").dir("both2").add(".wh.both2")
        upper.add(".wh..wh.plnk", b"AUFS")
        top, _ = self.pull_layers(lower, upper)
        st = (top / "gone").lstat()
        self.assertTrue(stat.S_ISCHR(st.st_mode) and st.st_rdev == 0)
        self.assertEqual(os.getxattr(top / "dir", "trusted.overlay.opaque"), b"y")
        self.assertEqual(os.getxattr(top / "both", "trusted.overlay.opaque"), b"y")
        self.assertEqual(os.getxattr(top / "both2", "trusted.overlay.opaque"), b"y")
        self.assertEqual(sorted(os.listdir(top)), ["both", "both2", "dir", "gone"])
        self.assertEqual(os.listdir(top / "dir"), ["b"])

    def test_duplicates_and_replacements(self):
        layer = oci.Layer().add("x", b"1").add("x", b"22").dir("d").add("d/f", b"f").add("d", b"now a file")
        layer.add("e", b"file").dir("e").add("e/f", b"f").symlink("s", "e").dir("s").add("s/f", b"own")
        (tree,) = self.pull_layers(layer)
        self.assertEqual((tree / "x").read_bytes(), b"22")
        self.assertEqual((tree / "d").read_bytes(), b"now a file")
        self.assertEqual((tree / "e/f").read_bytes(), b"f")
        self.assertTrue((tree / "s").is_dir() and not (tree / "s").is_symlink())
        self.assertEqual((tree / "s/f").read_bytes(), b"own")

    def test_compressions(self):
        ways = [lambda raw: raw, two_members] + ([zstd] if shutil.which("zstd") else [])  # inflate_test.c has it too
        for i, compress in enumerate(ways):
            layer = oci.Layer().add("f", str(i).encode() * 100000)
            layer._blob = compress(layer.raw)
            (tree,) = self.pull_layers(layer)
            self.assertEqual((tree / "f").stat().st_size, 100000)


def zstd(raw):
    return subprocess.run(["zstd", "-c"], input=raw, capture_output=True, check=True).stdout


def two_members(raw):
    import gzip
    return gzip.compress(raw[:1000]) + gzip.compress(raw[1000:])


class Formats(PullTest):
    """What GNU tar writes in each of its formats comes back as it was."""

    def make_source(self):
        top = Path(self.dir) / "source"
        (top / "dir" / ("d" * 120) / ("e" * 90)).mkdir(parents=True)
        (top / "dir" / ("d" * 120) / ("e" * 90) / ("f" * 70)).write_bytes(b"long name")
        (top / "plain").write_bytes(os.urandom(123457))
        (top / "empty").write_bytes(b"")
        os.chown(top / "plain", 12345, 54321)
        os.chmod(top / "plain", 0o2711)
        os.symlink("t" * 150, top / "long-link")
        os.link(top / "plain", top / "hard")
        os.mkfifo(top / "fifo", 0o620)
        os.mknod(top / "node", 0o600 | stat.S_IFBLK, os.makedev(259, 70000))
        (top / "accents-e\u0301-\u00e9").write_bytes(b"x")
        with open(top / "sparse", "wb") as f:
            for i in range(40):
                f.seek(i * 1_000_000)
                f.write(bytes([i]) * 5000)
            f.truncate(50_000_000)
        with open(top / "hole", "wb") as f:
            f.truncate(3_000_000)
        (top / "ends-with-data").write_bytes(b"\0" * 2_000_000 + b"end")
        os.utime(top / "empty", ns=(10**18, 1234567890123456789))
        return top

    @staticmethod
    def describe(top, nanoseconds):
        found = {}
        for path in sorted(top.rglob("*")):
            st = path.lstat()
            content = None
            if stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest(), st.st_size, st.st_nlink
            time_ns = st.st_mtime_ns if nanoseconds else st.st_mtime_ns // 10**9
            found[str(path.relative_to(top))] = (oct(st.st_mode), st.st_uid, st.st_gid, st.st_rdev, time_ns, content)
        return found

    def check(self, nanoseconds, *options):
        top = self.make_source()
        raw = subprocess.run(["tar", "-C", str(top), *options, "-c", "."], capture_output=True, check=True).stdout
        image = oci.Image([RawLayer(raw)])
        self.registry.push("formats", "v", image)
        self.store(f"pull {self.host}/formats:v")
        (tree,) = self.store.tree(image.id)
        self.assertEqual(self.describe(tree, nanoseconds), self.describe(top, nanoseconds))
        return tree

    def test_gnu(self):
        self.check(False, "--format=gnu")

    def test_gnu_sparse(self):
        tree = self.check(False, "--format=gnu", "--sparse")
        self.assertLess((tree / "sparse").stat().st_blocks * 512, 1_000_000)
        self.assertLess((tree / "hole").stat().st_blocks * 512, 10_000)

    def test_posix(self):
        self.check(True, "--format=posix")

    def test_posix_sparse(self):
        for version in ("0.0", "0.1", "1.0"):
            tree = self.check(True, "--format=posix", "--sparse", f"--sparse-version={version}")
            self.assertLess((tree / "sparse").stat().st_blocks * 512, 1_000_000)
            shutil.rmtree(Path(self.dir) / "source")
            self.store("sweep")
            self.store(f"remove {self.host}/formats:v")

    def test_old_numbers(self):
        """Before 1970, after 2242, and beyond two million: base-256 in GNU's format, records in PAX's."""
        for form in ("gnu", "posix"):
            top = Path(self.dir) / form
            top.mkdir()
            for name, seconds in (("before", -1000), ("after", 9_000_000_000)):
                (top / name).write_bytes(b"x")
                os.chown(top / name, 3_000_000, 4_000_000_000)
                os.utime(top / name, (seconds, seconds))
            want = self.describe(top, False)
            raw = subprocess.run(["tar", "-C", str(top), f"--format={form}", "-c", "."], capture_output=True,
                                 check=True).stdout
            image = oci.Image([RawLayer(raw)])
            self.registry.push("formats", form, image)
            self.store(f"pull {self.host}/formats:{form}")
            self.assertEqual(self.describe(self.store.tree(image.id)[0], False), want)

    def test_python_formats(self):
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            raw = io.BytesIO()
            with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
                for name in ("n" * 99, "p" * 90 + "/" + "q" * 90, "s"):
                    entry = tarfile.TarInfo(name)
                    entry.size = 700
                    tar.addfile(entry, io.BytesIO(name[:1].encode() * 700))
            image = oci.Image([RawLayer(raw.getvalue())])
            self.registry.push("formats", str(form), image)
            self.store(f"pull {self.host}/formats:{form}")
            (tree,) = self.store.tree(image.id)
            self.assertEqual((tree / ("p" * 90) / ("q" * 90)).read_bytes(), b"p" * 700)

    def test_damaged_sparse_maps(self):
        self.store("sweep")
        for records in ({"GNU.sparse.map": "0,5,3,5", "GNU.sparse.size": "100"},
                        {"GNU.sparse.map": "0,10", "GNU.sparse.size": "5"},
                        {"GNU.sparse.map": "0,9", "GNU.sparse.size": "100"},
                        {"GNU.sparse.map": "x", "GNU.sparse.size": "100"},
                        {"GNU.sparse.map": "18446744073709551615,10", "GNU.sparse.size": "100"},
                        {"GNU.sparse.numbytes": "10", "GNU.sparse.size": "100"},
                        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100"}):
            layer = oci.Layer().add("f", b"0123456789", pax_headers=records)
            image = oci.Image([layer])
            self.registry.push("formats", "bad", image)
            try:  # libarchive forgives some of them
                self.store(f"pull {self.host}/formats:bad")
                self.assertLess((self.store.tree(image.id)[0] / "f").stat().st_size, 1000)
                self.store(f"remove {image.id}")
            except StoreError as error:
                self.assertIn(error.status, ("DATA_LOSS", "INTERNAL", "RESOURCE_EXHAUSTED"))
            self.expect_clean()


class RawLayer:
    """A layer that is these bytes."""

    def __init__(self, raw):
        self.raw = self.blob = raw
        self.diff_id = oci.digest(raw)


class Hostile(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")
        self.outside = Path(self.dir) / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_text("untouched")

    def refused(self, text, layer, status="FAILED_PRECONDITION"):
        self.registry.push("evil", "v", oci.Image([layer]))
        self.fails(status, text, f"pull {self.host}/evil:v")
        self.expect_outside()

    def contained(self, layer):
        image = oci.Image([layer])
        self.registry.push("evil", "v", image)
        self.store(f"pull {self.host}/evil:v")
        self.expect_outside()
        return self.store.tree(image.id)[0]

    def expect_outside(self):
        self.assertEqual(os.listdir(self.outside), ["victim"])
        self.assertEqual((self.outside / "victim").read_text(), "untouched")
        self.assertEqual((self.outside / "victim").stat().st_nlink, 1)

    def test_dotdot(self):
        for name in ("../x", "a/../../x", "a/..", "..", "../../outside/victim", "/../x"):
            self.refused("..", oci.Layer().add(name, b"x"))

    def test_dotdot_links(self):
        self.refused("..", oci.Layer().hardlink("x", "../../../outside/victim"))
        self.refused("..", oci.Layer().add(".wh...", b""))
        self.refused("no name", oci.Layer().add("d/.wh.", b""))
        self.refused("no name", oci.Layer().add(".wh..", b""))

    def test_absolute(self):
        tree = self.contained(oci.Layer().add(f"{self.outside}/new", b"x").hardlink("/l", f"{self.outside}/new"))
        self.assertEqual((tree / str(self.outside)[1:] / "new").read_bytes(), b"x")

    def test_absolute_link(self):
        self.refused("not in this layer", oci.Layer().hardlink("l", f"{self.outside}/victim"))

    def test_symlink_parent(self):
        for target in (str(self.outside), "../../../../../../.." + str(self.outside)):
            layer = oci.Layer().dir("a").symlink("a/link", target).add("a/link/new", b"x")
            self.refused("a/link/new", layer)
            self.refused("a/link", oci.Layer().dir("a").symlink("a/link", target).hardlink("x", "a/link/victim"))
            self.refused("a/link", oci.Layer().dir("a").symlink("a/link", target).add("a/link/.wh.victim"))
        # Within the layer it is what a container would see.
        tree = self.contained(oci.Layer().dir("real").symlink("abs", "/real").symlink("rel", "../../real")
                              .add("abs/one", b"1").add("rel/two", b"2"))
        self.assertEqual(sorted(os.listdir(tree / "real")), ["one", "two"])

    def test_symlink_replaced_by_file(self):
        tree = self.contained(oci.Layer().symlink("f", str(self.outside / "victim")).add("f", b"mine"))
        self.assertEqual((tree / "f").read_bytes(), b"mine")
        tree = self.contained(oci.Layer().symlink("f", str(self.outside / "victim")).hardlink("g", "f")
                              .add("g", b"mine2"))
        self.assertEqual((tree / "g").read_bytes(), b"mine2")

    def test_link_to_itself(self):
        self.refused("itself", oci.Layer().add("f", b"x").hardlink("f", "./f"))

    def test_xattrs(self):
        for name in ("trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "trusted.x"):
            layer = oci.Layer().add("f", b"x", pax_headers={f"SCHILY.xattr.{name}": "y"})
            self.refused("not allowed", layer)

    def test_root_replaced(self):
        self.refused("root", oci.Layer().add(".", b""))
        self.refused("root", oci.Layer().symlink(".", str(self.outside)))

    def test_owner_out_of_range(self):
        self.refused("owner", oci.Layer().add("f", b"x", uid=1 << 32))

    def test_not_a_tar(self):
        layer = oci.Layer()
        layer._blob = layer_bytes = b"this is not a tar at all" * 1000
        image = oci.Image([layer])
        self.registry.push("evil", "v", image)
        self.registry.blobs[oci.digest(layer_bytes)] = layer_bytes
        self.fails("DATA_LOSS", "tar", f"pull {self.host}/evil:v")

    def test_truncated_tar(self):
        layer = oci.Layer().add("big", os.urandom(100000))
        layer._blob = layer.raw[:50000]
        self.registry.push("evil", "v", oci.Image([layer]))
        self.fails("DATA_LOSS", "", f"pull {self.host}/evil:v")

    def test_truncated_gzip(self):
        layer = oci.Layer().add("big", os.urandom(100000))
        layer._blob = layer.blob[:50000]
        self.registry.push("evil", "v", oci.Image([layer]))
        self.fails("DATA_LOSS", "ends too early", f"pull {self.host}/evil:v")

    def test_wrong_diff_id(self):
        layer, other = oci.Layer().add("f", b"1"), oci.Layer().add("f", b"2")
        image = oci.Image([layer])
        image.config = image.config.replace(layer.diff_id.encode(), other.diff_id.encode())
        image.manifest = oci.Image([layer]).manifest.replace(oci.Image([layer]).id.encode(), image.id.encode())
        self.registry.push("evil", "v", image)
        message = self.fails("DATA_LOSS", layer.diff_id, f"pull {self.host}/evil:v")
        self.assertIn(other.diff_id, message)

    def test_manifests(self):
        image = simple_image(1)
        good = image.manifest
        for bad, status in ((b"{", "DATA_LOSS"), (b"[]", "DATA_LOSS"), (b"{}", "DATA_LOSS"),
                            (b'{"schemaVersion":1}', "FAILED_PRECONDITION"),
                            (b"[" * 100000, "DATA_LOSS"),
                            (good.replace(b'"layers"', b'"manifests"'), "DATA_LOSS"),
                            (good.replace(b"sha256:", b"sha512:"), "DATA_LOSS"),
                            (good.replace(b"sha256:", b"../../..:"), "DATA_LOSS"),
                            (good[:-1] + b',"manifests":[]}', "DATA_LOSS"),
                            (good.replace(b'"size":', b'"size":-'), "DATA_LOSS"),
                            (b" " * (5 << 20), "DATA_LOSS")):
            image.manifest = bad
            self.registry.push("evil", "v", image)
            self.fails(status, "", f"pull {self.host}/evil:v")


class Registries(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")

    def test_bad_references(self):
        for ref in ("UPPER", "UPPER/cAsE", "a:b:c", "x@sha256:123", "http://x/y"):
            self.fails("INVALID_ARGUMENT", "image reference", f"pull {ref}")

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
        self.assertLess(time.monotonic() - start, 5)
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
        deadline = time.monotonic() + 5
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
        self.random = random.Random(os.environ.get("CRISP_CRASH_SEED"))

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


@unittest.skipUnless(shutil.which("docker-registry"), "docker-registry is not installed")
class RealRegistry(PullTest):
    def setUp(self):
        super().setUp()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        config = Path(self.dir) / "registry.yml"
        config.write_text("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: "
                          f"{self.dir}/registry}}}}\nhttp: {{addr: '127.0.0.1:{self.port}'}}\n")
        self.server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.kill)
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(200):
            try:
                urllib.request.urlopen(self.url + "/v2/").close()
                break
            except OSError:
                time.sleep(0.05)

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
    if os.geteuid() != 0:
        sys.exit("needs root")
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
