"""Mounts: what the runtime provides and what the client asks for."""
import contextlib
import os
import socket
import subprocess

import grpc
import pytest

from cri import Cri, code_of
from stubs import pb

pytestmark = pytest.mark.core


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    path.mkdir()
    (path / "seen").write_text("from the host\n")
    return str(path)


def test_bind_mount_both_ways(cri, pod, volume):
    mount = pb.Mount(host_path=volume, container_path="/a/new/place")
    assert cri.output(pod, ["sh", "-c", "cat /a/new/place/seen; echo back >/a/new/place/back"], mounts=[mount]) == \
        "from the host\n"
    with open(volume + "/back", encoding="utf-8") as f:
        assert f.read() == "back\n"


def test_readonly_mount(cri, pod, volume):
    mount = pb.Mount(host_path=volume, container_path="/data", readonly=True)
    code, _, err = cri.run_to_end(pod, ["touch", "/data/x"], mounts=[mount])
    assert code != 0 and "Read-only file system" in err


@pytest.mark.vm
def test_recursive_readonly(cri, pod, volume):
    """`readonly` is for the mount itself; recursive_read_only for those below it too."""
    os.mkdir(volume + "/inner")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "inner", volume + "/inner"], check=True)
    try:
        mount = pb.Mount(host_path=volume, container_path="/data", readonly=True)
        cri.output(pod, ["sh", "-c", "touch /data/inner/x && ! touch /data/x"], mounts=[mount])
        mount.recursive_read_only = True
        container = cri.run(pod, ["sleep", "3600"], mounts=[mount])
        code, _, err = cri.exec(container, "touch", "/data/inner/y")
        assert code != 0 and "Read-only file system" in err
        assert cri.status(container).mounts[0].recursive_read_only
        with open(volume + "/inner/host", "w", encoding="utf-8"):
            pass  # the host's own mount stays writable
    finally:
        subprocess.run(["umount", volume + "/inner"], check=True)
    features = [h.features for h in cri.Status().runtime_handlers]
    assert features and all(f.recursive_read_only_mounts for f in features)


def test_file_mount(cri, pod, volume):
    mount = pb.Mount(host_path=volume + "/seen", container_path="/etc/one-file")
    assert cri.output(pod, ["cat", "/etc/one-file"], mounts=[mount]) == "from the host\n"


def test_missing_source_is_made_a_directory(cri, pod, volume):
    mount = pb.Mount(host_path=volume + "/made", container_path="/data")
    cri.output(pod, ["touch", "/data/x"], mounts=[mount])
    assert os.path.exists(volume + "/made/x")


def test_symlinks_of_host_and_of_image(cri, pod, volume):
    os.symlink(volume, volume + "-link")
    mount = pb.Mount(host_path=volume + "-link", container_path="/var/run/x")
    assert cri.output(pod, ["cat", "/var/run/x/seen"], mounts=[mount]) == "from the host\n"


def test_target_cannot_leave_the_root(cri, pod, volume):
    mount = pb.Mount(host_path=volume, container_path="/../../../../escape-test")
    try:
        out = cri.output(pod, ["cat", "/escape-test/seen"], mounts=[mount])
        assert out == "from the host\n"
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not os.path.exists("/escape-test")


def test_links_of_the_image_lead_nowhere_else(cri, pod, volume):
    """/escape is a link with many "..", /to-proc one to the container's /proc."""
    marker = "crisp-escape-" + os.path.basename(os.path.dirname(volume))
    mount = pb.Mount(host_path=volume, container_path=f"/escape/{marker}")
    image = "docker.io/library/volumes"
    assert cri.output(pod, ["cat", f"/tmp/{marker}/seen"], mounts=[mount], image=image) == "from the host\n"
    assert not os.path.exists("/tmp/" + marker)
    container = cri.create(pod, ["true"], mounts=[pb.Mount(host_path=volume, container_path="/to-proc")], image=image)
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "/to-proc is a link to a place in /proc" in text


def test_mounts_in_proc(cri, pod, volume):
    """Files with figures may be replaced, nothing else; /proc itself by a procfs only."""
    def mounting(path, source=volume):
        return [pb.Mount(host_path=source, container_path=path)]

    assert cri.output(pod, ["cat", "/proc/meminfo"], mounts=mounting("/proc/meminfo", volume + "/seen")) == \
        "from the host\n"
    for path in ("/proc/sys", "/proc/self/attr", "//proc/./sysrq-trigger"):
        code, text = code_of(cri.create, pod, ["true"], mounts=mounting(path))
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "mounts[0].container_path" in text
    container = cri.create(pod, ["true"], mounts=mounting("/proc"))
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "is no procfs" in text
    assert cri.output(pod, ["sh", "-c", "readlink /proc/1/root | wc -l; ls -d /proc/sys"],
                      mounts=mounting("/proc", "/proc"))


def test_volume_at_etc(cri, volume):
    """The pod's own files are mounted into it, unless it is read-only and has no place for them."""
    pod = cri.run_pod(hostname="my-host")
    mount = pb.Mount(host_path=volume, container_path="/etc")
    assert cri.output(pod, ["cat", "/etc/seen", "/etc/hostname"], mounts=[mount]) == "from the host\nmy-host\n"
    for name in ("hosts", "hostname", "resolv.conf"):
        os.unlink(f"{volume}/{name}")  # places to mount on
    mount.readonly = True
    assert cri.output(pod, ["ls", "/etc"], mounts=[mount]) == "seen\n"


def test_status_echoes_mounts(cri, pod, volume):
    mount = pb.Mount(host_path=volume, container_path="/data", readonly=True)
    container = cri.run(pod, ["sleep", "3600"], mounts=[mount])
    mounts = cri.status(container).mounts
    assert len(mounts) == 1
    assert (mounts[0].host_path, mounts[0].container_path, mounts[0].readonly) == (volume, "/data", True)


@pytest.fixture
def shared_volume(volume):
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    subprocess.run(["mount", "--make-private", volume], check=True)  # no peer of the tree's own, if that is shared
    subprocess.run(["mount", "--make-rshared", volume], check=True)
    yield volume
    subprocess.run(["umount", "-R", "-l", volume], check=True)


@pytest.mark.vm
def test_propagation(cri, pod, shared_volume):
    def see(propagation, name):
        mount = pb.Mount(host_path=shared_volume, container_path="/data", propagation=propagation)
        container = cri.run(pod, ["sleep", "3600"], mounts=[mount])
        assert cri.status(container).mounts[0].propagation == propagation
        os.mkdir(f"{shared_volume}/{name}")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "seen", f"{shared_volume}/{name}"], check=True)
        try:
            return f"/data/{name} " in cri.sh(container, "cat /proc/mounts")
        finally:
            subprocess.run(["umount", f"{shared_volume}/{name}"], check=True)

    assert not see(pb.PROPAGATION_PRIVATE, "private")
    assert see(pb.PROPAGATION_HOST_TO_CONTAINER, "slave")
    assert see(pb.PROPAGATION_BIDIRECTIONAL, "shared")


def test_what_the_runtime_mounts(cri, pod):
    types = {}
    for line in cri.output(pod, ["cat", "/proc/mounts"]).splitlines():
        _, point, kind, options, *_ = line.split()
        types[point] = (kind, options.split(","))
    assert types["/"][0] == "overlay" and types["/proc"][0] == "proc"
    assert types["/dev"][0] == "tmpfs" and types["/dev/pts"][0] == "devpts" and types["/dev/mqueue"][0] == "mqueue"
    assert types["/sys"][0] == "sysfs" and "ro" in types["/sys"][1]
    assert types["/dev/shm"][0] == "tmpfs"
    assert "/sys/fs/cgroup" in types and "ro" in types["/proc/sys"][1]


def test_devices(cri, pod):
    out = cri.output(pod, ["sh", "-c", "echo x >/dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 1 /dev/urandom |"
                           " wc -c; ls /dev; readlink /dev/fd"])
    assert "00 00 00 00" in out and "/proc/self/fd" in out
    for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "stdin", "stdout", "stderr"):
        assert name in out.split()


def test_shm_is_shared_by_the_pod(cri, pod):
    one, two = cri.run(pod, ["sleep", "3600"]), cri.run(pod, ["sleep", "3600"])
    cri.sh(one, "echo hi >/dev/shm/x")
    assert cri.sh(two, "cat /dev/shm/x; df -k /dev/shm | tail -n1").split()[:1] == ["hi"]
    assert "65536" in cri.sh(two, "df -k /dev/shm")


def test_hosts_hostname_resolv(cri):
    pod = cri.run_pod(hostname="my-host", dns_config=pb.DNSConfig(
        servers=["10.96.0.10"], searches=["a.b", "b"], options=["ndots:5"]))
    assert cri.output(pod, ["hostname"]) == "my-host\n"
    assert cri.output(pod, ["cat", "/etc/hostname"]) == "my-host\n"
    resolv = cri.output(pod, ["cat", "/etc/resolv.conf"])
    assert "nameserver 10.96.0.10" in resolv and "search a.b b" in resolv and "options ndots:5" in resolv
    hosts = cri.output(pod, ["cat", "/etc/hosts"])
    assert "127.0.0.1" in hosts and "localhost" in hosts
    assert cri.output(pod, ["sh", "-c", "echo $HOSTNAME"]) == "my-host\n"


def test_client_may_mount_over_the_runtimes_files(cri, pod, volume):
    mount = pb.Mount(host_path=volume + "/seen", container_path="/etc/hosts")
    assert cri.output(pod, ["cat", "/etc/hosts"], mounts=[mount]) == "from the host\n"


def test_image_layers_whiteouts(cri, pod):
    image = "docker.io/library/whiteout"
    out = cri.output(pod, ["sh", "-c", "ls /var/spool; cat /var/link; ls /etc/nsswitch.conf || echo gone"], image=image)
    assert out == "kept\nkept\ngone\n"


def test_the_root_is_not_the_hosts(cri, pod):
    base = cri.crispd.base
    assert cri.output(pod, ["sh", "-c", f"ls -d {base} /proc/1/root{base} 2>/dev/null; ls -d /proc/1/root/etc/nsswitch.conf"
                            ]) == "/proc/1/root/etc/nsswitch.conf\n"


def test_relative_paths_are_refused(cri, pod, volume):
    for mount, field in ((pb.Mount(host_path="relative/path", container_path="/data"), "host_path"),
                         (pb.Mount(host_path=volume, container_path="relative/path"), "container_path")):
        code, text = code_of(cri.create, pod, ["true"], mounts=[mount])
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "relative/path" in text and "mounts[0]." + field in text


# ---- kinds of sources ----

def test_sockets_pipes_and_devices(cri, pod, volume):
    """Anything that has a name can be mounted."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(volume + "/socket")
    os.mkfifo(volume + "/pipe")
    mounts = [pb.Mount(host_path=volume + "/socket", container_path="/run/at/socket"),
              pb.Mount(host_path=volume + "/pipe", container_path="/run/at/pipe", readonly=True),
              pb.Mount(host_path="/dev/zero", container_path="/run/at/zero", readonly=True)]
    assert cri.output(pod, ["stat", "-c", "%F", "/run/at/socket", "/run/at/pipe", "/run/at/zero"], mounts=mounts) == \
        "socket\nfifo\ncharacter special file\n"
    server.close()


def test_readonly_file(cri, pod, volume):
    mounts = [pb.Mount(host_path=volume + "/seen", container_path="/etc/passwd", readonly=True)]
    code, _, err = cri.run_to_end(pod, ["sh", "-c", "echo x >>/etc/passwd"], mounts=mounts,
                                  linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
                                      run_as_user=pb.Int64Value(value=0))))
    assert code != 0 and "Read-only file system" in err


def test_links_of_the_host_are_followed(cri, pod, volume):
    """To the end, as the host sees them: also chains, relative ones, and ones in the middle of a path."""
    os.mkdir(volume + "/real")
    with open(volume + "/real/file", "w", encoding="utf-8") as f:
        f.write("real\n")
    os.symlink("real", volume + "/one")
    os.symlink(volume + "/one", volume + "/two")
    os.symlink("nowhere", volume + "/dangling")
    for path in ("/two/file", "/one/../one/file"):
        mount = pb.Mount(host_path=volume + path, container_path="/f")
        assert cri.output(pod, ["cat", "/f"], mounts=[mount]) == "real\n"
    code, text = code_of(cri.create, pod, ["true"], mounts=[pb.Mount(host_path=volume + "/dangling",
                                                                     container_path="/f")])
    assert code == grpc.StatusCode.INVALID_ARGUMENT and volume + "/dangling" in text


def test_directory_over_file_and_file_over_directory(cri, pod, volume):
    for source, target in ((volume, "/etc/passwd"), (volume + "/seen", "/etc")):
        container = cri.create(pod, ["true"], mounts=[pb.Mount(host_path=source, container_path=target)])
        code, text = code_of(cri.StartContainer, container_id=container)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and f"mount {target}" in text and "directory" in text


def test_missing_sources(make_crispd, tmp_path):
    """Made as directories, 0755, unless the configuration rejects them."""
    crispd = make_crispd(settings={"runtime": {"absent_mount_sources_to_reject": [f"{tmp_path}/no"]}})
    cri = Cri(crispd.start())
    pod = cri.run_pod()
    for path in ("yes/a/b", "nor"):
        cri.output(pod, ["touch", "/data/x"], mounts=[pb.Mount(host_path=f"{tmp_path}/{path}", container_path="/data")])
        assert os.path.exists(f"{tmp_path}/{path}/x") and os.stat(f"{tmp_path}/{path}").st_mode & 0o777 == 0o755
    for path in ("no", "no/deeper"):
        mount = pb.Mount(host_path=f"{tmp_path}/{path}", container_path="/data")
        code, text = code_of(cri.create, pod, ["true"], mounts=[mount])
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "absent_mount_sources_to_reject" in text
        assert f"{tmp_path}/{path}" in text and not os.path.exists(f"{tmp_path}/no")
    os.mkdir(f"{tmp_path}/no")
    cri.output(pod, ["touch", "/data/x"], mounts=[pb.Mount(host_path=f"{tmp_path}/no", container_path="/data")])


# ---- order ----

def test_mounts_in_mounts(cri, pod, volume, tmp_path):
    """Those further up come first, however they are listed; of two at one place the later one is seen."""
    for name in ("outer", "inner", "innermost"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name + "\n")
    paths = {"/a/b/c": "innermost", "/a": "outer", "/a/b/": "inner"}
    mounts = [pb.Mount(host_path=str(tmp_path / name), container_path=path) for path, name in paths.items()]
    assert cri.output(pod, ["cat", "/a/name", "/a/b/name", "/a/b/c/name"], mounts=mounts) == "outer\ninner\ninnermost\n"
    assert (tmp_path / "outer/b").is_dir() and (tmp_path / "inner/c").is_dir()  # places to mount on
    mounts = [pb.Mount(host_path=str(tmp_path / name), container_path="/a") for name in ("outer", "inner")]
    assert cri.output(pod, ["cat", "/a/name"], mounts=mounts) == "inner\n"


def test_recursive_bind(cri, pod, shared_volume):
    """What is mounted below a source comes along, with its own options."""
    os.mkdir(shared_volume + "/below")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "below", shared_volume + "/below"], check=True)
    with open(shared_volume + "/below/file", "w", encoding="utf-8") as f:
        f.write("below\n")
    mount = pb.Mount(host_path=shared_volume, container_path="/data")
    assert cri.output(pod, ["cat", "/data/below/file"], mounts=[mount]) == "below\n"


# ---- propagation ----

@contextlib.contextmanager
def mounted_at(path):
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "seen", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def host_points():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return [line.split()[4] for line in f]


@pytest.mark.parametrize("restart", [False, True])
def test_propagation_of_later_mounts(cri, crispd, privileged_pod, shared_volume, restart):
    """Mounts and unmounts, in both directions, also when the daemon was killed and started anew meanwhile."""
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    modes = {"private": pb.PROPAGATION_PRIVATE, "slave": pb.PROPAGATION_HOST_TO_CONTAINER,
             "shared": pb.PROPAGATION_BIDIRECTIONAL}
    containers = {name: cri.run(privileged_pod, ["sleep", "3600"], linux=linux, mounts=[
        pb.Mount(host_path=shared_volume, container_path="/data", propagation=mode)]) for name, mode in modes.items()}
    if restart:
        crispd.kill()
        crispd.start()
        containers["later"] = cri.run(privileged_pod, ["sleep", "3600"], linux=linux, mounts=[
            pb.Mount(host_path=shared_volume, container_path="/data", propagation=pb.PROPAGATION_BIDIRECTIONAL)])

    def seen_by(path):
        return {name for name, container in containers.items()
                if f" {path} " in cri.sh(container, "cat /proc/mounts")}

    shared = {"shared", "later"} & set(containers)
    with mounted_at(shared_volume + "/host"):
        assert seen_by("/data/host") == {"slave"} | shared
    assert not seen_by("/data/host")
    for name, container in containers.items():
        cri.sh(container, "mkdir -p /data/made && mount -t tmpfs -o size=64k made /data/made")
        try:
            assert host_points().count(shared_volume + "/made") == (name in shared)
            assert seen_by("/data/made") == ({"slave"} | shared if name in shared else {name})
        finally:
            cri.sh(container, "umount /data/made")
        assert shared_volume + "/made" not in host_points()


def test_propagation_needs_a_shared_source(cri, pod, volume):
    """A source on a private mount would silently get nothing."""
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    try:
        subprocess.run(["mount", "--make-private", volume], check=True)
        for mode, word in ((pb.PROPAGATION_BIDIRECTIONAL, "shared mount"),
                           (pb.PROPAGATION_HOST_TO_CONTAINER, "shared or slave mount")):
            container = cri.create(pod, ["true"], mounts=[
                pb.Mount(host_path=volume, container_path="/data", propagation=mode)])
            code, text = code_of(cri.StartContainer, container_id=container)
            assert code == grpc.StatusCode.FAILED_PRECONDITION and word in text and volume in text
    finally:
        subprocess.run(["umount", volume], check=True)


def test_a_containers_end_leaves_no_mounts(cri, crispd, privileged_pod, volume):
    """What it mounted itself in its own places goes with it; the host's stay."""
    def ours():
        return sorted(point for point in host_points() if point.startswith((crispd.base, volume, "/mnt", "/data")))

    before = ours()
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    cri.output(privileged_pod, ["sh", "-c", "mount -t tmpfs none /data; mount -t tmpfs none /mnt; umount /proc"],
               linux=linux, mounts=[pb.Mount(host_path=volume, container_path="/data")])
    assert ours() == before


# ---- the pod's files ----

@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
def test_kubelets_files_win(cri, pod, volume, name):
    mounts = [pb.Mount(host_path=volume + "/seen", container_path="/etc/" + name)]
    assert cri.output(pod, ["sh", "-c", f"cat /etc/{name}; grep -c ' /etc/{name} ' /proc/self/mounts"],
                      mounts=mounts) == "from the host\n1\n"


def test_shm_of_the_client(cri, pod, volume):
    """A memory-backed emptyDir at /dev/shm, as people do for a larger one."""
    container = cri.run(pod, ["sleep", "3600"], mounts=[pb.Mount(host_path=volume, container_path="/dev/shm")])
    assert cri.sh(container, "cat /dev/shm/seen; grep -c ' /dev/shm ' /proc/self/mounts") == "from the host\n1\n"


def test_shm_of_the_host(cri):
    host = pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(ipc=pb.NODE))
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=host))
    name = f"crisp-test-{os.getpid()}"
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        namespace_options=pb.NamespaceOption(ipc=pb.NODE, pid=pb.CONTAINER)))
    cri.output(pod, ["touch", f"/dev/shm/{name}"], linux=linux)
    os.unlink(f"/dev/shm/{name}")
