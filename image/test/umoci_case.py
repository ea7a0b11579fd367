"""What the tests share that compare an image's merged tree with what `umoci unpack` makes of it: types, modes, owners,
times, extended attributes, links and contents. See store_case.py; needs umoci."""
import gzip
import json
import os
import shutil
import stat
import subprocess
import tarfile
import time
from pathlib import Path

from store_case import PullTest, oci

NOW = time.time_ns()


def text(value):
    """Bytes as a PAX record's value."""
    return value.decode("utf-8", "surrogateescape")


class Layer(oci.Layer):
    def xattr(self, name, data=b"", kind=tarfile.REGTYPE, mode=0o644, **values):
        headers = {f"SCHILY.xattr.{key.replace('__', '.')}": text(value) for key, value in values.items()}
        return self.add(name, data, kind=kind, mode=mode, pax_headers=headers)


class Tar:
    """A layer that is these bytes, packed somehow."""

    def __init__(self, raw, pack=lambda raw: gzip.compress(raw, 6, mtime=0)):
        self.raw, self.blob, self.diff_id = raw, pack(raw), oci.digest(raw)


def base():
    return (Layer().dir("./", mode=0o755).dir("etc").add("etc/passwd", b"root\n").add("etc/group", b"g\n")
            .dir("usr", mode=0o755, uid=3, gid=4).dir("usr/lib", mode=0o750).add("usr/lib/a", b"a" * 5000)
            .add("usr/lib/b", b"b", uid=9, gid=10, mode=0o600).hardlink("usr/lib/b2", "usr/lib/b", 0o600)
            .symlink("lib", "usr/lib").dir("var").dir("var/cache", mode=0o1777).add("var/cache/x", b"x"))


def describe(top):
    found, inodes = {}, {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in [b"."] * (directory == os.fsencode(top)) + names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            relative = os.path.relpath(path, os.fsencode(top))
            content = None
            if stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    content = oci.digest(f.read()), st.st_size
            xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in os.listxattr(path, follow_symlinks=False)
                      if not n.startswith("trusted.")}
            # A time of this hour is nobody's: the folder had no entry.
            mtime = st.st_mtime_ns if abs(st.st_mtime_ns - NOW) > 3600 * 10**9 else "now"
            rdev = st.st_rdev if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode) else 0
            found[relative] = [oct(st.st_mode), st.st_uid, st.st_gid, rdev, mtime, content, xattrs]
            if not stat.S_ISDIR(st.st_mode):
                inodes.setdefault(st.st_ino, []).append(relative)
    for group in inodes.values():
        for relative in group:
            found[relative].append(sorted(group))
    return found


class UmociTest(PullTest):
    def umoci(self, image):
        """What umoci makes of it, and the file system that it makes it on."""
        top = Path(self.dir) / "umoci"
        layout = top / "layout"
        (layout / "blobs/sha256").mkdir(parents=True)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        for blob in (*image.blobs, image.manifest):
            (layout / "blobs/sha256" / oci.digest(blob)[7:]).write_bytes(blob)
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
            {"mediaType": oci.OCI_MANIFEST, "digest": oci.digest(image.manifest), "size": len(image.manifest),
             "annotations": {"org.opencontainers.image.ref.name": "v"}}]}))
        done = subprocess.run(["umoci", "unpack", "--image", f"{layout}:v", str(top / "bundle")], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = describe(top / "bundle/rootfs")
        shutil.rmtree(top)
        return found

    def merged(self, image):
        self.store(f"pull {self.host}/umoci:v")
        layers = list(dict.fromkeys(str(path) for path in self.store.tree(image.id)))  # one that is there twice: once
        empty, mount = Path(self.dir) / "nothing", Path(self.dir) / "merged"
        empty.mkdir()
        mount.mkdir()
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "ro,lowerdir=" + ":".join([*layers, str(empty)]),
                        str(mount)], check=True)
        try:
            return describe(mount)
        finally:
            subprocess.run(["umount", str(mount)], check=True)
            mount.rmdir()
            empty.rmdir()

    def same(self, *layers, untimed=()):
        """untimed: folders of a lower layer that a later one puts something into without an entry for them. Ours
        keep their times; umoci's have that of unpacking, but for the last in a row. A container's root never has
        its layers' time: it is the writable folder."""
        image = oci.Image(list(layers), oci=True)
        self.registry.push("umoci", "v", image)
        ours, theirs = self.merged(image), self.umoci(image)
        for path in (b".", *untimed):
            ours[path][4] = theirs[path][4] = None
        self.assertEqual(sorted(ours), sorted(theirs))
        for path, entry in theirs.items():
            self.assertEqual((path, ours[path]), (path, entry))
