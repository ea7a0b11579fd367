"""kill -9 of crispd while many clients are at work: whatever they were told stays true, and nothing leaks."""
import random
import threading
import time

import grpc
import pytest

from cri import BUSYBOX, Cri
from stubs import pb

CLIENTS = 6


class Client(threading.Thread):
    """Makes pods and containers until told to stop; notes what the daemon has acknowledged."""

    def __init__(self, crispd, seed):
        super().__init__(daemon=True)
        self.cri, self.random = Cri(crispd), random.Random(seed)
        self.ending = threading.Event()
        self.running, self.exited = {}, {}  # container: pid; container: exit code
        self.pods, self.strange = [], []

    def run(self):
        while not self.ending.is_set():
            try:
                self.step()
            except grpc.RpcError as e:
                if e.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED,
                                    grpc.StatusCode.DEADLINE_EXCEEDED):
                    self.strange.append(f"{e.code()}: {e.details()}")
                return  # the daemon was killed
            except ValueError:
                return  # the channel was closed

    def step(self):
        pod = self.cri.run_pod()
        self.pods.append(pod)
        code = self.random.randrange(1, 100)
        lives = self.cri.run(pod, ["sleep", "3600"], name="lives")
        self.running[lives] = True
        ends = self.cri.run(pod, ["sh", "-c", f"exit {code}"], name="ends")
        self.exited[ends] = code
        assert self.cri.exec(lives, "true")[0] == 0
        if self.random.random() < 0.4:
            del self.running[lives]  # from here on it may be dead
            self.cri.StopContainer(container_id=lives, timeout=0)
            self.exited[lives] = 137
        if self.random.random() < 0.4:
            for made in (lives, ends):
                self.running.pop(made, None)
                self.exited.pop(made, None)
            self.pods.remove(pod)
            self.cri.remove_pod(pod)


@pytest.mark.parametrize("seed", range(6))
def test_killed_under_load(cri, crispd, seed):
    cri.have(BUSYBOX)
    clients = [Client(crispd, seed * 100 + i) for i in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(random.Random(seed).uniform(0.1, 2.0))
    crispd.process.kill()
    crispd.process.wait()
    for client in clients:
        client.ending.set()
    for client in clients:
        client.join(70)
        assert not client.is_alive()
    crispd.start()
    assert not [s for client in clients for s in client.strange]
    for client in clients:
        for pod in client.pods:
            assert cri.pod_status(pod).state == pb.SANDBOX_READY
        for container in client.running:
            assert cri.status(container).state == pb.CONTAINER_RUNNING
            assert cri.exec(container, "true")[0] == 0
        for container, code in client.exited.items():
            status = cri.wait(container, 5)
            assert status.exit_code == code, status
            assert status.created_at < status.started_at <= status.finished_at
    ids = [c.id for c in cri.ListContainers().containers]
    assert len(ids) == len(set(ids))
