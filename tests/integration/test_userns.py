"""Pods with a user namespace: who is who inside and outside."""
import os
import subprocess

import grpc
import pytest

from cri import Cri, code_of
from stubs import pb

HOST, LENGTH = 700_000, 65_536
FIELD = "linux.security_context.namespace_options.userns_options"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def mapping(host=HOST, length=LENGTH, inside=0):
    return [pb.IDMapping(container_id=inside, host_id=host, length=length)]


def userns(host=HOST, **more):
    ids = mapping(host, **more)
    return pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids)


def pod_linux(options=None, sysctls=None, **namespaces):
    namespaces.setdefault("pid", pb.CONTAINER)
    return pb.LinuxPodSandboxConfig(sysctls=sysctls or {}, security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(userns_options=options or userns(), **namespaces)))


def security(**fields):
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**fields))


def volume_mount(path, container_path="/data", mapped=True, **more):
    ids = {"uidMappings": mapping(), "gidMappings": mapping()} if mapped else {}
    return pb.Mount(host_path=str(path), container_path=container_path, **ids, **more)


@pytest.fixture
def pod(cri):
    return cri.run_pod(linux=pod_linux())


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    path.mkdir()
    (path / "secret").write_text("roots\n")
    (path / "secret").chmod(0o600)
    path.chmod(0o777)
    for parent in list(path.parents)[:3]:
        parent.chmod(0o755)
    return path


def test_advertised(cri):
    status = cri.Status()
    assert all(handler.features.user_namespaces for handler in status.runtime_handlers)
    assert status.features.user_namespaces_host_network


@pytest.mark.core
@pytest.mark.vm
def test_root_is_nobody_on_the_host(cri, pod):
    container = cri.run(pod, ["sleep", "3600"])
    pid = cri.pid_of(container)
    assert os.stat(f"/proc/{pid}").st_uid == HOST
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    assert cri.sh(container, "id -u; cat /proc/self/uid_map").split() == ["0", "0", str(HOST), str(LENGTH)]
    # Exec'd processes are in the same namespace, also those with another user.
    assert cri.sh(container, "readlink /proc/self/ns/user").strip() == os.readlink(f"/proc/{pid}/ns/user")
    user = cri.run(pod, ["sleep", "3600"], linux=security(run_as_user=pb.Int64Value(value=1000)))
    assert os.stat(f"/proc/{cri.pid_of(user)}").st_uid == HOST + 1000
    assert cri.status(user).user.linux.uid == 1000
    options = cri.pod_status(pod).linux.namespaces.options.userns_options
    assert options == userns()
    assert os.stat(cri.status(container).log_path).st_uid == 0


@pytest.mark.core
def test_everything_in_the_root_has_its_owner(cri, pod, crispd):
    container = cri.run(pod, ["sleep", "3600"], linux=security(run_as_user=pb.Int64Value(value=0)))
    paths = ("/ /bin/busybox /tmp /etc/passwd /etc/hosts /etc/hostname /etc/resolv.conf /dev /dev/null /dev/shm /dev/pts "
             "/dev/mqueue /dev/fd /sys/class/net/lo/mtu /proc/1/environ")
    owners = cri.sh(container, f"stat -c '%n %u:%g' {paths}").splitlines()
    assert owners == [f"{path} 0:0" for path in paths.split()]
    cri.sh(container, "echo mine >/etc/new; echo >>/etc/passwd; echo >>/etc/hosts; touch /dev/shm/x")
    root = f"/proc/{cri.pid_of(container)}/root"
    assert os.stat(root + "/etc/new").st_uid == HOST
    assert os.stat(root + "/etc/passwd").st_uid == HOST
    # The layers themselves are as they were: a pod without a user namespace, and one with another mapping.
    other = cri.run_pod(linux=pod_linux(userns(HOST + LENGTH)))
    for third in (cri.run_pod(), other):
        assert cri.output(third, ["stat", "-c", "%u", "/etc/passwd"]) == "0\n"


@pytest.mark.core
def test_volumes(cri, pod, volume):
    mounts = [volume_mount(volume), volume_mount(volume, "/plain", mapped=False)]
    container = cri.run(pod, ["sleep", "3600"], mounts=mounts)
    assert cri.sh(container, "cat /data/secret; touch /data/a; stat -c %u /data/secret /plain/secret") == \
        "roots\n0\n65534\n"
    assert cri.exec(container, "cat", "/plain/secret")[0] != 0
    cri.sh(container, "touch /plain/b")
    assert os.stat(volume / "a").st_uid == 0
    assert os.stat(volume / "b").st_uid == HOST
    assert list(cri.status(container).mounts) == mounts


@pytest.mark.core
def test_single_files_and_mounts_below(cri, pod, volume):
    (volume / "sub").mkdir()
    mounts = [volume_mount(volume / "secret", "/etc/one"), volume_mount(volume, readonly=True)]
    container = cri.run(pod, ["sleep", "3600"], mounts=mounts)
    assert cri.sh(container, "cat /etc/one; echo more >>/etc/one; stat -c %u /etc/one") == "roots\n0\n"
    code, _, err = cri.exec(container, "touch", "/data/x")
    assert code != 0 and "Read-only file system" in err
    assert (volume / "secret").read_text() == "roots\nmore\n" and os.stat(volume / "secret").st_uid == 0


@pytest.mark.core
@pytest.mark.vm
def test_volumes_of_images(cri, pod):
    image = cri.image(cri.have("docker.io/library/data")).id
    mount = pb.Mount(image=pb.ImageSpec(image=image), container_path="/mnt/data", readonly=True)
    container = cri.run(pod, ["sleep", "3600"], image="docker.io/library/volumes", mounts=[mount])
    # The image has /vol, and says no more of /new/place than that it is a volume.
    assert cri.sh(container, "stat -c %u:%g /vol /new/place /mnt/data/conf; stat -c %u /mnt/data/top") == \
        "5:6\n0:0\n0:0\n5\n"
    cri.sh(container, "touch /vol/x /new/place/x")


@pytest.mark.core
def test_network_and_sysctls_belong_to_it(cri):
    sysctls = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "1234567", "net.ipv4.ping_group_range": "0 65535"}
    pod = cri.run_pod(linux=pod_linux(sysctls=sysctls))
    caps = security(capabilities=pb.Capability(add_capabilities=["NET_ADMIN"]))
    container = cri.run(pod, ["sleep", "3600"], linux=caps)
    assert cri.sh(container, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax") == "1\n1234567\n"
    assert cri.sh(container, "cat /proc/sys/net/ipv4/ping_group_range").split() == ["0", "65535"]
    cri.sh(container, "ip link set lo mtu 9000 && cat /sys/class/net/lo/mtu")
    assert cri.pod_status(pod).network.ip in cri.sh(container, "ip addr; cat /etc/hosts")


@pytest.mark.core
@pytest.mark.parametrize("namespaces", [dict(pid=pb.POD), dict(network=pb.NODE), dict(network=pb.NODE, ipc=pb.NODE),
                                        dict(pid=pb.NODE)], ids=["pod-pid", "host-network", "host-ipc", "host-pid"])
def test_with_other_namespaces(cri, namespaces):
    pod = cri.run_pod(linux=pod_linux(**namespaces))
    options = pb.NamespaceOption(userns_options=userns(), **{"pid": pb.CONTAINER, **namespaces})
    container = cri.run(pod, ["sleep", "3600"], linux=security(namespace_options=options))
    assert cri.sh(container, "id -u; cat /proc/self/uid_map").split() == ["0", "0", str(HOST), str(LENGTH)]
    pid = cri.pid_of(container)
    assert os.stat(f"/proc/{pid}").st_uid == HOST
    for name, kind in (("network", "net"), ("ipc", "ipc"), ("pid", "pid")):
        same = os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
        assert same == (namespaces.get(name) == pb.NODE), kind
    assert sorted(cri.sh(container, "ls /sys/class/net").split()) == sorted(
        line.split(":")[0].strip() for line in cri.sh(container, "cat /proc/net/dev").splitlines()[2:])
    if "network" in namespaces:
        with open("/proc/sys/kernel/hostname", encoding="utf-8") as f:
            assert cri.sh(container, "hostname") == f.read()
        assert cri.exec(container, "ip", "link", "set", "lo", "mtu", "9000")[0] != 0
    if namespaces.get("pid") == pb.POD:
        other = cri.run(pod, ["sleep", "3601"], linux=security(namespace_options=options))
        assert "sleep 3601" in cri.sh(container, "ps")
        cri.StopContainer(container_id=other, timeout=0)


@pytest.mark.core
def test_privileged_means_inside(cri):
    pod_options = pod_linux()
    pod_options.security_context.privileged = True
    pod = cri.run_pod(linux=pod_options)
    container = cri.run(pod, ["sleep", "3600"], linux=security(privileged=True))
    assert cri.sh(container, "mkdir /m && mount -t tmpfs x /m && echo mounted") == "mounted\n"
    assert cri.exec(container, "sh", "-c", "echo 1 >/proc/sys/kernel/panic")[0] != 0
    for name in os.listdir("/dev"):
        if os.lstat(f"/dev/{name}").st_rdev and name not in ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"):
            assert not cri.sh(container, f"test -O /dev/{name} && echo mine; true"), name


@pytest.mark.core
def test_what_is_made_outside_cannot_be_undone_inside(cri, pod, volume):
    linux = security(capabilities=pb.Capability(add_capabilities=["ALL"]), masked_paths=["/proc/keys", "/etc/passwd-"],
                     readonly_paths=["/proc/sys"])
    container = cri.run(pod, ["sleep", "3600"], linux=linux, mounts=[volume_mount(volume, readonly=True)])
    for attempt in ("umount /proc/keys", "umount /data", "mount -o remount,bind,rw /data",
                    "mount -o remount,bind,rw /proc/sys", "umount /proc/sys"):
        assert cri.exec(container, "sh", "-c", attempt)[0] != 0, attempt


@pytest.mark.core
def test_processes_survive_a_restart(cri, crispd, pod, volume):
    before = cri.run(pod, ["sleep", "3600"])
    crispd.restart()
    cri = Cri(crispd)
    assert cri.sh(before, "cat /proc/self/uid_map").split() == ["0", str(HOST), str(LENGTH)]
    after = cri.run(pod, ["sleep", "3600"], mounts=[volume_mount(volume)])
    assert cri.sh(after, "stat -c %u /data/secret /") == "0\n0\n"


@pytest.mark.parametrize("options, says", [
    (pb.UserNamespace(mode=pb.POD), ".uids: no mapping, but mode is POD"),
    (pb.UserNamespace(mode=pb.POD, uids=mapping()), ".gids: no mapping, but mode is POD"),
    (pb.UserNamespace(mode=pb.POD, uids=mapping() * 2, gids=mapping()), ".uids: 2 mappings, but only one is supported"),
    (userns(inside=1), ".uids[0].container_id: is 1, but id 0 has to be mapped"),
    (userns(length=0), ".uids[0]: 0 ids from host_id 700000 on can't be mapped"),
    (userns(host=4_294_900_000, length=100_000), ".uids[0]: 100000 ids from host_id 4294900000 on can't be mapped"),
    (pb.UserNamespace(mode=pb.NODE, uids=mapping()), ": mode NODE (the host's user namespace) takes no uids or gids"),
    (pb.UserNamespace(mode=pb.CONTAINER), ".mode: 1 is neither POD nor NODE"),
])
def test_bad_mappings(cri, options, says):
    assert code_of(cri.run_pod, linux=pod_linux(options)) == (INVALID, FIELD + says)


def test_bad_containers(cri, pod, volume):
    def refused(in_pod=pod, **more):
        code, text = code_of(cri.create, in_pod, ["true"], **more)
        assert code == INVALID, text
        return text

    options = pb.NamespaceOption(userns_options=userns(HOST + 1))
    assert FIELD + ": differs from the pod's" in refused(linux=security(namespace_options=options))
    options = pb.NamespaceOption(userns_options=userns())
    assert FIELD + ": differs from the pod's" in refused(cri.run_pod(), linux=security(namespace_options=options))
    assert "run_as_user: 65536 does not exist in the pod's user namespace, which maps 0 to 65535" in \
        refused(linux=security(run_as_user=pb.Int64Value(value=65_536)))
    assert "supplemental_groups: 70000 does not exist" in refused(linux=security(supplemental_groups=[70_000]))
    odd = pb.Mount(host_path=str(volume), container_path="/data", uidMappings=mapping(1), gidMappings=mapping(1))
    assert "mounts[0].uidMappings: the mappings differ from those of the pod's" in refused(mounts=[odd])
    assert "mounts[0].uidMappings: the pod has no user namespace" in \
        refused(cri.run_pod(), mounts=[volume_mount(volume)])
    assert "mounts[0].propagation: PROPAGATION_BIDIRECTIONAL can't be had" in \
        refused(mounts=[volume_mount(volume, propagation=pb.PROPAGATION_BIDIRECTIONAL)])


@pytest.mark.core
def test_file_system_without_mapped_mounts(cri, pod):
    container = cri.create(pod, ["true"], mounts=[volume_mount("/sys/kernel")])
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "/data: /sys/kernel: its file system can't be idmapped" in text


@pytest.mark.core
def test_propagation_from_the_host(cri, pod, volume):
    (volume / "sub").mkdir()
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    try:
        subprocess.run(["mount", "--make-rshared", volume], check=True)
        container = cri.run(pod, ["sleep", "3600"], mounts=[volume_mount(
            volume, mapped=False, propagation=pb.PROPAGATION_HOST_TO_CONTAINER)])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "later", volume / "sub"], check=True)
        (volume / "sub" / "seen").write_text("")
        assert cri.sh(container, "ls /data/sub") == "seen\n"
        assert cri.exec(container, "umount", "/data/sub")[0] != 0
    finally:
        subprocess.run(["umount", "-R", volume], check=False)
