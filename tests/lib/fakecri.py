"""A CRI runtime that runs nothing: it keeps records in memory and writes the logs that a test tells it to.

For tests of the client: it can be slow, fail, and misbehave in ways that a real runtime shouldn't.
"""
import concurrent.futures
import os
import threading
import time

import grpc

from stubs import grpc_stub, pb

NOW = 1_763_780_645_000_000_000


class FakeRuntime(grpc_stub.RuntimeServiceServicer, grpc_stub.ImageServiceServicer):
    def __init__(self, socket_path):
        self.socket_path = socket_path
        self.calls = []  # (RPC, request)
        self.pods, self.containers, self.images = {}, {}, {}
        self.pod_of = {}  # container id: pod id
        self.info = {}  # of every container's verbose status
        self.pod_stats = []  # what ListPodSandboxStats answers, one list after the other; the last one stays
        self.name = "fake"
        self.made = 0
        self.fail = {}  # RPC: (status code, text)
        self.delay = {}  # RPC: seconds
        self.chunks = []  # what the container's log gets after the start, a piece every `pace` seconds
        self.pace = 0.01
        self.exit = (0, "Completed", "")  # None: runs until it is stopped
        self.ready = True
        self.server = None

    def start(self):
        if os.path.exists(self.socket_path):
            os.unlink(self.socket_path)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        grpc_stub.add_RuntimeServiceServicer_to_server(self, self.server)
        grpc_stub.add_ImageServiceServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{self.socket_path}")
        self.server.start()
        return self

    def stop(self):
        self.server.stop(0).wait()

    def named(self, rpc):
        return [request for name, request in self.calls if name == rpc]

    def enter(self, rpc, request, context):
        self.calls.append((rpc, request))
        until = time.monotonic() + self.delay.get(rpc, 0)
        while time.monotonic() < until and context.is_active():
            time.sleep(0.01)
        if rpc in self.fail:
            context.abort(*self.fail[rpc])

    # runtime

    def Version(self, request, context):
        self.enter("Version", request, context)
        return pb.VersionResponse(version="0.1.0", runtime_name=self.name, runtime_version="1.2", runtime_api_version="v1")

    def Status(self, request, context):
        self.enter("Status", request, context)
        conditions = [pb.RuntimeCondition(type="RuntimeReady", status=True),
                      pb.RuntimeCondition(type="NetworkReady", status=self.ready, reason="NoNetwork", message="no conflist")]
        return pb.StatusResponse(status=pb.RuntimeStatus(conditions=conditions))

    def RunPodSandbox(self, request, context):
        if any(c.metadata == request.config.metadata for c in self.pods.values()):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "there is such a pod")
        # The pod is made even if the client has gone meanwhile: so do real ones, sometimes.
        self.made += 1
        pod_id = f"{self.made:064x}"
        self.pods[pod_id] = request.config
        self.enter("RunPodSandbox", request, context)
        return pb.RunPodSandboxResponse(pod_sandbox_id=pod_id)

    def StopPodSandbox(self, request, context):
        self.enter("StopPodSandbox", request, context)
        return pb.StopPodSandboxResponse()

    def RemovePodSandbox(self, request, context):
        self.enter("RemovePodSandbox", request, context)
        self.pods.pop(request.pod_sandbox_id, None)
        for container in [c for c, pod in self.pod_of.items() if pod == request.pod_sandbox_id]:
            self.forget(container)
        return pb.RemovePodSandboxResponse()

    def ListPodSandbox(self, request, context):
        self.enter("ListPodSandbox", request, context)
        wanted = request.filter.label_selector
        return pb.ListPodSandboxResponse(items=[
            pb.PodSandbox(id=i, metadata=c.metadata, created_at=NOW) for i, c in self.pods.items()
            if all(c.labels.get(k) == v for k, v in wanted.items())])

    def CreateContainer(self, request, context):
        self.enter("CreateContainer", request, context)
        self.made += 1
        container_id = f"{self.made + 4096:064x}"
        self.pod_of[container_id] = request.pod_sandbox_id
        log = os.path.join(request.sandbox_config.log_directory, request.config.log_path)
        self.containers[container_id] = pb.ContainerStatus(
            id=container_id, metadata=request.config.metadata, image=request.config.image, created_at=NOW,
            state=pb.CONTAINER_CREATED, log_path=log, labels=request.config.labels,
            annotations=request.config.annotations)
        return pb.CreateContainerResponse(container_id=container_id)

    def StartContainer(self, request, context):
        self.enter("StartContainer", request, context)
        status = self.containers[request.container_id]
        if context.is_active():
            with open(status.log_path, "wb"):
                status.state = pb.CONTAINER_RUNNING
            threading.Thread(target=self.live, args=(status,), daemon=True).start()
        return pb.StartContainerResponse()

    def live(self, status):
        with open(status.log_path, "ab", buffering=0) as log:
            for chunk in self.chunks:
                if status.state != pb.CONTAINER_RUNNING:
                    return
                log.write(chunk)
                time.sleep(self.pace)
        if self.exit:
            self.finish(status, *self.exit)

    def finish(self, status, code, reason, message):
        status.exit_code, status.reason, status.message = code, reason, message
        status.finished_at = NOW + 1
        status.state = pb.CONTAINER_EXITED

    def StopContainer(self, request, context):
        self.enter("StopContainer", request, context)
        status = self.containers[request.container_id]
        if status.state == pb.CONTAINER_RUNNING:
            self.finish(status, 143 if request.timeout else 137, "Error", "")
        return pb.StopContainerResponse()

    def ContainerStatus(self, request, context):
        self.enter("ContainerStatus", request, context)
        if request.container_id not in self.containers:
            context.abort(grpc.StatusCode.NOT_FOUND, f"container {request.container_id} not found")
        return pb.ContainerStatusResponse(status=self.containers[request.container_id],
                                          info=self.info if request.verbose else {})

    def RemoveContainer(self, request, context):
        self.enter("RemoveContainer", request, context)
        self.forget(request.container_id)
        return pb.RemoveContainerResponse()

    def forget(self, container):
        self.containers.pop(container, None)
        self.pod_of.pop(container, None)

    def UpdateContainerResources(self, request, context):
        self.enter("UpdateContainerResources", request, context)
        return pb.UpdateContainerResourcesResponse()

    def ListPodSandboxStats(self, request, context):
        self.enter("ListPodSandboxStats", request, context)
        stats = self.pod_stats.pop(0) if len(self.pod_stats) > 1 else self.pod_stats[0]
        return pb.ListPodSandboxStatsResponse(stats=stats)

    def ListContainerStats(self, request, context):
        self.enter("ListContainerStats", request, context)
        return pb.ListContainerStatsResponse(stats=[c for pod in self.pod_stats[0] for c in pod.linux.containers])

    def ListContainers(self, request, context):
        self.enter("ListContainers", request, context)
        return pb.ListContainersResponse(containers=[
            pb.Container(id=i, pod_sandbox_id=self.pod_of[i], metadata=c.metadata, image=c.image, state=c.state,
                         created_at=NOW, labels=c.labels, annotations=c.annotations)
            for i, c in self.containers.items() if i.startswith(request.filter.id)
            if not request.filter.HasField("state") or c.state == request.filter.state.state])

    def PodSandboxStatus(self, request, context):
        self.enter("PodSandboxStatus", request, context)
        return pb.PodSandboxStatusResponse(status=pb.PodSandboxStatus(
            id=request.pod_sandbox_id, metadata=self.pods[request.pod_sandbox_id].metadata,
            linux=pb.LinuxPodSandboxStatus(namespaces=pb.Namespace(
                options=self.pods[request.pod_sandbox_id].linux.security_context.namespace_options)),
            network=pb.PodSandboxNetworkStatus(ip="10.1.2.3", additional_ips=[pb.PodIP(ip="fd00::3")])))

    def ExecSync(self, request, context):
        self.enter("ExecSync", request, context)
        return pb.ExecSyncResponse(stdout=" ".join(request.cmd).encode() + b"\n\0", stderr=b"warned\n", exit_code=7)

    # images

    def ImageStatus(self, request, context):
        self.enter("ImageStatus", request, context)
        return pb.ImageStatusResponse(image=self.images.get(request.image.image))

    def PullImage(self, request, context):
        self.enter("PullImage", request, context)
        self.images[request.image.image] = pb.Image(id="sha256:" + "ab" * 32, repo_tags=[request.image.image], size=4_260_000)
        return pb.PullImageResponse(image_ref="sha256:" + "ab" * 32)

    def ListImages(self, request, context):
        self.enter("ListImages", request, context)
        return pb.ListImagesResponse(images=list(self.images.values()))

    def ImageFsInfo(self, request, context):
        self.enter("ImageFsInfo", request, context)
        usage = pb.FilesystemUsage(fs_id=pb.FilesystemIdentifier(mountpoint="/var/lib/fake"),
                                   used_bytes=pb.UInt64Value(value=5_000_000))
        return pb.ImageFsInfoResponse(image_filesystems=[usage])
