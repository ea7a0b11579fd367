"""Statistics: against the kernel's own files, read before and after, and against known loads."""
import os
import socket
import threading
import time

import grpc
import pytest

import cgroups
from cri import Cri, code_of
from daemon import limit, wait_for
from stubs import pb

pytestmark = [pytest.mark.core]
MIB = 1 << 20
FRESH = 15  # s: within which a writable layer is measured again while somebody asks


def stats_of(cri, container):
    return cri.ContainerStats(container_id=container).stats


def near(value, wanted, part=0.05, slack=0):
    return abs(value - wanted) <= wanted * part + slack


class Kernel:
    """The files of a container's cgroup, v1 or v2, in the units of CRI."""

    def __init__(self, pid):
        self.pid = pid

    def read(self, controller, v1, v2):
        return cgroups.read(self.pid, controller, (v1, v2))

    def cpu(self):
        text = self.read("cpuacct", "cpuacct.usage", "cpu.stat")
        return int(text) if text.isdigit() else int(text.split()[1]) * 1000

    def memory(self):
        return int(self.read("memory", "memory.usage_in_bytes", "memory.current"))

    def memory_stat(self, v1, v2):
        lines = dict(line.split() for line in self.read("memory", "memory.stat", "memory.stat").splitlines())
        return int(lines[v1] if v1 in lines else lines[v2])


def between(read, ask, slack=0):
    """A figure that only grows: what is told lies between what the kernel says before and after."""
    before = read()
    told = ask()
    assert before - slack <= told <= read() + slack
    return told


@pytest.mark.vm
def test_every_field(cri, pod):
    labels = {"app": "x"}
    container = cri.run(pod, ["sleep", "3600"], labels=labels, annotations={"note": "y"},
                        linux=pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(
                            memory_limit_in_bytes=64 * MIB, memory_swap_limit_in_bytes=64 * MIB)))
    before = time.time_ns()
    s = stats_of(cri, container)
    assert s.attributes.id == container and s.attributes.metadata == cri.status(container).metadata
    assert dict(s.attributes.labels) == labels and dict(s.attributes.annotations) == {"note": "y"}
    for part in (s.cpu, s.memory, s.swap):
        assert before <= part.timestamp <= time.time_ns()
    assert s.cpu.usage_core_nano_seconds.value > 0 and s.cpu.HasField("usage_nano_cores")
    m = s.memory
    assert m.usage_bytes.value >= m.working_set_bytes.value > 0
    assert m.HasField("rss_bytes")  # the kernel adds small amounts up every two seconds only
    assert m.available_bytes.value == 64 * MIB - m.working_set_bytes.value
    assert m.HasField("page_faults") and m.HasField("major_page_faults")
    assert s.swap.swap_usage_bytes.value == 0 == s.swap.swap_available_bytes.value
    layer, info = s.writable_layer, cri.ImageFsInfo()
    assert layer.timestamp > 0 and layer.used_bytes.value >= 0 and layer.inodes_used.value >= 1
    assert layer.fs_id == info.container_filesystems[0].fs_id == info.image_filesystems[0].fs_id
    assert os.path.isdir(layer.fs_id.mountpoint)


def test_no_limit_is_no_available_memory(cri, busy):
    s = stats_of(cri, busy)
    assert not s.memory.HasField("available_bytes") and s.memory.HasField("working_set_bytes")
    assert not s.swap.HasField("swap_available_bytes")


@pytest.mark.vm
def test_cpu(cri, pod):
    container = cri.run(pod, ["sh", "-c", "while :; do :; done"])
    kernel = Kernel(cri.pid_of(container))
    between(kernel.cpu, lambda: stats_of(cri, container).cpu.usage_core_nano_seconds.value)
    first = stats_of(cri, container).cpu
    kernel_first, began = kernel.cpu(), time.monotonic_ns()
    time.sleep(limit(1.5))
    kernel_rate = (kernel.cpu() - kernel_first) / (time.monotonic_ns() - began)
    second = stats_of(cri, container).cpu
    rate = (second.usage_core_nano_seconds.value - first.usage_core_nano_seconds.value) * 1e9 / (
        second.timestamp - first.timestamp)
    assert near(second.usage_nano_cores.value, rate) and near(rate / 1e9, kernel_rate, slack=0.02)
    assert 0 < second.usage_nano_cores.value <= 1.05e9  # one loop, one core
    # Another client that asks at once gets the same window, not a tiny one.
    assert near(stats_of(cri, container).cpu.usage_nano_cores.value, rate, part=0.2)


@pytest.mark.vm
def test_memory(cri, pod):
    container = cri.run(pod, ["sh", "-c", "dd if=/dev/zero bs=64M count=1 2>/dev/null | sleep 3600"])
    kernel = Kernel(cri.pid_of(container))
    wait_for(lambda: stats_of(cri, container).memory.rss_bytes.value > 63 * MIB, 20, "64 MiB are eaten")
    memory = stats_of(cri, container).memory
    assert near(memory.rss_bytes.value, 64 * MIB)
    assert near(memory.rss_bytes.value, kernel.memory_stat("total_rss", "anon"))
    assert near(memory.usage_bytes.value, kernel.memory())
    assert near(memory.working_set_bytes.value,
                kernel.memory() - kernel.memory_stat("total_inactive_file", "inactive_file"))
    between(lambda: kernel.memory_stat("total_pgfault", "pgfault"),
            lambda: stats_of(cri, container).memory.page_faults.value)
    # Files that nobody looks at again are no part of the working set.
    cri.sh(container, "dd if=/dev/zero of=/file bs=1M count=32 2>/dev/null; sync")
    after = stats_of(cri, container).memory
    assert after.usage_bytes.value > memory.usage_bytes.value + 30 * MIB
    assert near(after.working_set_bytes.value, memory.working_set_bytes.value, slack=4 * MIB)


def test_writable_layer(cri, pod):
    """Known to the byte within some seconds; ImageFsInfo says the same."""
    container = cri.run(pod, ["sleep", "3600"])
    stats_of(cri, container)
    cri.sh(container, "mkdir /many; cd /many; dd if=/dev/urandom of=big bs=1M count=20 2>/dev/null; ln big twice;"
                      "for i in $(seq 200); do echo $i >$i; done; rm -r /home; sync")
    wait_for(lambda: stats_of(cri, container).writable_layer.inodes_used.value > 200, FRESH, "the files are counted")
    layer = stats_of(cri, container).writable_layer
    assert near(layer.used_bytes.value, 20 * MIB + 200 * 4096)
    assert near(layer.inodes_used.value, 204)  # the root, /many, big (with two names), the 200, a whiteout
    assert time.time_ns() - layer.timestamp < FRESH * 10**9
    whole = cri.ImageFsInfo().container_filesystems[0]
    mine = stats_of(cri, container).writable_layer
    assert (whole.used_bytes, whole.inodes_used) == (mine.used_bytes, mine.inodes_used)
    cri.sh(container, "rm -r /many")
    wait_for(lambda: stats_of(cri, container).writable_layer.inodes_used.value < 10, FRESH, "the files are gone")
    other = cri.run(pod, ["sleep", "3600"])
    assert stats_of(cri, other).writable_layer.inodes_used.value == 1  # at once, without waiting for a round
    cri.StopContainer(container_id=container)
    assert stats_of(cri, container).HasField("writable_layer")
    cri.RemoveContainer(container_id=container)
    cri.StopContainer(container_id=other)
    cri.RemoveContainer(container_id=other)
    assert cri.ImageFsInfo().container_filesystems[0].inodes_used.value == 0


def interface(network):
    return network.default_interface.tx_bytes.value, network.default_interface.rx_bytes.value


def test_network(cri, pod):
    container = cri.run(pod, ["sleep", "3600"])
    gateway = cri.sh(container, "ip route").split("default via ")[1].split()[0]

    def network():
        return cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux.network

    def kernel():
        return [int(x) for x in cri.sh(container, "cd /sys/class/net/eth0/statistics; cat tx_bytes rx_bytes").split()]
    assert network().default_interface.name == "eth0" and [i.name for i in network().interfaces] == ["lo"]
    before = kernel()
    told = interface(network())
    assert before[0] <= told[0] and before[1] <= told[1]
    size = 20 * MIB
    with socket.create_server((gateway, 0)) as server:
        received = []

        def serve():
            connection, _ = server.accept()
            with connection:
                received.append(sum(iter(lambda: len(connection.recv(1 << 16)), 0)))
        thread = threading.Thread(target=serve)
        thread.start()
        cri.sh(container, f"head -c {size} /dev/zero | nc {gateway} {server.getsockname()[1]}")
        thread.join(limit(20))
    assert received == [size]
    after = network()
    wire = size * (1448 + 66) / 1448  # Ethernet, IP and TCP headers of each segment count, too
    assert near(after.default_interface.tx_bytes.value - told[0], wire)
    assert after.default_interface.rx_bytes.value > told[1]
    assert after.default_interface.tx_errors.value == 0 == after.default_interface.rx_errors.value
    assert interface(after)[0] <= kernel()[0]
    cri.sh(container, "ping -c 1 -s 1000 127.0.0.1")
    lo = network().interfaces[0]
    assert lo.tx_bytes.value == lo.rx_bytes.value >= 2000


@pytest.mark.vm
def test_pod(cri, pod):
    """A pod's figures are its whole place's: crisp-pod, all containers, and those that have ended."""
    busy = cri.run(pod, ["sh", "-c", "while :; do :; done"], labels={"a": "1"})
    cri.run_to_end(pod, ["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"])
    s = cri.PodSandboxStats(pod_sandbox_id=pod[:12]).stats
    assert s.attributes.id == pod and s.attributes.metadata.uid == cri.pod_status(pod).metadata.uid
    assert [c.attributes.id for c in s.linux.containers] == [busy]
    one = s.linux.containers[0]
    assert s.linux.cpu.usage_core_nano_seconds.value >= one.cpu.usage_core_nano_seconds.value * 0.95
    assert s.linux.cpu.HasField("usage_nano_cores")
    assert s.linux.memory.usage_bytes.value >= one.memory.usage_bytes.value * 0.95
    place = os.path.dirname(cgroups.of_process(cri.pid_of(busy)).get("pids")
                            or cgroups.of_process(cri.pid_of(busy))[""])
    for top in cgroups.hierarchies():
        if os.path.exists(f"{top}{place}/pids.current"):
            with open(f"{top}{place}/pids.current", encoding="ascii") as f:
                assert s.linux.process.process_count.value == int(f.read())
    assert s.linux.process.process_count.value >= 2
    assert not s.HasField("windows")


def test_host_network_has_no_figures_of_its_own(cri):
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
        namespace_options=pb.NamespaceOption(network=pb.NODE))))
    s = cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux
    assert not s.HasField("network") and s.HasField("cpu") and s.HasField("memory")


def test_all_interfaces(cri, privileged_pod):
    """Also those that a container made itself."""
    container = cri.run(privileged_pod, ["sleep", "3600"], linux=pb.LinuxContainerConfig(
        security_context=pb.LinuxContainerSecurityContext(privileged=True)))
    cri.sh(container, "for i in 1 2 3; do ip link add name own$i type bridge; done")
    network = cri.PodSandboxStats(pod_sandbox_id=privileged_pod).stats.linux.network
    assert network.default_interface.name == "eth0"
    assert {i.name for i in network.interfaces} == {"lo", "own1", "own2", "own3"}


def ids(items):
    return {s.attributes.id for s in items}


def streamed(responses, field):
    return [item for response in responses for item in getattr(response, field)]


def test_lists_streams_and_filters(cri):
    pods = [cri.run_pod(labels={"pod": str(i), "all": "yes"}) for i in range(2)]
    made = {pod: [cri.run(pod, ["sleep", "3600"], labels={"n": str(i), "all": "yes"}) for i in range(2)]
            for pod in pods}
    every = {c for containers in made.values() for c in containers}
    first = made[pods[0]][0]
    for fields, wanted in (({}, every), ({"id": first}, {first}), ({"id": first[:12]}, {first}),
                           ({"pod_sandbox_id": pods[1][:12]}, set(made[pods[1]])),
                           ({"label_selector": {"all": "yes", "n": "1"}}, {c[1] for c in made.values()}),
                           ({"id": first, "label_selector": {"n": "1"}}, set()), ({"id": "f" * 64}, set())):
        chosen = pb.ContainerStatsFilter(**fields)
        assert ids(cri.ListContainerStats(filter=chosen).stats) == wanted
        got = streamed(cri.StreamContainerStats(filter=chosen), "container_stats")
        assert ids(got) == wanted and len(got) == len(wanted)
    for fields, wanted in (({}, set(pods)), ({"id": pods[0][:12]}, {pods[0]}),
                           ({"label_selector": {"all": "yes", "pod": "1"}}, {pods[1]}), ({"id": "0" * 64}, set())):
        chosen = pb.PodSandboxStatsFilter(**fields)
        listed = cri.ListPodSandboxStats(filter=chosen).stats
        assert ids(listed) == wanted
        assert all(ids(p.linux.containers) == set(made[p.attributes.id]) for p in listed)
        got = streamed(cri.StreamPodSandboxStats(filter=chosen), "pod_sandbox_stats")
        assert ids(got) == wanted and len(got) == len(wanted)
    assert list(streamed(cri.StreamContainers(), "containers")) == list(cri.ListContainers().containers)
    assert list(streamed(cri.StreamPodSandboxes(), "pod_sandboxes")) == list(cri.ListPodSandbox().items)
    assert list(streamed(cri.StreamImages(), "images")) == list(cri.ListImages().images)
    chosen = pb.ContainerFilter(label_selector={"n": "0"})
    assert {c.id for c in streamed(cri.StreamContainers(filter=chosen), "containers")} == {
        c[0] for c in made.values()}


def test_unknown_and_stopped(cri, pod, busy):
    for call, fields in ((cri.ContainerStats, {"container_id": "f" * 64}),
                         (cri.PodSandboxStats, {"pod_sandbox_id": "f" * 64})):
        code, text = code_of(call, **fields)
        assert code == grpc.StatusCode.NOT_FOUND and "f" * 64 in text
    assert code_of(cri.ContainerStats)[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(cri.PodSandboxStats)[0] == grpc.StatusCode.INVALID_ARGUMENT
    created = cri.create(pod, ["sleep", "3600"])
    assert stats_of(cri, created).HasField("cpu")
    cri.StopContainer(container_id=busy)
    s = stats_of(cri, busy)
    assert s.attributes.id == busy and not s.HasField("cpu") and not s.HasField("memory")
    assert ids(cri.ListContainerStats().stats) == {created}
    cri.StopPodSandbox(pod_sandbox_id=pod)
    assert not cri.ListPodSandboxStats().stats and not cri.ListContainerStats().stats
    s = cri.PodSandboxStats(pod_sandbox_id=pod).stats
    assert s.attributes.id == pod and not s.linux.HasField("cpu") and not s.linux.containers


def test_containers_that_come_and_go(cri, crispd):
    """Lists never fail meanwhile, and hold nothing of what has gone."""
    stop = threading.Event()
    failures = []

    def ask():
        own = Cri(crispd)
        while not stop.is_set():
            try:
                own.ListContainerStats()
                own.ListPodSandboxStats()
                list(own.StreamPodSandboxStats())
            except grpc.RpcError as e:
                failures.append(e.details())
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(6):
            pod = cri.run_pod()
            container = cri.run(pod, ["sleep", "3600"])
            cri.StopContainer(container_id=container)
            cri.RemoveContainer(container_id=container)
            cri.run(pod, ["true"])
            cri.remove_pod(pod)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures


def open_files(crispd):
    found = []
    for fd in os.listdir(f"/proc/{crispd.process.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{crispd.process.pid}/fd/{fd}"))
        except OSError:
            pass
    return found


def network_files(crispd):
    return [f for f in open_files(crispd) if f.endswith("/net/dev")]


def test_descriptors_go_with_their_pod(cri, crispd, pod, busy):
    """One that is kept of the network namespace would keep that alive."""
    assert not network_files(crispd)
    for _ in range(3):
        assert ids(cri.ListPodSandboxStats().stats) == {pod}
        stats_of(cri, busy)
    assert len(network_files(crispd)) == 1
    cri.StopPodSandbox(pod_sandbox_id=pod)
    assert not network_files(crispd)


def test_descriptors_go_with_the_containers_end(cri, crispd, busy):
    """Not only when somebody asks for statistics again, or removes it."""
    def of_cgroup():
        return [f for f in open_files(crispd) if busy in f and f.startswith("/sys/fs/cgroup/")]
    stats_of(cri, busy)
    assert of_cgroup()
    cri.StopContainer(container_id=busy, timeout=0)
    wait_for(lambda: not of_cgroup(), 5, "closed files of the container's cgroup")


def test_after_a_restart(cri, crispd, pod, busy):
    before = stats_of(cri, busy)
    crispd.kill()
    crispd.start()
    after = stats_of(cri, busy)
    assert after.cpu.usage_core_nano_seconds.value >= before.cpu.usage_core_nano_seconds.value
    assert after.cpu.HasField("usage_nano_cores")
    assert ids(cri.ListPodSandboxStats().stats) == {pod}


@pytest.mark.cgroup2
@pytest.mark.vm
def test_pressure(cri, pod):
    """Two loops on half a core: they wait, and the figures are the kernel's, in nanoseconds."""
    container = cri.run(pod, ["sh", "-c", "while :; do :; done & while :; do :; done"], linux=pb.LinuxContainerConfig(
        resources=pb.LinuxContainerResources(cpu_period=100000, cpu_quota=50000)))
    here = "/sys/fs/cgroup" + cgroups.of_process(cri.pid_of(container))[""]

    def kernel(file):
        with open(f"{here}/{file}.pressure", encoding="ascii") as f:
            return {line.split()[0]: int(line.split("total=")[1]) * 1000 for line in f}
    wait_for(lambda: kernel("cpu")["some"] > 10**9, 60, "a second of waiting")
    before = kernel("cpu")
    s = stats_of(cri, container)
    assert before["some"] <= s.cpu.psi.Some.Total <= kernel("cpu")["some"]
    assert before["full"] <= s.cpu.psi.Full.Total <= kernel("cpu")["full"]
    wait_for(lambda: stats_of(cri, container).cpu.psi.Some.Avg10 > 1, 60, "an average")
    for file, psi in (("memory", s.memory.psi), ("io", s.io.psi)):
        assert psi.Some.Total <= kernel(file)["some"] and psi.Full.Total <= kernel(file)["full"]
    assert s.io.timestamp > 0
    whole = cri.PodSandboxStats(pod_sandbox_id=pod).stats.linux
    assert whole.cpu.psi.Some.Total > 0 and whole.HasField("io") and whole.memory.HasField("psi")
