"""Layers that mean harm: each is refused with a clear error, or contained in its own folder. See store_case.py.

CASES says what is expected of each: (status, part of the message), or a function that looks at what it became.
"""
import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
import unittest
from pathlib import Path

import store_case
from store_case import PullTest, oci

REFUSED, DAMAGED, TOO_MUCH = "FAILED_PRECONDITION", "DATA_LOSS", "RESOURCE_EXHAUSTED"
OUTSIDE = "/OUTSIDE"  # replaced by a folder that is there


class Bytes:
    """A layer that is these bytes."""

    def __init__(self, raw, blob=None):
        self.raw, self.diff_id = raw, oci.digest(raw)
        self.blob = gzip.compress(raw, 1, mtime=0) if blob is None else blob


def header(**fields):
    """A tar header of an empty file, with fields that Python's tarfile would never write."""
    parts = {"name": b"f", "mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0", "size": b"00000000000\0",
             "mtime": b"00000000000\0", "sum": b" " * 8, "type": b"0", "link": b"", "magic": b"ustar\00000",
             "uname": b"", "gname": b"", "major": b"0000000\0", "minor": b"0000000\0", "prefix": b""}
    sizes = dict(name=100, mode=8, uid=8, gid=8, size=12, mtime=12, sum=8, type=1, link=100, magic=8, uname=32, gname=32,
                 major=8, minor=8, prefix=155)
    checksum = fields.pop("checksum", None)
    parts.update(fields)
    raw = b"".join(parts[key].ljust(size, b"\0") for key, size in sizes.items()).ljust(512, b"\0")
    total = sum(raw) if checksum is None else checksum
    return raw[:148] + b"%06o\0 " % total + raw[156:]


def raw(*headers):
    return Bytes(b"".join(headers) + bytes(1024))


def pax(name="f", data=b"x", kind=tarfile.REGTYPE, **records):
    return oci.Layer().add(name, data if kind == tarfile.REGTYPE else b"", kind=kind,
                           pax_headers={key.replace("__", "."): value for key, value in records.items()})


def gnu(name, link=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        if link:
            entry.type, entry.linkname = tarfile.SYMTYPE, link
        tar.addfile(entry)
    return Bytes(out.getvalue())


def symlinks(n):
    layer = oci.Layer()
    for i in range(n):
        layer.symlink(f"s{i}", f"s{i + 1}")
    return layer.dir(f"s{n}")


def replaced_often():
    layer = oci.Layer()
    for i in range(300):
        layer.dir("x").add("x/f", b"%d" % i).symlink("x", OUTSIDE).add("x", b"file")
    return layer.dir("x").add("x/f", b"last")


def padded(pack, size):
    """A small tar with zeros behind it, which `pack` makes of their number."""
    return oci.Layer().add("f", b"x").raw, pack, size


def zeros_gzip(start, n):
    member = gzip.compress(bytes(16 << 20), 9, mtime=0)
    return gzip.compress(start, 9, mtime=0) + member * (n // (16 << 20))


def broken(layer, at, pack=None):
    blob = bytearray(pack(layer.raw) if pack else layer.blob)
    blob[at] ^= 0x55
    return Bytes(layer.raw, bytes(blob))


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c", "--check"], input=data, capture_output=True, check=True).stdout


def zstd_window(data, log):
    """A frame whose header asks for a window of 2**log bytes, and one raw block."""
    block = struct.pack("<I", len(data) << 3 | 1)[:3] + data
    return b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(log - 10) << 3]) + block


def is_file(path, content):
    def look(tree):
        target = tree / path
        return stat.S_ISREG(target.lstat().st_mode) and target.read_bytes() == content
    return look


def has(*names):
    return lambda tree: sorted(os.listdir(tree)) == sorted(names)


def is_node(path, kind, rdev=0):
    return lambda tree: kind((tree / path).lstat().st_mode) and (tree / path).lstat().st_rdev == rdev


L = oci.Layer
DEEP = "/".join(["d"] * 2000)
CASES = {
    # Names
    "dot-dot": (lambda: L().add("../x", b"x"), (REFUSED, '".." is not allowed')),
    "dot-dot inside": (lambda: L().add("a/../../x", b"x"), (REFUSED, '".." is not allowed')),
    "dot-dot after the root": (lambda: L().add("/../x", b"x"), (REFUSED, '".." is not allowed')),
    "dot-dot at the end": (lambda: L().dir("a/.."), (REFUSED, '".." is not allowed')),
    "dot-dot alone": (lambda: L().dir(".."), (REFUSED, '".." is not allowed')),
    "dot-dot in a PAX record": (lambda: pax(path="../x"), (REFUSED, '".." is not allowed')),
    "dot-dot in GNU's long name": (lambda: gnu("../" * 60 + "x"), (REFUSED, '".." is not allowed')),
    "dot-dot by the prefix": (lambda: raw(header(name=b"x", prefix=b"a/../..")), (REFUSED, '".." is not allowed')),
    "absolute": (lambda: L().add(OUTSIDE + "/new", b"x"), lambda tree: len(list(tree.rglob("new"))) == 1),
    "slashes": (lambda: L().add("///a//./b", b"x"), is_file("a/b", b"x")),
    "no name": (lambda: raw(header(name=b"")), (DAMAGED, "no name")),
    "a long component": (lambda: L().add("n" * 256, b"x"), (REFUSED, "too long")),
    "a long path": (lambda: L().add("/".join(["n" * 200] * 25), b"x"), (REFUSED, "too long")),
    "two thousand levels": (lambda: L().add(DEEP, b"x"), (TOO_MUCH, "without an entry of their own")),
    "a whiteout of nothing": (lambda: L().add("d/.wh."), (REFUSED, "a whiteout of no name")),
    "a whiteout of dot": (lambda: L().add(".wh.."), (REFUSED, "a whiteout of no name")),
    "a whiteout of dot-dot": (lambda: L().add(".wh..."), (REFUSED, "a whiteout of no name")),
    # Symbolic links
    "through an absolute link": (lambda: L().symlink("l", OUTSIDE).add("l/new", b"x"), (REFUSED, "l/new")),
    "through a relative link": (lambda: L().symlink("l", "../../../../../../.." + OUTSIDE).add("l/new", b"x"),
                                (REFUSED, "l/new")),
    "through links of links": (lambda: L().symlink("a", "b").symlink("b", OUTSIDE).add("a/new", b"x"), (REFUSED, "a/new")),
    "through /proc": (lambda: L().symlink("l", "/proc/self/root").add("l" + OUTSIDE + "/new", b"x"), (REFUSED, "l/")),
    "through a link of a name that follows": (lambda: L().add("l/f", b"x").symlink("l", OUTSIDE).add("l/new", b"x"),
                                             (REFUSED, "l/new")),
    "links in a ring": (lambda: L().symlink("a", "b").symlink("b", "a").add("a/x", b"x"), (REFUSED, "a/x")),
    "a hundred links": (lambda: symlinks(100).add("s0/x", b"x"), (REFUSED, "s0/x")),
    "a file in a link's place": (lambda: L().symlink("f", OUTSIDE + "/victim").add("f", b"mine"), is_file("f", b"mine")),
    "a folder in a link's place": (lambda: L().symlink("d", OUTSIDE).dir("d").add("d/new", b"x"), is_file("d/new", b"x")),
    "a whiteout through a link": (lambda: L().symlink("l", OUTSIDE).add("l/.wh.victim"), (REFUSED, "l")),
    "an opaque mark through a link": (lambda: L().symlink("l", OUTSIDE).add("l/.wh..wh..opq"), (REFUSED, "l")),
    "a link to nothing": (lambda: L().symlink("l", ""), (DAMAGED, "without a valid target")),
    "a link of 5000 bytes": (lambda: gnu("l", "t" * 5000), (DAMAGED, "without a valid target")),
    "owner and times through a link": (lambda: L().add("l", kind=tarfile.SYMTYPE, link=OUTSIDE + "/victim", uid=7, mode=0),
                                       lambda tree: (tree / "l").lstat().st_uid == 7),
    # Hard links
    "a hard link out by dot-dot": (lambda: L().hardlink("l", "../../../outside/victim"), (REFUSED, '".." is not allowed')),
    "a hard link out by its path": (lambda: L().hardlink("l", OUTSIDE + "/victim"), (REFUSED, "neither in its layer")),
    "a hard link through a link": (lambda: L().symlink("s", OUTSIDE).hardlink("l", "s/victim"), (REFUSED, "s/victim")),
    "a hard link to a link": (lambda: L().symlink("s", OUTSIDE + "/victim").hardlink("l", "s").add("l", b"mine"),
                              is_file("l", b"mine")),
    "a hard link to itself": (lambda: L().add("f", b"x").hardlink("f", "./f"), (REFUSED, "itself")),
    "a hard link to the root": (lambda: L().hardlink("f", "."), (REFUSED, "root")),
    "a hard link to a folder": (lambda: L().dir("d").hardlink("l", "d"), ("INTERNAL", "link")),
    "hard links in a ring": (lambda: L().hardlink("a", "b").hardlink("b", "a"), (REFUSED, "neither in its layer")),
    "a hard link below a file": (lambda: L().add("f", b"x").hardlink("l", "f/x"), (REFUSED, "f/x")),
    # Devices and other types
    "a device's content": (lambda: L().add("n", kind=tarfile.CHRTYPE, devmajor=1, devminor=3).add("n", b"mine"),
                           is_file("n", b"mine")),
    "a disk": (lambda: L().add("sda", kind=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666),
               is_node("sda", stat.S_ISBLK, os.makedev(8, 0))),
    "below a device": (lambda: L().add("n", kind=tarfile.CHRTYPE, devmajor=1, devminor=3).add("n/x", b"x"), (REFUSED, "n/x")),
    "a FIFO to wait for": (lambda: L().add("p", kind=tarfile.FIFOTYPE).add("p", b"x").add("q", kind=tarfile.FIFOTYPE),
                           is_node("q", stat.S_ISFIFO)),
    "overlay's own whiteout": (lambda: L().add("w", kind=tarfile.CHRTYPE, devmajor=0, devminor=0),
                               is_node("w", stat.S_ISCHR)),
    "an unknown type": (lambda: raw(header(type=b"Z")), has("f")),
    "the root as a file": (lambda: L().add(".", b"x"), (REFUSED, "root")),
    "the root as a link": (lambda: L().symlink("./", OUTSIDE), (REFUSED, "root")),
    # Attributes
    "overlay's opaque mark": (lambda: pax(SCHILY__xattr__trusted__overlay__opaque="y"), (REFUSED, "not allowed")),
    "overlay's redirect": (lambda: pax("d", kind=tarfile.DIRTYPE, SCHILY__xattr__trusted__overlay__redirect="/"),
                           (REFUSED, "not allowed")),
    "overlay's mark in a user namespace": (lambda: pax(SCHILY__xattr__user__overlay__opaque="y"), (REFUSED, "not allowed")),
    "a label and a signature": (lambda: pax(SCHILY__xattr__security__selinux="system_u:object_r:shadow_t:s0",
                                            SCHILY__xattr__security__ima="x"),
                                lambda tree: os.listxattr(tree / "f") == []),
    "capabilities that are none": (lambda: pax(SCHILY__xattr__security__capability="root please"),
                                   (REFUSED, "security.capability")),
    "an ACL that is none": (lambda: pax(SCHILY__xattr__system__posix_acl_access="x"), (REFUSED, "posix_acl_access")),
    "an attribute of 100 KB": (lambda: pax(SCHILY__xattr__user__big="x" * 100_000), ("INTERNAL", "extended attribute")),
    "an owner beyond 32 bits": (lambda: L().add("f", uid=1 << 32), (REFUSED, "out of range")),
    "nobody's owner": (lambda: L().add("f", gid=(1 << 32) - 1), (REFUSED, "out of range")),
    # Names that change under way
    "a folder becomes a link": (lambda: L().dir("d").add("d/a", b"x").symlink("d", OUTSIDE).add("d/b", b"x"), (REFUSED, "d/b")),
    "a parent becomes a link": (lambda: L().add("a/b/c", b"x").symlink("a", OUTSIDE).add("a/b/d", b"x"), (REFUSED, "a/b/d")),
    "a parent becomes a file": (lambda: L().add("a/b", b"x").add("a", b"x").add("a/c", b"x"), (REFUSED, "a/c")),
    "often replaced": (replaced_often, is_file("x/f", b"last")),
    "a thousand duplicates": (lambda: Bytes(b"".join([L().add("f", b"x" * i).raw[:-9216][:1024] for i in range(1, 500)]
                                                    ) + bytes(1024)), is_file("f", b"x" * 499)),
    # Bombs
    "zeros, gzipped": (lambda: padded(zeros_gzip, 1200 << 20), (TOO_MUCH, "a bomb")),
    "a file of an exabyte": (lambda: pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__name="f",
                                         GNU__sparse__realsize=str(1 << 60), data=b"0\n".ljust(512, b"\0")),
                             (TOO_MUCH, "File too large")),
    "a PAX header of 20 MB": (lambda: pax(comment="x" * 20_000_000), None),
    "a window of 2 GB": (lambda: Bytes(L().add("f", b"x").raw, zstd_window(L().add("f", b"x").raw, 31)),
                         (DAMAGED, "window of more than 128 MiB")),
    # Damage
    "a wrong checksum in a header": (lambda: raw(header(checksum=1)), (DAMAGED, "tar is damaged")),
    "a wrong checksum in the second header": (lambda: raw(header(), header(checksum=1)), (DAMAGED, "tar is damaged")),
    "a wrong CRC of gzip": (lambda: broken(L().add("f", b"x" * 3000), -8), (DAMAGED, "gzip data is damaged")),
    "a wrong length of gzip": (lambda: broken(L().add("f", b"x" * 3000), -2), (DAMAGED, "gzip data is damaged")),
    "a wrong checksum of zstd": (lambda: broken(L().add("f", b"x" * 3000), -2, zstd), (DAMAGED, "zstd data is damaged")),
    "gzip that ends early": (lambda: Bytes(L().add("f", b"x").raw, L().add("f", b"x").blob[:-9]), (DAMAGED, "ends too early")),
    "garbage behind gzip": (lambda: Bytes(L().add("f", b"x").raw, L().add("f", b"x").blob + b"garbage"), (DAMAGED, "the layer's")),
    "a negative size": (lambda: raw(header(size=b"\xff" * 12)), None),
    "a size of nonsense": (lambda: raw(header(size=b"zzzzzzzzzzz\0")), None),
    "a file that never ends": (lambda: raw(header(size=b"77777777777\0")), (DAMAGED, "")),
}


class Hostile(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")
        self.outside = Path(self.dir) / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_text("untouched")
        self.before = (self.outside / "victim").stat()

    def make(self, recipe):
        layer = recipe()
        if isinstance(layer, tuple):
            start, pack, size = layer
            layer = Bytes(start, pack(start, size))
        here = str(self.outside).encode()
        if OUTSIDE.encode() in layer.raw:  # names are in fields of fixed size: written again
            layer = self.rename(layer.raw, str(self.outside))
        self.assertNotIn(OUTSIDE.encode(), layer.raw.replace(here, b""))
        return layer

    @staticmethod
    def rename(data, outside):
        layer = oci.Layer()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for entry in tar:
                body = tar.extractfile(entry).read() if entry.isreg() else b""
                layer.add(entry.name.replace(OUTSIDE[1:], outside[1:]), body, kind=entry.type, mode=entry.mode,
                          link=entry.linkname.replace(OUTSIDE, outside).replace(OUTSIDE[1:], outside[1:])
                          if entry.islnk() or entry.issym() else "", uid=entry.uid, gid=entry.gid,
                          devmajor=entry.devmajor, devminor=entry.devminor)
        return layer

    def expect_outside(self):
        self.assertEqual(os.listdir(self.outside), ["victim"])
        after = (self.outside / "victim").stat()
        for field in ("st_nlink", "st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns", "st_size"):
            self.assertEqual(getattr(after, field), getattr(self.before, field), field)

    def attack(self, name):
        recipe, expected = CASES[name]
        image = oci.Image([self.make(recipe)])
        self.registry.push("evil", "v", image)
        if isinstance(expected, tuple):
            self.fails(*expected, f"pull {self.host}/evil:v")
        else:
            try:
                self.store(f"pull {self.host}/evil:v")
                if expected:
                    self.assertTrue(expected(self.store.tree(image.id)[-1]), name)
                self.store(f"remove {image.id}")
            except store_case.StoreError as error:  # what isn't specified may be refused as well
                self.assertIsNone(expected, str(error))
                self.assertIn(error.status, (REFUSED, DAMAGED, TOO_MUCH), str(error))
        self.expect_outside()
        self.expect_clean()

    def test_attacks(self):
        self.assertGreaterEqual(len(CASES), 40)
        for name in CASES:
            with self.subTest(name):
                self.attack(name)


if __name__ == "__main__":
    store_case.main()
