"""The layer that mends an image: how much there may be to mend, who waits meanwhile, and how many are made."""
import time

import store_case
from store_case import PullTest, oci


def files(n, prefix=""):
    layer = oci.Layer()
    for i in range(n):
        layer.add(f"{prefix}{i}", b"x")
    return layer


def links(n, prefix):
    """Hard links to what another layer has."""
    layer = oci.Layer()
    for i in range(n):
        layer.hardlink(f"{prefix}{i:x}", str(i % 4))
    return layer


def folders(n, prefix):
    """Without entries of their own."""
    layer = oci.Layer()
    for i in range(n):
        layer.add(f"{prefix}{i:x}/f", b"")
    return layer


class Mending(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")

    def push(self, name, layers, config=None):
        image = oci.Image(layers, config)
        self.registry.push(name, "v", image)
        return image, f"{self.host}/{name}:v"

    def test_bounds_of_a_layer(self):
        ref = self.push("many", [files(4), links(4097, "l")])[1]
        self.fails("RESOURCE_EXHAUSTED", "too many hard links to what is not in it: 4096 are possible", f"pull {ref}")
        self.store(f"pull {self.push('few', [files(4), links(4096, 'l')])[1]}")

    def test_bounds_of_an_image(self):
        ref = self.push("many", [files(4), links(4000, "a"), links(97, "b")])[1]
        self.fails("RESOURCE_EXHAUSTED", "4097 hard links to what is in other layers (4096 are possible)", f"pull {ref}")

    def slow(self):
        """An image that is mended for a while: each of its folders is looked for in each layer."""
        bottom = oci.Layer().add("0", b"x")
        for i in range(3000):
            bottom.dir(f"d{i:x}", mode=0o700)
        between = [oci.Layer().add(f"d{i:x}/{n}", b"") for n in range(20) for i in [n]]
        return self.push("slow", [bottom, *between, folders(3000, "d")])

    def test_pulls_at_once_make_one(self):
        image, ref = self.push("one", [files(4), links(1500, "l")])
        self.registry.push("two", "v", image)
        self.store(f"together 2 {ref} {self.host}/two:v")
        tree = self.store.tree(ref)
        self.assertEqual(len(tree), 3)
        self.assertEqual(tree, self.store.tree(f"{self.host}/two:v"))
        self.assertEqual((tree[0] / "l0").stat().st_nlink, 376)
        self.expect_clean([path.name for path in tree])
        self.store(f"remove {image.id}")
        self.expect_clean()

    def test_nobody_waits_for_it(self):
        image, ref = self.slow()
        self.store(f"pull {ref}")
        refs = []
        for name in ("second", "third", "fourth"):
            self.registry.push(name, "v", oci.Image(image.layers, {"Cmd": [name]}))
            refs.append(f"{self.host}/{name}:v")
        small = self.push("small", [files(1)])[1]
        began = time.monotonic()
        self.store(f"pull {refs[0]}")  # all layers are here: it is mended only
        took = time.monotonic() - began
        self.store(f"race {refs[1]} {int(took * 1000)} {small}")  # small begins in its middle, and doesn't wait
        pulled = [line for line in list(self.store.log) if "image pulled" in line]
        self.assertIn(f"image={small}", pulled[2], pulled)
        for part in (3, 10, 30):  # called off in its middle, however fast it is now
            try:
                self.store(f"pull {refs[2]} - {int(took * 1000 / part)}")
            except store_case.StoreError as e:
                self.assertEqual(e.status, "DEADLINE_EXCEEDED")
                break
            self.store(f"remove {refs[2]}")
        time.sleep(took)
        with self.assertRaises(store_case.StoreError) as caught:
            self.store(f"status {refs[2]}")
        self.assertEqual(caught.exception.status, "NOT_FOUND")


if __name__ == "__main__":
    store_case.main()
