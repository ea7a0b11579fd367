"""crisp pull, images, rmi and prune against crispd."""
import json
import os
import pty
import re
import threading
import time

import grpc
import pytest

from badregistry import BadRegistry
from client import Client
from cri import BUSYBOX, E2E, STAGING
from daemon import limit
from oci import Image, Layer

NGINX = E2E + "nginx:1.14-2"


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
    return client


def images(crisp, *words):
    return [json.loads(line) for line in crisp.ok("images", "-o", "json", *words).splitlines()]


def on_terminal(crisp, *words):
    """stderr of a command, as a terminal of 24 lines gets it."""
    ours, theirs = pty.openpty()
    seen = []

    def read():
        try:
            while data := os.read(ours, 65536):
                seen.append(data)
        except OSError:  # the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    process = crisp.start(*words, stderr=theirs)
    os.close(theirs)
    out, _ = process.communicate(timeout=60)
    reader.join()
    os.close(ours)
    return process.returncode, out.decode(), b"".join(seen).decode()


def test_pull_tells_lines_and_figures(crisp, crispd):
    code, out, err = crisp("pull", BUSYBOX)
    assert code == 0 and re.fullmatch(r"sha256:[0-9a-f]{64}\n", out)
    assert re.search(r"crisp: 1 layer, [\d.]+MB\ncrisp: layer [0-9a-f]{12}: done, [\d.]+MB\n", err), err
    assert re.search(rf"crisp: pulled {re.escape(BUSYBOX)}: 1 new layer \([\d.]+MB\), 0 here already, [\d.]+ s\n", err), err
    assert "\033" not in err
    code, again, err = crisp("pull", BUSYBOX, NGINX)
    assert code == 0 and again.startswith(out) and "here already" in err and "1 new layer" in err
    assert crisp("pull", "-q", BUSYBOX) == (0, out, "")
    with open(crispd.log, encoding="utf-8", errors="replace") as f:
        first = next(line for line in f if "image pulled" in line and BUSYBOX in line)
    figures = dict(re.findall(r"(\w+)=(\d+)(?= |$)", first))
    assert int(figures["bytes"]) > 1 << 20 and figures["layers_fetched"] == "1" and figures["layers_here"] == "0"
    assert {"ms", "fetch_ms", "inflate_ms", "write_ms", "commit_ms"} <= set(figures)


def test_pull_draws_bars_on_a_terminal(crisp):
    code, out, err = on_terminal(crisp, "pull", BUSYBOX)
    assert code == 0 and out.startswith("sha256:")
    assert re.search(r"\r[0-9a-f]{12}  \w+ .*\033\[K", err) and "\033[1A" in err and "pulled " + BUSYBOX in err


def test_progress_has_a_rate(tmp_path):
    """Layers' states change oftener than messages go; and what is said of a registry that has gone then."""
    from conftest import finish
    from daemon import Crispd
    registry = BadRegistry()
    registry.add("a.example/many:1", Image([Layer().add(f"file{i}", b"x") for i in range(60)], {"Cmd": ["/file0"]}))
    name = b"a.example/many:1"
    crispd = Crispd(registry.url, cni="null").start()
    try:
        start = time.monotonic()
        with grpc.insecure_channel(crispd.endpoint) as channel:
            n = sum(1 for _ in channel.unary_stream("/crisp.v1.Images/Pull")(bytes([10, len(name)]) + name, timeout=60))
        assert 3 <= n <= 3 + 10 * (time.monotonic() - start)
        registry.close()
        code, _, err = Client(crispd.endpoint, tmp_path)("pull", "a.example/other:1")
        assert code == 1 and "crisp: Pull: pull a.example/other:1: RegistryUnavailable: " in err
    finally:
        finish(crispd)


def test_pull_errors(crisp):
    code, out, err = crisp("pull", "registry.k8s.io/none/such:1", BUSYBOX)
    assert code == 1 and "registry.k8s.io/none/such:1" in err and "NOT_FOUND" in err and out.count("sha256:") == 1
    code, _, err = crisp("pull", "example.com/UPPER")
    assert code == 1 and "INVALID_ARGUMENT" in err
    code, _, err = crisp("pull", "--password", "secret", "x")
    assert code == 2 and "--password-stdin" in err


def test_password_is_for_one_registry(crisp):
    for first, second in (("a.example/x", "b.example/y"), ("x", "a.example/y"), ("docker.io/x", "localhost/y"), ("a.example/x", "a.example:80/y")):
        code, _, err = crisp("pull", "-u", "me", "--password-stdin", first, second)
        assert code == 2 and f"--username: {first} and {second} are of different registries" in err
    for first, second in (("a.example/x", "A.example/y"), ("x", "local/y"), ("docker.io/x", "y/z")):
        code, _, err = crisp("pull", "-u", "me", "--password-stdin", first, second)
        assert code == 1 and "password from standard input: it is empty" in err


def test_pull_with_time_limit(crisp, crispd):
    code, out, err = crisp("--timeout", str(limit(1)), "pull", "-q", NGINX)
    assert (code, err) == (0, "") and out.startswith("sha256:")


def test_list_and_filters(crisp):
    tags = [f"{STAGING}test-image-tags:{n}" for n in (1, 2)]
    crisp.ok("pull", "-q", BUSYBOX, *tags)
    digest = next(i for i in images(crisp) if i["tags"] == tags)["digests"][0]
    busybox = next(i for i in images(crisp) if BUSYBOX in i["tags"])
    assert busybox["os"] == "linux" and busybox["created_at"] == "2023-11-14T22:13:20.000000000Z"
    assert busybox["size_bytes"] > 1 << 20 and busybox["in_use"] is False and busybox["pulled_at"] > "2025"
    rows = [line.split() for line in crisp.ok("images").splitlines()]
    assert rows[0] == ["IMAGE", "ID", "SIZE", "PINNED", "CREATED"] and [row[0] for row in rows[2:]] == tags
    assert crisp.ok("images", "-q", "*/busybox") == busybox["id"] == crisp.ok("images", "-q", BUSYBOX)
    assert crisp.ok("images", "-q", "-f", "reference=*busybox*", "-f", "in-use=false") == busybox["id"]
    assert digest.split("@")[1] in crisp.ok("images", "--digests", "--no-trunc") and busybox["id"] in crisp.ok("images", "--no-trunc")
    assert images(crisp, "-f", "dangling=true") == [] == images(crisp, "-f", "pinned=true")
    assert crisp.ok("rmi", tags[0]) == tags[0]
    assert [i["id"] for i in images(crisp)] == [busybox["id"]]
    crisp.ok("pull", "-q", digest)
    assert [i["digests"] for i in images(crisp, "-f", "dangling=true")] == [[digest]]


def test_remove_says_who_uses_it(crisp, crispd):
    name = "registry.k8s.io/pause:3.9"
    crisp.ok("pull", "-q", name, "k8s.gcr.io/pause:3.9")
    crisp.ok("run", "-d", "--name", "user", name)
    try:
        code, _, err = crisp("rmi", name)
        assert code == 1 and "is used by container user (" in err
        assert [i["in_use"] for i in images(crisp)] == [True]
        code, out, err = crisp("prune", "-a", "-f")
        assert (code, out) == (0, "") and "removed 0 images" in err
        code, _, err = crisp("rmi", "nothing.example/here:1")
        assert code == 1 and "nothing.example/here:1 is not here" in err
        assert crisp("rmi", "-f", "nothing.example/here:1")[0] == 0
        assert crisp.ok("rmi", "-f", name) == name and images(crisp) == []
    finally:
        crisp.ok("rm", "-f", "user")


def answer_later(crisp, meanwhile):
    """crisp prune -a, asked on a terminal; something happens before the answer, which is yes."""
    ours, theirs = pty.openpty()
    process = crisp.start("prune", "-a", stdin=theirs)
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen and (data := os.read(process.stderr.fileno(), 4096)):
        seen += data
    meanwhile()
    os.write(ours, b"y\n")
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0 and out.decode().split() == [BUSYBOX] and b"removed 1 image" in err


def test_prune(crisp, crispd):
    crisp.ok("pull", "-q", BUSYBOX, NGINX)  # which share a layer
    shared, all_of_it = (next(i["size_bytes"] for i in images(crisp) if name in i["tags"]) for name in (BUSYBOX, NGINX))
    code, out, err = crisp("prune")
    assert (code, out) == (0, "") and "would remove 0 images, 0B" in err
    code, out, err = crisp("prune", "-a", "--dry-run")
    assert code == 0 and out.splitlines() == [BUSYBOX, NGINX] and f"{all_of_it / 1e6:.1f}MB" in err
    code, out, err = crisp("prune", "--all")
    assert code == 1 and "use --force" in err and len(images(crisp)) == 2
    code, out, err = crisp("prune", "-a", "-f", "--older-than", "24h")
    assert (code, out) == (0, "") and "removed 0 images" in err
    crisp.ok("rmi", NGINX)
    answer_later(crisp, lambda: crisp.ok("pull", "-q", NGINX))  # came after the question, and isn't in its answer
    assert [i["tags"] for i in images(crisp)] == [[NGINX]]
    crisp.ok("rmi", NGINX)
    crisp.ok("pull", "-q", BUSYBOX)
    code, out, err = crisp("prune", "-a", "-f")
    assert code == 0 and out == BUSYBOX + "\n" and f"removed 1 image, {shared / 1e6:.1f}MB" in err
    assert images(crisp) == []
