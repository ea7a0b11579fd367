"""What an image store's folder must look like, seen from outside: its records, its layers, nothing else."""
import contextlib
import hashlib
import os
import sqlite3
import stat

import oci
from daemon import wait_for

OWN = {"base", "empty", "empty2"}  # folders below layers/ that are no layers


def tree(path):
    """All that a folder holds, without its own name."""
    found = {}
    for folder, names, files in os.walk(path):
        for name in [*names, *files]:
            full = os.path.join(folder, name)
            st = os.lstat(full)
            content = b""
            if stat.S_ISREG(st.st_mode):
                with open(full, "rb") as f:
                    content = hashlib.sha256(f.read()).digest()
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(full)
            whiteout = stat.S_ISCHR(st.st_mode) and st.st_rdev == 0  # as old as its unpacking
            found[os.path.relpath(full, path)] = (st.st_mode, st.st_uid, st.st_gid, st.st_rdev,
                                                  0 if whiteout else st.st_mtime_ns,
                                                  0 if stat.S_ISDIR(st.st_mode) else st.st_size, content,
                                                  tuple(sorted(os.listxattr(full, follow_symlinks=False))))
    return found


def layers(root):
    """The records' layers: {diffID: (folder, is it on disk for good)}."""
    with contextlib.closing(sqlite3.connect(f"file:{root}/crisp.db?mode=ro", uri=True, timeout=10)) as db:
        return {diff_id: (f"{root}/image/layers/{name}", not boot)
                for diff_id, name, boot in db.execute("SELECT diff_id, dir, boot FROM layer")}


def check_layers(root, trees):
    """Each recorded layer is there, and whole; trees: {diffID: tree()}."""
    found = layers(root)
    for diff_id, (path, _) in found.items():
        assert os.path.isdir(path), f"the record of layer {diff_id} has no folder"
        assert tree(path) == trees[diff_id], f"layer {diff_id} is not what was pulled"
    return found


def strays(root):
    """What is in the store's folders and belongs to nothing."""
    image = f"{root}/image"
    known = {os.path.basename(path) for path, _ in layers(root).values()} | OWN
    return [f"{part}/{name}" for part in ("staging", "trash", "layers") for name in os.listdir(f"{image}/{part}")
            if part != "layers" or name not in known]


def wait_clean(root):
    """Deleting is the background's."""
    try:
        wait_for(lambda: not strays(root), 30, "")
    except AssertionError:
        raise AssertionError(f"left in {root}/image: {strays(root)}") from None


def ten_layers(seed, shared=()):
    """An image of ten small layers of everything but devices; `shared` come first. It is mended, too: an opaque
    root, and a hard link to a lower layer."""
    made = list(shared)
    for i in range(len(made), 10):
        layer = oci.Layer().dir(f"d{i}", mode=0o750, uid=i)
        for j in range(4):
            layer.add(f"d{i}/f{j}", hashlib.sha256(f"{seed} {i} {j}".encode()).digest() * (40 * i + 300 * j + 1), uid=i, gid=j)
        layer.hardlink(f"d{i}/hard", f"d{i}/f1").symlink(f"d{i}/soft", "f2").add(f"d{i}/.wh.gone")
        if i == 1:
            layer.add(".wh..wh..opq")
        if i == 5:
            layer.hardlink("d5/loose", "d2/f1")
        made.append(layer)
    return oci.Image(made)
