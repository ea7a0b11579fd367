"""Images: pull, list, status, remove; names and identity."""
import hashlib
import json

import grpc
import pytest

from cri import BUSYBOX, E2E, STAGING, code_of
from daemon import wait_for
from stubs import pb

pytestmark = pytest.mark.core


def remove(cri, image):
    cri.RemoveImage(image=pb.ImageSpec(image=image))


def references(cri):
    return {tag for image in cri.ListImages().images for tag in image.repo_tags}


def test_pull_status_list_remove(cri):
    name = STAGING + "test-image-tag:test"
    ref = cri.pull(name)
    image = cri.image(name)
    assert image.id == ref and ref.startswith("sha256:") and len(ref) == 71
    assert list(image.repo_tags) == [name] and len(image.repo_digests) == 1
    assert image.repo_digests[0].startswith(STAGING + "test-image-tag@sha256:")
    assert image.size > 1 << 20 and image.spec.image in (name, ref)
    assert cri.image(ref) == image == cri.image(image.repo_digests[0])
    assert name in references(cri)
    assert [i.id for i in cri.ListImages(filter=pb.ImageFilter(image=pb.ImageSpec(image=name))).images] == [ref]
    assert cri.pull(name) == ref
    remove(cri, name)
    assert cri.image(name) is None and name not in references(cri)
    remove(cri, name)


def test_pull_by_digest_has_no_tag(cri):
    name = STAGING + "test-image-latest"
    ref = cri.pull(name)
    digest = cri.image(name).repo_digests[0]
    remove(cri, name)
    assert cri.pull(digest) == ref
    image = cri.image(digest)
    assert list(image.repo_tags) == [] and list(image.repo_digests) == [digest]
    remove(cri, digest)


def test_several_tags_of_one_image_go_together(cri):
    names = [f"{STAGING}test-image-tags:{n}" for n in (1, 2, 3)]
    assert len({cri.pull(name) for name in names}) == 1
    assert sorted(cri.image(names[0]).repo_tags) == names
    remove(cri, cri.image(names[0]).id)
    assert not set(names) & references(cri)


def test_one_image_under_two_registries(cri):
    names = ["registry.k8s.io/pause:3.9", "k8s.gcr.io/pause:3.9"]
    assert len({cri.pull(name) for name in names}) == 1
    assert sorted(cri.image(names[0]).repo_tags) == sorted(names)
    assert len(cri.image(names[0]).repo_digests) == 2
    remove(cri, names[0])
    assert not set(names) & references(cri)


def test_names_are_completed(cri):
    ref = cri.pull("hello-world")
    assert list(cri.image("hello-world").repo_tags) == ["docker.io/library/hello-world:latest"]
    assert cri.image("docker.io/library/hello-world:latest").id == ref


@pytest.mark.parametrize("name,uid,username", [
    ("uid", 1002, ""), ("username", None, "www-data"), ("uid-group", 1003, ""), ("username-group", None, "www-data")])
def test_image_user(cri, name, uid, username):
    image = f"{STAGING}test-image-user-{name}"
    cri.pull(image)
    status = cri.image(image)
    assert (status.uid.value if status.HasField("uid") else None) == uid and status.username == username
    remove(cri, image)


def test_verbose_status_has_the_config(cri, registry):
    ref = cri.pull(BUSYBOX)
    answer = cri.ImageStatus(image=pb.ImageSpec(image=ref), verbose=True)
    info = json.loads(answer.info["info"])
    assert answer.image == cri.image(ref) and info["id"] == ref
    text = answer.info["info"]
    spec = text[text.index('"imageSpec":') + len('"imageSpec":'):-1]
    assert "sha256:" + hashlib.sha256(spec.encode()).hexdigest() == ref  # byte for byte
    assert info["imageSpec"]["config"]["Env"] and info["imageSpec"]["os"] == "linux"
    assert info["manifest"]["config"]["digest"] == ref and info["manifestDigest"].startswith("sha256:")
    assert info["chainID"].startswith("sha256:") and info["manifestMediaType"] == info["manifest"]["mediaType"]
    assert not cri.ImageStatus(image=pb.ImageSpec(image=ref)).info


def test_missing_image_status_is_empty(cri):
    assert cri.image("docker.io/library/absent:1") is None
    assert cri.image("sha256:" + "0" * 64) is None


def test_pull_deadline(cri):
    name = E2E + "httpd:2.4.39-4"
    remove(cri, name)
    code, _ = code_of(cri.PullImage, image=pb.ImageSpec(image=name), deadline=0.001)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    cri.pull(name)


def test_concurrent_pulls_and_removes(cri):
    name = E2E + "httpd:2.4.39-4"
    remove(cri, name)
    pulls = [cri.future("PullImage", image=pb.ImageSpec(image=name)) for _ in range(8)]
    assert len({pull.result().image_ref for pull in pulls}) == 1
    removes = [cri.future("RemoveImage", image=pb.ImageSpec(image=name)) for _ in range(8)]
    for call in removes:
        call.result()
    assert cri.image(name) is None


def test_container_by_image_id(cri, pod):
    ref = cri.pull(BUSYBOX)
    container = cri.run(pod, ["sleep", "3600"], image=ref)
    status = cri.status(container)
    assert status.image_ref == status.image_id == ref and status.image.image == ref


def test_removal_does_not_harm_a_running_container(cri, pod):
    name = STAGING + "test-image-1"
    cri.pull(name)
    container = cri.run(pod, ["sleep", "3600"], image=name)
    ref = cri.status(container).image_ref
    try:
        remove(cri, name)
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "passwd" in cri.sh(container, "ls /etc")
    status = cri.status(container)
    assert status.image.image == name and status.image_ref == ref
    cri.RemoveContainer(container_id=container)
    remove(cri, name)


def test_image_fs_info(cri):
    info = cri.ImageFsInfo()
    assert info.image_filesystems and info.container_filesystems
    assert info.image_filesystems[0].used_bytes.value > 0 and info.image_filesystems[0].fs_id.mountpoint


def test_layers_are_freed(cri, crispd):
    import os

    def entries():
        return sum(len(files) for _, _, files in os.walk(f"{crispd.root}/image"))

    before = entries()
    name = STAGING + "test-image-2"
    cri.pull(name)
    remove(cri, name)
    wait_for(lambda: entries() <= before, 10, "the image's files are gone")
