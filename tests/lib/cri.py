"""A CRI client for tests: short words for what a kubelet does, and the cleaning up after it."""
import collections
import itertools
import os
import time
import uuid

import grpc

from daemon import limit, wait_for
from stubs import grpc_stub, pb

E2E = "registry.k8s.io/e2e-test-images/"
STAGING = "gcr.io/k8s-staging-cri-tools/"
BUSYBOX = E2E + "busybox:1.29-2"
DEADLINE = limit(60)  # s: of every call that doesn't say otherwise
LogLine = collections.namedtuple("LogLine", "time stream tag text")


class Cri:
    """Calls of both services as methods: cri.Version(), cri.PodSandboxStatus(pod_sandbox_id=…)."""

    def __init__(self, crispd):
        self.crispd = crispd
        self.number = itertools.count()
        self.logs = f"{crispd.base}/logs"
        self.configs = {}

    def __getattr__(self, name):
        if not name[0].isupper():
            raise AttributeError(name)
        for service in (grpc_stub.RuntimeServiceStub, grpc_stub.ImageServiceStub):
            method = getattr(service(self.crispd.channel), name, None)
            if method:
                request = getattr(pb, name + "Request")
                return lambda deadline=DEADLINE, **fields: method(request(**fields), timeout=deadline)
        raise AttributeError(name)

    def future(self, name, deadline=DEADLINE, **fields):
        """The same without waiting: a gRPC future."""
        for service in (grpc_stub.RuntimeServiceStub, grpc_stub.ImageServiceStub):
            method = getattr(service(self.crispd.channel), name, None)
            if method:
                return method.future(getattr(pb, name + "Request")(**fields), timeout=deadline)
        raise AttributeError(name)

    # images

    def pull(self, image, **more):
        return self.PullImage(image=pb.ImageSpec(image=image), deadline=limit(120), **more).image_ref

    def image(self, image):
        """The image's status, or None."""
        response = self.ImageStatus(image=pb.ImageSpec(image=image))
        return response.image if response.HasField("image") else None

    def have(self, image):
        if not self.image(image):
            self.pull(image)
        return image

    # pods

    def pod_config(self, name=None, linux=None, **more):
        name = name or f"pod{next(self.number)}-{uuid.uuid4().hex[:8]}"
        return pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, uid=str(uuid.uuid4()), namespace="test"),
            log_directory=f"{self.logs}/{name}", linux=linux or pb.LinuxPodSandboxConfig(), **more)

    def run_pod(self, config=None, **more):
        """Runs a pod; its id."""
        config = config or self.pod_config(**more)
        pod = self.RunPodSandbox(config=config).pod_sandbox_id
        self.configs[pod] = config
        return pod

    def pod_status(self, pod):
        return self.PodSandboxStatus(pod_sandbox_id=pod).status

    def remove_pod(self, pod):
        self.StopPodSandbox(pod_sandbox_id=pod)
        self.RemovePodSandbox(pod_sandbox_id=pod)

    # containers

    def container_config(self, command=None, image=BUSYBOX, name=None, linux=None, **more):
        name = name or f"c{next(self.number)}"
        return pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=name), image=pb.ImageSpec(image=image), command=command or [],
            log_path=more.pop("log_path", name + ".log"), linux=linux or pb.LinuxContainerConfig(), **more)

    def create(self, pod, command=None, config=None, **more):
        config = config or self.container_config(command, **more)
        if config.image.image:
            self.have(config.image.image)
        return self.CreateContainer(pod_sandbox_id=pod, config=config,
                                    sandbox_config=self.configs.get(pod)).container_id

    def run(self, pod, command=None, **more):
        """Creates and starts a container; its id."""
        container = self.create(pod, command, **more)
        self.StartContainer(container_id=container)
        return container

    def status(self, container):
        return self.ContainerStatus(container_id=container).status

    def wait(self, container, timeout=20):
        """Waits for the exit; the final status."""
        wait_for(lambda: self.status(container).state == pb.CONTAINER_EXITED, timeout, f"exit of {container[:12]}")
        return self.status(container)

    def run_to_end(self, pod, command, **more):
        """Runs a command in a container of its own: (exit code, stdout, stderr)."""
        container = self.run(pod, command, **more)
        status = self.wait(container)
        lines = self.log_lines(container)
        self.RemoveContainer(container_id=container)
        return status.exit_code, text_of(lines, "stdout"), text_of(lines, "stderr")

    def output(self, pod, command, **more):
        code, out, err = self.run_to_end(pod, command, **more)
        assert code == 0, f"{command}: exit {code}: {out}{err}"
        return out

    def exec(self, container, *command, timeout=10):
        """ExecSync: (exit code, stdout, stderr)."""
        r = self.ExecSync(container_id=container, cmd=command, timeout=limit(timeout))
        return r.exit_code, r.stdout.decode("utf-8", "replace"), r.stderr.decode("utf-8", "replace")

    def sh(self, container, script):
        """A shell command's stdout in a running container; it must succeed."""
        code, out, err = self.exec(container, "sh", "-c", script)
        assert code == 0, f"{script}: exit {code}: {out}{err}"
        return out

    def log_lines(self, container):
        return read_log(self.status(container).log_path)

    def pid_of(self, container):
        """The container's first process, as the host sees it: the one whose cgroup names the container."""
        pid = self.pid_in(container)
        assert pid, f"no process of container {container[:12]}"
        return pid

    def pid_in(self, container):
        """The same, or None if there is none."""
        for pid in sorted(int(p) for p in os.listdir("/proc") if p.isdigit()):
            try:
                with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
                    if container in f.read():
                        return pid
            except OSError:
                pass
        return None

    def clean(self):
        """Removes all pods, as every test does at its end."""
        deadline = time.monotonic() + limit(60)
        for pod in self.ListPodSandbox().items:
            while True:
                try:
                    self.remove_pod(pod.id)
                    break
                except grpc.RpcError as e:
                    if time.monotonic() > deadline:
                        raise AssertionError(f"pod {pod.id[:12]} can't be removed: {e.details()}") from e
                    time.sleep(0.2)
        self.configs.clear()


def read_log(path):
    """A container's log: [LogLine], each line checked for its form."""
    lines = []
    with open(path, "rb") as f:
        for raw in f.read().decode("utf-8", "surrogateescape").split("\n")[:-1]:
            stamp, stream, tag, text = raw.split(" ", 3)
            assert stream in ("stdout", "stderr") and tag in ("P", "F"), raw[:200]
            assert stamp[10] == "T" and (stamp.endswith("Z") or stamp[-6] in "+-"), raw[:200]
            lines.append(LogLine(stamp, stream, tag, text))
    return lines


def text_of(lines, stream="stdout"):
    """What the process wrote, put together from its log lines."""
    return "".join(line.text + ("\n" if line.tag == "F" else "") for line in lines if line.stream == stream)


def code_of(call, *args, **kwargs):
    """Runs a call that must fail: (gRPC status code, text)."""
    try:
        call(*args, **kwargs)
    except grpc.RpcError as e:
        return e.code(), e.details()
    raise AssertionError("the call should have failed")


def env(**values):
    """Environment variables; on the wire their values are bytes."""
    return [pb.KeyValue(key=key, value=value.encode()) for key, value in values.items()]
