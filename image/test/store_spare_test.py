"""A crisp-pull that is started ahead of the pull: who gets it, what it has seen, and when it goes. See store_case.py."""
import os
import shutil
import signal
import ssl
import subprocess
import time
from pathlib import Path

import fake_registry
import store_case
from store_case import PullTest, oci, simple_image


def process_name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return None


class SpareTest(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")
        self.image = simple_image(2)
        for tag in ("a", "b", "c"):
            self.registry.push("app", tag, self.image)

    def children(self):
        found = {}
        for file in Path(f"/proc/{self.store.process.pid}/task").glob("*/children"):
            try:
                found.update((int(pid), process_name(pid)) for pid in file.read_text(encoding="ascii").split())
            except OSError:
                pass
        return found

    def idle(self):
        return {pid for pid, name in self.children().items() if name == "crisp-pull-idle"}

    def wait(self, condition, what):
        deadline = time.monotonic() + 60
        while not (found := condition()):
            self.assertLess(time.monotonic(), deadline, f"{what}; there are {self.children()}")
            time.sleep(0.005)
        return found

    def wait_idle(self, n=1):
        """So many wait, and nothing else is there."""
        self.wait(lambda: len(self.idle()) == n and len(self.children()) == n, f"{n} idle")
        return self.idle()

    def pull(self, tag="a", more=""):
        self.assertEqual(self.store(f"pull {self.host}/app:{tag}{more}"), self.image.id)


class Life(SpareTest):
    def test_one_serves_one_pull(self):
        self.assertEqual(self.children(), {})
        self.pull("a")
        first = self.wait_idle()
        workers = []

        def fault(start):
            workers.extend(pid for pid, name in self.children().items() if name == "crisp-pull")

        other = simple_image(3)
        self.registry.push("other", "v", other)
        self.registry.faults["*"] = fault
        self.assertEqual(self.store(f"pull {self.host}/other:v"), other.id)
        self.assertEqual(set(workers), first)
        self.assertFalse(self.wait_idle() & first)

    def test_nobody_waits_for_ever(self):
        self.reopen(TOOL_SPARE_MS=2500)
        self.pull("a")
        self.pull("a")
        self.pull("a")
        self.wait(self.idle, "an idle one")
        self.wait(lambda: not self.children(), "none left")
        self.pull("a")

    def test_ends_with_the_store(self):
        for end in ("close", "kill"):
            self.reopen()
            self.pull("a")
            spare = self.wait_idle().pop()
            forker = int(Path(f"/proc/{spare}/task/{spare}/children").read_text(encoding="ascii"))
            self.wait(lambda pid=forker: process_name(pid) == "crisp-unpack", "it has its name")
            getattr(self.store, end)()
            self.wait(lambda pids=(spare, forker): not any(map(process_name, pids)), f"they end at {end}")

    def test_killed_while_it_waits(self):
        self.pull("a")
        os.kill(self.wait_idle().pop(), signal.SIGKILL)
        self.pull("b")
        self.wait_idle()

    def test_killed_with_the_request_before_its_eyes(self):
        self.pull("a")
        spare = self.wait_idle().pop()
        os.kill(spare, signal.SIGSTOP)
        asked = len(self.registry.requests)
        self.store.process.stdin.write(f"pull {self.host}/app:b\n")
        self.store.process.stdin.flush()
        time.sleep(0.3)
        self.assertEqual(len(self.registry.requests), asked)
        os.kill(spare, signal.SIGKILL)
        self.assertEqual(self.store.process.stdout.readline(), f"ok {self.image.id}\n")

    def test_upgrade(self):
        program = Path(self.dir) / "crisp-pull"
        shutil.copy(store_case.CRISP_PULL, program)
        self.store.close()
        store_case.CRISP_PULL, kept = str(program), store_case.CRISP_PULL
        try:
            self.reopen()
        finally:
            store_case.CRISP_PULL = kept
        self.pull("a")
        old = self.wait_idle()
        shutil.copy(kept, f"{program}.new")
        os.rename(f"{program}.new", program)
        self.pull("b")
        new = self.wait_idle()
        self.assertFalse(old & new)
        self.assertEqual([os.readlink(f"/proc/{pid}/exe") for pid in new], [str(program)])


class Kept(SpareTest):
    """The one that answered that nothing has changed is asked the same again, and nothing else."""

    def setUp(self):
        super().setUp()
        self.pull("a")
        self.wait_idle()
        self.first = self.idle()
        self.pull("a")  # by the one that waited
        self.wait_idle(2)

    def test_same_question(self):
        both, connections = self.idle(), self.registry.connections
        self.assertLess(self.first, both)
        asked = len(self.registry.requests)
        for _ in range(5):
            self.pull("a")
        self.assertEqual(len(self.registry.requests), asked + 5)
        self.assertEqual(self.registry.connections, connections)
        self.assertEqual(self.wait_idle(2), both)

    def test_same_question_other_answer(self):
        other = simple_image(3)
        self.registry.push("app", "a", other)
        self.assertEqual(self.store(f"pull {self.host}/app:a"), other.id)
        self.wait_idle(1)
        self.assertFalse(self.idle() & self.first)

    def test_other_reference_or_credentials(self):
        fresh = self.idle() - self.first
        self.pull("b")  # is fetched: that takes a fresh one, which ends
        self.assertTrue(self.wait_idle(2) > self.first)
        self.assertFalse(self.idle() & fresh)
        self.registry.basic = ("user", "pass")
        fresh = self.idle() - self.first
        self.pull("a", " user pass")  # whose credentials are kept now
        self.wait(lambda: len(self.idle()) == 2 and not self.idle() & self.first, "the other one goes")
        self.assertLess(fresh, self.idle())
        with self.assertRaises(store_case.StoreError) as caught:
            self.store(f"pull {self.host}/app:a")
        self.assertEqual(caught.exception.status, "UNAUTHENTICATED")
        self.assertTrue(fresh <= self.wait_idle(2))

    def test_removed_meanwhile(self):
        self.store(f"remove {self.image.id}")
        self.expect_clean()
        self.pull("a")


class Schemes(SpareTest):
    """https is tried before http, but not each time where http was the answer."""

    def serve_tls(self):
        """What the registry has, at its port, by https; and the store trusts it."""
        pem = f"{self.dir}/server.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pem, "-out",
                        f"{self.dir}/ca.pem"], check=True, capture_output=True)
        Path(pem).write_text(Path(pem).read_text() + Path(f"{self.dir}/ca.pem").read_text(), encoding="ascii")
        return pem

    def turn_to_tls(self, pem):
        port, old = self.registry.port, self.registry
        old.close()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.registry = fake_registry.Registry(port, context)
        self.addCleanup(self.registry.close)
        self.registry.blobs, self.registry.manifests = old.blobs, old.manifests

    def test_http_is_remembered(self):
        self.pull("a")
        before = self.registry.connections
        self.pull("b")
        self.pull("c")
        self.assertEqual(self.registry.connections, before + 2)

    def test_registry_that_got_tls(self):
        pem = self.serve_tls()
        self.reopen(TOOL_CA=f"{self.dir}/ca.pem")
        self.pull("a")
        self.turn_to_tls(pem)
        self.pull("b")
        before = self.registry.connections
        self.pull("c")  # http is forgotten
        self.assertEqual(self.registry.connections, before + 1)

    def test_tls_server_that_says_400(self):
        """As those do that notice who speaks without TLS."""
        self.pull("a")
        self.registry.status = 400
        text = self.fails_leaving("UNAVAILABLE", f"pull {self.host}/app:b")
        self.assertIn("HTTP status 400", text)
        self.assertIn("https://", text)
        self.registry.status = None
        self.pull("b")

    def fails_leaving(self, status, command):
        with self.assertRaises(store_case.StoreError) as caught:
            self.store(command)
        self.assertEqual(caught.exception.status, status)
        return str(caught.exception)


if __name__ == "__main__":
    store_case.main()
