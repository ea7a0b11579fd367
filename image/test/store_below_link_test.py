"""A folder without an entry of its own, over a symbolic link in a layer below (lib/x where lib leads to usr/lib): the
link stays, and what is in the folder is where the link leads, as `umoci unpack` has it. See umoci_case.py."""
import os
import shutil
import stat
import tarfile
from pathlib import Path

import store_case
from store_case import PullTest, oci
from umoci_case import Layer, UmociTest, base


class BelowLink(UmociTest):
    def test_files(self):
        self.same(base(), Layer().add("lib/x.so", b"x" * 9000, mode=0o755, uid=5, gid=6).symlink("lib/x.so.1", "x.so")
                  .add("lib/fifo", kind=tarfile.FIFOTYPE, mode=0o622).xattr("lib/y", b"y", user__comment=b"hello"),
                  untimed=(b"usr/lib",))

    def test_file_of_both_layers(self):
        self.same(base(), Layer().add("lib/a", b"another", mode=0o700).add("usr/lib/other", b"o"), untimed=(b"usr/lib",))

    def test_link_below_a_folder(self):
        self.same(base(), Layer().dir("usr").dir("usr/local", mode=0o711).symlink("usr/local/lib", "../lib"),
                  Layer().add("usr/local/lib/x", b"x"), untimed=(b"usr/lib", b"usr/local"))

    def test_folders_with_and_without_entries(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib").dir("usr/lib/sub", mode=0o700, uid=8).add("usr/lib/sub/a", b"a"),
                  Layer().add("lib/sub/b", b"b").dir("lib/mine", mode=0o1777, gid=9).add("lib/mine/c", b"c")
                  .add("lib/new/deep/d", b"d"), untimed=(b"usr/lib", b"usr/lib/sub"))

    def test_folder_with_an_entry_below_has_its_metadata(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib").dir("usr/lib/sub", mode=0o700, uid=8).add("usr/lib/sub/a", b"a"),
                  Layer().dir("lib/sub", mode=0o755, uid=3).add("lib/sub/b", b"b"), untimed=(b"usr/lib",))

    def test_absolute_link(self):
        self.same(base(), Layer().symlink("abs", "/usr/lib").symlink("up", "../../../usr/lib"),
                  Layer().add("abs/x", b"x").add("up/y", b"y"), untimed=(b"usr/lib",))

    def test_links_to_links(self):
        self.same(base(), Layer().symlink("l1", "l2").symlink("l2", "/l3/sub").symlink("l3", "usr/lib").dir("usr").dir("usr/lib")
                  .dir("usr/lib/sub", mode=0o701), Layer().add("l1/x", b"x").add("l1/more/y", b"y"),
                  untimed=(b"usr/lib/sub",))

    def test_link_within_where_a_link_leads(self):
        self.same(base(), Layer().dir("opt", mode=0o700).dir("opt/real", mode=0o711).dir("usr").dir("usr/lib")
                  .symlink("usr/lib/inner", "/opt/real"), Layer().add("lib/inner/x", b"x"), untimed=(b"opt/real", b"usr/lib"))

    def test_link_within_replaced_by_a_folder(self):
        self.same(base(), Layer().dir("opt", mode=0o700).dir("usr").dir("usr/lib").symlink("usr/lib/inner", "/opt"),
                  Layer().dir("lib/inner", mode=0o750).add("lib/inner/x", b"x"), untimed=(b"usr/lib",))

    def test_link_to_nothing(self):
        self.same(base(), Layer().symlink("data", "srv/data"), Layer().add("data/x", b"x"), untimed=(b"srv", b"srv/data"))

    def test_whiteouts(self):
        self.same(base(), Layer().add("lib/.wh.a").add("lib/new", b"n"), untimed=(b"usr/lib",))

    def test_whiteout_of_what_the_layer_has_itself(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib").add("usr/lib/a", b"mine").add("lib/.wh.a").add("lib/.wh.b2"),
                  Layer().dir("etc"))

    def test_opaque(self):
        self.same(base(), Layer().add("lib/.wh..wh..opq").add("lib/only", b"o"), untimed=(b"usr/lib",))

    def test_opaque_with_the_layers_own(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib", mode=0o711).dir("usr/lib/sub", mode=0o700)
                  .add("usr/lib/sub/own", b"own").add("lib/.wh..wh..opq").add("lib/only", b"o"))

    def test_hard_links(self):
        self.same(base(), Layer().add("lib/one", b"1", mode=0o640).hardlink("lib/two", "lib/one", 0o640)
                  .hardlink("lib/deep/three", "lib/one", 0o640), untimed=(b"usr/lib",))

    def test_hard_links_to_lower_layers(self):
        self.same(base(), Layer().hardlink("lib/link-a", "lib/a").hardlink("etc/link-a", "lib/a"),
                  untimed=(b"usr/lib", b"etc"))

    def test_several_layers(self):
        self.same(base(), Layer().add("lib/x", b"1").add("lib/y", b"1").add("lib/z", b"1"),
                  Layer().add("lib/x", b"2").add("lib/.wh.y"), Layer().dir("usr").dir("usr/lib").add("usr/lib/.wh.z"),
                  Layer().add("lib/last", b"4").add("etc/more", b"m"), untimed=(b"usr/lib", b"etc"))

    def test_folder_takes_the_links_place(self):
        self.same(base(), Layer().add("lib/x", b"1"), Layer().dir("lib", mode=0o711).add("lib/y", b"2"),
                  Layer().add("lib/z", b"3"), untimed=(b"usr/lib", b"lib"))

    def test_folder_with_an_entry(self):
        self.same(base(), Layer().dir("lib", mode=0o711).add("lib/y", b"2"))

    def test_file_and_whiteout_take_the_links_place(self):
        self.same(base(), Layer().add("lib/x", b"1"), Layer().add(".wh.lib"), Layer().add("lib/y", b"3"),
                  Layer().add("lib/z", b"4"), untimed=(b"usr/lib", b"lib"))

    def test_the_root_has_a_mode(self):
        self.same(base(), Layer().dir("./", mode=0o711), Layer().add("lib/x", b"1"), untimed=(b"usr/lib",))

    def test_a_layer_twice(self):
        layer = Layer().add("lib/x", b"1").add("lib/.wh.b")
        self.same(base(), layer, Layer().dir("etc").add("etc/z", b"z"), layer, untimed=(b"usr/lib",))

    def test_opaque_root_below(self):
        self.same(base(), Layer().add(".wh..wh..opq").dir("usr", mode=0o700).dir("usr/lib", mode=0o711).symlink("lib", "usr/lib"),
                  Layer().add("lib/x", b"1"), untimed=(b"usr/lib",))


class Kept(PullTest):
    def push(self, *layers, name="v"):
        image = oci.Image(list(layers))
        self.registry.push("below", name, image)
        return image

    def test_restart_verify_and_removal(self):
        top = Layer().add("lib/x", b"x").add("etc/y", b"y")
        images = [self.push(base(), top, name="0"), self.push(Layer().symlink("lib", "opt").dir("opt", mode=0o711), top, name="1")]
        for i in range(2):
            self.store(f"pull {self.host}/below:{i}")
        trees = [self.store.tree(image.id) for image in images]
        self.assertEqual(sorted({path.parent.name for tree in trees for path in tree} - {"layers"}),
                         sorted({tree[0].parent.name for tree in trees}))
        for tree, place in zip(trees, ("usr/lib/x", "opt/x")):
            found = [path for path in tree if (path / place).is_file()]
            self.assertEqual(len(found), 1)
            self.assertTrue((found[0] / "lib").is_symlink())
        self.assertEqual(trees[0][2], trees[1][-2])  # the layer itself is one and the same
        self.reopen(self.host)
        self.assertEqual([self.store.tree(image.id) for image in images], trees)
        self.assertIn("damaged=0", self.store("verify"))
        self.store(f"remove {images[0].id}")
        kept = {path.relative_to(self.store.root / "layers").parts[0] for path in trees[1]}
        self.expect_clean(kept)
        self.assertEqual(self.store.tree(images[1].id), trees[1])
        self.store(f"remove {images[1].id}")
        self.expect_clean()

    def test_damage_is_found(self):
        image = self.push(base(), Layer().add("lib/x", b"x"))
        self.store(f"pull {self.host}/below:v")
        self.store("verify")  # takes the checksums
        part = next(path for path in self.store.tree(image.id) if (path / "usr/lib/x").exists())
        (part / "usr/lib/x").write_bytes(b"y")
        self.assertIn("damaged=1", self.store("verify"))
        self.store("sweep")
        self.store(f"pull {self.host}/below:v")
        part = next(path for path in self.store.tree(image.id) if (path / "usr/lib/x").exists())
        self.assertEqual((part / "usr/lib/x").read_bytes(), b"x")

    def test_lost_part_is_made_again(self):
        image = self.push(base(), Layer().add("lib/x", b"x"))
        self.store(f"pull {self.host}/below:v")
        tree = self.store.tree(image.id)
        self.store.close()
        shutil.rmtree(tree[0].parent)
        self.store = self.open(self.host)
        with self.assertRaises(store_case.StoreError):
            self.store(f"status {image.id}")
        self.store(f"pull {self.host}/below:v")
        self.assertTrue(any((path / "usr/lib/x").is_file() for path in self.store.tree(image.id)))


class Hostile(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")
        self.outside = Path(self.dir) / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_text("untouched")

    def contained(self, *layers):
        """The image's folders; nothing is outside."""
        image = oci.Image(list(layers))
        self.registry.push("evil", "v", image)
        self.store(f"pull {self.host}/evil:v")
        self.assertEqual(os.listdir(self.outside), ["victim"])
        self.assertEqual((self.outside / "victim").read_text(), "untouched")
        return self.store.tree(image.id)

    def refused(self, text, *layers, status="FAILED_PRECONDITION"):
        self.registry.push("evil", "v", oci.Image(list(layers)))
        self.assertIn("lib", self.fails(status, text, f"pull {self.host}/evil:v"))
        self.assertEqual(os.listdir(self.outside), ["victim"])

    def test_out_of_the_root(self):
        for target in (str(self.outside), "../" * 30 + str(self.outside)[1:], "/proc/self/root" + str(self.outside),
                       "/proc/self/cwd/../outside", f"/proc/self/fd/0{self.outside}"):
            with self.subTest(target):
                tree = self.contained(Layer().symlink("lib", target), Layer().add("lib/new", b"n").add("lib/.wh.victim"))
                self.assertEqual(sum(len(list(path.rglob("new"))) for path in tree), 2)  # the layer's, and the part's

    def test_link_made_in_the_part(self):
        """What the part itself has is no way out either."""
        tree = self.contained(base(), Layer().symlink("lib/out", str(self.outside)).symlink("two", "lib/out"),
                              Layer().add("lib/out/new", b"n").add("two/other", b"o"), Layer().symlink("lib/out", "/"))
        self.assertEqual([path for path in tree if (path / "usr/lib/out").is_symlink()],
                         [tree[i] for i in range(len(tree)) if os.path.lexists(tree[i] / "usr/lib/out")])

    def test_folder_and_link_at_one_place(self):
        layer = (Layer().symlink("lib", "a").dir("a").symlink("a/s", str(self.outside)), Layer().symlink("other", "a").dir("b"),
                 Layer().add("lib/s/x", b"x").symlink("other/s", str(self.outside)).add("a/s/y", b"y"))
        try:
            self.contained(*layer)
        except store_case.StoreError as error:
            self.assertIn(error.status, ("FAILED_PRECONDITION", "INTERNAL"))
        self.assertEqual(os.listdir(self.outside), ["victim"])

    def test_ring(self):
        self.refused("Too many levels of symbolic links", Layer().symlink("lib", "b").symlink("b", "lib"), Layer().add("lib/x", b"x"))

    def test_link_to_itself_and_below(self):
        self.refused("", Layer().symlink("lib", "lib/lib"), Layer().add("lib/x", b"x"))

    def test_many_links(self):
        layer = Layer()
        for i in range(60):
            layer.symlink(f"s{i}", f"s{i + 1}")
        self.refused("Too many levels", layer.symlink("lib", "s0"), Layer().add("lib/x", b"x"))

    def test_link_to_a_file(self):
        self.refused("Not a directory", base().symlink("lib2", "etc/passwd"), Layer().add("lib2/x", b"x"))
        self.refused("Not a directory", base().symlink("lib2", "etc/passwd/x"), Layer().add("lib2/x", b"x"))

    def test_long_targets(self):
        long = "/".join(["n" * 200] * 19)
        self.refused("File name too long", Layer().symlink("lib", "m").symlink("m", long + "/" + long[:200]).symlink("n" * 200, long),
                     Layer().add("lib/" + "x/" * 100 + "y", b"x"))

    def test_link_to_the_root(self):
        tree = self.contained(base().symlink("lib2", "/").symlink("lib3", "."), Layer().add("lib2/etc/new", b"n")
                              .add("lib3/lib2/lib3/etc/other", b"o"))
        part = next(path for path in tree if (path / "etc/new").is_file())
        self.assertTrue((part / "etc/other").is_file())
        self.assertTrue(stat.S_ISLNK((part / "lib2").lstat().st_mode))

    def test_too_many_entries(self):
        layer = Layer()
        for i in range(50_001):
            layer.add(f"lib/{i}")
        self.refused("too much in folders that are symbolic links", base(), layer, status="RESOURCE_EXHAUSTED")


if __name__ == "__main__":
    store_case.main()
