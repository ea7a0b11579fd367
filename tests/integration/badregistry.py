"""A registry that serves what it is told to, however wrong: for tests of hostile and broken answers."""
import http.server
import threading

import oci


class BadRegistry:
    """Content by (repository, tag or digest); `hooks` may answer a path themselves."""

    def __init__(self):
        self.manifests, self.blobs, self.hooks, self.requests = {}, {}, {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                for part, hook in outer.hooks.items():
                    if part in self.path:
                        hook(self)
                        return
                kind, data = outer.lookup(self.path)
                self.reply(200 if data is not None else 404, data or b'{"errors":[]}', kind)

            do_HEAD = do_GET

            def reply(self, status, data, kind="application/json", length=None, headers=()):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data) if length is None else length))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                if length is not None:
                    self.close_connection = True

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def lookup(self, path):
        if path.rstrip("/") == "/v2":
            return "application/json", b"{}"
        name = path.split("?")[0].rsplit("/", 1)[-1]
        if "/manifests/" in path:
            repository = path[len("/v2/"):].split("/manifests/")[0]
            return self.manifests.get((repository, name), ("application/json", None))
        return "application/octet-stream", self.blobs.get(name)

    def add(self, reference, image):
        repository, tag = reference.rsplit(":", 1)
        for name in (tag, oci.digest(image.manifest)):
            self.manifests[(repository, name)] = (image.media_type, image.manifest)
        for blob in image.blobs:
            self.blobs[oci.digest(blob)] = blob

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
