"""image.policies and image.allowed: which images are taken, and signed by whom."""
import grpc
import pytest

import oci
from badregistry import BadRegistry
from cri import Cri, code_of
from daemon import wait_for
from oci import Image, Index, Layer
from registry import Registry
from signing import KINDS, Key, Signature
from stubs import pb

pytestmark = pytest.mark.core
HOST = "registry.example.com"
WORD = "SignatureValidationFailed: "


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    made = {kind: Key(folder, kind, kind) for kind in KINDS}
    made["stranger"] = Key(folder, "stranger")
    return made


def settings(keys):
    require = {kind: {"action": "require", "keys": [keys[kind].public]} for kind in KINDS}
    return {"image": {"policies": {
        **{f"{HOST}/{kind}": entry for kind, entry in require.items()},
        f"{HOST}/both": {"action": "require", "keys": [keys["ecdsa"].public, keys["rsa"].public], "all_keys": True},
        f"{HOST}/copy": {**require["ecdsa"], "signed_as": "upstream.example.com/team"},
        f"{HOST}/any": {**require["ecdsa"], "signed_as": "*"},
        f"{HOST}/nokey": {"action": "require", "keys": ["/nonexistent/key.pub"]},
        "rejected.example.com": {"action": "reject"},
        "docker.io/policed": {"action": "reject"},
    }, "allowed": [HOST, "rejected.example.com", "docker.io/policed"]}}


@pytest.fixture(scope="module")
def world(keys):
    """A crispd with policies, and the registry that it asks for everything."""
    from conftest import finish
    from daemon import Crispd
    registry = BadRegistry()
    daemon = Crispd(registry.url, settings=settings(keys)).start()
    yield Cri(daemon), registry
    finish(daemon)
    registry.close()


@pytest.fixture
def cri(world):
    yield world[0]
    for image in world[0].ListImages().images:
        world[0].RemoveImage(image=pb.ImageSpec(image=image.id))


@pytest.fixture
def registry(world):
    world[1].hooks.clear()
    world[1].manifests.clear()
    world[1].requests.clear()
    return world[1]


def small(text="content"):
    return Image([Layer().add("file", text.encode())], {"Cmd": ["/file"]}, oci=True)


def add(registry, name, image=None):
    """Puts an image there; its name and digest."""
    image = image or small()
    if isinstance(image, Index):
        image.blobs = ()  # it has none of its own
    registry.add(f"{HOST}/{name}:v1", image)
    for one in getattr(image, "images", []):
        registry.add(f"{HOST}/{name}:{one.arch}", one)
    return f"{HOST}/{name}:v1", oci.digest(image.manifest)


def sign(registry, name, digest, *signers, repository=None, **more):
    signature = Signature(repository or f"{HOST}/{name}", digest, *signers, **more)
    registry.add(f"{HOST}/{name}:{signature.tag}", signature)
    return signature


def refused(cri, ref, *texts):
    code, text = code_of(cri.PullImage, image=pb.ImageSpec(image=ref))
    assert code == grpc.StatusCode.UNKNOWN and text.startswith(WORD), f"{code}: {text}"
    for wanted in (ref.split("@")[0], *texts):
        assert wanted in text, text
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_signed(cri, registry, keys, kind):
    ref, digest = add(registry, f"{kind}/app")
    sign(registry, f"{kind}/app", digest, keys["stranger"])
    refused(cri, ref, "of 1 signatures", keys[kind].public)
    sign(registry, f"{kind}/app", digest, keys["stranger"], keys[kind])
    assert cri.pull(ref) == small().id
    assert cri.pull(f"{HOST}/{kind}/app@{digest}") == small().id


def test_unsigned(cri, registry):
    image = small("unsigned")
    ref, digest = add(registry, "ecdsa/app", image)
    refused(cri, ref, f"{digest} has none", f'policy "{HOST}/ecdsa"')
    refused(cri, f"{HOST}/ecdsa/app@{digest}", "has none")
    # Not a byte of a layer was asked for, and nothing is here.
    assert not [path for path, _ in registry.requests if oci.digest(image.layers[0].blob) in path]
    assert cri.image(ref) is None and not cri.ListImages().images


def test_other_names_of_the_registry(cri, registry):
    """A policy is not passed by with another spelling."""
    for spelling in (HOST.upper(), HOST + ":443", HOST.title() + ":443"):
        registry.add(f"{spelling}/ecdsa/app:v1", small())
        code, text = code_of(cri.PullImage, image=pb.ImageSpec(image=f"{spelling}/ecdsa/app:v1"))
        assert code == grpc.StatusCode.UNKNOWN and text.startswith(WORD), text
    registry.add("docker.io/policed/app:v1", small())
    for spelling in ("docker.io", "index.docker.io", "registry-1.docker.io", "Registry-1.docker.io:443"):
        code, text = code_of(cri.PullImage, image=pb.ImageSpec(image=f"{spelling}/policed/app:v1"))
        assert code == grpc.StatusCode.UNKNOWN and text.startswith(WORD), text
    for spelling in (HOST + ":0443", HOST + ":00443", "010.0.0.1", "10.1", "[::ffff:7f00:1]"):
        registry.add(f"{spelling}/ecdsa/app:v1", small())
        code, text = code_of(cri.PullImage, image=pb.ImageSpec(image=f"{spelling}/ecdsa/app:v1"))
        assert code == grpc.StatusCode.INVALID_ARGUMENT and spelling in text, text


def test_index(cri, registry, keys):
    index = Index([small("amd64"), Image([Layer().add("arm", b"arm")], arch="arm64", oci=True)])
    ref, digest = add(registry, "ecdsa/multi", index)
    refused(cri, ref)
    sign(registry, "ecdsa/multi", digest, keys["ecdsa"])
    assert cri.pull(ref) == index.images[0].id
    # The other way: only what this machine runs is signed.
    ref, _ = add(registry, "ecdsa/single", index)
    sign(registry, "ecdsa/single", oci.digest(index.images[1].manifest), keys["ecdsa"])
    refused(cri, ref)
    sign(registry, "ecdsa/single", oci.digest(index.images[0].manifest), keys["ecdsa"])
    assert cri.pull(ref) == index.images[0].id


def test_referrers(cri, registry, keys):
    ref, digest = add(registry, "ecdsa/app")
    signature = Signature(f"{HOST}/ecdsa/app", digest, keys["ecdsa"], artifact=True)
    registry.add(f"{HOST}/ecdsa/app:unused", signature)
    refused(cri, ref)
    # The tag that stands for the list on registries without one.
    registry.manifests[f"{HOST}/ecdsa/app", digest.replace(":", "-")] = oci.OCI_INDEX, signature.referrers()
    assert cri.pull(ref) == small().id
    del registry.manifests[f"{HOST}/ecdsa/app", digest.replace(":", "-")]
    refused(cri, ref)
    registry.hooks["/referrers/"] = lambda handler: handler.reply(200, signature.referrers(), oci.OCI_INDEX)
    assert cri.pull(ref) == small().id
    asked = [path for path, _ in registry.requests if f"/referrers/{digest}" in path]
    assert asked and "artifactType=application%2Fvnd.dev.cosign.artifact.sig.v1%2Bjson" in asked[-1]


def test_replayed(cri, registry, keys):
    ref, digest = add(registry, "ecdsa/app")
    sign(registry, "ecdsa/app", digest, keys["ecdsa"], repository=f"{HOST}/ecdsa/other")
    refused(cri, ref, f"for repository {HOST}/ecdsa/other, not for {HOST}/ecdsa/app")
    sign(registry, "ecdsa/app", digest, keys["ecdsa"], repository=f"{HOST}/ecdsa/app:v0")
    refused(cri, ref, 'for tag "v0", not for "v1"')
    # The signature of one image under the name of another's.
    signature = Signature(f"{HOST}/ecdsa/app", "sha256:" + "1" * 64, keys["ecdsa"])
    signature.subject = digest
    registry.add(f"{HOST}/ecdsa/app:{signature.tag}", signature)
    refused(cri, ref, "1" * 64, digest)


def test_hostile_signatures(cri, registry, keys):
    ref, digest = add(registry, "ecdsa/app")
    place = (f"{HOST}/ecdsa/app", digest.replace(":", "-") + ".sig")
    for manifest in (b"", b"{", b"[]", b'{"layers":{}}', b'{"layers":[1,null,{}]}', b"x" * (5 << 20),
                     b'{"layers":' + b"[" * 5000 + b"]" * 5000 + b"}"):
        registry.manifests[place] = oci.OCI_MANIFEST, manifest
        refused(cri, ref)
    good = Signature(f"{HOST}/ecdsa/app", digest, keys["ecdsa"])
    registry.add(f"{HOST}/ecdsa/app:{good.tag}", good)
    payload = oci.digest(good.blobs[1])
    registry.hooks[payload] = lambda handler: handler.reply(200, b"y" * (1 << 20))
    refused(cri, ref)
    registry.hooks[payload] = lambda handler: handler.reply(404, b"{}")
    refused(cri, ref, "not found")
    registry.hooks.clear()
    assert cri.pull(ref) == small().id


def test_all_keys(cri, registry, keys):
    ref, digest = add(registry, "both/app")
    sign(registry, "both/app", digest, keys["rsa"], keys["stranger"])
    text = refused(cri, ref, keys["ecdsa"].public)
    assert keys["rsa"].public not in text
    sign(registry, "both/app", digest, keys["rsa"], keys["ecdsa"])
    assert cri.pull(ref) == small().id


def test_signed_as(cri, registry, keys):
    ref, digest = add(registry, "copy/app")
    sign(registry, "copy/app", digest, keys["ecdsa"])
    refused(cri, ref, "not for upstream.example.com/team/app")
    sign(registry, "copy/app", digest, keys["ecdsa"], repository="upstream.example.com/team/app")
    assert cri.pull(ref) == small().id
    ref, digest = add(registry, "any/app")
    sign(registry, "any/app", digest, keys["ecdsa"], repository="wherever.example.com/x")
    assert cri.pull(ref) == small().id


def test_missing_key(cri, registry, keys):
    ref, digest = add(registry, "nokey/app")
    sign(registry, "nokey/app", digest, keys["ecdsa"])
    refused(cri, ref, "/nonexistent/key.pub", "can't be applied")


def test_here_already(cri, registry, keys):
    """Every pull asks for the signature; what is here stays."""
    ref, digest = add(registry, "ecdsa/app")
    signature = sign(registry, "ecdsa/app", digest, keys["ecdsa"])
    image = cri.pull(ref)
    del registry.manifests[f"{HOST}/ecdsa/app", signature.tag]
    refused(cri, ref)
    assert cri.image(ref).id == image


def test_here_under_another_name(cri, registry, keys):
    """An image that came under a name without a policy doesn't get one with a policy for free."""
    free, digest = add(registry, "free/app")
    image = cri.pull(free)
    ref, _ = add(registry, "ecdsa/app")
    refused(cri, ref)
    assert cri.image(ref) is None and list(cri.image(image).repo_tags) == [free]


def test_registry_that_is_down_for_signatures(cri, registry, keys):
    ref, digest = add(registry, "ecdsa/app")
    sign(registry, "ecdsa/app", digest, keys["ecdsa"])
    registry.hooks[".sig"] = lambda handler: handler.reply(404, b"{}")
    refused(cri, ref)
    registry.hooks[".sig"] = lambda handler: handler.reply(503, b"{}")
    code, text = code_of(cri.PullImage, image=pb.ImageSpec(image=ref))
    assert code == grpc.StatusCode.UNKNOWN and text.startswith("RegistryUnavailable: "), text


def test_rejected_and_not_allowed(cri, registry):
    code, text = code_of(cri.PullImage, image=pb.ImageSpec(image="rejected.example.com/app"))
    assert code == grpc.StatusCode.UNKNOWN and text.startswith(WORD) and '"rejected.example.com" rejects' in text
    for name in ("docker.io/library/x", "registry.example.com.evil.com/x", "x"):
        code, text = code_of(cri.PullImage, image=pb.ImageSpec(image=name))
        assert code == grpc.StatusCode.PERMISSION_DENIED and "image.allowed" in text, text
    assert not registry.requests


def test_with_a_real_registry(keys, tmp_path, make_crispd):
    server = Registry(str(tmp_path / "storage"), str(tmp_path))
    try:
        cri = Cri(make_crispd(registry_url=server.url, settings=settings(keys)).start())
        image = small("real")
        server.push(f"{HOST}/ecdsa/app:v1", image)
        refused(cri, f"{HOST}/ecdsa/app:v1", "has none")
        signature = Signature(f"{HOST}/ecdsa/app", oci.digest(image.manifest), keys["ecdsa"])
        server.push(f"{HOST}/ecdsa/app:{signature.tag}", signature)
        assert cri.pull(f"{HOST}/ecdsa/app:v1") == image.id
        cri.RemoveImage(image=pb.ImageSpec(image=image.id))
        wait_for(lambda: not cri.ListImages().images, what="the image is gone")
    finally:
        server.stop()
