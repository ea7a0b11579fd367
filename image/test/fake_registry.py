"""A registry in memory that can be told to misbehave."""
import base64
import http.server
import json
import sys
import threading
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "images"))
import oci  # noqa: E402


class Registry:
    """Repositories share blobs. `faults` are looked at for each blob request, keyed by digest or "*"."""

    def __init__(self, port=0, tls=None):
        self.blobs = {}
        self.manifests = {}  # (repository, tag or digest) -> (media type, bytes)
        self.faults = {}
        self.requests = []  # (path, Authorization, Range)
        self.forms = []  # what was posted
        self.basic = None  # (user, password)
        self.expiry = {}  # token -> time.monotonic()
        self.tokens = None  # set of valid tokens: Bearer is asked for
        self.redirect_to = None  # base URL for blobs
        self.redirect_tokens_to = None  # URL for token requests
        self.status = None  # answer everything with it
        self.busy = None  # iterator of None or (status, headers): answers before the real ones
        self.lifetime = None  # seconds of a token
        self.connections = 0
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def setup(self):
                registry.connections += 1
                super().setup()

            def do_GET(self):
                registry.answer(self)

            def do_HEAD(self):
                registry.answer(self)

            def do_POST(self):
                self.form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                registry.forms.append(self.form)
                registry.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # clients that hang up are the tests' point
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def push(self, repository, tag, image):
        """An oci.Image or oci.Index; returns the manifest's digest."""
        for one in [image, *getattr(image, "images", [])]:
            for blob in getattr(one, "blobs", []):
                self.blobs[oci.digest(blob)] = blob
            self.manifests[repository, oci.digest(one.manifest)] = one.media_type, one.manifest
        digest = oci.digest(image.manifest)
        for key in (tag, digest):
            self.manifests[repository, key] = image.media_type, image.manifest
        return digest

    def authorized(self, handler):
        value = handler.headers.get("Authorization", "")
        if self.basic:
            return value == "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()
        if self.tokens is not None:
            good = value.startswith("Bearer ") and value[7:] in self.tokens
            return good and time.monotonic() < self.expiry.get(value[7:], float("inf"))
        return True

    def challenge(self):
        if self.basic:
            return 'Basic realm="test"'
        return f'Bearer realm="{self.url}/token",service="test",scope="repository:x:pull"'

    def answer(self, handler):
        path = urllib.parse.unquote(handler.path.split("?")[0])
        self.requests.append((handler.path, handler.headers.get("Authorization"), handler.headers.get("Range")))
        if path == "/token":
            return self.answer_token(handler)
        if self.status:
            return self.send(handler, self.status, b"no")
        busy = next(self.busy, None) if self.busy else None
        if busy:
            return self.send(handler, busy[0], b"no", busy[1])
        if not self.authorized(handler):
            return self.send(handler, 401, b"{}", {"WWW-Authenticate": self.challenge()})
        parts = path.split("/")
        if len(parts) < 5 or parts[1] != "v2":
            return self.send(handler, 404, b"{}")
        repository, kind, what = "/".join(parts[2:-2]), parts[-2], parts[-1]
        if kind == "manifests" and (repository, what) in self.manifests:
            media_type, data = self.manifests[repository, what]
            return self.send(handler, 200, data, {"Content-Type": media_type, "Docker-Content-Digest": oci.digest(data)})
        if kind == "blobs" and what in self.blobs:
            if self.redirect_to:
                return self.send(handler, 307, b"", {"Location": f"{self.redirect_to}/v2/{repository}/blobs/{what}"})
            return self.answer_blob(handler, what)
        return self.send(handler, 404, b"{}")

    def answer_token(self, handler):
        user = handler.headers.get("Authorization", "")
        if self.redirect_tokens_to:
            return self.send(handler, 307, b"", {"Location": self.redirect_tokens_to})
        if self.identity_token and f"refresh_token={self.identity_token}" not in getattr(handler, "form", ""):
            return self.send(handler, 401, b"{}")
        if self.token_user and user != "Basic " + base64.b64encode(":".join(self.token_user).encode()).decode():
            return self.send(handler, 401, b"{}")
        token = f"token{len(self.requests)}"
        self.tokens.add(token)
        answer = {"token": token}
        if self.lifetime:
            self.expiry[token] = time.monotonic() + self.lifetime
            answer["expires_in"] = self.told_lifetime or self.lifetime
        return self.send(handler, 200, json.dumps(answer).encode())

    told_lifetime = None
    token_user = None
    identity_token = None

    def answer_blob(self, handler, digest):
        data = self.blobs[digest]
        fault = self.faults.get(digest) or self.faults.get("*")
        start = 0
        if handler.headers.get("Range"):
            start = int(handler.headers["Range"].split("=")[1].split("-")[0])
        if callable(fault):
            fault = fault(start)
        if fault == "stall":
            time.sleep(30)
        if fault == "slow":
            time.sleep(0.5)
        if fault == "corrupt":
            data = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        if fault == "long":
            data = data + b"x"
        if fault == "short":
            data = data[: len(data) // 2]
        if isinstance(fault, int) and fault >= 400:
            return self.send(handler, fault, b"no")
        if isinstance(fault, tuple):  # (status, headers)
            return self.send(handler, fault[0], b"no", fault[1])
        headers, status = {}, 200
        if start:
            status, headers = 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            data = data[start:]
        if fault == "other range":
            headers["Content-Range"] = f"bytes 1-{len(data)}/{len(data) + 1}"
        if fault == "trickle":  # for as long as anybody listens
            self.head(handler, status, data, headers)
            for i in range(len(data)):
                handler.wfile.write(data[i:i + 1])
                time.sleep(0.2)
            return None
        if isinstance(fault, str) and fault.startswith("cut at "):
            self.head(handler, status, data, headers)
            handler.wfile.write(data[:int(fault[7:])])
            handler.close_connection = True
            return None
        if fault == "unfinished":  # all of it, chunked, but not its end; and nothing of it anew
            if start:
                return self.send(handler, 416, b"no")
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            handler.close_connection = True
            return None
        if fault == "cut":  # promises everything, breaks off
            self.head(handler, status, data, headers)
            handler.wfile.write(data[: (len(data) + 1) // 2])
            handler.close_connection = True
            return None
        return self.send(handler, status, data, headers)

    @staticmethod
    def head(handler, status, data, headers):
        handler.send_response(status)
        for key, value in (headers or {}).items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()

    def send(self, handler, status, data, headers=None):
        self.head(handler, status, data, headers)
        if handler.command != "HEAD":
            handler.wfile.write(data)
