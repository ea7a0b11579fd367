"""Broken and hostile registries and layers: the right code, a clear text, nothing left behind."""
import os
import tarfile
import time

import grpc
import pytest

import oci
from badregistry import BadRegistry
from cri import Cri, code_of
from daemon import free_port_text, limit
from oci import Image, Layer
from stubs import pb

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def bad_registry():
    registry = BadRegistry()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def bad(bad_registry, request):
    """A crispd that pulls everything from the bad registry."""
    from conftest import finish
    from daemon import Crispd
    daemon = Crispd(bad_registry.url).start()
    yield Cri(daemon)
    finish(daemon)


def files_below(folder):
    return [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]


@pytest.fixture
def serve(bad_registry, bad):
    """serve(image, name) makes the image available as docker.io/library/NAME:latest."""
    bad_registry.hooks.clear()

    def add(image, name="bad"):
        bad_registry.add(f"docker.io/library/{name}:latest", image)
        return name

    yield add
    bad_registry.hooks.clear()
    bad_registry.manifests.clear()
    assert not bad.ListImages().images
    # What is removed is deleted in the background.
    deadline = time.monotonic() + limit(10)
    while (left := files_below(bad.crispd.root + "/image")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"left behind: {left[:5]}"


def pull_fails(bad, name="bad"):
    code, text = code_of(bad.PullImage, image=pb.ImageSpec(image=name), deadline=limit(60))
    if text.startswith("RegistryUnavailable: "):  # kubelet finds this word nowhere but at the beginning, under UNKNOWN
        assert code == Code.UNKNOWN
        code = Code.UNAVAILABLE
    assert code not in (Code.UNKNOWN, Code.OK, Code.INTERNAL), f"{code}: {text}"
    assert name in text, text
    return code, text


def test_unknown_image(bad, serve):
    code, text = pull_fails(bad, "nosuchimage")
    assert code == Code.NOT_FOUND and "not found" in text.lower()


@pytest.mark.parametrize("name", ["", "UPPER/Case", "a b", "x@sha256:123", "-x", "a//b", "x:" + "t" * 129, "é",
                                  "../../etc", "http://x/y", "a" * 5000])
def test_bad_reference(bad, serve, name):
    code, text = code_of(bad.PullImage, image=pb.ImageSpec(image=name))
    assert code == Code.INVALID_ARGUMENT and text


def test_registry_that_is_down(make_crispd):
    cri = Cri(make_crispd(registry_url="http://127.0.0.1:" + free_port_text()).start())
    code, text = code_of(cri.PullImage, image=pb.ImageSpec(image="registry.k8s.io/pause:3.9"))
    assert code == Code.UNKNOWN and text.startswith("RegistryUnavailable: ")
    assert "refused" in text.lower() or "connect" in text.lower()


def small(layer=None, **more):
    return Image([layer or Layer().add("file", b"content\n")], {"Cmd": ["/file"]}, **more)


def test_wrong_digest_of_a_layer(bad, serve, bad_registry):
    image = small()
    name = serve(image)
    bad_registry.blobs[oci.digest(image.layers[0].blob)] = image.layers[0].blob[:-9] + b"x" + image.layers[0].blob[-8:]
    _, text = pull_fails(bad, name)
    assert "digest" in text or "sha256" in text


def test_wrong_digest_of_a_manifest(bad, serve, bad_registry):
    image = small()
    serve(image)
    asked = "sha256:" + "1" * 64
    bad_registry.manifests[("docker.io/library/bad", asked)] = (image.media_type, image.manifest)
    _, text = pull_fails(bad, "bad@" + asked)
    assert "digest" in text or "sha256" in text


def test_wrong_diff_id(bad, serve):
    image, other = small(), small(Layer().add("other", b"other\n"))
    image.config = other.config
    image.manifest = oci.dumps({
        "schemaVersion": 2, "mediaType": image.media_type,
        "config": Image._descriptor(oci.DOCKER_CONFIG, other.config),
        "layers": [Image._descriptor(oci.DOCKER_LAYER, image.layers[0].blob)]})
    _, text = pull_fails(bad, serve(image))
    assert "diff" in text.lower() or "digest" in text.lower()


def test_truncated_layer(bad, serve, bad_registry):
    image = small(Layer().add("file", os.urandom(300000)))
    name = serve(image)
    blob = image.layers[0].blob
    bad_registry.hooks[oci.digest(blob)] = lambda h: h.reply(200, blob[:1000], "application/octet-stream",
                                                             length=len(blob))
    pull_fails(bad, name)


def test_layer_that_is_no_gzip(bad, serve):
    class Garbage(Layer):
        blob = b"this is not a gzip stream" * 10

    pull_fails(bad, serve(small(Garbage().add("x"))))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_http_errors(bad, serve, bad_registry, status):
    name = serve(small())
    bad_registry.hooks["/manifests/"] = lambda h: h.reply(status, b'{"errors":[{"code":"X","message":"why it is so"}]}')
    code, text = pull_fails(bad, name)
    assert str(status) in text or "not found" in text.lower() or "RegistryUnavailable" in text
    assert code in {401: [Code.UNAUTHENTICATED, Code.PERMISSION_DENIED], 403: [Code.PERMISSION_DENIED],
                    404: [Code.NOT_FOUND], 429: [Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE]}.get(
                        status, [Code.UNAVAILABLE])


@pytest.mark.parametrize("body", [b"", b"not json", b"{}", b"[" * 100000, b'{"schemaVersion":1}', b"x" * (9 << 20)])
def test_manifests_that_are_none(bad, serve, bad_registry, body):
    name = serve(small())
    bad_registry.hooks["/manifests/"] = lambda h: h.reply(200, body, oci.DOCKER_MANIFEST)
    pull_fails(bad, name)


def hostile(kind):
    """A layer that tries to write or point outside of its root."""
    victim = "/tmp/crisp-escape-test"
    layer = Layer()
    if kind == "dotdot":
        return layer.add("../../../../../.." + victim, b"x")
    if kind == "inner dotdot":
        return layer.dir("a").add("a/../../../../../.." + victim, b"x")
    if kind == "absolute":
        return layer.add(victim, b"x")
    if kind == "symlink to file":
        return layer.symlink("link", victim).add("link", b"x")
    if kind == "symlink to directory":
        return layer.symlink("dir", "/tmp").add("dir/crisp-escape-test", b"x")
    if kind == "relative symlink":
        return layer.symlink("dir", "../../../../../../../../tmp").add("dir/crisp-escape-test", b"x")
    if kind == "hard link out":
        return layer.hardlink("shadow", "/etc/hostname")
    if kind == "hard link dotdot":
        return layer.hardlink("shadow", "../../../../../../etc/hostname")
    if kind == "whiteout dotdot":
        return layer.add("../../../../../../tmp/.wh.crisp-keep-test")
    if kind == "whiteout of dots":
        return layer.add(".wh...").add("a/.wh..")
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["dotdot", "inner dotdot", "absolute", "symlink to file", "symlink to directory",
                                  "relative symlink", "hard link out", "hard link dotdot", "whiteout dotdot",
                                  "whiteout of dots"])
def test_layers_that_try_to_escape(bad, serve, kind):
    """Either refused with a clear text, or unpacked inside its own root: never outside."""
    with open("/tmp/crisp-keep-test", "w", encoding="utf-8") as f:
        f.write("keep")
    try:
        name = serve(small(hostile(kind)))
        try:
            bad.pull(name)
        except grpc.RpcError as e:
            assert e.code() in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.DATA_LOSS), e.details()
            assert "bad" in e.details()
        else:
            bad.RemoveImage(image=pb.ImageSpec(image=name))
        assert not os.path.exists("/tmp/crisp-escape-test")
        assert os.path.exists("/tmp/crisp-keep-test")
    finally:
        for path in ("/tmp/crisp-keep-test", "/tmp/crisp-escape-test"):
            if os.path.exists(path):
                os.unlink(path)


def test_image_supplied_overlay_xattrs_are_refused(bad, serve):
    layer = Layer().dir("opaque", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"}).add("opaque/x", b"x")
    try:
        bad.pull(serve(small(layer)))
    except grpc.RpcError as e:
        assert "xattr" in e.details() or "trusted" in e.details()
    else:
        for top, dirs, _ in os.walk(bad.crispd.root + "/image"):
            for name in dirs:
                if name == "opaque":
                    assert "trusted.overlay.opaque" not in os.listxattr(os.path.join(top, name))
        bad.RemoveImage(image=pb.ImageSpec(image="bad"))


def test_gzip_bomb_of_zeros_is_bounded_by_disk_not_memory(bad, serve):
    layer = Layer().add("zeros", b"\0" * (64 << 20))
    name = serve(small(layer))
    bad.pull(name)
    with open(f"/proc/{bad.crispd.process.pid}/status", encoding="utf-8") as f:
        peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    assert peak < (900 << 10 if "asan" in os.environ.get("CRISP_BUILD", "") else 64 << 10)
    bad.RemoveImage(image=pb.ImageSpec(image=name))


def test_device_nodes_fifos_and_odd_names(bad, serve):
    layer = Layer().add("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666) \
        .add("pipe", kind=tarfile.FIFOTYPE).add("n" * 200 + "/" + "m" * 200, b"deep") \
        .add("new\nline", b"x").add("late/dir/file", b"no parent entry")
    name = serve(small(layer))
    bad.pull(name)
    bad.RemoveImage(image=pb.ImageSpec(image=name))
