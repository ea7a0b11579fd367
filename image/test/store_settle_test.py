"""What the store does after a pull's files are there: bringing them to disk, and disks that are slow or fail at that.

See store_case.py.
"""
import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import store_case
from store_case import PullTest, StoreError, oci


class Settling(PullTest):
    def setUp(self):
        super().setUp()
        self.fault = Path(self.dir) / "fault"
        self.addCleanup(self.fault.unlink, missing_ok=True)  # a close waits for the disk

    def image(self, name, layers, config=None):
        image = oci.Image(layers, config)
        self.registry.push(name, "v", image)
        return image, f"{self.host}/{name}:v"

    def disk(self, how):
        """The next sync, and one that waits, does this."""
        new = self.fault.with_suffix(".new")
        new.write_text(how)
        new.rename(self.fault)

    def waiting(self, **environment):
        return self.reopen(TOOL_SYNC=1, TOOL_SYNC_FAULT=self.fault, **environment)

    def row(self, image, layer, what):
        with contextlib.closing(sqlite3.connect(f"file:{self.dir}/image.db?mode=ro", uri=True)) as db:
            return db.execute(f"SELECT {what} FROM layer WHERE diff_id = ?", (image.layers[layer].diff_id,)).fetchone()[0]

    def absent(self, *refs):
        for ref in refs:
            with self.assertRaises(StoreError) as caught:
                self.store(f"status {ref}")
            self.assertEqual(caught.exception.status, "NOT_FOUND")

    def fails(self, status, text, command):
        with self.assertRaises(StoreError) as caught:
            self.store(command)
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        self.assertIn(text, str(caught.exception))

    def test_nobody_waits_for_checksums(self):
        self.waiting()
        for i in range(3):  # the machine may be slower than the checksum
            large, large_ref = self.image(f"large{i}", [oci.Layer().add("f", str(i).encode() * (160 << 20))])
            _, ref = self.image(f"small{i}", [oci.Layer().add(f"f{i}", b"f")])
            self.store(f"pull {large_ref}")
            self.store(f"pull {ref}")
            if self.row(large, 0, "sum") is None:
                return
        self.fail("pulls are answered only after another layer's checksum")

    def test_a_pull_that_is_called_off_does_not_wait(self):
        self.waiting()
        self.disk("wait")
        image, ref = self.image("a", [oci.Layer().add("f", b"f")])
        self.fails("DEADLINE_EXCEEDED", "", f"pull {ref} - 3000")
        self.expect_clean([p.name for p in self.store.tree(ref)])
        # Nor is an answer without the disk had the second time.
        self.fails("DEADLINE_EXCEEDED", "", f"pull {ref} - 300")
        self.fault.unlink()
        self.assertEqual(self.store(f"pull {ref}"), image.id)
        self.assertEqual(self.row(image, 0, "boot"), "")

    def test_what_a_failing_disk_lost_is_not_served(self):
        self.waiting()
        self.disk("fail")
        image, ref = self.image("a", [oci.Layer().add("f", b"f")])
        self.fails("INTERNAL", "could not be brought to disk", f"pull {ref}")
        self.absent(ref, image.id)
        self.assertEqual(self.store(f"pull {ref}"), image.id)

    def test_a_lost_mending_layer(self):
        self.waiting()
        layers = [oci.Layer().add("f", b"f"), oci.Layer().hardlink("g", "f")]
        _, ref = self.image("a", layers)
        self.store(f"pull {ref}")
        image, other = self.image("b", layers, {"Cmd": ["other"]})
        self.disk("fail")
        self.fails("INTERNAL", "could not be brought to disk", f"pull {other}")
        self.absent(other)
        self.assertEqual(self.store(f"pull {other}"), image.id)
        self.assertEqual(len(self.store.tree(other)), 3)

    def test_all_that_may_have_been_lost_is_fetched_again(self):
        """What was published while the disk was synced, and what was still fetched then."""
        self.reopen(TOOL_SYNC_FAULT=self.fault)
        self.disk("wait")
        go = threading.Event()
        refs = []
        for name in "abc":
            image, ref = self.image(name, [oci.Layer().add(name, name.encode())])
            refs.append(ref)
        blob = oci.digest(image.layers[0].blob)
        self.registry.faults[blob] = lambda _: go.wait(60) and None
        self.store(f"pull {refs[0]}")
        time.sleep(0.3)  # its sync begins
        self.store(f"pull {refs[1]}")
        asked = len(self.registry.requests)
        self.store(f"begin {refs[2]}")
        while not any("/blobs/" + blob in r[0] for r in self.registry.requests[asked:]):
            time.sleep(0.01)
        self.disk("fail")
        self.assertTrue(self.store.logged("it could not be written to disk"))
        while self.fault.exists():
            time.sleep(0.01)
        go.set()
        self.fails("INTERNAL", "the disk failed to write", "end")
        deadline = time.monotonic() + 10
        while self.store("list") and time.monotonic() < deadline:
            time.sleep(0.01)
        self.absent(*refs)
        self.expect_clean()
        for ref in refs:
            self.store(f"pull {ref}")
        self.assertEqual((self.store.tree(refs[1])[0] / "b").read_bytes(), b"b")

    def test_a_layer_that_is_damaged_while_a_pull_counts_on_it(self):
        self.reopen()
        shared = oci.Layer().add("f", b"f" * 10_000)
        _, first = self.image("first", [shared])
        slow, second = self.image("second", [shared, oci.Layer().add("g", b"g")])
        _, third = self.image("third", [shared, oci.Layer().add("h", b"h")])
        go = threading.Event()
        blob = oci.digest(slow.layers[1].blob)
        self.registry.faults[blob] = lambda _: go.wait(60) and None
        self.store(f"pull {first}")
        while self.row(slow, 0, "sum") is None:
            time.sleep(0.01)
        self.store(f"begin {second}")
        while not any("/blobs/" + blob in r[0] for r in self.registry.requests):
            time.sleep(0.01)
        (self.store.tree(first)[0] / "f").write_bytes(b"damage")
        self.assertIn("damaged=1", self.store("verify"))
        self.store(f"pull {third}")
        go.set()
        self.fails("INTERNAL", "was damaged meanwhile", "end")
        for image in (first, first):
            self.store(f"pull {image}")
            self.store(f"remove {image}")
        # What the third has was never the second's to give back.
        self.expect_clean([p.name for p in self.store.tree(third)])
        self.store(f"pull {second}")
        self.assertEqual((self.store.tree(third)[1] / "f").read_bytes(), b"f" * 10_000)


if __name__ == "__main__":
    store_case.main()
