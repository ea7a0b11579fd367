"""A token server as docker-registry trusts it: it checks who asks for what, and signs tokens that expire."""
import base64
import http.server
import json
import ssl
import subprocess
import threading
import time
import urllib.parse

from pki import run


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class TokenServer:
    """Over TLS. Users may pull the repositories that `allowed` names for them; a refresh token stands for a user, too."""

    def __init__(self, authority):
        self.cert, self.tls_key = authority.issue("tokens")
        self.key, self.bundle = f"{authority.folder}/sign.key", f"{authority.folder}/sign.pem"
        run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=signer", "-keyout", self.key,
            "-out", self.bundle)
        self.users, self.refresh_tokens, self.allowed = {}, {}, {}  # name -> password, token -> name, name -> repositories
        self.lifetime, self.requests = 300, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                query = urllib.parse.parse_qs(self.path.partition("?")[2])
                scheme, _, value = self.headers.get("Authorization", "").partition(" ")
                name, _, password = base64.b64decode(value).decode().partition(":") if scheme == "Basic" else ("", "", "")
                self.answer("GET", name if name and outer.users.get(name) == password else None, bool(name), query)

            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                name = outer.refresh_tokens.get(form.get("refresh_token", [""])[0])
                if form.get("grant_type") != ["refresh_token"] or not form.get("client_id"):
                    name = None
                self.answer("POST", name, True, form)

            def answer(self, method, name, named, query):
                outer.requests.append((method, name, query.get("service"), query.get("scope")))
                if named and name is None:
                    return self.reply(401, {"errors": [{"code": "UNAUTHORIZED"}]})
                token = outer.token(name, query)
                key = "access_token" if method == "POST" else "token"
                issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                return self.reply(200, {key: token, "expires_in": outer.lifetime, "issued_at": issued})

            def reply(self, status, what):
                data = json.dumps(what).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.tls_key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def settings(self):
        """What docker-registry has to know of it."""
        return {"token": {"realm": self.url, "service": "tests", "issuer": "issuer", "rootcertbundle": self.bundle}}

    def token(self, name, query):
        access = []
        for scope in query.get("scope", []):
            kind, repository, actions = scope.split(":")
            if repository in self.allowed.get(name, ()) and query.get("service") == ["tests"]:
                access.append({"type": kind, "name": repository, "actions": [a for a in actions.split(",") if a == "pull"]})
        now = int(time.time())
        with open(self.bundle, encoding="ascii") as f:
            der = "".join(line for line in f.read().splitlines() if not line.startswith("-----"))
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {"iss": "issuer", "sub": name or "", "aud": "tests", "exp": now + self.lifetime, "nbf": now - 1,
                  "iat": now, "jti": str(len(self.requests)), "access": access}
        text = encode(json.dumps(header).encode()) + b"." + encode(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text, check=True,
                                   capture_output=True).stdout
        return (text + b"." + encode(signature)).decode()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
