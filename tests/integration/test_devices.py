"""Devices: nodes in the container, their owners, and what the cgroup lets them be used for."""
import os
import re
import stat

import grpc
import pytest

import cgroups
from cri import Cri, code_of
from stubs import pb

FUSE = "/dev/fuse"  # not among those that every container may use


def device(host, container, permissions="rwm"):
    return pb.Device(host_path=host, container_path=container, permissions=permissions)


def look(cri, pod, *paths, **more):
    """{path: "type mode uid:gid major:minor"} as a container sees them."""
    out = cri.output(pod, ["stat", "-c", "%n %F %a %u:%g %t:%T", *paths], **more)
    return {line.split()[0]: line.split(" ", 1)[1] for line in out.splitlines()}


def rules(cri, container):
    """What the kernel has as the container's device rules (cgroup v1)."""
    place = cgroups.of_process(cri.pid_of(container))
    top = [t for t in cgroups.hierarchies() if t.endswith("/devices")]
    if "devices" not in place or not top:
        return None  # v2: a BPF program, which can't be read back; what it allows is tried
    with open(f"{top[0]}{place['devices']}/devices.list", encoding="utf-8") as f:
        return f.read().splitlines()


@pytest.fixture
def nodes(crispd):
    """A folder of device nodes on the host, as a driver would make them."""
    folder = f"{crispd.base}/nodes"
    os.makedirs(folder + "/sub/pts")
    rdev = os.stat(FUSE).st_rdev
    for name, mode in (("one", 0o640), ("sub/random", 0o600), ("sub/pts/full", 0o666)):
        os.mknod(f"{folder}/{name}", stat.S_IFCHR | mode, rdev)
        os.chmod(f"{folder}/{name}", mode)
    os.chown(f"{folder}/one", 1234, 5678)
    os.symlink("one", folder + "/link")
    os.symlink("nodes", crispd.base + "/linked")
    with open(folder + "/file", "w", encoding="utf-8"):
        pass
    yield folder
    for path in ("one", "sub/random", "sub/pts/full", "link", "file", "../linked"):
        os.unlink(f"{folder}/{path}")
    for path in ("sub/pts", "sub", ""):
        os.rmdir(f"{folder}/{path}")


def number():
    rdev = os.stat(FUSE).st_rdev
    return f"{os.major(rdev):x}:{os.minor(rdev):x}"


@pytest.mark.core
def test_node_is_as_on_the_host(cri, pod, nodes):
    seen = look(cri, pod, "/dev/a/b", "/dev/l", devices=[
        device(nodes + "/one", "/dev/a/b"), device(nodes + "/link", "/dev/l")])
    assert seen == {"/dev/a/b": f"character special file 640 1234:5678 {number()}",
                    "/dev/l": f"character special file 640 1234:5678 {number()}"}


@pytest.mark.core
def test_directory_of_devices(cri, pod, crispd, nodes):
    """Also through a link; names that are special right in /dev are ordinary further down."""
    out = cri.output(pod, ["find", "/dev/d", "!", "-type", "d"], devices=[device(crispd.base + "/linked", "/dev/d")])
    assert sorted(out.split()) == ["/dev/d/one", "/dev/d/sub/pts/full", "/dev/d/sub/random"]


@pytest.mark.core
def test_permissions_reach_the_kernel(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], devices=[device(FUSE, "/dev/f", "r")])
    assert cri.exec(container, "sh", "-c", ": </dev/f")[0] == 0
    code, _, err = cri.exec(container, "sh", "-c", ": >/dev/f")
    assert code != 0 and "Operation not permitted" in err
    rdev = os.stat(FUSE).st_rdev
    listed = rules(cri, container)
    assert listed is None or f"c {os.major(rdev)}:{os.minor(rdev)} r" in listed
    # Not asked for: the node can be made, as everywhere, but not be opened.
    other = cri.run(pod, ["sleep", "3600"])
    code, _, err = cri.exec(other, "sh", "-c", f"mknod /f c {os.major(rdev)} {os.minor(rdev)} && : </f")
    assert code != 0 and "Operation not permitted" in err
    listed = rules(cri, other)
    assert listed is None or not [r for r in listed if re.search(rf"\b{os.major(rdev)}:{os.minor(rdev)} ", r)]


def test_what_makes_no_sense(cri, pod, nodes):
    for broken, words in ((device(nodes + "/none", "/dev/x"), ["devices[0].host_path", "/none", "No such file"]),
                          (device(nodes + "/file", "/dev/x"), ["devices[0].host_path", "neither a device"]),
                          (device("dev/null", "/dev/x"), ["devices[0].host_path", "not an absolute path"]),
                          (device(FUSE, "dev/x"), ["devices[0].container_path"]),
                          (device(FUSE, "/dev/../x"), ["devices[0].container_path", ".."]),
                          (device(FUSE, "/dev/x", "rx"), ["devices[0].permissions", '"rx"'])):
        code, text = code_of(cri.create, pod, ["true"], devices=[broken])
        assert code == grpc.StatusCode.INVALID_ARGUMENT and all(word in text for word in words), text


@pytest.mark.core
def test_privileged_has_the_hosts(cri, crispd, pod, privileged_pod):
    """All of /dev but the container's own parts, also those further down that are called like them."""
    folder = f"/dev/crisp-test-{os.getpid()}"
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    os.mkdir(folder)
    try:
        for name in ("random", "tty"):
            os.mknod(f"{folder}/{name}", stat.S_IFCHR | 0o600, os.stat(FUSE).st_rdev)
        container = cri.run(privileged_pod, ["sleep", "3600"], linux=linux)
        out = cri.sh(container, f"ls {folder} /dev; : </dev/fuse; : >{folder}/random")
        assert {"random", "tty", "fuse", "loop-control", "null"} <= set(out.split())
        assert cri.sh(container, "ls /dev/pts").split() in (["ptmx"], ["0", "ptmx"])
        listed = rules(cri, container)
        assert listed is None or listed == ["a *:* rwm"]
        assert f"{folder}/random" not in cri.output(pod, ["find", "/dev"])
    finally:
        for name in os.listdir(folder):
            os.unlink(f"{folder}/{name}")
        os.rmdir(folder)


@pytest.mark.core
def test_nothing_is_made_in_a_volume(cri, pod, privileged_pod, nodes):
    """A device below a volume would stay on the host: it has to be there already."""
    volume = [pb.Mount(host_path=nodes, container_path="/dev/volume")]
    for path in ("/dev/volume/new", "/dev/volume/dir/new", "/dev/volume/file"):
        container = cri.create(pod, ["true"], mounts=volume, devices=[device(FUSE, path)])
        code, text = code_of(cri.StartContainer, container_id=container)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and f"device {path} would be made in a volume" in text
        assert not {"new", "dir"} & set(os.listdir(nodes))
    seen = look(cri, pod, "/dev/volume/one", mounts=volume, devices=[device(FUSE, "/dev/volume/one")])
    assert seen["/dev/volume/one"].startswith("character special file 640 1234:5678")
    privileged = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    volume[0].container_path = "/dev/net"  # where the host has devices: the volume's place, not theirs
    out = cri.output(privileged_pod, ["ls", "/dev/net"], mounts=volume, linux=privileged)
    assert sorted(out.split()) == ["file", "link", "one", "sub"]


def test_owner_from_the_security_context(make_crispd):
    crispd = make_crispd(settings={"runtime": {"device_ownership_from_security_context": True}})
    cri = Cri(crispd.start())
    pod = cri.run_pod()
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        run_as_user=pb.Int64Value(value=1001), run_as_group=pb.Int64Value(value=77)))
    asked = [device(FUSE, "/dev/f", "rw")]
    assert look(cri, pod, "/dev/f", "/dev/null", devices=asked, linux=linux) == {
        "/dev/f": f"character special file {os.stat(FUSE).st_mode & 0o7777:o} 1001:77 {number()}",
        "/dev/null": "character special file 666 0:0 1:3"}
    assert "0:0" in look(cri, pod, "/dev/f", devices=asked)["/dev/f"]
    cri.clean()
