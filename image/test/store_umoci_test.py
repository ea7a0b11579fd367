"""The merged tree of layered images is what `umoci unpack` makes of them. See umoci_case.py."""
import gzip
import io
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
from pathlib import Path

import store_case
from store_case import PullTest, oci
from umoci_case import Layer, Tar, UmociTest, base


def capability(version, rootid=None):
    """cap_net_raw+ep"""
    return struct.pack("<5I", version << 24 | 1, 1 << 13, 0, 0, 0) + (struct.pack("<I", rootid) if rootid is not None else b"")


def acl(*entries):
    """system.posix_acl_*: (tag, permissions, id)"""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ANY = 0xffffffff
ACL = acl((1, 7, ANY), (2, 5, 1234), (4, 5, ANY), (16, 5, ANY), (32, 1, ANY))


def gnu_tar(directory, *options):
    return Tar(subprocess.run(["tar", "-C", directory, "--sort=name", *options, "-c", "."], capture_output=True,
                              check=True).stdout)


def python_tar(form, entries):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for name, data, fields in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), oci.MTIME
            for key, value in fields.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(data))
    return Tar(raw.getvalue())


class Umoci(UmociTest):
    def test_01_one_layer(self):
        self.same(base())

    def test_02_whiteout_of_a_file(self):
        self.same(base(), Layer().dir("etc").add("etc/.wh.passwd").add("etc/new", b"n"))

    def test_03_whiteout_of_a_folder(self):
        self.same(base(), Layer().dir("var").add("var/.wh.cache"), Layer().dir("var").dir("var/cache").add("var/cache/y", b"y"))

    def test_04_opaque_folder(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib").add("usr/lib/.wh..wh..opq").add("usr/lib/only", b"o"))

    def test_05_opaque_at_the_end(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib").add("usr/lib/only", b"o").add("usr/lib/.wh..wh..opq"))

    def test_06_opaque_root(self):
        self.same(base(), Layer().dir("./", mode=0o711).add(".wh..wh..opq").dir("etc").add("etc/passwd", b"another\n"),
                  Layer().dir("etc").add("etc/more", b"m"))

    def test_07_file_in_the_place_of_a_folder(self):
        self.same(base(), Layer().add("var", b"a file now"), Layer().dir("etc").add("etc/z", b"z"))

    def test_08_folder_in_the_place_of_a_file(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib").dir("usr/lib/a").add("usr/lib/a/inside", b"i"))

    def test_09_symlink_in_the_place_of_a_folder(self):
        self.same(base(), Layer().symlink("var", "etc"))

    def test_10_hard_links_within(self):
        self.same(base(), Layer().dir("d").add("d/one", b"1", mode=0o640, uid=1).hardlink("d/two", "d/one", 0o640)
                  .hardlink("three", "./d/two", 0o640).hardlink("/four", "/three", 0o640))

    def test_11_hard_link_to_a_lower_layer(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib").hardlink("usr/lib/link-a", "usr/lib/a"),
                  Layer().dir("etc").add("etc/on-top", b"t"))

    def test_12_hard_links_to_two_lower_layers(self):
        self.same(base(), Layer().add("two", b"2", mode=0o4755), Layer().dir("x").hardlink("x/a", "usr/lib/a")
                  .hardlink("x/two", "two", 0o4755).hardlink("x/three", "x/two", 0o4755))

    def test_13_hard_link_that_goes_again(self):
        self.same(base(), Layer().hardlink("one", "usr/lib/a").hardlink("two", "etc/group"),
                  Layer().add(".wh.one").dir("usr").dir("usr/lib").add("usr/lib/.wh.a"), Layer().add("two", b"mine"))

    def test_14_renamed_by_a_hard_link(self):
        self.same(base(), Layer().dir("etc").hardlink("etc/renamed", "etc/passwd").add("etc/.wh.passwd"))

    def test_15_symlinks(self):
        self.same(base(), Layer().symlink("abs", "/usr/lib/a").symlink("rel", "../../x").symlink("dangling", "n" * 300)
                  .add("owned", kind=tarfile.SYMTYPE, link="x", uid=77, gid=88))

    def test_16_devices_and_fifos(self):
        self.same(base(), Layer().dir("dev").add("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
                  .add("dev/sda", kind=tarfile.BLKTYPE, devmajor=8, devminor=300, mode=0o660, gid=6)
                  .add("dev/fifo", kind=tarfile.FIFOTYPE, mode=0o622, uid=5))

    def test_17_set_id_bits(self):
        self.same(base(), Layer().add("suid", b"s", mode=0o4755, uid=3, gid=4).add("sgid", b"g", mode=0o2711)
                  .add("both", b"b", mode=0o6000, uid=1).dir("sticky", mode=0o1777).dir("group", mode=0o2775, gid=50)
                  .add("group/member", b"m").dir("group/sub").add("group/mine", b"m", gid=0, uid=4))

    def test_18_user_xattrs(self):
        self.same(base(), Layer().xattr("f", b"f", user__comment=b"hello", user__bytes=b"a\xff\0b=c\n")
                  .xattr("d", kind=tarfile.DIRTYPE, mode=0o755, user__dir=b"of a folder"))

    def test_19_file_capabilities(self):
        self.same(base(), Layer().xattr("v2", b"p", mode=0o755, security__capability=capability(2))
                  .xattr("v3", b"p", mode=0o755, security__capability=capability(3, 1000)))

    def test_20_acls(self):
        self.same(base(), Layer().xattr("f", b"f", mode=0o751, system__posix_acl_access=ACL)
                  .xattr("d", kind=tarfile.DIRTYPE, mode=0o751, system__posix_acl_default=ACL))

    def test_21_times(self):
        self.same(base(), Layer().add("ns", b"x", pax_headers={"mtime": "1700000000.123456789"})
                  .add("old", b"x", pax_headers={"mtime": "-1000.5"}).add("future", b"x", mtime=9_000_000_000)
                  .add("epoch", b"x", mtime=0).dir("d", pax_headers={"mtime": "1600000000.000000001"}).add("d/f", b"f")
                  .add("l", kind=tarfile.SYMTYPE, link="t", pax_headers={"mtime": "1500000000.5"}))

    def test_22_long_names(self):
        deep = "/".join(["n" * 60] * 12)
        self.same(base(), Layer().add(deep + "/" + "f" * 255, b"deep").add("l" * 255, b"l"),
                  python_tar(tarfile.GNU_FORMAT, [("g" * 200 + "/" + "h" * 150, b"gnu", {}),
                                                  ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "t" * 180})]),
                  python_tar(tarfile.USTAR_FORMAT, [("p" * 90 + "/" + "q" * 90, b"ustar", {})]))

    def test_23_names_in_no_encoding(self):
        self.same(base(), Layer().add("\udcff\udcfe", b"1").add("nfd-e\u0301", b"2").add("nfc-\u00e9", b"3")
                  .add("new\nline", b"4").add("back\\slash", b"5").add(" spaces ", b"6").symlink("to", "\udc80\udc81"))

    def test_24_implicit_parents(self):
        self.same(Layer().add("one/two/three/file", b"x").add("one/other", b"y"))

    def test_25_implicit_parents_that_a_lower_layer_has(self):
        self.same(base(), Layer().add("usr/lib/plug/in", b"p").add("var/cache/y", b"y"), Layer().add("usr/lib/more", b"m"),
                  untimed=(b"usr/lib",))

    def test_26_implicit_parents_replaced_above(self):
        self.same(base(), Layer().add("usr/lib/x", b"p").add("etc/x", b"x"), Layer().dir("usr", mode=0o700),
                  Layer().add(".wh.etc"), Layer().add("etc/again", b"a"))

    def test_27_sparse_files(self):
        top = Path(self.dir) / "sparse"
        top.mkdir()
        with open(top / "holes", "wb") as f:
            for i in range(40):
                f.seek(i * 1_000_000)
                f.write(bytes([i]) * 5000)
            f.truncate(50_000_000)
        (top / "hole").write_bytes(b"")
        os.truncate(top / "hole", 3_000_000)
        self.same(base(), gnu_tar(str(top), "--format=posix", "--sparse", "--sparse-version=1.0"))

    def test_28_formats_and_members(self):
        one, two = (Layer().add(f"f{i}", bytes([65 + i]) * 100_000) for i in range(2))
        self.same(base(), one, Tar(two.raw, lambda raw: gzip.compress(raw[:5000]) + gzip.compress(raw[5000:])))

    def test_29_duplicates(self):
        self.same(base(), Layer().add("x", b"1", mode=0o600).add("x", b"22", mode=0o755).dir("d", mode=0o700)
                  .dir("d", mode=0o711).add("d/f", b"1").symlink("d/f", "x").add("d/f", b"3"))

    def test_30_many_layers(self):
        rng = random.Random(30)
        layers = [base()]
        for i in range(12):
            layer = Layer()
            for j in range(15):
                folder = f"r{rng.randrange(4)}/s{rng.randrange(3)}"
                kind = rng.randrange(6)
                layer.dir(folder.split("/")[0], mode=0o755).dir(folder, mode=0o755)
                if kind == 0 and i:
                    layer.add(f"{folder}/.wh.f{rng.randrange(8)}")
                elif kind == 1:
                    layer.symlink(f"{folder}/l{i}-{j}", f"f{j}")
                else:
                    layer.add(f"{folder}/f{rng.randrange(8, 16)}", rng.randbytes(rng.randrange(9000)), uid=i, mode=0o600 + j)
            layers.append(layer)
        self.same(*layers)

    def test_31_extended_headers(self):
        raw = Layer()
        raw.add("a", b"a", pax_headers={"comment": "nothing", "VENDOR.key": "ignored", "uname": "nobody"}, uid=3_000_000)
        raw.add("b" * 101, b"b", pax_headers={"gid": "4000000000"}, uname="root", gname="root")
        self.same(base(), raw, python_tar(tarfile.GNU_FORMAT, [("big-ids", b"x", {"uid": 4_000_000_000, "gid": 2_097_152})]))

    def test_32_the_same_layer_twice(self):
        layer = Layer().dir("d").add("d/f", b"f")
        self.same(base(), layer, Layer().dir("d").add("d/.wh.f"), Layer().dir("e"))

    def test_33_debian_like(self):
        self.same(Layer().dir("./").dir("./usr/").dir("./usr/bin/").add("./usr/bin/perl", b"p" * 9999, mode=0o755)
                  .hardlink("./usr/bin/perl5", "./usr/bin/perl", 0o755).symlink("./bin", "usr/bin"),
                  Layer().add("usr/bin/tool", b"t", mode=0o755).add("usr/bin/.wh.perl5"))

    def test_34_hard_links_below_a_symlink(self):
        self.same(base(), Layer().dir("usr").dir("usr/lib", mode=0o711).symlink("lib", "usr/lib").hardlink("lib/x", "usr/lib/a")
                  .hardlink("lib/y", "lib/a"), Layer().dir("etc"))

    def test_35_hard_link_in_a_folder_that_is_replaced(self):
        self.same(base(), Layer().dir("d").hardlink("d/x", "usr/lib/a").hardlink("d/y", "etc/group").add("d", b"a file now"),
                  Layer().dir("etc"))

    def test_36_hard_link_in_a_folder_that_is_there_again(self):
        self.same(base(), Layer().dir("d").hardlink("d/x", "usr/lib/a").symlink("d", "etc").dir("d").add("d/y", b"y"))

    def test_37_many_links_to_a_file_of_many_names(self):
        """Its bytes are copied once."""
        low = base().dir("n").add("n/0", os.urandom(1 << 20))
        for i in range(1, 100):
            low.hardlink(f"n/{i}", "n/0")
        high = Layer().dir("m")
        for i in range(100):
            high.hardlink(f"m/{i}", f"n/{i}")
        self.same(low, high, untimed=(b"n",))


class Shared(PullTest):
    """What depends on lower layers is each image's own, though they share the layers."""

    def test_one_layer_in_two_images(self):
        top = Layer().hardlink("usr/lib/link", "usr/lib/a")
        other = Layer().dir("usr", mode=0o711).dir("usr/lib", mode=0o700).add("usr/lib/a", b"other")
        images = [oci.Image([base(), top]), oci.Image([other, top])]
        for i, image in enumerate(images):
            self.registry.push("shared", str(i), image)
            self.store(f"pull {self.host}/shared:{i}")
        trees = [self.store.tree(image.id) for image in images]
        self.assertEqual([len(tree) for tree in trees], [3, 3])
        self.assertEqual(trees[0][1], trees[1][1])  # the shared layer, below what mends it
        for tree, data, mode in zip(trees, (b"a" * 5000, b"other"), (0o750, 0o700)):
            self.assertEqual((tree[0] / "usr/lib/link").read_bytes(), data)
            self.assertTrue((tree[0] / "usr/lib/a").samefile(tree[0] / "usr/lib/link"))
            self.assertEqual(stat.S_IMODE((tree[0] / "usr/lib").stat().st_mode), mode)
        self.reopen(self.host)
        self.assertEqual([self.store.tree(image.id) for image in images], trees)
        self.store(f"pull {self.host}/shared:0")
        self.assertEqual(self.store.tree(images[0].id), trees[0])
        self.store(f"remove {images[0].id}")
        self.expect_clean({path.name for path in trees[1]})
        self.store(f"remove {images[1].id}")
        self.expect_clean()

    def test_lost_mend_is_made_again(self):
        image = oci.Image([base(), Layer().hardlink("l", "usr/lib/a")])
        self.registry.push("shared", "v", image)
        self.store(f"pull {self.host}/shared:v")
        tree = self.store.tree(image.id)
        self.store.close()
        shutil.rmtree(tree[0])
        self.store = self.open(self.host)
        with self.assertRaises(store_case.StoreError):
            self.store(f"status {image.id}")
        self.store(f"pull {self.host}/shared:v")
        again = self.store.tree(image.id)
        self.assertEqual(again[1:], tree[1:])
        self.assertEqual((again[0] / "l").read_bytes(), b"a" * 5000)

    def test_link_to_nothing(self):
        self.store("sweep")
        for layers in ([Layer().hardlink("l", "nowhere")], [base(), Layer().hardlink("l", "etc/nowhere")],
                       [base(), Layer().dir("etc").add("etc/.wh.passwd"), Layer().hardlink("l", "etc/passwd")]):
            self.registry.push("shared", "v", oci.Image(layers))
            self.fails("FAILED_PRECONDITION", 'entry "l" is a hard link to', f"pull {self.host}/shared:v")

    def test_link_to_a_folder(self):
        self.store("sweep")
        self.registry.push("shared", "v", oci.Image([base(), Layer().hardlink("l", "etc")]))
        self.fails("FAILED_PRECONDITION", "is a folder in a layer below", f"pull {self.host}/shared:v")


if __name__ == "__main__":
    store_case.main()
