"""Image volumes (Mount.image) and the volumes that an image declares (VOLUME)."""
import hashlib
import os
import signal
import stat

import grpc
import pytest

from cri import code_of
from daemon import wait_for
from stubs import pb

pytestmark = pytest.mark.core
DATA = "docker.io/library/data"
VOLUMES = "docker.io/library/volumes"


def image_mount(cri, image, path, **more):
    return pb.Mount(image=pb.ImageSpec(image=cri.image(cri.have(image)).id), container_path=path, readonly=True, **more)


def layers(crispd):
    return set(os.listdir(f"{crispd.root}/image/layers")) - {"empty", "empty2"}


# ---- Image volumes ----

def test_image_of_one_layer(cri, pod):
    mount = image_mount(cri, DATA, "/mnt/data")
    container = cri.run(pod, ["sleep", "3600"], mounts=[mount])
    assert cri.sh(container, "cat /mnt/data/top /mnt/data/conf/app.ini; stat -c %u /mnt/data/top; ls /mnt/data") == \
        "top\nkey=value\n5\nconf\ntool\ntop\n"
    assert cri.sh(container, "/mnt/data/tool") == "ran\n"
    mounts = cri.status(container).mounts
    assert len(mounts) == 1 and mounts[0] == mount
    code, _, err = cri.exec(container, "touch", "/mnt/data/x")
    assert code != 0 and "Read-only file system" in err


def test_image_of_several_layers(cri, pod):
    """Whiteouts and opaque directories count as in a root."""
    mount = image_mount(cri, "docker.io/library/whiteout", "/w")
    assert cri.output(pod, ["sh", "-c", "ls /w/var/spool; cat /w/var/link; ls /w/etc/nsswitch.conf 2>/dev/null || echo "
                            "gone; ls /etc/nsswitch.conf"], mounts=[mount]) == "kept\nkept\ngone\n/etc/nsswitch.conf\n"


def test_a_privileged_container_cannot_write_to_a_layer(cri, privileged_pod):
    """Layers are shared by all containers: the mount can't be turned into a writable one."""
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    for image in (DATA, "docker.io/library/whiteout"):
        code, _, err = cri.run_to_end(privileged_pod, ["sh", "-c", "mount -o remount,rw,bind /w; mount -o remount,rw /w; "
                                            "touch /w/written"], mounts=[image_mount(cri, image, "/w")], linux=linux)
        assert code != 0 and "Read-only file system" in err


def test_image_over_the_pods_own_files(cri, pod):
    mounts = [image_mount(cri, DATA, "/etc/hosts", image_sub_path="conf/app.ini"),
              image_mount(cri, DATA, "/deep/er", image_sub_path="conf"), image_mount(cri, DATA, "/deep")]
    # The one on /deep comes first, though asked for last; it has no place for /deep/er and is read-only.
    config = cri.container_config(["true"], mounts=mounts)
    code, text = code_of(cri.StartContainer, container_id=cri.create(pod, config=config))
    assert code != grpc.StatusCode.OK and "/deep/er" in text and "Read-only file system" in text
    assert cri.output(pod, ["cat", "/etc/hosts", "/deep/er/app.ini"], mounts=mounts[:2]) == "key=value\n" * 2


@pytest.mark.parametrize("path,expected", [
    ("conf", "app.ini\nhost\nup\n"), ("/conf/", "app.ini\nhost\nup\n"), ("conf/app.ini", "/mnt\n"),
    ("conf/up", "/mnt\n")])
def test_sub_path(cri, pod, path, expected):
    mount = image_mount(cri, DATA, "/mnt", image_sub_path=path)
    if expected == "/mnt\n":  # a file: nothing may be there yet
        mount.container_path = "/mnt-file"
        expected = "/mnt-file\n"
    assert cri.output(pod, ["ls", mount.container_path], mounts=[mount]) == expected


@pytest.mark.parametrize("path", ["absent", "conf/absent/x", "top/x", "conf/host"])
def test_sub_path_that_is_not_in_the_image(cri, pod, path):
    """conf/host would lead to the host's /etc/hostname."""
    container = cri.create(pod, ["true"], mounts=[image_mount(cri, DATA, "/mnt", image_sub_path=path)])
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "ImageVolumeMountFailed" in text and path in text
    status = cri.status(container)
    assert status.reason == "StartError" and "ImageVolumeMountFailed" in status.message


def test_sub_path_with_dots(cri, pod):
    for path in ("../x", "conf/../../x", ".."):
        code, text = code_of(cri.create, pod, ["true"], mounts=[image_mount(cri, DATA, "/mnt", image_sub_path=path)])
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "image_sub_path" in text


def test_image_that_is_not_here(cri, pod, crispd):
    for name in ("docker.io/library/absent:1", "sha256:" + "0" * 64):
        mounts = [image_mount(cri, DATA, "/data"), pb.Mount(image=pb.ImageSpec(image=name), container_path="/mnt")]
        code, text = code_of(cri.create, pod, ["true"], mounts=mounts)
        assert code == grpc.StatusCode.NOT_FOUND
        assert "ImageVolumeMountFailed: mounts[1].image" in text and name in text
    assert os.listdir(f"{crispd.root}/image/containers") == []
    before = layers(crispd)
    cri.RemoveImage(image=pb.ImageSpec(image=DATA))  # nobody holds it
    wait_for(lambda: len(layers(crispd)) == len(before) - 1, 30, "the worker has deleted its layer")


def test_host_path_and_image_exclude_each_other(cri, pod):
    mount = image_mount(cri, DATA, "/mnt", host_path="/tmp")
    code, text = code_of(cri.create, pod, ["true"], mounts=[mount])
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "mounts[0]" in text


@pytest.mark.parametrize("restart", [False, True])
def test_a_volume_holds_its_image(cri, pod, crispd, restart):
    mount = image_mount(cri, DATA, "/mnt")
    container, later = cri.run(pod, ["sleep", "3600"], mounts=[mount]), cri.create(pod, ["cat", "/mnt/top"], mounts=[mount])
    before = layers(crispd)
    cri.RemoveImage(image=pb.ImageSpec(image=DATA))
    assert cri.image(DATA) is None
    if restart:
        crispd.kill()
        crispd.start()
    assert layers(crispd) == before
    assert cri.sh(container, "cat /mnt/top") == "top\n"
    cri.RemoveContainer(container_id=container)
    assert layers(crispd) == before
    cri.StartContainer(container_id=later)  # made before the image was removed
    assert cri.wait(later).exit_code == 0
    cri.RemoveContainer(container_id=later)
    wait_for(lambda: len(layers(crispd)) == len(before) - 1, 30, "the worker has deleted its layer")


# ---- VOLUME ----

def volume_dirs(crispd, container):
    return sorted(os.listdir(f"{crispd.root}/image/containers/{container}/volumes"))


def test_declared_volume_has_the_images_content(cri, pod, crispd):
    container = cri.run(pod, ["sleep", "3600"], image="docker.io/library/volume")
    assert cri.sh(container, "cat /data/seed; stat -c '%a %u %g' /data; stat -c '%a %u %g' /data/seed; pwd") == \
        "seed\n750 1000 1000\n644 1000 1000\n/data\n"
    assert " /data " in cri.sh(container, "cat /proc/self/mountinfo")
    cri.sh(container, "echo more >>/data/seed")
    other = cri.run(pod, ["sleep", "3600"], image="docker.io/library/volume")
    assert cri.sh(other, "cat /data/seed") == "seed\n"  # each container has its own
    assert volume_dirs(crispd, container) == ["0"]
    cri.RemoveContainer(container_id=container)
    assert not os.path.exists(f"{crispd.root}/image/containers/{container}")


def test_all_kinds_of_content(cri, pod, crispd):
    container = cri.run(pod, ["sleep", "3600"], image=VOLUMES)
    script = "cd /vol; stat -c '%n %F %a %u %g %h %Y' . suid hard pipe inner; readlink link; md5sum <big; cat inner/file"
    assert cri.sh(container, script) == """. directory 1777 5 6 3 1700000000
suid regular file 4755 7 8 2 1700000000
hard regular file 4755 7 8 2 1700000000
pipe fifo 620 0 0 1 1700000000
inner directory 700 0 0 2 1700000000
/etc/passwd
SUM  -
inner
""".replace("SUM", hashlib.md5(b"0123456789" * 300000).hexdigest())
    assert cri.sh(container, "cat /alias/file /other/file; ls -A /new/place | wc -l") == "other\nother\n0\n"
    # The link's target is mounted over, the volume below another one is its own, the cgroups are the runtime's.
    points = [line.split()[4] for line in cri.sh(container, "cat /proc/self/mountinfo").splitlines()]
    assert {"/vol", "/vol/inner", "/other", "/new/place"} < set(points) and points.count("/sys/fs/cgroup") == 1
    vol = f"{crispd.root}/image/containers/{container}/volumes/"
    tops = [vol + name for name in volume_dirs(crispd, container)]
    assert len(tops) == 4
    noted = [f"{top}/noted" for top in tops if os.path.exists(f"{top}/noted")]
    assert os.getxattr(noted[0], "user.comment") == b"hello"
    st = os.stat(os.path.dirname(noted[0]) + "/suid")
    assert stat.S_IMODE(st.st_mode) == 0o4755 and st.st_nlink == 2


def test_content_is_copied_anew_after_a_prepared_process_was_killed(cri, pod, crispd):
    """The process that is prepared after CreateContainer may have filled the volumes, or a part of them."""
    container = cri.create(pod, ["sleep", "3600"], image=VOLUMES)
    top = f"{crispd.root}/image/containers/{container}/volumes/"
    wait_for(lambda: any(os.path.exists(f"{top}{n}/suid") for n in os.listdir(top)), 10, "the volume is being filled")
    wait_for(lambda: cri.pid_in(container), 10, "the process has its cgroup")  # it may join after its root is built
    pid = cri.pid_of(container)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 10, "crisp-pod has seen its end")
    filled = next(f"{top}{n}" for n in os.listdir(top) if os.path.exists(f"{top}{n}/suid"))
    with open(filled + "/suid", "w", encoding="utf-8") as f:
        f.write("half")
    cri.StartContainer(container_id=container)
    assert cri.sh(container, "cat /vol/suid; cat /vol/inner/file; stat -c %a /vol") == "sinner\n1777\n"
    assert not os.path.exists(filled + "/inner/file")  # it is in the volume of its own only


def test_image_of_another_handler(cri, pod):
    mount = image_mount(cri, DATA, "/mnt")
    mount.image.runtime_handler = "runc"
    code, text = code_of(cri.create, pod, ["true"], mounts=[mount])
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "mounts[0].image.runtime_handler" in text


def test_declared_volume_is_writable_in_a_readonly_root(cri, pod):
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(readonly_rootfs=True))
    assert cri.output(pod, ["sh", "-c", "touch /vol/x /new/place/y && ! touch /z 2>/dev/null && echo good"],
                      image=VOLUMES, linux=linux) == "good\n"


def test_a_mount_takes_a_volumes_place(cri, pod, crispd, tmp_path):
    """Also one on a directory above it: what is written is to be where the client wants it."""
    (tmp_path / "place").mkdir()
    for path in ("/new/place/", "/new"):
        mounts = [pb.Mount(host_path=str(tmp_path), container_path=path)]
        container = cri.run(pod, ["sleep", "3600"], image=VOLUMES, mounts=mounts)
        cri.sh(container, f"touch {path}/here; ls /vol/suid")
        assert os.path.exists(tmp_path / "here") and len(volume_dirs(crispd, container)) == 3
        os.unlink(tmp_path / "here")


def test_content_survives_stop_and_restart_of_the_daemon(cri, pod, crispd):
    container = cri.run(pod, ["sleep", "3600"], image="docker.io/library/volume")
    cri.sh(container, "echo more >>/data/seed")
    crispd.kill()
    crispd.start()
    assert cri.sh(container, "cat /data/seed") == "seed\nmore\n"
    assert cri.ImageFsInfo().container_filesystems[0].inodes_used.value >= 3
    cri.RemoveContainer(container_id=container)
    assert os.listdir(f"{crispd.root}/image/containers") == []
