"""Registries that fail, refuse, lie, are slow or want to be asked again: what a pull makes of it. See store_case.py."""
import email.utils
import os
import random
import subprocess
import time
import threading
from pathlib import Path

import fake_registry
import store_case
from store_case import PullTest, oci, simple_image

NAME = "images.example/app"


class RegistryTest(PullTest):
    def setUp(self):
        super().setUp()
        self.store("sweep")

    def another(self):
        registry = fake_registry.Registry()
        self.addCleanup(registry.close)
        return registry

    def asked(self, registry, part):
        return [path for path, _, _ in registry.requests if part in path]

    def remove(self, image):
        self.store(f"remove {image.id}")
        self.expect_clean()


class Retries(RegistryTest):
    def test_busy_registry_is_asked_again(self):
        image = simple_image(2)
        self.registry.push("app", "v", image)
        for status in (429, 500, 502, 503, 504):
            self.registry.busy = iter([(status, {})])
            self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)
            self.remove(image)

    def test_retry_after(self):
        image = simple_image(1)
        self.registry.push("app", "v", image)
        layer = oci.digest(image.layers[0].blob)
        for header in ("1", email.utils.formatdate(time.time() + 2, usegmt=True)):
            for where in ("manifest", "layer"):
                answers = iter([(429, {"Retry-After": header}), None])
                if header != "1":  # a date: from now on
                    answers = iter([(503, {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}), None])
                if where == "manifest":
                    self.registry.busy = answers
                else:
                    self.registry.faults = {layer: lambda start, answers=answers: next(answers)}
                start = time.monotonic()
                self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)
                self.assertGreater(time.monotonic() - start, 0.9)
                self.registry.faults = {}
                self.remove(image)

    def test_retry_after_beyond_all_bounds(self):
        self.registry.push("app", "v", simple_image(1))
        self.registry.busy = iter([(429, {"Retry-After": "3600"})] * 9)
        self.fails("UNAVAILABLE", "try again in 3600 seconds", f"pull {self.host}/app:v")

    def test_not_found_is_not_asked_again(self):
        self.fails("NOT_FOUND", "not found", f"pull {self.host}/app:v")
        self.assertEqual(len(self.asked(self.registry, "/manifests/")), 1)

    def test_cuts_at_random_bytes(self):
        seed = os.environ.get("CRISP_CUT_SEED") or str(time.time_ns())
        print(f"CRISP_CUT_SEED={seed}")
        random_ = random.Random(seed)
        layers = [oci.Layer().add(f"f{i}", random_.randbytes(400_000)) for i in range(3)]
        image = oci.Image(layers)
        self.registry.push("app", "v", image)
        for _ in range(4):
            left = {oci.digest(layer.blob): 12 for layer in layers}

            def fault(digest):
                left[digest] -= 1
                return f"cut at {random_.randrange(10_000, 120_000)}" if left[digest] >= 0 else None

            self.registry.faults = {oci.digest(layer.blob): lambda start, d=oci.digest(layer.blob): fault(d)
                                    for layer in layers}
            self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)
            for i, tree in enumerate(reversed(self.store.tree(image.id))):
                self.assertEqual((tree / f"f{i}").stat().st_size, 400_000)
            self.remove(image)

    def test_a_few_bytes_at_a_time_do_not_go_on_for_ever(self):
        image = oci.Image([oci.Layer().add("f", os.urandom(300_000))])
        self.registry.push("app", "v", image)
        self.registry.faults["*"] = lambda start: "cut at 1" if start else "cut at 1000"
        self.registry.faults[oci.digest(image.config)] = lambda start: None
        self.fails("DATA_LOSS", "truncated", f"pull {self.host}/app:v")

    def test_break_after_the_last_byte(self):
        image = oci.Image([oci.Layer().add("f", os.urandom(300_000))])
        self.registry.push("app", "v", image)
        layer = oci.digest(image.layers[0].blob)
        self.registry.faults[layer] = "unfinished"
        self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)
        self.assertEqual(len(self.asked(self.registry, layer)), 1)

    def test_other_range_than_asked_for(self):
        image = oci.Image([oci.Layer().add("f", os.urandom(300_000))])
        self.registry.push("app", "v", image)
        self.registry.faults[oci.digest(image.layers[0].blob)] = lambda start: "other range" if start else "cut"
        self.fails("DATA_LOSS", "another range", f"pull {self.host}/app:v")

    def test_stall_and_trickle(self):
        image = oci.Image([oci.Layer().add("f", os.urandom(300_000))])
        self.registry.push("app", "v", image)
        layer = oci.digest(image.layers[0].blob)
        self.reopen(TOOL_STALL_MS=1000, TOOL_MIN_RATE=1000)
        for fault in ("stall", "trickle"):
            self.registry.faults[layer] = fault
            start = time.monotonic()
            self.fails("UNAVAILABLE", "RegistryUnavailable", f"pull {self.host}/app:v")
            self.assertLess(time.monotonic() - start, 25)
        answers = iter(["trickle", None])  # what came in is kept, and the rest asked for anew
        self.registry.faults[layer] = lambda start: next(answers)
        self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)


class Mirrors(RegistryTest):
    """The pull's registry is images.example; `a` and `b` are its mirrors, strictly."""

    def setUp(self):
        super().setUp()
        self.a, self.b = self.registry, self.another()
        self.image = oci.Image([oci.Layer().add(f"f{i}", os.urandom(100_000)) for i in range(2)])
        for registry in (self.a, self.b):
            registry.push(NAME, "v", self.image)
        self.layer = oci.digest(self.image.layers[1].blob)
        self.reopen(f"{self.a.url},{self.b.url}", "strict")

    def pull(self):
        self.assertEqual(self.store(f"pull {NAME}:v"), self.image.id)
        self.remove(self.image)

    def test_first_one_is_enough(self):
        self.pull()
        self.assertEqual(self.b.requests, [])

    def test_manifest_falls_back(self):
        for status in (401, 403, 404, 429, 500, 503):
            self.a.status = status
            start = time.monotonic()
            self.pull()
            self.assertLess(time.monotonic() - start, 10)

    def test_layer_falls_back(self):
        for fault in (401, 403, 404, 429, 500, 503, (429, {"Retry-After": "3600"}), "corrupt", "long", "short"):
            self.a.faults = {self.layer: fault}
            self.b.requests.clear()
            self.pull()
            self.assertEqual(len(self.asked(self.b, self.layer)), 1, fault)

    def test_layer_continues_elsewhere(self):
        self.a.faults = {self.layer: lambda start: 404 if start else "cut"}
        self.pull()
        ranges = [r for path, _, r in self.b.requests if self.layer in path]
        self.assertEqual(len(ranges), 1)
        self.assertRegex(ranges[0], r"bytes=\d{4,}-")

    def test_slow_mirror(self):
        self.reopen(f"{self.a.url},{self.b.url}", "strict", TOOL_STALL_MS=1000, TOOL_MIN_RATE=1000)
        self.a.faults = {self.layer: "stall"}
        self.pull()

    def test_dead_mirror(self):
        self.a.close()
        self.pull()

    def test_all_fail_and_each_is_told(self):
        self.a.status, self.b.status = 403, 404
        text = self.fails("NOT_FOUND", "403", f"pull {NAME}:v")
        self.assertIn(self.a.url, text)
        self.assertIn(self.b.url, text)
        self.a.status = self.b.status = None
        self.a.faults = self.b.faults = {self.layer: "corrupt"}
        text = self.fails("DATA_LOSS", "digest mismatch", f"pull {NAME}:v")
        self.assertIn(self.a.url, text)
        self.assertIn(self.b.url, text)

    def test_capabilities(self):
        self.reopen(f"{self.a.url}!pull,{self.b.url}!resolve", "strict")
        self.pull()
        self.assertEqual([p.rsplit("/", 2)[1] for p, _, _ in self.b.requests], ["manifests"])
        self.assertEqual([p for p, _, _ in self.a.requests if "/manifests/" in p], [])
        self.b.requests.clear()
        self.store(f"pull {NAME}@{oci.digest(self.image.manifest)}")
        self.assertEqual(self.b.requests, [])


class Tokens(RegistryTest):
    def setUp(self):
        super().setUp()
        self.image = oci.Image([oci.Layer().add(f"f{i}", os.urandom(100_000)) for i in range(4)])
        self.registry.push("app", "v", self.image)
        self.registry.tokens = set()

    def test_expired_between_requests(self):
        self.registry.lifetime = 2
        self.registry.faults["*"] = "slow"  # half a second each, four at once after the config
        self.registry.faults[oci.digest(self.image.config)] = lambda start: time.sleep(2.5)
        self.store(f"pull {self.host}/app:v")
        refused = [a for p, a, _ in self.registry.requests if "/blobs/" in p and a is None]
        self.assertEqual(refused, [])
        self.assertEqual(len(self.asked(self.registry, "/token")), 2)

    def test_refused_in_the_middle_of_all_layers(self):
        """All four break off and their token is no longer taken: one new one serves them all."""
        barrier = threading.Barrier(4)

        def fault(start):
            if start:
                return None
            barrier.wait(20)
            self.registry.tokens.discard("token2")
            return "cut"

        self.registry.faults = {oci.digest(layer.blob): fault for layer in self.image.layers}
        self.reopen(TOOL_PULL_LAYERS=4)
        self.store(f"pull {self.host}/app:v")
        self.assertEqual(len(self.asked(self.registry, "/token")), 2)
        resumed = [r for p, _, r in self.registry.requests if "/blobs/" in p and r]
        self.assertGreaterEqual(len(resumed), 4)


class Present(RegistryTest):
    """What is here already is asked for once, and nothing is fetched."""

    def setUp(self):
        super().setUp()
        self.image = simple_image(2)
        self.registry.push("app", "v", self.image)
        self.ref = f"{self.host}/app:v"
        self.store(f"pull {self.ref}")
        self.registry.requests.clear()

    def test_one_question(self):
        digest = oci.digest(self.image.manifest)
        status = self.store.status(self.ref)
        self.assertEqual(self.store(f"pull {self.ref}"), self.image.id)
        self.assertEqual(self.asked(self.registry, "/"), ["/v2/app/manifests/v"])
        self.assertEqual(self.store(f"pull {self.host}/app@{digest}"), self.image.id)
        self.assertEqual(self.asked(self.registry, "/")[1:], [f"/v2/app/manifests/{digest}"])
        self.assertEqual(self.store.status(self.ref), status)
        self.expect_clean(status["layers"])

    def test_index(self):
        self.registry.push("multi", "v", oci.Index([simple_image(1, arch="arm64"), self.image]))
        self.store(f"pull {self.host}/multi:v")
        self.registry.requests.clear()
        self.assertEqual(self.store(f"pull {self.host}/multi:v"), self.image.id)
        self.assertEqual(self.asked(self.registry, "/"), ["/v2/multi/manifests/v"])

    def test_moved_tag(self):
        other = simple_image(3)
        self.registry.push("app", "v", other)
        self.assertEqual(self.store(f"pull {self.ref}"), other.id)
        self.assertEqual(self.store.status(other.id)["tags"], [self.ref])

    def test_registry_has_the_last_word(self):
        """Who may not pull it any more, or what isn't there any more: that it is here is no answer."""
        self.registry.basic = ("user", "pass")
        with self.assertRaises(store_case.StoreError) as caught:
            self.store(f"pull {self.ref}")
        self.assertEqual(caught.exception.status, "UNAUTHENTICATED")
        self.registry.basic = None
        del self.registry.manifests["app", "v"]
        with self.assertRaises(store_case.StoreError) as caught:
            self.store(f"pull {self.ref}")
        self.assertEqual(caught.exception.status, "NOT_FOUND")

    def test_damaged_or_removed(self):
        layers = self.store.status(self.ref)["layers"]
        self.store.close()
        store_case.shutil.rmtree(self.store.root / "layers" / layers[0])
        self.reopen()
        self.assertEqual(self.store(f"pull {self.ref}"), self.image.id)
        self.assertEqual(len(self.asked(self.registry, "/blobs/")), 2)  # the config and what was lost
        self.store(f"remove {self.ref}")
        self.assertEqual(self.store(f"pull {self.ref}"), self.image.id)


class Connections(RegistryTest):
    def test_they_are_kept(self):
        image = oci.Image([oci.Layer().add(f"f{i}", os.urandom(50_000)) for i in range(9)])
        self.registry.push("app", "v", image)
        self.reopen(TOOL_PULL_LAYERS=3)
        self.registry.connections = 0
        self.store(f"pull {self.host}/app:v")
        # The refused TLS attempt is one that the registry doesn't count as a request, but as a connection.
        self.assertLessEqual(self.registry.connections, 4)

    def most_at_once(self):
        now, most, lock = 0, 0, threading.Lock()

        def fault(start):
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.1)
            with lock:
                now -= 1

        return fault, lambda: most

    def test_bounds(self):
        images = [oci.Image([oci.Layer().add(f"f{i}-{j}", os.urandom(100)) for j in range(6)]) for i in range(3)]
        for i, image in enumerate(images):
            self.registry.push("app", f"v{i}", image)
        layers = [oci.digest(layer.blob) for image in images for layer in image.layers]
        refs = " ".join(f"{self.host}/app:v{i}" for i in range(3))
        for pull, node, bound in ((2, 100, 6), (3, 4, 4), (4, 1, 1)):
            self.reopen(TOOL_PULL_LAYERS=pull, TOOL_NODE_LAYERS=node)
            fault, most = self.most_at_once()
            self.registry.faults = dict.fromkeys(layers, fault)
            self.store(f"together 1 {refs}")
            self.assertLessEqual(most(), bound)
            self.assertGreaterEqual(most(), min(bound, 2))
            for image in images:
                self.store(f"remove {image.id}")
            self.expect_clean()


    def test_slots_come_back(self):
        """From pulls that fail, that nobody waits for any more, and whose crisp-pull is killed."""
        image = simple_image(3)
        self.registry.push("app", "v", image)
        self.reopen(TOOL_PULL_LAYERS=2, TOOL_NODE_LAYERS=1)
        layer = oci.digest(image.layers[0].blob)
        for fault in ("corrupt", "stall", "kill"):
            self.registry.faults[layer] = "stall" if fault == "kill" else fault
            self.registry.requests.clear()
            if fault == "kill":
                self.store.process.stdin.write(f"pull {self.host}/app:v\n")
                self.store.process.stdin.flush()
                while not self.asked(self.registry, layer):
                    time.sleep(0.01)
                for child in " ".join(f.read_text() for f in Path(
                        f"/proc/{self.store.process.pid}/task").glob("*/children")).split():
                    os.kill(int(child), 9)
                self.assertTrue(self.store.process.stdout.readline().startswith("error INTERNAL"))
            else:
                with self.assertRaises(store_case.StoreError):
                    self.store(f"pull {self.host}/app:v - 1500")
            self.registry.faults.clear()
            self.assertEqual(self.store(f"pull {self.host}/app:v"), image.id)
            self.remove(image)


class Secrets(RegistryTest):
    def test_nobody_sees_them(self):
        """Neither in crisp-pull's arguments and environment, nor in logs, records or on disk."""
        image = simple_image(1)
        self.registry.push("app", "v", image)
        self.registry.basic = ("user", "secret-word")
        self.registry.faults[oci.digest(image.layers[0].blob)] = "slow"
        self.reopen(http_proxy="http://someone:proxy-secret@127.0.0.1:1", no_proxy="127.0.0.1")
        self.store.process.stdin.write(f"pull {self.host}/app:v user secret-word\n")
        self.store.process.stdin.flush()
        while not any("/blobs/" in p for p, _, _ in self.registry.requests):
            time.sleep(0.01)
        children = Path(f"/proc/{self.store.process.pid}/task")
        pids = " ".join(f.read_text() for f in children.glob("*/children")).split()
        self.assertEqual(len(pids), 1)
        seen = b"".join(Path(f"/proc/{pids[0]}/{name}").read_bytes() for name in ("environ", "cmdline"))
        self.assertIn(b"crisp-pull", seen)
        self.assertNotIn(b"secret", seen)
        limits = Path(f"/proc/{pids[0]}/limits").read_text()
        self.assertRegex(limits, r"Max core file size +0 +0")
        self.assertTrue(self.store.process.stdout.readline().startswith("ok"))
        found = subprocess.run(["grep", "-rlaE", "secret-word|dXNlcjpzZWNyZXQtd29yZA", self.dir], capture_output=True,
                               text=True)
        self.assertEqual(found.stdout, "")
        self.assertNotIn("secret", "".join(self.store.log))

    def test_proxy(self):
        """What isn't on the machine itself goes through the proxy of the environment."""
        proxy = self.another()
        self.reopen(HTTP_PROXY=proxy.url, http_proxy="", https_proxy="", HTTPS_PROXY=proxy.url, no_proxy="")
        self.fails("UNAVAILABLE", "RegistryUnavailable", "pull images.example/app:v")
        self.assertEqual(proxy.requests, [])  # CONNECT, which it doesn't know
        self.assertGreater(proxy.connections, 0)


if __name__ == "__main__":
    store_case.main()
