"""Layers, configs and manifests, made byte for byte the same each time."""
import gzip
import hashlib
import io
import json
import tarfile

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

MTIME = 1700000000
CREATED = "2023-11-14T22:13:20Z"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dumps(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


class Layer:
    """A tar that is written entry by entry; then .blob is its gzip and .diff_id its digest."""

    def __init__(self):
        self._raw = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._raw, mode="w", format=tarfile.PAX_FORMAT)
        self._blob = None

    def add(self, name, data=b"", mode=0o644, kind=tarfile.REGTYPE, link="", uid=0, gid=0, **more):
        """Adds one entry, under exactly this name, however wrong it is (for tests of hostile layers)."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname, entry.mtime = kind, mode, link, MTIME
        entry.uid, entry.gid = uid, gid
        for key, value in more.items():
            setattr(entry, key, value)
        if kind == tarfile.REGTYPE:
            entry.size = len(data)
        self._tar.addfile(entry, io.BytesIO(data))
        return self

    def dir(self, name, mode=0o755, **owner):
        return self.add(name, mode=mode, kind=tarfile.DIRTYPE, **owner)

    def symlink(self, name, target):
        return self.add(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)

    def hardlink(self, name, target, mode=0o644):
        """mode: the target's, as tar writes it; some runtimes set what a link's entry says."""
        return self.add(name, kind=tarfile.LNKTYPE, link=target, mode=mode)

    @property
    def raw(self):
        if not self._tar.closed:
            self._tar.close()
        return self._raw.getvalue()

    @property
    def diff_id(self):
        return digest(self.raw)

    @property
    def blob(self):
        if self._blob is None:
            self._blob = gzip.compress(self.raw, 6, mtime=0)
        return self._blob


class Image:
    """One image for one platform. `config` is what the runtime reads: Cmd, Env, User…"""

    def __init__(self, layers, config=None, arch="amd64", oci=False, layer_type=None):
        self.layers = layers
        self.arch = arch
        self.oci = oci
        merged = {"Env": [PATH]}
        merged.update(config or {})
        self.config = dumps({
            "architecture": arch, "os": "linux", "created": CREATED, "config": merged,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": CREATED, "created_by": "tests/images"} for _ in layers],
        })
        self.media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
        layer_type = layer_type or (OCI_LAYER if oci else DOCKER_LAYER)
        self.manifest = dumps({
            "schemaVersion": 2, "mediaType": self.media_type,
            "config": self._descriptor(OCI_CONFIG if oci else DOCKER_CONFIG, self.config),
            "layers": [self._descriptor(layer_type, layer.blob) for layer in layers],
        })

    @staticmethod
    def _descriptor(media_type, data):
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    @property
    def id(self):
        return digest(self.config)

    @property
    def blobs(self):
        return [self.config] + [layer.blob for layer in self.layers]

    def platform_descriptor(self):
        entry = self._descriptor(self.media_type, self.manifest)
        entry["platform"] = {"architecture": self.arch, "os": "linux"}
        return entry


class Index:
    """Several images under one name, one for each platform."""

    def __init__(self, images):
        self.images = images
        self.media_type = OCI_INDEX if images[0].oci else DOCKER_LIST
        self.manifest = dumps({"schemaVersion": 2, "mediaType": self.media_type,
                               "manifests": [image.platform_descriptor() for image in images]})
