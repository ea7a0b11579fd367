"""The images that the tests pull, made of Debian packages and of the C programs beside this file.

No public registry is asked: a loopback registry serves these under the names of the originals.
"""
import os
import re
import shutil
import subprocess
import tarfile
import tempfile

from oci import Image, Index, Layer

HERE = os.path.dirname(os.path.abspath(__file__))
E2E = "registry.k8s.io/e2e-test-images/"
STAGING = "gcr.io/k8s-staging-cri-tools/"

PGREP = """#!/bin/sh
# pgrep NAME: the ids of the processes of that name (Debian's busybox has no such applet).
for dir in /proc/[0-9]*; do
    read -r comm 2>/dev/null <"$dir/comm" || continue
    case $comm in *"$1"*) echo "${dir#/proc/}"; found=1 ;; esac
done
[ -n "$found" ]
"""
IPCS = """#!/bin/sh
# ipcs: the shared memory segments of this IPC namespace.
echo "------ Shared Memory Segments --------"
echo "key        shmid      perms      bytes"
while read -r key id perms bytes rest; do
    [ "$key" = key ] || echo "$key $id $perms $bytes"
done </proc/sysvipc/shm
"""
PASSWD = [("root", 0, 0, "/root", "/bin/sh"), ("nobody", 65534, 65534, "/nonexistent", "/bin/false"),
          ("www-data", 33, 33, "/var/www", "/bin/false")]
GROUP = [("root", 0, ""), ("users", 100, ""), ("www-data", 33, ""), ("nogroup", 65534, "")]


def compile_static(source):
    """The bytes of a static program: a test image has no C library to load."""
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "out")
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-Wl,--build-id=none",
                        "-o", out, os.path.join(HERE, source)], check=True)
        return read(out)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def libraries(program):
    """The shared libraries of a program and its loader, as (path in the image, bytes)."""
    found = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [(path, read(path)) for path in sorted(set(re.findall(r"(/\S+\.so\S*)", found)))]


def accounts(passwd, group):
    users = "".join(f"{name}:x:{uid}:{gid}:{name}:{home}:{shell}\n" for name, uid, gid, home, shell in passwd)
    groups = "".join(f"{name}:x:{gid}:{members}\n" for name, gid, members in group)
    return users.encode(), groups.encode()


def add_directories(layer):
    for name in ("bin", "dev", "etc", "home", "lib", "lib/x86_64-linux-gnu", "lib64", "proc", "run", "sbin",
                 "sys", "usr", "usr/bin", "usr/sbin", "var", "var/run", "var/log", "var/www", "var/spool"):
        layer.dir(name)
    layer.dir("root", 0o700)
    layer.dir("tmp", 0o1777).dir("var/tmp", 0o1777)


def busybox_layer():
    """Debian's dynamic busybox with its libraries. Each applet is a hard link: with symbolic links,
    masking /bin/ls would mask the shell; and a static busybox's shell runs applets inside itself."""
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    layer = Layer()
    add_directories(layer)
    layer.add("bin/busybox", read(busybox), 0o755)
    for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            layer.hardlink("bin/" + applet, "bin/busybox", 0o755)
    layer.hardlink("usr/bin/env", "bin/busybox", 0o755)
    for path, data in libraries(busybox):
        layer.add(path.lstrip("/"), data, 0o755)
    users, groups = accounts(PASSWD, GROUP)
    layer.add("etc/passwd", users).add("etc/group", groups)
    layer.add("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    layer.add("bin/pgrep", PGREP.encode(), 0o755).add("bin/ipcs", IPCS.encode(), 0o755)
    return layer


def marker(text):
    """A layer that makes an image different from others."""
    return Layer().add(text + ".txt", (text + "\n").encode())


def conformance_images(base):
    """What critest pulls: {reference: image}."""
    shell = {"Cmd": ["sh"]}
    web = compile_static("web.c")
    nginx = Layer().dir("usr/sbin").add("usr/sbin/nginx", web, 0o755)
    httpd = Layer().dir("usr/local").dir("usr/local/bin").add("usr/local/bin/httpd-foreground", web, 0o755)
    pause = Image([Layer().add("pause", compile_static("pause.c"), 0o755)],
                  {"Entrypoint": ["/pause"], "User": "65535:65535"})
    setuid = Layer().add("nnp", compile_static("nonewprivs.c"), 0o4755)
    arm64 = Image([marker("arm64")], shell, arch="arm64")
    tags = Image([base, marker("test-image-tags")], shell)
    users, groups = accounts(PASSWD + [("default-user", 1000, 1000, "/home/default-user", "/bin/sh")],
                             GROUP + [("default-user", 1000, ""), ("group-defined-in-image", 50000, "default-user")])
    predefined = Layer().add("etc/passwd", users).add("etc/group", groups)
    images = {
        E2E + "busybox:1.29-2": Index([Image([base], shell), arm64]),
        "registry.k8s.io/pause:3.9": pause,
        "k8s.gcr.io/pause:3.9": pause,
        E2E + "nginx:1.14-2": Image([base, nginx], {"Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT",
                                                    "ExposedPorts": {"80/tcp": {}}}),
        E2E + "httpd:2.4.39-4": Image([base, httpd], {"Cmd": ["httpd-foreground"], "ExposedPorts": {"80/tcp": {}}}),
        E2E + "nonewprivs:1.3": Image([setuid], {"Entrypoint": ["/nnp"]}),
        STAGING + "hostnet-nginx-amd64:latest": Image([base, nginx], {"Cmd": ["nginx", "-p", "12003"]}),
        STAGING + "test-image-predefined-group:latest": Image([base, predefined], {"Cmd": ["sh"], "User": "1000"}),
    }
    for name, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:users"),
                       ("username-group", "www-data:100")):
        images[f"{STAGING}test-image-user-{name}:latest"] = \
            Image([base, marker("user-" + name)], {"Cmd": ["sh"], "User": user})
    for name in ("test-image-latest:latest", "test-image-tag:test", "test-image-tag:all",
                 "test-image-1:latest", "test-image-2:latest", "test-image-3:latest"):
        images[STAGING + name] = Image([base, marker(name.replace(":", "-"))], shell)
    for tag in ("1", "2", "3"):
        images[f"{STAGING}test-image-tags:{tag}"] = tags
    return images


def redis_layer():
    """Debian's redis server with its libraries, its data in /data. The program is in redis-tools under another of its
    names: it looks at what it is called by."""
    program = shutil.which("redis-check-rdb")
    if not program:
        raise SystemExit("redis-check-rdb is missing: hack/install-deps test")
    users, groups = accounts(PASSWD + [("redis", 999, 999, "/data", "/bin/false")], GROUP + [("redis", 999, "")])
    layer = Layer().add("usr/bin/redis-server", read(program), 0o755)
    cli = os.path.join(os.path.dirname(program), "redis-cli")
    layer.add("usr/bin/redis-cli", read(cli), 0o755)
    for path, data in dict(libraries(program) + libraries(cli)).items():
        layer.add(path.lstrip("/"), data, 0o755)
    layer.add("etc/passwd", users).add("etc/group", groups)
    return layer.dir("data", 0o755, uid=999, gid=999)


def peoples_images(base):
    """What a person would try, and what our own tests need beyond critest's images."""
    script = b"#!/bin/sh\necho \"VAL is $1\"\n"
    app = Layer().dir("app").add("app/myrand", script, 0o755)
    volume = Layer().dir("data", 0o750, uid=1000, gid=1000).add("data/seed", b"seed\n", uid=1000, gid=1000)
    content = Layer().dir("vol", 0o1777, uid=5, gid=6).add("vol/suid", b"s", 0o4755, uid=7, gid=8) \
        .hardlink("vol/hard", "vol/suid", 0o4755).symlink("vol/link", "/etc/passwd") \
        .add("vol/pipe", kind=tarfile.FIFOTYPE, mode=0o620).dir("vol/inner", 0o700).add("vol/inner/file", b"inner\n") \
        .add("vol/noted", b"x", pax_headers={"SCHILY.xattr.user.comment": "hello"}).add("vol/big", b"0123456789" * 300000) \
        .dir("other").add("other/file", b"other\n").symlink("alias", "other") \
        .symlink("escape", "../../../../../../../../tmp").symlink("to-proc", "/proc/sys/kernel")
    overlaid = Layer().add("etc/.wh.nsswitch.conf").dir("var/spool").add("var/spool/.wh..wh..opq") \
        .add("var/spool/kept", b"kept\n").symlink("var/link", "spool/kept")
    return {
        "docker.io/library/busybox:latest": Image([base], {"Cmd": ["sh"]}, oci=True),
        "docker.io/library/hello-world:latest":
            Image([Layer().add("hello", compile_static("hello.c"), 0o755)], {"Cmd": ["/hello"]}, oci=True),
        "docker.io/library/syscalls:latest":
            Image([Layer().add("syscalls", compile_static("syscalls.c"), 0o755)], {"Entrypoint": ["/syscalls"]}),
        "docker.io/library/myrand:latest":
            Image([base, app], {"Entrypoint": ["/bin/sh", "-c", "/app/myrand $VAL"],
                                "Env": ["PATH=/usr/bin:/bin", "VAL=1"]}, oci=True),
        "docker.io/library/redis:latest":
            Image([base, redis_layer()], {"Cmd": ["redis-server", "--protected-mode", "no"], "User": "redis",
                                          "WorkingDir": "/data", "Volumes": {"/data": {}},
                                          "ExposedPorts": {"6379/tcp": {}}}, oci=True),
        "docker.io/library/volume:latest":
            Image([base, volume], {"Cmd": ["sh"], "Volumes": {"/data": {}}, "WorkingDir": "/data"}),
        "docker.io/library/volumes:latest":
            Image([base, content], {"Cmd": ["sh"], "Volumes": {
                path: {} for path in ("/vol", "/vol/inner/", "alias", "/new/../new/place", "/sys/fs/cgroup")}}),
        "docker.io/library/data:latest":  # of one layer, and without a program
            Image([Layer().dir("conf").add("conf/app.ini", b"key=value\n").add("top", b"top\n", uid=5)
                   .symlink("conf/up", "../top").symlink("conf/host", "/../../../../etc/hostname")
                   .add("tool", b"#!/bin/sh\necho ran\n", 0o755)]),
        "docker.io/library/whiteout:latest": Image([base, overlaid], {"Cmd": ["sh"], "Labels": {"test": "whiteout"}}),
    }


def hostile_images(base):
    """Images that try to get out, and one with the program that does (tests/integration/test_escape.py)."""
    tool = Layer().add("escape", compile_static("escape.c"), 0o755).add("entry", b"#!/proc/self/exe\n", 0o755) \
        .dir("container").symlink("absolute", "/container").symlink("relative", "../../../../../../../../container") \
        .symlink("magic", "/proc/1/root/container").symlink("self", "/proc/self/root/container") \
        .symlink("kernel", "/proc/sys/kernel").symlink("attributes", "/proc/self/attr")
    images = {"docker.io/library/escape:latest": Image([base, tool], {"Cmd": ["/escape", "fds"]})}
    for name in ("proc", "sys", "dev"):
        images[f"docker.io/library/linked-{name}:latest"] = \
            Image([base, Layer().add(".wh." + name), Layer().symlink(name, "/tmp")], {"Cmd": ["sh"]})
        images[f"docker.io/library/filed-{name}:latest"] = \
            Image([base, Layer().add(".wh." + name), Layer().add(name, b"a file\n")], {"Cmd": ["sh"]})
    return images


def all_images():
    base = busybox_layer()
    return {**conformance_images(base), **peoples_images(base), **hostile_images(base)}
