"""A certificate authority of the tests' own, by openssl(1)."""
import os
import subprocess


def run(*args):
    return subprocess.run(["openssl", *args], check=True, capture_output=True).stdout


class Authority:
    """ca.pem, and NAME.pem with NAME.key for each name issued, in a folder."""

    def __init__(self, folder, name="tests"):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.ca = folder, f"{folder}/ca.pem"
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            f"/CN={name}", "-keyout", f"{folder}/ca.key", "-out", self.ca)

    def issue(self, name):
        """A certificate of 127.0.0.1, for servers and clients: (certificate, key)."""
        cert, key, request, extensions = (f"{self.folder}/{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        with open(extensions, "w", encoding="ascii") as f:
            f.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
            key, "-out", request)
        run("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", f"{self.folder}/ca.key", "-CAcreateserial", "-days",
            "2", "-extfile", extensions, "-out", cert)
        return cert, key
