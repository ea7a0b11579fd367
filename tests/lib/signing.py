"""Signatures as cosign makes them ("simple signing"), with the openssl program."""
import base64
import json
import os
import subprocess

import oci

LAYER_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"
KINDS = {
    "ecdsa": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ecdsa384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "pss": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ed25519": ["-algorithm", "ED25519"],
}


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


class Key:
    """A key pair; .public is the file that a policy names."""

    def __init__(self, folder, name, kind="ecdsa"):
        self.kind = kind
        self.private, self.public = os.path.join(folder, f"{name}.key"), os.path.join(folder, f"{name}.pub")
        openssl("genpkey", *KINDS[kind], "-out", self.private)
        openssl("pkey", "-in", self.private, "-pubout", "-out", self.public)

    def sign(self, data):
        if self.kind == "ed25519":  # it reads no pipe: it wants to know the length before
            path = self.private + ".data"
            with open(path, "wb") as f:
                f.write(data)
            return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-in", path)
        more = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"] if self.kind == "pss" else []
        return openssl("dgst", "-sha256", "-sign", self.private, *more, data=data)


class Signature:
    """What is kept in a registry: a manifest with a layer for each of the signatures. To be pushed like an image."""

    media_type = oci.OCI_MANIFEST

    def __init__(self, repository, digest, *keys, artifact=False):
        payload = oci.dumps({"critical": {"identity": {"docker-reference": repository},
                                          "image": {"docker-manifest-digest": digest},
                                          "type": "cosign container image signature"}, "optional": None})
        config = oci.dumps({"architecture": "", "os": "", "config": {},
                            "rootfs": {"type": "layers", "diff_ids": [oci.digest(payload)]}})
        self.blobs = [config, payload]
        self.subject = digest
        layers = [{"mediaType": LAYER_TYPE, "digest": oci.digest(payload), "size": len(payload), "annotations": {
            "dev.cosignproject.cosign/signature": base64.b64encode(key.sign(payload)).decode()}} for key in keys]
        self.manifest = oci.dumps({
            "schemaVersion": 2, "mediaType": self.media_type, "layers": layers,
            "config": {"mediaType": ARTIFACT_TYPE if artifact else oci.OCI_CONFIG, "digest": oci.digest(config),
                       "size": len(config)}})

    @property
    def tag(self):
        return self.subject.replace(":", "-") + ".sig"

    def referrers(self):
        """The index that lists it."""
        return json.dumps({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [
            {"mediaType": oci.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 2, "artifactType": "text/spdx"},
            {"mediaType": oci.OCI_MANIFEST, "digest": oci.digest(self.manifest), "size": len(self.manifest),
             "artifactType": ARTIFACT_TYPE}]}).encode()
