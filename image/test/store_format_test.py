"""Names, indexes, manifests and media types: which image a reference is, and what isn't one. See store_case.py."""
import contextlib
import gzip
import json
import sqlite3

import store_case
from store_case import PullTest, oci, simple_image


def of_types(image, config=None, layer=None, manifest=None):
    """The image with other media types; None: as it is, "": left out."""
    value = json.loads(image.manifest)

    def put(where, media_type):
        if media_type is not None:
            where.pop("mediaType", None)
            where.update({"mediaType": media_type} if media_type else {})

    put(value["config"], config)
    for descriptor in value["layers"]:
        put(descriptor, layer)
    put(value, manifest)
    image.manifest = oci.dumps(value)
    if manifest:
        image.media_type = manifest
    return image


class Nested:
    """An index of anything that has .manifest and .media_type; platforms: (os, architecture, variant) or None."""

    def __init__(self, entries, media_type=oci.OCI_INDEX):
        self.media_type = media_type
        self.entries = self.images = [entry for entry, _ in entries]
        self.blobs = []
        descriptors = []
        for entry, platform in entries:
            descriptor = {"mediaType": entry.media_type, "digest": oci.digest(entry.manifest),
                          "size": len(entry.manifest)}
            if platform:
                descriptor["platform"] = dict(zip(("os", "architecture", "variant"), platform, strict=False))
            descriptors.append(descriptor)
        self.manifest = oci.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors})


class FormatTest(PullTest):
    def add(self, name, image):
        """With all that it refers to, under name:v; returns the reference."""
        for entry in getattr(image, "entries", []):
            self.add(name, entry)
        self.registry.push(name, "v", image)
        return f"{self.host}/{name}:v"

    def pulled(self, name, image):
        return self.store("pull " + self.add(name, image))


class Indexes(FormatTest):
    def one(self, text, arch="amd64"):
        return oci.Image([oci.Layer().add("name", text.encode())], arch=arch, oci=True)

    def test_variants(self):
        images = {v: self.one(v) for v in ("v9", "v1", "v2", "none")}
        index = Nested([(images["v9"], ("linux", "amd64", "v9")), (images["none"], ("linux", "amd64"))])
        self.assertEqual(self.pulled("a", index), images["none"].id)
        index = Nested([(self.one("arm", "arm64"), ("linux", "arm64", "v8")), (images["v1"], ("linux", "amd64", "v1"))],
                       oci.DOCKER_LIST)
        self.assertEqual(self.pulled("b", index), images["v1"].id)

    def test_lesser_platform(self):
        image = self.one("small", "386")
        self.assertEqual(self.pulled("a", Nested([(image, ("linux", "386"))])), image.id)

    def test_nested(self):
        image = self.one("inner")
        inner = Nested([(self.one("arm", "arm64"), ("linux", "arm64")), (image, ("linux", "amd64"))])
        other = Nested([(self.one("s", "s390x"), ("linux", "s390x"))])
        outer = Nested([(other, None), (inner, None)])
        self.assertEqual(self.pulled("a", outer), image.id)
        digest = oci.digest(outer.manifest)
        self.assertEqual(self.store.status(image.id)["digests"], [f"{self.host}/a@{digest}"])

    def test_nested_without_ours(self):
        other = Nested([(self.one("s", "s390x"), ("linux", "s390x"))])
        message = self.fails("FAILED_PRECONDITION", "no image for platform linux/amd64",
                             "pull " + self.add("a", Nested([(other, None)])))
        self.assertIn("linux/s390x", message)

    def test_too_deep(self):
        index = self.one("x")
        for _ in range(6):
            index = Nested([(index, None)])
        self.fails("FAILED_PRECONDITION", "in each other", "pull " + self.add("a", index))

    def test_too_many(self):
        entries = [(self.one(str(i), "s390x"), None) for i in range(40)]
        self.fails("FAILED_PRECONDITION", "more than 32 manifests", "pull " + self.add("a", Nested(entries)))

    def test_unsaid_platform(self):
        image = self.one("x")
        index = Nested([(self.one("s", "s390x"), None), (image, None)])
        self.assertEqual(self.pulled("a", index), image.id)

    def test_attestation_is_passed_over(self):
        image = self.one("x")
        index = Nested([(of_types(self.one("y", "unknown"), layer="application/vnd.in-toto+json"),
                         ("unknown", "unknown")), (image, ("linux", "amd64"))])
        self.assertEqual(self.pulled("a", index), image.id)

    def test_wrong_size(self):
        image = self.one("x")
        index = Nested([(image, ("linux", "amd64"))])
        index.manifest = index.manifest.replace(b'"size":%d' % len(image.manifest), b'"size":7')
        self.fails("DATA_LOSS", "the image index says 7", "pull " + self.add("a", index))

    def test_wrong_platform_inside(self):
        index = Nested([(self.one("s", "s390x"), ("linux", "amd64"))])
        message = self.fails("FAILED_PRECONDITION", "linux/s390x", "pull " + self.add("a", index))
        self.assertIn("linux/amd64", message)


class Types(FormatTest):
    def test_all_layer_types(self):
        for i, (layer_type, pack) in enumerate((
                ("application/vnd.oci.image.layer.v1.tar", bytes), ("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress),
                ("application/vnd.docker.image.rootfs.diff.tar", bytes), ("", gzip.compress),
                ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", gzip.compress),
                ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", gzip.compress),
                ("application/octet-stream", gzip.compress),
                # What it is counts, not what it is called.
                ("application/vnd.oci.image.layer.v1.tar+zstd", gzip.compress))):
            layer = oci.Layer().add(f"file{i}", b"x" * 5000)
            layer._blob = pack(layer.raw)
            image = of_types(oci.Image([layer], oci=i % 2 == 0), layer=layer_type)
            self.assertEqual(self.pulled(f"a{i}", image), image.id)
            self.assertTrue((self.store.tree(image.id)[0] / f"file{i}").exists())

    def test_old_docker_config(self):
        image = of_types(simple_image(1), config="application/octet-stream")
        self.assertEqual(self.pulled("a", image), image.id)

    def test_manifest_without_a_type(self):
        image = of_types(oci.Image([oci.Layer().add("x", b"y")], oci=True), manifest="")
        self.assertEqual(self.pulled("a", image), image.id)

    def test_artifacts(self):
        for config, layer in (("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
                              ("application/vnd.oci.empty.v1+json", "text/plain"),
                              ("application/vnd.oci.image.config.v1+json", "application/vnd.in-toto+json")):
            image = of_types(oci.Image([oci.Layer().add("x", b"y")], oci=True), config=config, layer=layer)
            self.fails("FAILED_PRECONDITION", "this is no container image", "pull " + self.add("a", image))

    def test_foreign_url_is_not_followed(self):
        image = of_types(simple_image(1), layer="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        other = store_case.fake_registry.Registry()
        self.addCleanup(other.close)
        value = json.loads(image.manifest)
        value["layers"][0]["urls"] = [other.url + "/layer"]
        image.manifest = oci.dumps(value)
        ref = self.add("a", image)
        del self.registry.blobs[value["layers"][0]["digest"]]
        self.fails("NOT_FOUND", "layer", "pull " + ref)
        self.assertEqual(other.requests, [])

    def test_schema_1(self):
        self.registry.manifests["a", "v"] = ("application/vnd.docker.distribution.manifest.v1+prettyjws",
                                             b'{"schemaVersion":1,"name":"a","tag":"v","fsLayers":[],"signatures":[]}')
        self.fails("FAILED_PRECONDITION", "obsolete schema 1", f"pull {self.host}/a:v")


class Sources(FormatTest):
    """The manifest and the config as they were, in the records."""

    def source(self, ref):
        digest, media_type, chain, manifest, config = self.store(f"source {ref}").split("|")
        return digest, media_type, chain, manifest.encode(), config.encode()

    def expected(self, image):
        ids = [layer.diff_id for layer in image.layers]
        chain = ids[0] if ids else ""
        for diff_id in ids[1:]:
            chain = oci.digest(f"{chain} {diff_id}".encode())
        return oci.digest(image.manifest), image.media_type, chain, image.manifest, image.config

    def sql(self, *statements):
        self.store.close()
        with contextlib.closing(sqlite3.connect(f"{self.dir}/image.db")) as db:
            for statement in statements:
                found = db.execute(statement).fetchall()
            db.commit()
        self.reopen()
        return found

    def test_kept(self):
        images = [simple_image(n) for n in (0, 1, 3)]
        for i, image in enumerate(images):
            self.pulled(f"a{i}", Nested([(image, ("linux", "amd64"))]))
        for _ in range(2):
            for image in images:
                self.assertEqual(self.source(image.id), self.expected(image))
            self.reopen()
        for image in images:
            self.store(f"remove {image.id}")
        self.assertEqual(self.sql("SELECT count(*) FROM image_source"), [(0,)])

    def test_too_large_after_one_for_others(self):
        """What is kept is never another candidate's."""
        lying, image = simple_image(1, arch="arm64"), simple_image(1)
        value = json.loads(image.manifest)
        value["annotations"] = {"large": "x" * 1200000}
        image.manifest = oci.dumps(value)
        ref = self.pulled("a", Nested([(lying, ("linux", "amd64")), (image, ("linux", "amd64"))]))
        digest, _, _, manifest, config = self.source(image.id)
        self.assertEqual((digest, manifest, config), (oci.digest(image.manifest), b"", image.config), ref)

    def test_another_manifest_of_the_same_config(self):
        image = simple_image(1)
        ref = self.add("a", image)
        self.store(f"pull {ref}")
        value = json.loads(image.manifest)
        value["annotations"] = {"other": "manifest"}
        image.manifest = oci.dumps(value)
        self.registry.push("a", "v", image)
        self.assertEqual(self.store(f"pull {ref}"), image.id)
        self.assertEqual(self.source(ref), self.expected(image))
        self.assertEqual(len(self.store.status(ref)["digests"]), 2)

    def make_old(self):
        # What later versions have added goes; the published first one's tables were these three.
        self.sql("DROP TABLE image_source", "DROP TABLE layer_damaged",
                 "ALTER TABLE layer RENAME TO newer",
                 "CREATE TABLE layer (diff_id TEXT PRIMARY KEY, dir TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL,"
                 " inodes INTEGER NOT NULL) WITHOUT ROWID",
                 "INSERT INTO layer SELECT diff_id, dir, bytes, inodes FROM newer", "DROP TABLE newer",
                 "ALTER TABLE image RENAME TO newer",
                 "CREATE TABLE image (id TEXT PRIMARY KEY, config BLOB NOT NULL, pulled_ns INTEGER NOT NULL,"
                 " removed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
                 "INSERT INTO image SELECT id, config, pulled_ns, removed FROM newer", "DROP TABLE newer",
                 "UPDATE schema_version SET version = 1 WHERE module = 'image'")

    def test_layers_of_an_older_version(self):
        """It didn't say what of them depends on lower ones: images keep them, and new pulls get their own."""
        layers = [oci.Layer().dir("opt", mode=0o700, uid=5).add("f", b"f"),
                  oci.Layer().add("opt/x", b"1").hardlink("g", "f")]
        images = [oci.Image(layers, {"Cmd": [str(i)]}) for i in range(3)]
        refs = [self.add(name, image) for name, image in zip("abc", images)]
        self.registry.push("again", "v", images[0])
        for ref in refs[:2]:
            self.store(f"pull {ref}")
        self.sql("UPDATE image SET mended = 0", "DELETE FROM layer WHERE diff_id LIKE 'mend:%'")
        self.make_old()
        self.store("sweep")
        old = self.store.tree(refs[0])
        self.assertEqual((len(old), self.store.tree(refs[1])), (2, old))
        self.store(f"hold {images[1].id} c1")

        self.assertEqual(self.store(f"pull {refs[2]}"), images[2].id)
        self.expect_mended(refs[2])
        self.assertEqual(self.store.tree(refs[0]), old)
        self.reopen(sweep=False)
        self.store(f"hold {images[1].id} c1")
        self.store("sweep c1")
        self.assertEqual(self.store.tree(refs[0]), old)
        for again in range(2):  # the same image under another name: nobody has it mounted
            self.assertEqual(self.store(f"pull {self.host}/again:v"), images[0].id)
            self.expect_mended(refs[0])
            self.assertEqual(self.store.tree(refs[0])[1:], self.store.tree(refs[2])[1:])
        self.store(f"pull {refs[1]}")
        self.assertEqual(self.store.tree(refs[1]), old)  # a container has
        self.store(f"release {images[1].id} c1")
        self.store(f"remove {refs[1]}")
        self.expect_clean({path.name for ref in (refs[0], refs[2]) for path in self.store.tree(ref)})
        self.reopen()
        for ref in (refs[0], refs[2]):
            self.expect_mended(ref)
            self.store(f"remove {self.store.status(ref)['id']}")
        self.expect_clean()

    def expect_mended(self, ref):
        tree = self.store.tree(ref)
        self.assertEqual(len(tree), 3)
        self.assertEqual((tree[0] / "g").read_bytes(), b"f")
        st = (tree[0] / "opt").stat()
        self.assertEqual((st.st_mode & 0o7777, st.st_uid), (0o700, 5))

    def test_records_of_an_older_version(self):
        image = simple_image(2)
        ref = self.add("a", image)
        self.store(f"pull {ref}")
        self.make_old()
        with self.assertRaisesRegex(store_case.StoreError, "FAILED_PRECONDITION .* pull it again"):
            self.source(ref)
        self.assertEqual(self.store(f"pull {ref}"), image.id)
        self.assertEqual(self.source(ref), self.expected(image))

    def test_large_ones_are_not_kept(self):
        image = oci.Image([oci.Layer().add("x", b"y")], {"Labels": {"k": "v"}})
        value = json.loads(image.config)
        value["history"] = [{"comment": "x" * 3000}] * 500
        image.config = oci.dumps(value)
        manifest = json.loads(image.manifest)
        manifest["config"].update({"digest": oci.digest(image.config), "size": len(image.config)})
        image.manifest = oci.dumps(manifest)
        self.pulled("a", image)
        with self.assertRaisesRegex(store_case.StoreError, "FAILED_PRECONDITION"):
            self.source(image.id)


class Names(FormatTest):
    def test_tag_and_digest(self):
        image, other = simple_image(1), simple_image(2)
        self.registry.push("a", "v", other)
        digest = self.registry.push("a", "old", image)
        self.assertEqual(self.store(f"pull {self.host}/a:v@{digest}"), image.id)
        status = self.store.status(f"{self.host}/a:v@{digest}")  # the digest decides
        self.assertEqual((status["id"], status["tags"], status["digests"]), (image.id, [], [f"{self.host}/a@{digest}"]))

    def test_several_tags(self):
        image = simple_image(1)
        refs = [self.add("a", image), self.add("b", image)]
        for ref in refs:
            self.store("pull " + ref)
        self.assertEqual(self.store.status(image.id)["tags"], sorted(refs))
        self.assertEqual(self.store.status(image.id[7:20])["id"], image.id)
        self.store("sweep")
        self.store("remove " + refs[0])
        self.assertEqual(self.store("list"), "")
        self.expect_clean()


if __name__ == "__main__":
    store_case.main()
