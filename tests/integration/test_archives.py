"""Images from archives: crisp import of OCI layouts and of what `docker save` writes; archives that are wrong."""
import gzip
import io
import json
import os
import subprocess
import tarfile

import pytest

import oci
from client import Client
from cri import BUSYBOX, E2E

NGINX = E2E + "nginx:1.14-2"
CONFIG = {"Cmd": ["/x"], "Labels": {"a": "b"}}


@pytest.fixture(scope="module")
def crispd(registry):
    from conftest import finish
    from daemon import Crispd
    daemon = Crispd(registry.url, cni="null")
    try:
        daemon.start()
        yield daemon
    finally:
        finish(daemon)


@pytest.fixture
def crisp(crispd, tmp_path):
    client = Client(crispd.endpoint, tmp_path)
    client("rmi", "--all")
    yield client
    assert os.listdir(f"{crispd.base}/root/image/staging") == []


def images(crisp):
    return [json.loads(line) for line in crisp.ok("images", "-o", "json").splitlines()]


def small(text="x", oci_form=True, **more):
    layer = oci.Layer().dir("d").add("d/file", text.encode())
    return oci.Image([layer], {**CONFIG, **more}, oci=oci_form)


def write_tar(path, members):
    """members: (name, bytes) or a TarInfo."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return str(path)


def blob(data):
    return ("blobs/sha256/" + oci.digest(data)[7:], data)


def layout(entries, blobs, version="1.0.0"):
    """The members of an OCI layout: entries of its index.json, and all blobs."""
    index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
    return [("oci-layout", json.dumps({"imageLayoutVersion": version}).encode()),
            ("index.json", json.dumps(index).encode())] + [blob(b) for b in blobs]


def entry(image, name=None, full=None, **more):
    annotations = {}
    if name:
        annotations["org.opencontainers.image.ref.name"] = name
    if full:
        annotations["io.containerd.image.name"] = full
    return {"mediaType": image.media_type, "digest": oci.digest(image.manifest), "size": len(image.manifest),
            **({"annotations": annotations} if annotations else {}), **more}


def layout_of(image, *names):
    return layout([entry(image, name) for name in names or (None,)], image.blobs + [image.manifest])


def docker_of(image, tags, layer_names=("layer0.tar",), config_name=None, more=()):
    config_name = config_name or image.id[7:] + ".json"
    manifest = [{"Config": config_name, "RepoTags": tags, "Layers": list(layer_names)}]
    return [(config_name, image.config), *more,
            *((name, layer.raw) for name, layer in zip(layer_names, image.layers) if not more),
            ("manifest.json", json.dumps(manifest).encode())]


@pytest.mark.core
def test_oci_layouts_and_names(crisp, tmp_path):
    image = small()
    digest = oci.digest(image.manifest)
    path = write_tar(tmp_path / "a.tar", layout_of(image, "example.com/team/app:1", "busy:2"))
    assert crisp.ok("import", path).split() == [
        image.id, "example.com/team/app:1", f"example.com/team/app@{digest}", "docker.io/library/busy:2",
        f"docker.io/library/busy@{digest}"]
    facts, = images(crisp)
    assert facts["id"] == image.id and facts["tags"] == ["docker.io/library/busy:2", "example.com/team/app:1"]
    # A tag alone names nothing, but for --name; a name with a tag is the only one.
    path = write_tar(tmp_path / "b.tar", layout_of(small("y"), "v2"))
    code, out, err = crisp("import", path)
    assert code == 0 and out == small("y").id + "\n" and "known by its id only" in err
    assert "local.example/y:v2" in crisp.ok("import", "--name", "local.example/y", path)
    assert crisp.ok("import", "--name", "local.example/z:9", path).split()[1] == "local.example/z:9"
    assert crisp.ok("import", "-q", "--name", "k", write_tar(tmp_path / "c.tar", layout_of(small("z")))) == small("z").id
    assert any("docker.io/library/k:latest" in i["tags"] for i in images(crisp))


def test_folder_and_standard_input(crisp, tmp_path):
    image = small()
    path = write_tar(tmp_path / "a.tar", layout_of(image, "example.com/app:1"))
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "layout")
    assert image.id in crisp.ok("import", str(tmp_path / "layout"))
    crisp.ok("rmi", "example.com/app:1")
    with open(path, "rb") as f:
        code, out, _ = crisp("import", "-", stdin=f)
    assert code == 0 and out.startswith(image.id + " example.com/app:1 ")
    (tmp_path / "empty").mkdir()
    code, _, err = crisp("import", str(tmp_path / "empty"))
    assert code == 1 and "is no OCI image layout: it has no oci-layout" in err
    code, _, err = crisp("import", str(tmp_path / "absent"))
    assert code == 1 and "absent: No such file" in err


def test_several_images_share_layers(crisp, crispd, tmp_path):
    shared = oci.Layer().add("base", b"b" * 10000)
    first = oci.Image([shared], CONFIG, oci=True)
    second = oci.Image([shared, oci.Layer().add("more", b"m")], CONFIG, oci=True)
    members = layout([entry(first, full="docker.io/a/one:1"), entry(second, full="docker.io/a/two:1"),
                      entry(first, full="docker.io/a/uno:1"),
                      {"mediaType": oci.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1,
                       "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
                      {"mediaType": oci.OCI_MANIFEST, "digest": "sha256:" + "1" * 64, "size": 1,
                       "platform": {"os": "windows", "architecture": "amd64"}}],
                     {*first.blobs, *second.blobs, first.manifest, second.manifest})
    out = crisp.ok("import", write_tar(tmp_path / "a.tar", members)).splitlines()
    assert [line.split()[0] for line in out] == [first.id, second.id]
    assert "docker.io/a/one:1" in out[0] and "docker.io/a/uno:1" in out[0] and "docker.io/a/two:1" in out[1]
    assert len([name for name in os.listdir(f"{crispd.base}/root/image/layers") if len(name) == 8]) == 2
    code, _, err = crisp("import", "--name", "x:1", str(tmp_path / "a.tar"))
    assert code == 1 and "the archive has 2 images, which can't all be called \"x:1\"" in err


def test_index_in_the_layout_is_resolved(crisp, tmp_path):
    mine, other = small("mine"), oci.Image([oci.Layer().add("f", b"")], CONFIG, oci=True, arch="s390x")
    index = oci.Index([other, mine])  # the other's blobs needn't be there
    path = write_tar(tmp_path / "a.tar", layout([entry(index, "example.com/multi:1")],
                                               [index.manifest, mine.manifest, *mine.blobs]))
    assert f"{mine.id} example.com/multi:1 example.com/multi@{oci.digest(index.manifest)}" == crisp.ok("import", path)
    path = write_tar(tmp_path / "b.tar", layout([entry(other, "x:1", platform={"os": "linux", "architecture": "s390x"})],
                                               [other.manifest, *other.blobs]))
    code, _, err = crisp("import", path)
    assert code == 1 and "no image of the archive is for this machine; there is: linux/s390x (FAILED_PRECONDITION)" in err


@pytest.mark.core
def test_docker_archives(crisp, tmp_path):
    image = small(oci_form=False)
    path = write_tar(tmp_path / "a.tar", docker_of(image, ["app:1", "example.com/app:2"]))
    assert crisp.ok("import", path).split() == [image.id, "docker.io/library/app:1", "example.com/app:2"]
    assert images(crisp)[0]["digests"] == []
    crisp.ok("rmi", image.id)
    # Without tags; with links to layers, as Docker and skopeo have them; with compressed layers.
    link = tarfile.TarInfo("deep/er/layer.tar")
    link.type, link.linkname = tarfile.SYMTYPE, "../../real/layer.tar"
    members = docker_of(image, None, ["deep/er/layer.tar"], "config.json",
                        more=[("real/layer.tar", gzip.compress(image.layers[0].raw, mtime=0)), link])
    code, out, err = crisp("import", write_tar(tmp_path / "b.tar", members))
    assert code == 0 and out == image.id + "\n" and "known by its id only" in err


def test_archives_of_skopeo(crisp, registry, tmp_path):
    source = "docker://" + registry.url.split("//")[1] + "/" + NGINX
    for form in ("oci-archive", "docker-archive"):
        path = f"{tmp_path}/{form}.tar"
        subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", source, f"{form}:{path}:example.com/{form}:1"],
                       check=True)
        assert f" example.com/{form}:1" in crisp.ok("import", path)
    crisp.ok("pull", "-q", NGINX)
    tags = {i["id"]: i["tags"] for i in images(crisp)}
    assert ["example.com/docker-archive:1", NGINX] in tags.values()  # Docker's id is the registry's


def test_an_imported_image_runs(crisp, registry, tmp_path):
    path = f"{tmp_path}/busybox.tar"
    subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false",
                    "docker://" + registry.url.split("//")[1] + "/" + BUSYBOX, f"docker-archive:{path}:mine:1"], check=True)
    crisp.ok("import", path)
    assert crisp.ok("run", "--rm", "--pull", "never", "mine:1", "sh", "-c", "echo from $((40 + 2))") == "from 42"


def member(name, **fields):
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


GOOD = small("good")


def cut(members, keep):
    def make(path):
        write_tar(path, members)
        os.truncate(path, keep(os.path.getsize(path)))
    return make


def flip(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def bad_json(name, text):
    return [(n, text if n == name else data) for n, data in layout_of(GOOD, "x:1")]


BAD = {
    "no tar": (lambda path: path.write_bytes(b"hello" * 1000), "it isn't a tar"),
    "empty": (lambda path: path.write_bytes(b""), "it has 0 bytes only"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(os.urandom(9000))), "the archive is compressed"),
    "nothing inside": ([], "neither an index.json (OCI) nor a manifest.json"),
    "cut": (cut(layout_of(GOOD, "x:1"), lambda size: 2600), "truncated"),
    "cut in a header": (cut(layout_of(GOOD, "x:1"), lambda size: 1024 + 100), "truncated"),
    "wrong checksum": (lambda path: (write_tar(path, layout_of(GOOD, "x:1")),
                                     os.pwrite(f := os.open(path, os.O_WRONLY), b"9", 1024 + 20), os.close(f)),
                       "wrong checksum"),
    "traversal": ([("../evil", b"x")] + layout_of(GOOD, "x:1"), "a member outside of itself: \"../evil\""),
    "absolute": ([("/etc/evil", b"x")] + layout_of(GOOD, "x:1"), "a member outside of itself"),
    "symlink out": (layout_of(GOOD, "x:1") + [member("a/b", type=tarfile.SYMTYPE, linkname="../../etc/passwd")],
                    "a link out of it, to \"../../etc/passwd\""),
    "symlink to root": (layout_of(GOOD, "x:1") + [member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
                        "a link out of it"),
    "hard link out": (layout_of(GOOD, "x:1") + [member("a", type=tarfile.LNKTYPE, linkname="../x")], "a link out of it"),
    "device": (layout_of(GOOD, "x:1") + [member("dev", type=tarfile.CHRTYPE)], "neither a file nor a folder nor a link"),
    "twice": (layout_of(GOOD, "x:1") + [("./index.json", b"{}")], "has \"index.json\" twice"),
    "link loop": ([member("index.json", type=tarfile.SYMTYPE, linkname="b"), member("b", type=tarfile.SYMTYPE, linkname="index.json")],
                  "neither an index.json"),
    "layout 2": (layout([entry(GOOD)], GOOD.blobs + [GOOD.manifest], "2.0.0"), "oci-layout is of version \"2.0.0\""),
    "no layout file": (layout_of(GOOD)[1:], "has no \"oci-layout\""),
    "no images": (layout([], []), "the archive has no image"),
    "index no json": (bad_json("index.json", b"{"), "index.json is no JSON"),
    "index a list": (bad_json("index.json", b"[]"), "has no list of manifests"),
    "index huge": (bad_json("index.json", b" " * (5 << 20)), "more than 4194304"),
    "bad digest": (bad_json("index.json", json.dumps({"manifests": [{"digest": "sha256:../../x"}]}).encode()),
                   "without a digest of sha256"),
    "no manifest": (layout([entry(GOOD)], GOOD.blobs), "which it refers to"),
    "no config": (layout([entry(GOOD)], [GOOD.manifest, GOOD.blobs[1]]), "which it refers to"),
    "no layer": (layout([entry(GOOD)], [GOOD.manifest, GOOD.config]), "which it refers to"),
    "damaged manifest": ([(n, flip(d) if d == GOOD.manifest else d) for n, d in layout_of(GOOD)], "digest mismatch"),
    "damaged config": ([(n, flip(d) if d == GOOD.config else d) for n, d in layout_of(GOOD)], "digest mismatch"),
    "damaged layer": ([(n, flip(d) if d == GOOD.blobs[1] else d) for n, d in layout_of(GOOD)], ""),
    "layer too short": ([(n, d[:-9] if d == GOOD.blobs[1] else d) for n, d in layout_of(GOOD)], "the manifest says"),
    "bad name": (layout_of(GOOD, "Not/A Name:1"), "a name in the archive can't be used (--name gives another)"),
    "other digest's name": (layout_of(GOOD, "x@sha256:" + "0" * 64), "but its manifest is sha256:"),
    "docker no list": ([("manifest.json", b"{}")], "manifest.json is no list"),
    "docker no config": ([("manifest.json", b'[{"Config": "c", "Layers": []}]')], "has no \"c\""),
    "docker not an image": ([("manifest.json", b'[7]')], "an entry that is no image"),
    "docker no layer": ([("c", GOOD.config), ("manifest.json", b'[{"Config": "c", "Layers": ["../x"]}]')], "has no \"../x\""),
    "docker fewer layers": ([("c", GOOD.config), ("manifest.json", b'[{"Config": "c", "Layers": []}]')],
                            "0 layers, but the image config has 1"),
    "docker other layer": (docker_of(GOOD, ["x:1"], ["l"], more=[("l", oci.Layer().add("g", b"").raw)]), "digest mismatch"),
    "docker wrong name": (docker_of(GOOD, ["x:1"], config_name="0" * 64 + ".json"), "digest mismatch: the archive's"),
    "sparse": (layout_of(GOOD) + [member("s", pax_headers={"GNU.sparse.major": "1"})], "or a sparse file"),
}


@pytest.mark.core
@pytest.mark.parametrize("what", BAD)
def test_bad_archives_are_refused(crisp, crispd, tmp_path, what):
    make, text = BAD[what]
    path = tmp_path / "bad.tar"
    if callable(make):
        make(path)
    else:
        write_tar(path, make)
    code, out, err = crisp("import", str(path))
    assert code == 1 and text in err and err.count("\n") <= 3, err
    assert images(crisp) == [] and crispd.process.poll() is None


def test_a_client_that_dies_leaves_nothing(crisp, crispd, tmp_path):
    image = small()
    data = open(write_tar(tmp_path / "a.tar", layout_of(image, "x:1")), "rb").read()
    process = crisp.start("import", "-", stdin=subprocess.PIPE)
    process.stdin.write(data)  # but no end
    process.stdin.flush()
    process.kill()
    process.communicate()
    assert images(crisp) == []
    path = write_tar(tmp_path / "b.tar", layout_of(image, "x:1"))
    assert image.id in crisp.ok("import", path)


def test_policies_hold_for_imports(make_crispd, tmp_path):
    daemon = make_crispd(cni="null", settings={"image": {"allowed": ["example.com/team"]}})
    daemon.start()
    crisp = Client(daemon.endpoint, tmp_path)
    path = write_tar(tmp_path / "a.tar", layout_of(small(), "example.com/other/app:1"))
    code, _, err = crisp("import", path)
    assert code == 1 and "PERMISSION_DENIED" in err and "example.com/other/app" in err and images(crisp) == []
    code, _, err = crisp("import", write_tar(tmp_path / "b.tar", layout_of(small())))  # without a name
    assert code == 1 and "PERMISSION_DENIED" in err and images(crisp) == []
    assert "example.com/team/app:1" in crisp.ok("import", "--name", "example.com/team/app", path)


# export

def rich_layers():
    """Two layers with all that a layer can have."""
    low = oci.Layer().dir("./", mode=0o750).dir("d").add("d/gone", b"1").dir("d/opaque").add("d/opaque/old", b"2")
    low.add("e/implicit", b"3").add("copy", b"4" * 100000)
    high = oci.Layer().add("d/.wh.gone").dir("d/opaque").add("d/opaque/.wh..wh..opq").add("d/opaque/new", b"5")
    high.add("suid", b"6", mode=0o4755, uid=12, gid=34).hardlink("also", "suid", mode=0o4755)
    high.symlink("link", "../no/where").symlink("long-link", "t" * 300).add("n" * 200 + "/" + "m" * 150, b"7")
    high.add("byte-\udcff-name", b"8").add("ümlaut", b"9").add("big-owner", b"", uid=3000000, gid=70000)
    high.add("null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3).add("fifo", kind=tarfile.FIFOTYPE, mode=0o600)
    high.add("blk", kind=tarfile.BLKTYPE, mode=0o660, devmajor=259, devminor=4097)
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + b"\x00" * 12
    high.add("caps", b"", mode=0o755, pax_headers={
        "SCHILY.xattr.security.capability": capability.decode("latin-1"), "SCHILY.xattr.user.note": "hello"})
    high.add("times", b"", pax_headers={"mtime": "1234567890.123456789"}).add("before", b"", pax_headers={"mtime": "-2"})
    high.dir("sticky", mode=0o1777)
    return [low, high]


def describe(top):
    """All that is below a folder, as a comparable value."""
    seen, found = {}, {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in [b"."] + folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            kind = st.st_mode & 0o170000
            is_link = kind == 0o120000
            content = os.readlink(path) if is_link else open(path, "rb").read() if kind == 0o100000 else b""
            attributes = {} if is_link else {a: os.getxattr(path, a) for a in os.listxattr(path)}
            whiteout = kind == 0o020000 and st.st_rdev == 0
            twin = seen.setdefault(st.st_ino, path) if kind != 0o040000 else b""
            found[os.path.relpath(path, os.fsencode(top))] = (
                "whiteout" if whiteout else (st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_mtime_ns, content,
                                             attributes, os.path.relpath(twin, os.fsencode(top)) if twin else None))
    return found


def layer_trees(crispd, crisp, name):
    """The layers of the only image, each described."""
    folders = [f"{crispd.base}/root/image/layers/{f}" for f in os.listdir(f"{crispd.base}/root/image/layers") if len(f) == 8]
    return sorted((sorted(describe(folder).items()) for folder in folders), key=repr)


@pytest.mark.core
def test_round_trip_keeps_everything(crisp, crispd, tmp_path):
    config = {"Cmd": ["/x"], "User": "1:2", "Labels": {"a": "b"}, "Healthcheck": {"Test": ["NONE"]}, "StopSignal": "SIGINT"}
    image = oci.Image(rich_layers(), config, oci=True)
    crisp.ok("import", write_tar(tmp_path / "a.tar", layout_of(image, "example.com/rich:1")))
    before = layer_trees(crispd, crisp, "example.com/rich:1")
    code, _, err = crisp("export", "-o", str(tmp_path / "b.tar"), "example.com/rich:1")
    assert code == 0 and f"exported example.com/rich:1 ({image.id[:19]}; in the archive its id is sha256:" in err, err
    for form, other in (("c", "example.com/rich:1"), ("d", image.id[7:20])):  # the same bytes each time
        crisp.ok("export", "-o", str(tmp_path / form), other)
        assert (tmp_path / form).read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert os.stat(tmp_path / "b.tar").st_mode & 0o777 == 0o644 and sorted(os.listdir(tmp_path)) == ["a.tar", "b.tar", "c", "d", "logs"]
    crisp.ok("rmi", image.id)
    from daemon import wait_for
    wait_for(lambda: layer_trees(crispd, crisp, "") == [], what="the layers are gone")
    new_id = crisp.ok("import", str(tmp_path / "b.tar")).split()[0]
    after = layer_trees(crispd, crisp, "example.com/rich:1")
    for was, now in zip(before, after):
        assert {k: v for k, v in was if v != dict(now).get(k)} == {k: v for k, v in now if v != dict(was).get(k)} == {}
    # Again: a canonical form is its own export.
    crisp.ok("export", "-o", str(tmp_path / "e"), "example.com/rich:1")
    assert (tmp_path / "e").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "b.tar") as tar:
        made = json.loads(tar.extractfile("blobs/sha256/" + new_id[7:]).read())
    was = json.loads(image.config)
    assert made["config"] == was["config"] and made["history"][:2] == was["history"] and made["created"] == was["created"]
    assert made["rootfs"]["diff_ids"] != was["rootfs"]["diff_ids"] and len(made["history"]) == len(made["rootfs"]["diff_ids"])


def test_other_tools_take_what_is_exported(crisp, tmp_path):
    crisp.ok("pull", "-q", BUSYBOX, NGINX)
    path = str(tmp_path / "a.tar")
    crisp.ok("export", "-o", path, BUSYBOX, NGINX)
    for source in (f"docker-archive:{path}:{NGINX}", f"oci-archive:{path}:1.29-2"):
        subprocess.run(["skopeo", "copy", "-q", source, f"oci:{tmp_path}/layout:one"], check=True)
        subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/layout:one", f"{tmp_path}/bundle"], check=True)
        assert os.path.exists(f"{tmp_path}/bundle/rootfs/bin/sh")
        subprocess.run(["rm", "-rf", f"{tmp_path}/layout", f"{tmp_path}/bundle"], check=True)
    plain = str(tmp_path / "b.tar")
    crisp.ok("export", "--uncompressed", "-o", plain, NGINX)
    with tarfile.open(plain) as tar:
        entries = json.loads(tar.extractfile("manifest.json").read())
        assert [e["RepoTags"] for e in entries] == [[NGINX]]
        tarfile.open(fileobj=tar.extractfile(entries[0]["Layers"][0]), mode="r:").getmembers()
    assert [m.name for m in tarfile.open(path)].count(entries[0]["Config"]) == 1  # diffIDs are those of plain tars


def test_export_to_a_pipe_and_import(crisp, tmp_path):
    crisp.ok("pull", "-q", BUSYBOX)
    out = crisp.start("export", "--uncompressed", BUSYBOX)
    process = crisp.start("import", "-", stdin=out.stdout)
    text, err = process.communicate(timeout=60)
    out.stdout.close()
    assert out.wait() == 0 and process.returncode == 0 and BUSYBOX in text.decode(), err


def test_export_errors(crisp, crispd, tmp_path):
    path = str(tmp_path / "no.tar")
    code, _, err = crisp("export", "-o", path, "absent.example/x:1")
    assert code == 1 and "is not here; pull it first (NOT_FOUND)" in err and not os.path.exists(path)
    code, _, err = crisp("export", "-o", "/proc/none/x", BUSYBOX)
    assert code == 1 and "/proc/none/x" in err
    assert crisp("export")[0] == 2
    assert sorted(os.listdir(tmp_path)) == ["logs"]


def test_image_removed_during_its_export(crisp, crispd, tmp_path):
    """The reader stops reading: the export waits, the image is removed, and the archive is whole all the same."""
    layer = oci.Layer().add("big", os.urandom(8 << 20))
    image = oci.Image([layer], CONFIG, oci=True)
    crisp.ok("import", write_tar(tmp_path / "a.tar", layout_of(image, "example.com/big:1")))
    process = crisp.start("export", "example.com/big:1")
    data = process.stdout.read(1024)
    assert crisp.ok("rmi", "-f", "example.com/big:1") and images(crisp) == []
    data += process.stdout.read()
    assert process.wait() == 0
    (tmp_path / "b.tar").write_bytes(data)
    assert "example.com/big:1" in crisp.ok("import", str(tmp_path / "b.tar"))
    # A client that goes away in the middle leaves nothing (the fixture looks).
    process = crisp.start("export", "example.com/big:1")
    process.stdout.read(1024)
    process.kill()
    process.communicate()
    from daemon import wait_for
    wait_for(lambda: os.listdir(f"{crispd.base}/root/image/staging") == [], what="nothing is left")
