"""SELinux, on a host that has it, permissive or not: the labels of processes, mounts and volumes."""
import os
import re

import grpc
import pytest

from cri import BUSYBOX, code_of
from stubs import pb

pytestmark = pytest.mark.selinux

PROCESS = "system_u:system_r:container_t:s0"
FILE = "system_u:object_r:container_file_t:s0"
ATTRIBUTE = "security.selinux"


def labelled(privileged=False, **fields):
    options = pb.SELinuxOption(**fields) if fields else None
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        selinux_options=options, privileged=privileged))


def label_of(path):
    return os.getxattr(path, ATTRIBUTE, follow_symlinks=False).rstrip(b"\0").decode()


def process_label(cri, container):
    return cri.sh(container, "cat /proc/self/attr/current").rstrip("\0\n")


def contexts(cri, container):
    """{mount point: context= of its file system}."""
    lines = cri.sh(container, "cat /proc/1/mountinfo").splitlines()
    found = {line.split()[4]: re.search(r'context="?([^"]*?)"?(,[a-z_]+(=|,|$).*)?$', line) for line in lines}
    return {point: match.group(1) for point, match in found.items() if match}


def sleeping(cri, pod, linux=None, **more):
    return cri.run(pod, ["sleep", "3600"], linux=linux or labelled(), **more)


def test_a_pods_containers_share_a_level(cri, pod):
    """Categories of the pod's own, for all its containers and what is executed in them."""
    one, two = sleeping(cri, pod), sleeping(cri, pod)
    other = sleeping(cri, cri.run_pod())
    first = process_label(cri, one)
    assert re.fullmatch(PROCESS + r":c\d+,c\d+", first)
    assert process_label(cri, two) == first != process_label(cri, other)
    with open(f"/proc/{cri.pid_of(one)}/attr/current", encoding="utf-8") as f:
        assert f.read().rstrip("\0\n") == first


def test_mounts_have_the_level(cri, pod):
    container = sleeping(cri, pod)
    label = FILE + process_label(cri, container)[len(PROCESS):]
    found = contexts(cri, container)
    assert {found[point] for point in ("/", "/dev", "/dev/pts")} == {label}
    # The pod's own files may be read by containers of any level.
    assert found["/dev/shm"] == FILE
    for name in ("hosts", "hostname", "resolv.conf"):
        assert label_of(f"{cri.crispd.run_dir}/pods/{pod}/{name}") == FILE
    assert cri.sh(container, "touch /x /dev/shm/x && ls /x")


def test_options(cri, pod):
    container = sleeping(cri, pod, labelled(user="system_u", role="system_r", type="spc_t", level="s0:c4,c5"))
    assert process_label(cri, container) == "system_u:system_r:spc_t:s0:c4,c5"
    assert contexts(cri, container)["/"] == FILE + ":c4,c5"
    container = sleeping(cri, pod, labelled(level="s0"))
    assert process_label(cri, container) == PROCESS
    # The pod's level, for containers that name none.
    security = pb.LinuxSandboxSecurityContext(selinux_options=pb.SELinuxOption(level="s0:c7,c9"))
    container = sleeping(cri, cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=security)))
    assert process_label(cri, container) == PROCESS + ":c7,c9"


def privileged_pod(cri):
    allowing = pb.LinuxSandboxSecurityContext(privileged=True)
    return cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=allowing))


def test_execs_in_two_stages(cri, pod):
    """An exec into a container that may trace: the label has to pass from one stage to the other."""
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(add_capabilities=["SYS_PTRACE"])))
    container = sleeping(cri, pod, linux)
    with open(f"/proc/{cri.pid_of(container)}/attr/current", encoding="utf-8") as f:
        assert process_label(cri, container) == f.read().rstrip("\0\n")


def test_privileged_is_not_restricted(cri):
    container = sleeping(cri, privileged_pod(cri), labelled(privileged=True))
    assert process_label(cri, container) == "system_u:system_r:spc_t:s0"
    assert re.fullmatch(FILE + r":c\d+,c\d+", contexts(cri, container)["/"])


@pytest.mark.parametrize("fields,words", [
    ({"type": "nosuchtype_t"}, "nosuchtype_t:s0\" is not a context of this host's SELinux policy"),
    ({"level": "s0,c4,c5"}, "s0,c4,c5\" is not a context of this host's SELinux policy"),
    ({"level": "s0 c4"}, "has a character that no SELinux level has")])
def test_wrong_options(cri, fields, words):
    pod = privileged_pod(cri)
    for privileged in (False, True):
        code, text = code_of(cri.create, pod, ["true"], linux=labelled(privileged, **fields))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert text.startswith("linux.security_context.selinux_options") and words in text
    code, text = code_of(cri.run_pod, linux=pb.LinuxPodSandboxConfig(
        security_context=pb.LinuxSandboxSecurityContext(selinux_options=pb.SELinuxOption(**fields))))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and words in text


def test_volumes_are_relabelled_when_asked(cri, pod, tmp_path):
    volume, other = tmp_path / "volume", tmp_path / "other"
    (volume / "sub").mkdir(parents=True)
    (volume / "sub" / "file").write_text("x")
    (volume / "link").symlink_to(other)
    other.mkdir()
    before = label_of(other)
    mounts = [pb.Mount(container_path="/v", host_path=str(volume), selinux_relabel=True),
              pb.Mount(container_path="/o", host_path=str(other))]
    container = sleeping(cri, pod, mounts=mounts)
    label = FILE + process_label(cri, container)[len(PROCESS):]
    assert {label_of(p) for p in (volume, volume / "sub", volume / "sub" / "file", volume / "link")} == {label}
    assert label_of(other) == before
    # All of it is said to be labelled when the root is: the next container doesn't look at the rest.
    os.setxattr(volume / "sub" / "file", ATTRIBUTE, before.encode() + b"\0")
    sleeping(cri, pod, mounts=mounts)
    assert label_of(volume / "sub" / "file") == before
    # With another level everything is done again.
    sleeping(cri, pod, labelled(level="s0:c4,c5"), mounts=mounts)
    assert label_of(volume / "sub" / "file") == label_of(volume) == FILE + ":c4,c5"


def test_the_nodes_own_directories_are_not_relabelled(cri, pod):
    before = label_of("/etc")
    code, text = code_of(cri.create, pod, ["true"], mounts=[
        pb.Mount(container_path="/v", host_path="/etc", selinux_relabel=True)])
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "mounts[0].selinux_relabel: /etc is a directory of the node's own" in text
    assert label_of("/etc") == before


def test_levels_are_given_back(cri, crispd):
    folder = f"{crispd.run_dir}/selinux"
    pods = [cri.run_pod() for _ in range(2)]
    for pod in pods:
        cri.create(pod, ["true"])
    assert sorted(os.readlink(f"{folder}/{name}") for name in os.listdir(folder)) == sorted(pods)
    crispd.kill()
    crispd.start()
    assert sorted(os.readlink(f"{folder}/{name}") for name in os.listdir(folder)) == sorted(pods)
    cri.clean()
    assert os.listdir(folder) == []


def test_the_image_is_not_labelled(cri, crispd, pod):
    """Layers are shared by all pods: their files keep the labels they have on disk."""
    sleeping(cri, pod, image=BUSYBOX)
    for layer in os.listdir(f"{crispd.root}/image/layers"):
        assert "container_file_t" not in label_of(f"{crispd.root}/image/layers/{layer}")
