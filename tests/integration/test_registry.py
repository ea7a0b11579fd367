"""Debian's docker-registry: plain, with TLS, client certificates, names and tokens; and behind a proxy with faults."""
import os
import random
import re
import shutil
import ssl
import subprocess
import threading
import time

import grpc
import pytest

from badregistry import BadRegistry
from cri import Cri, code_of
from daemon import Crispd, limit
from faultproxy import FaultProxy
from oci import Image, Layer, digest
from pki import Authority
from registry import Registry
from stubs import pb
from tokenserver import TokenServer

Code = grpc.StatusCode
PASSWORD = "secret-word"
HTPASSWD = "user:$2b$04$fwoCwkf54CZfaw6HVmDg..b.5dergmunObU19t0lxEOMf0TwY5lyi\n"  # bcrypt of "pw"


class Servers:
    """One storage behind several registries, and a crispd that knows them."""

    def __init__(self, folder):
        def start(**settings):
            return Registry(f"{folder}/storage", f"{folder}/work", **settings)

        authority = Authority(folder)
        cert, key = authority.issue("server")
        client_cert, client_key = authority.issue("node")
        tls = {"certificate": cert, "key": key}
        with open(f"{folder}/htpasswd", "w", encoding="ascii") as f:
            f.write(HTPASSWD)
        self.tokens = TokenServer(authority)
        self.plain = start()
        self.tls = start(tls=tls)
        self.basic = start(tls=tls, auth={"htpasswd": {"realm": "tests", "path": f"{folder}/htpasswd"}})
        self.mutual = start(tls={**tls, "clientcas": [authority.ca]})
        self.token = start(tls=tls, auth=self.tokens.settings())
        self.proxy = FaultProxy(self.plain.port)
        own = {"ca_file": authority.ca}
        client = {"client_cert_file": client_cert, "client_key_file": client_key}
        registries = {
            self.host(self.tls): own, self.host(self.basic): own, self.host(self.token): own,
            self.host(self.mutual): {**own, **client},
            "unknown.test": self.mirror(self.tls.url), "unchecked.test": self.mirror(self.tls.url, skip_verify=True),
            "nobody.test": self.mirror(self.mutual.url, **own), "faults.test": self.mirror(self.proxy.url),
        }
        self.crispd = Crispd(settings={"registries": registries, "image": {
            "pull_stall_timeout": f"{limit(1)}s", "pull_min_rate": 1000}}).start()
        self.cri = Cri(self.crispd)
        self.layers = [Layer().add(f"file{i}", random.Random(i).randbytes(300_000)) for i in range(3)]
        self.image = Image(self.layers, {"Cmd": ["/file0"]})
        self.plain.push("app:1", self.image)

    @staticmethod
    def host(registry):
        return f"127.0.0.1:{registry.port}"

    @staticmethod
    def mirror(url, **more):
        return {"strict": True, "mirrors": [{"url": url, **more}]}

    def close(self):
        from conftest import finish
        self.proxy.close()
        self.tokens.close()
        for registry in (self.plain, self.tls, self.basic, self.mutual, self.token):
            registry.stop()
        finish(self.crispd)

    def pull(self, name, **auth):
        """Pulls, looks at the files, removes."""
        ref = self.cri.pull(name, auth=pb.AuthConfig(**auth))
        assert ref == digest(self.image.config)
        self.cri.RemoveImage(image=pb.ImageSpec(image=ref))

    def fails(self, name, **auth):
        code, text = code_of(self.cri.PullImage, image=pb.ImageSpec(image=name), auth=pb.AuthConfig(**auth))
        assert not self.cri.ListImages().images
        assert not os.listdir(f"{self.crispd.root}/image/staging")
        return code, text


@pytest.fixture(scope="module")
def all_servers(tmp_path_factory):
    servers = Servers(str(tmp_path_factory.mktemp("registries")))
    yield servers
    servers.close()


@pytest.fixture
def servers(all_servers):
    all_servers.proxy.fault = lambda path, start: None
    all_servers.proxy.requests.clear()
    all_servers.tokens.requests.clear()
    return all_servers


def test_own_ca(servers):
    servers.pull(f"{servers.host(servers.tls)}/app:1")
    with open(servers.tls.log, encoding="utf-8") as f:
        log = f.read()
    assert '/blobs/' in log and 'HTTP/2.0" 200' in log and 'HTTP/1.1" 200' not in log


def test_large_layers_have_connections_of_their_own(servers):
    """So that what isn't unpacked yet stays with the sender and needs no memory here."""
    image = Image([Layer().add("file", random.Random(1).randbytes(size)) for size in (1_000_000, 1000)], {"Cmd": ["/file"]})
    servers.plain.push("large:1", image)
    name = servers.cri.pull(f"{servers.host(servers.tls)}/large:1")
    servers.cri.RemoveImage(image=pb.ImageSpec(image=name))
    with open(servers.tls.log, encoding="utf-8") as f:
        versions = dict(re.findall(r'"GET /v2/large/blobs/(\S+) (HTTP/\S+)" 200', f.read()))
    assert [versions[digest(layer.blob)] for layer in image.layers] == ["HTTP/1.1", "HTTP/2.0"]


def test_as_many_layers_at_once_as_configured():
    image = Image([Layer().add(f"file{i}", b"x") for i in range(24)], {"Cmd": ["/file0"]})
    registry, all_are_here = BadRegistry(), threading.Barrier(24)
    registry.add("app:1", image)

    def answer(request):
        all_are_here.wait(20)
        kind, data = registry.lookup(request.path)
        request.reply(200, data, kind)

    for layer in image.layers:
        registry.hooks[digest(layer.blob)] = answer
    crispd = Crispd(settings={"image": {"pull_concurrency": 24, "pull_concurrency_node": 100}}).start()
    try:
        Cri(crispd).pull(f"{registry.url[len('http://'):]}/app:1")
    finally:
        from conftest import finish
        finish(crispd)
        registry.close()


def test_unknown_ca(servers):
    _, text = servers.fails("unknown.test/app:1")
    assert "certificate" in text
    servers.pull("unchecked.test/app:1")


def test_broken_tls_is_no_reason_for_plain_http(servers):
    """A registry on the machine itself may have none; that its certificate isn't trusted is another matter."""
    _, text = servers.fails(f"localhost:{servers.tls.port}/app:1", username="user", password=PASSWORD)
    assert "certificate" in text, text
    servers.pull(f"localhost:{servers.plain.port}/app:1")


@pytest.fixture
def system_store(tmp_path):
    """What stands in for the system's certificates: one authority, that signed the server's."""
    store = tmp_path / "certs"
    authority = Authority(str(tmp_path / "a"), "first")
    store.mkdir()
    for name in ("a.pem", "ca-certificates.crt"):
        shutil.copy(authority.ca, store / name)
    subprocess.run(["openssl", "rehash", store], check=True, capture_output=True)
    subprocess.run(["mount", "--bind", store, "/etc/ssl/certs"], check=True)  # the suite has a mount namespace
    yield authority
    subprocess.run(["umount", "-l", "/etc/ssl/certs"], check=True)


def test_own_ca_is_trusted_instead_of_the_systems(system_store, tmp_path, make_crispd):
    cert, key = system_store.issue("server")
    other = Authority(str(tmp_path / "b"), "second")
    plain = Registry(f"{tmp_path}/s", f"{tmp_path}/w")
    tls = Registry(f"{tmp_path}/s", f"{tmp_path}/w", tls={"certificate": cert, "key": key})
    try:
        plain.push("app:1", Image([Layer().add("file", b"x")], {"Cmd": ["/file"]}))
        cri = Cri(make_crispd(registry_url=None, settings={"registries": {
            "own.test": Servers.mirror(tls.url, ca_file=other.ca), "system.test": Servers.mirror(tls.url)}}).start())
        _, text = code_of(cri.PullImage, image=pb.ImageSpec(image="own.test/app:1"))
        assert "certificate" in text
        cri.pull("system.test/app:1")
    finally:
        plain.stop()
        tls.stop()


def serve_tls(authority):
    """A BadRegistry with TLS that knows which certificate its clients of /blobs/ showed."""
    registry = BadRegistry()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)
    registry.url = registry.url.replace("http:", "https:")
    registry.shown = []

    def blob(handler):
        registry.shown.append(handler.connection.getpeercert())
        if registry.elsewhere:
            handler.reply(307, b"", headers=[("Location", registry.elsewhere + handler.path)])
        else:
            handler.reply(200, registry.lookup(handler.path)[1])

    registry.hooks["/blobs/"], registry.elsewhere = blob, None
    return registry


def test_redirects_take_no_tls_settings_along(system_store, tmp_path, make_crispd):
    """The registry is one's own; where its blobs are the system's authority vouches for, or the registry's own."""
    own = Authority(str(tmp_path / "b"), "second")
    stranger = Authority(str(tmp_path / "c"), "third")
    home, plain, image = serve_tls(own), BadRegistry(), Image([Layer().add("file", b"x")], {"Cmd": ["/file"]})
    others = [serve_tls(system_store), serve_tls(own), serve_tls(stranger)]
    cert, key = own.issue("node")
    home.add("own.test/app:1", image)
    home.manifests.update({("lax.test/app", tag): it for (_, tag), it in home.manifests.items()})
    for other in (*others, plain):
        other.blobs = home.blobs
    cri = Cri(make_crispd(registry_url=None, settings={"registries": {
        "own.test": Servers.mirror(home.url, ca_file=own.ca, client_cert_file=cert, client_key_file=key,
                                   path_prefix="own.test"),
        "lax.test": Servers.mirror(home.url, skip_verify=True, path_prefix="lax.test")}}).start())
    try:
        for other in others[:2]:
            home.elsewhere = other.url
            cri.RemoveImage(image=pb.ImageSpec(image=cri.pull("own.test/app:1")))
            assert other.shown and not any(other.shown) and all(home.shown)
        home.elsewhere = home.url
        cri_failure = code_of(cri.PullImage, image=pb.ImageSpec(image="own.test/app:1"))[1]
        assert "too many redirects" in cri_failure
        for name in ("own.test", "lax.test"):
            home.elsewhere = others[2].url
            assert "certificate" in code_of(cri.PullImage, image=pb.ImageSpec(image=f"{name}/app:1"))[1]
            home.elsewhere = plain.url
            assert "not safe" in code_of(cri.PullImage, image=pb.ImageSpec(image=f"{name}/app:1"))[1]
        assert not plain.requests and not others[2].shown
    finally:
        for server in (home, plain, *others):
            server.close()


def test_client_certificate(servers):
    servers.pull(f"{servers.host(servers.mutual)}/app:1")
    _, text = servers.fails("nobody.test/app:1")
    assert text.startswith("RegistryUnavailable: ")  # curl's words depend on when the refusal arrives


def test_name_and_password(servers):
    name = f"{servers.host(servers.basic)}/app:1"
    assert servers.fails(name)[0] == Code.UNAUTHENTICATED
    code, text = servers.fails(name, username="user", password=PASSWORD)
    assert code == Code.UNAUTHENTICATED and PASSWORD not in text
    servers.pull(name, username="user", password="pw")
    servers.pull(name, auth="dXNlcjpwdw==")
    with open(servers.crispd.log, encoding="utf-8") as f:
        log = f.read()
    assert PASSWORD not in log and "dXNlcjpwdw" not in log


def test_tokens(servers):
    name, tokens = f"{servers.host(servers.token)}/app:1", servers.tokens
    tokens.users, tokens.allowed = {"alice": "a", "bob": "b"}, {"alice": ["app"], "bob": ["other"]}
    servers.pull(name, username="alice", password="a")
    assert tokens.requests == [("GET", "alice", ["tests"], ["repository:app:pull"])]
    assert servers.fails(name, username="alice", password="wrong")[0] == Code.UNAUTHENTICATED
    assert servers.fails(name, username="bob", password="b")[0] in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)
    assert servers.fails(name)[0] in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)


def test_identity_and_registry_tokens(servers):
    name, tokens = f"{servers.host(servers.token)}/app:1", servers.tokens
    tokens.refresh_tokens, tokens.allowed = {"refresh": "alice"}, {"alice": ["app"]}
    servers.pull(name, identity_token="refresh")
    assert tokens.requests == [("POST", "alice", ["tests"], ["repository:app:pull"])]
    assert servers.fails(name, identity_token="other")[0] == Code.UNAUTHENTICATED
    tokens.requests.clear()
    token = tokens.token("alice", {"service": ["tests"], "scope": ["repository:app:pull"]})
    servers.pull(name, registry_token=token)
    assert not tokens.requests


def test_token_for_everybody(servers):
    servers.tokens.allowed = {None: ["app"]}
    servers.pull(f"{servers.host(servers.token)}/app:1")


@pytest.mark.parametrize("busy", [[0], [1], [1, 2, 3]], ids=["first", "refresh", "refreshes"])
def test_busy_token_server(servers, busy):
    """Its 503 is waited out, for the manifest as for layers whose token is no longer taken."""
    registry, asked = BadRegistry(), []

    def answer_token(request):
        asked.append(time.monotonic())
        if len(asked) - 1 in busy:
            return request.reply(503, b"", headers=[("Retry-After", "1")])
        return request.reply(200, b'{"token":"token%d"}' % len(asked))

    def demand_token(request):
        good = request.headers.get("Authorization", "")[len("Bearer token"):]
        if not good or ("/blobs/" in request.path and int(good) == 1 and len(busy) + busy[0] > 1):
            return request.reply(401, b"", headers=[("WWW-Authenticate", f'Bearer realm="{registry.url}/token"')])
        kind, data = registry.lookup(request.path)
        return request.reply(200, data, kind)

    registry.hooks.update({"/token": answer_token, "/manifests/": demand_token, "/blobs/": demand_token})
    registry.add("app:1", servers.image)
    try:
        servers.pull(f"{registry.url[len('http://'):]}/app:1")
    finally:
        registry.close()
    assert len(asked) > len(busy) and asked[busy[0] + 1] - asked[busy[0]] >= (1 if len(busy) == 1 else 0)


def test_cuts_at_random_bytes(servers):
    seed = os.environ.get("CRISP_CUT_SEED") or time.time_ns()
    print(f"CRISP_CUT_SEED={seed}")
    choose = random.Random(seed)
    left = 20

    def fault(path, start):
        nonlocal left
        if "/blobs/" not in path or left == 0:
            return None
        left -= 1
        return "cut", choose.randrange(1000, 150_000)

    servers.proxy.fault = fault
    servers.pull("faults.test/app:1")
    assert any(start > 0 for _, start in servers.proxy.requests)


@pytest.mark.parametrize("status", [(429, "Retry-After: 1"), (429,), (500,), (503, "Retry-After: 1")])
def test_busy(servers, status):
    answers = iter([("status", *status), None, None, ("status", *status)])
    servers.proxy.fault = lambda path, start: next(answers, None)
    start = time.monotonic()
    servers.pull("faults.test/app:1")
    assert time.monotonic() - start > (1.9 if len(status) > 1 else 0)


@pytest.mark.parametrize("kind", ["stall", "trickle"])
def test_slow(servers, kind):
    """Given up after a second, and the rest is fetched anew."""
    slow = digest(servers.layers[1].blob)
    servers.proxy.fault = lambda path, start: (kind, 100_000) if slow in path and start == 0 else None
    start = time.monotonic()
    servers.pull("faults.test/app:1")
    assert time.monotonic() - start > 0.9
    assert [start for path, start in servers.proxy.requests if slow in path][-1] > 50_000


def test_deadline(servers):
    servers.proxy.fault = lambda path, start: ("stall", 1000) if "/blobs/" in path else None
    code, _ = code_of(servers.cri.PullImage, image=pb.ImageSpec(image="faults.test/app:1"), deadline=0.3)
    assert code == Code.DEADLINE_EXCEEDED
    servers.proxy.fault = lambda path, start: None
    servers.pull("faults.test/app:1")
