"""What layers become on disk: contents, whiteouts, formats, and attempts to get out. See store_case.py."""
import gzip
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import unittest
from pathlib import Path

import store_case
from store_case import PullTest, StoreError, oci, simple_image


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
                                                     "SCHILY.xattr.security.selinux": "dropped",
                                                     "SCHILY.xattr.user.empty": ""})
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
        self.assertEqual(sorted(os.listxattr(tree / "with-xattr")), ["user.comment", "user.empty"])
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
        self.refused("neither in its layer nor in one below", oci.Layer().hardlink("l", f"{self.outside}/victim"))

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

    @unittest.skipIf(b"__asan_init" in Path(store_case.CRISP_PULL).read_bytes(), "AddressSanitizer needs terabytes")
    def test_memory_bomb(self):
        """A sparse map of 30 million entries, which a parser keeps in memory; compressed it is little."""
        layer = oci.Layer().add("f", b"30000000\n" + b"0\n0\n" * 30000000, pax_headers={
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100"})
        bomb = RawLayer(layer.raw)
        bomb.blob = gzip.compress(layer.raw, 1)
        self.registry.push("evil", "v", oci.Image([bomb]))
        self.fails("INTERNAL", "needs more memory than it may have", f"pull {self.host}/evil:v")

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


if __name__ == "__main__":
    store_case.main()
