"""The store and its disk: a full one, damage, and what a start finds. See store_case.py."""
import os
import random
import subprocess
import sys
from pathlib import Path

import store_case
from store_case import PullTest, oci, simple_image

FULL = "no space or no inodes are left for"


class FullDisk(PullTest):
    """A file system of a few MiB, for the store and its database."""

    OPTIONS = "size=12m,mode=755"

    def setUp(self):
        super().setUp()
        self.store.close()
        self.disk = Path(self.dir) / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", self.OPTIONS, "crisp-test", str(self.disk)], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.disk)], check=True)
        self.reopen()

    def open(self, *mirror):
        disk = getattr(self, "disk", None)
        store = store_case.Store((disk or Path(self.dir)) / "image", *mirror)
        self.addCleanup(self.close_quietly, store)
        return store

    def push(self, name, layers):
        image = oci.Image(layers)
        self.registry.push(name, "v", image)
        return image, f"{self.host}/{name}:v"

    def fill(self):
        """Until not a byte is left."""
        with open(self.disk / "filler", "wb", buffering=0) as f:
            size = 1 << 20
            while size:
                try:
                    f.write(bytes(size))
                except OSError:
                    size //= 2

    def test_pull_fails_cleanly(self):
        small, small_ref = self.push("small", [oci.Layer().add("x", b"x" * 100_000)])
        _, large_ref = self.push("large", [oci.Layer().add("a", b"a" * 1000), oci.Layer().add("b", b"b" * 20_000_000)])
        self.store(f"pull {small_ref}")
        layers = self.store.status(small.id)["layers"]
        for _ in range(3):
            with self.assertRaises(store_case.StoreError) as caught:
                self.store(f"pull {large_ref}")
            self.assertEqual(caught.exception.status, "RESOURCE_EXHAUSTED")
            self.assertIn(f"{FULL} {self.disk}/image", str(caught.exception))
            self.expect_clean(layers)
        self.assertEqual(self.store("list"), small.id)
        self.reopen()
        self.expect_clean(layers)
        # What makes room may then be used.
        self.store(f"remove {small.id}")
        self.expect_clean()
        other, other_ref = self.push("other", [oci.Layer().add("c", b"c" * 4_000_000)])
        self.assertEqual(self.store(f"pull {other_ref}"), other.id)

    def test_images_are_removed_from_a_full_disk(self):
        pulled = [self.push(f"i{i}", [oci.Layer().add(f"f{i}", b"x" * 50_000)]) for i in range(20)]
        for _, ref in pulled:
            self.store(f"pull {ref}")
        self.fill()
        _, ref = self.push("more", [oci.Layer().add("m", b"m" * 50_000)])
        with self.assertRaises(store_case.StoreError) as caught:
            self.store(f"pull {ref}")
        self.assertEqual(caught.exception.status, "RESOURCE_EXHAUSTED")
        for image, _ in pulled:
            self.store(f"remove {image.id}")
        self.expect_clean()
        self.assertEqual(self.store("list"), "")
        self.store(f"pull {ref}")


class FewInodes(FullDisk):
    OPTIONS = "size=12m,mode=755,nr_inodes=300"

    def test_images_are_removed_from_a_full_disk(self):
        image, ref = self.push("a", [oci.Layer().add("f", b"x")])
        self.store(f"pull {ref}")
        made = 0
        try:
            while True:
                os.mknod(self.disk / f"n{made}")
                made += 1
        except OSError:
            pass
        self.store(f"remove {image.id}")
        self.expect_clean()

    def test_pull_fails_cleanly(self):
        layer = oci.Layer()
        for i in range(500):
            layer.add(f"f{i}", b"")
        _, ref = self.push("many", [layer])
        self.fails("RESOURCE_EXHAUSTED", FULL, f"pull {ref}")


if __name__ == "__main__":
    store_case.main()
