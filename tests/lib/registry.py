"""A loopback registry: Debian's docker-registry over a storage directory, and a client that pushes."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

CONFIG = """version: 0.1
log: {{level: warn, accesslog: {{disabled: {quiet}}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Registry:
    """Runs docker-registry. Repository paths begin with the host of the original registry
    (registry.k8s.io/pause), so that one server stands in for many: crispd's `path_prefix`."""

    def __init__(self, storage, workdir, tls=None, auth=None):
        """tls: docker-registry's own settings (certificate, key, clientcas); auth: likewise. Registries with either
        aren't pushed to: they share the storage of one without."""
        self.port = free_port()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.closed = bool(tls or auth)
        os.makedirs(storage, exist_ok=True)
        os.makedirs(workdir, exist_ok=True)
        config = os.path.join(workdir, f"registry-{self.port}.yml")
        with open(config, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(storage=storage, port=self.port, quiet=json.dumps(not tls)))
            f.write(f"  tls: {json.dumps(tls)}\n" if tls else "")
            f.write(f"auth: {json.dumps(auth)}\n" if auth else "")
        self.log = os.path.join(workdir, f"registry-{self.port}.log")
        with open(self.log, "wb") as log:
            env = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env)
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + 20 * int(os.environ.get("CRISP_TIME_SCALE", "1"))
        while time.monotonic() < deadline:
            try:
                if self.closed:
                    socket.create_connection(("127.0.0.1", self.port), 5).close()
                else:
                    self.request("GET", "/v2/")
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"docker-registry ended with {self.process.returncode}") from None
                time.sleep(0.05)
        raise RuntimeError("docker-registry doesn't answer")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def request(self, method, path, body=None, headers=None):
        """One request; answers (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def push_blob(self, repository, digest, data):
        if self.request("HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200:
            return
        status, headers, body = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        if status == 202:
            location = headers["Location"].split(str(self.port), 1)[-1]
            location += ("&" if "?" in location else "?") + "digest=" + digest
            status, headers, body = self.request("PUT", location, data, {"Content-Type": "application/octet-stream"})
        if status != 201:
            raise RuntimeError(f"push of {digest} to {repository}: {status} {body[:300]!r}")

    def push_manifest(self, repository, tag, media_type, data):
        status, _, body = self.request("PUT", f"/v2/{repository}/manifests/{tag}", data, {"Content-Type": media_type})
        if status != 201:
            raise RuntimeError(f"push of {repository}:{tag}: {status} {body[:300]!r}")

    def push(self, reference, image):
        """Pushes an oci.Image or oci.Index as `host/path:tag`."""
        from oci import digest
        repository, tag = reference.rsplit(":", 1)
        for one in getattr(image, "images", [image]):
            for blob in one.blobs:
                self.push_blob(repository, digest(blob), blob)
            if one is not image:
                self.push_manifest(repository, digest(one.manifest), one.media_type, one.manifest)
        self.push_manifest(repository, tag, image.media_type, image.manifest)
