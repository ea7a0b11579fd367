"""The store and its disk: a full one, damage, and what a start finds. See store_case.py."""
import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import store_case
from store_case import PullTest, StoreError, oci

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
            with self.assertRaises(StoreError) as caught:
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
        with self.assertRaises(StoreError) as caught:
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


class Damage(PullTest):
    """What a start and a full check see of what was changed meanwhile, and what becomes of it."""

    def setUp(self):
        super().setUp()
        self.image = oci.Image([oci.Layer().add("below", b"b" * 10_000), oci.Layer().dir("d").add("d/top", b"t" * 100_000)])
        self.other = oci.Image([self.image.layers[0], oci.Layer().add("other", b"o")])
        self.ref, self.other_ref = f"{self.host}/app:v", f"{self.host}/other:v"
        self.registry.push("app", "v", self.image)
        self.registry.push("other", "v", self.other)
        self.store("sweep")
        self.store(f"pull {self.ref}")
        self.store(f"pull {self.other_ref}")
        self.top, self.below = self.store.tree(self.ref)
        self.settle()

    def rows(self, what="dir, boot, sum"):
        with contextlib.closing(sqlite3.connect(f"file:{self.dir}/image.db?mode=ro", uri=True)) as db:
            return db.execute(f"SELECT {what} FROM layer").fetchall()

    def settle(self):
        """Until all layers are on disk and have checksums."""
        deadline = time.monotonic() + 60
        while any(boot or not checksum for _, boot, checksum in self.rows()):
            self.assertLess(time.monotonic(), deadline, f"layers don't settle: {self.rows()}")
            time.sleep(0.02)

    def verify(self):
        return {k: int(v) for k, v in (word.split("=") for word in self.store("verify").split(" "))}

    def absent(self, *refs):
        for ref in refs:
            with self.assertRaises(StoreError) as caught:
                self.store(f"status {ref}")
            self.assertEqual(caught.exception.status, "NOT_FOUND")

    def flip(self, path):
        """One bit, as a bad disk would: nobody's time changes."""
        before = os.stat(path)
        with open(path, "r+b") as f:
            f.seek(before.st_size // 2)
            byte = f.read(1)[0]
            f.seek(before.st_size // 2)
            f.write(bytes([byte ^ 4]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def test_all_is_well(self):
        self.assertEqual(self.verify(), {"layers": 3, "damaged": 0, "unknown": 0, "condemned": 0, "images": 2,
                                         "damaged_images": 0})

    def test_a_flipped_bit_is_found_by_the_full_check_and_fetched_again(self):
        self.flip(self.top / "d/top")
        self.reopen()
        self.assertEqual(self.store.status(self.ref)["id"], self.image.id)  # a start doesn't read everything
        self.assertEqual(self.verify(), {"layers": 3, "damaged": 1, "unknown": 0, "condemned": 1, "images": 2,
                                         "damaged_images": 1})
        self.absent(self.ref, self.image.id)
        self.assertTrue(self.store.logged("its content is not what was unpacked"))
        self.reopen()
        self.absent(self.ref)
        self.expect_clean([p.name for p in (self.below, *self.store.tree(self.other_ref))])
        fetched = len(self.registry.requests)
        self.store(f"pull {self.ref}")
        self.assertEqual(len([r for r in self.registry.requests[fetched:] if "/blobs/" in r[0]]), 2)  # and the config
        top, below = self.store.tree(self.ref)
        self.assertEqual((top / "d/top").read_bytes(), b"t" * 100_000)
        self.assertEqual(below, self.below)
        self.assertNotEqual(top, self.top)
        self.settle()
        self.assertEqual(self.verify()["damaged"], 0)

    def test_a_shared_layer_takes_all_its_images(self):
        self.flip(self.below / "below")
        self.assertEqual(self.verify()["damaged_images"], 2)
        self.absent(self.ref, self.other_ref)
        self.store(f"pull {self.other_ref}")
        self.absent(self.ref)
        self.store(f"pull {self.ref}")
        self.assertEqual(self.store.tree(self.ref)[1], self.store.tree(self.other_ref)[1])
        for ref in (self.ref, self.other_ref):
            self.store(f"remove {ref}")
        self.expect_clean()

    def test_a_container_keeps_what_it_has_mounted(self):
        self.store(f"hold {self.image.id} c1")
        self.flip(self.top / "d/top")
        self.verify()
        self.store(f"pull {self.ref}")
        again = self.store.tree(self.ref)[0]
        for _ in range(2):
            self.assertTrue(self.top.exists())
            self.reopen(sweep=False)
            self.store(f"hold {self.image.id} c1")
            self.store("sweep")
        self.store(f"release {self.image.id} c1")
        self.expect_clean([again.name, *(p.name for p in self.store.tree(self.other_ref))])

    def test_a_moved_root_is_compared_and_served(self):
        self.store.close()
        os.rename(self.store.root, f"{self.dir}/before")
        subprocess.run(["cp", "-a", f"{self.dir}/before", str(self.store.root)], check=True)
        self.reopen()
        self.assertTrue(self.store.logged("its content is compared"))
        self.served_soon(self.ref, self.other_ref)
        self.settle()
        self.assertEqual(self.verify()["damaged"], 0)

    def served_soon(self, *refs):
        deadline = time.monotonic() + 60
        while len(self.store("list").split()) < len(refs):
            self.assertLess(time.monotonic(), deadline, "not served")
            time.sleep(0.01)
        for ref in refs:
            self.store(f"status {ref}")

    def move_root(self):
        """Every folder is another one; one layer takes a while to be read."""
        blob = b"z" * (150 << 20)
        image = oci.Image([oci.Layer().add("large", blob)])
        self.registry.push("large", "v", image)
        self.store(f"pull {self.host}/large:v")
        self.settle()
        self.store.close()
        os.rename(self.store.root, f"{self.dir}/before")
        subprocess.run(["cp", "-a", f"{self.dir}/before", str(self.store.root)], check=True)
        shutil.rmtree(f"{self.dir}/before")
        return image

    def test_a_pull_waits_for_a_comparison(self):
        image = self.move_root()
        self.reopen()
        asked = len(self.registry.requests)
        self.assertEqual(self.store(f"pull {self.host}/large:v"), image.id)
        blob = oci.digest(image.layers[0].blob)
        self.assertFalse([r for r in self.registry.requests[asked:] if blob in r[0]])
        self.served_soon(self.ref, self.other_ref, image.id)
        self.settle()
        self.assertEqual(self.verify()["damaged"], 0)

    def test_images_are_removed_while_they_are_compared(self):
        image = self.move_root()
        self.reopen()
        for ref in (self.ref, self.other_ref, image.id):
            self.store(f"remove {ref}")
        self.expect_clean()

    def test_a_full_check_compares_what_a_start_would(self):
        self.move_root()
        self.reopen()
        self.assertEqual(self.verify()["damaged"], 0)
        self.reopen()
        self.assertEqual(len(self.store("list").split()), 3)  # nothing is to be compared again

    def test_a_folder_put_in_its_place_is_not_served(self):
        self.store.close()
        shutil.rmtree(self.top)
        (self.top / "d").mkdir(parents=True)
        (self.top / "d/top").write_bytes(b"t" * 100_000)
        self.reopen()
        self.assertTrue(self.store.logged("its content has changed"))
        self.absent(self.ref)
        self.store(f"pull {self.ref}")

    def test_an_answer_that_waits_for_the_disk(self):
        self.store(f"remove {self.ref}")
        self.store.close()
        os.environ["TOOL_SYNC"] = "1"
        self.addCleanup(os.environ.pop, "TOOL_SYNC")
        self.reopen()
        self.store(f"pull {self.ref}")
        self.assertEqual({boot for _, boot, _ in self.rows()}, {""})
        self.assertEqual(self.store(f"together 4 {self.ref} {self.other_ref}"), self.image.id)

    def test_records_of_an_older_version_are_kept(self):
        """Whose layers have neither a witness nor a checksum yet."""
        self.store.close()
        with sqlite3.connect(f"{self.dir}/image.db") as db:
            db.execute("UPDATE layer SET ino = 0, ctime_ns = 0, sum = NULL")
        self.reopen()
        self.assertEqual(self.store.status(self.ref)["id"], self.image.id)
        self.settle()
        self.assertEqual(self.verify()["damaged"], 0)

    def test_what_was_not_on_disk_in_the_last_boot_is_absent(self):
        self.store.close()
        with sqlite3.connect(f"{self.dir}/image.db") as db:
            db.execute("UPDATE layer SET boot = 'another' WHERE dir = ?", (self.top.name,))
        self.reopen(sweep=False)
        self.absent(self.ref, self.image.id)
        self.store(f"hold {self.image.id} c1")  # a container of before the reboot
        self.store("sweep c1")
        self.expect_clean([p.name for p in self.store.tree(self.other_ref)])
        self.store(f"pull {self.ref}")
        self.assertEqual((self.store.tree(self.ref)[0] / "d/top").read_bytes(), b"t" * 100_000)
        self.store(f"remove {self.ref}")
        self.store(f"release {self.image.id} c1")
        self.expect_clean([p.name for p in self.store.tree(self.other_ref)])


if __name__ == "__main__":
    store_case.main()
