"""Pod sandboxes: their life, what is told of them, and retries."""
import os
import time

import grpc
import pytest

from cri import BUSYBOX, Cri, code_of
from daemon import wait_for
from stubs import pb

pytestmark = pytest.mark.core
NODE = pb.NamespaceOption(network=pb.NODE, ipc=pb.NODE, pid=pb.CONTAINER)


def test_run_status_list_stop_remove(cri):
    config = cri.pod_config(labels={"app": "a", "é": "ü"}, annotations={"note": "x\ny"}, hostname="my-host")
    before = time.time_ns()
    pod = cri.run_pod(config)
    assert len(pod) == 64 and set(pod) <= set("0123456789abcdef")
    status = cri.pod_status(pod)
    assert status.state == pb.SANDBOX_READY
    assert status.metadata == config.metadata
    assert dict(status.labels) == {"app": "a", "é": "ü"} and dict(status.annotations) == {"note": "x\ny"}
    assert before <= status.created_at <= time.time_ns()
    assert status.network.ip.startswith(cri.crispd.subnet + ".")
    listed = cri.ListPodSandbox(filter=pb.PodSandboxFilter(id=pod)).items
    assert [item.id for item in listed] == [pod] and listed[0].metadata == config.metadata
    cri.StopPodSandbox(pod_sandbox_id=pod)
    assert cri.pod_status(pod).state == pb.SANDBOX_NOTREADY
    cri.StopPodSandbox(pod_sandbox_id=pod)
    cri.RemovePodSandbox(pod_sandbox_id=pod)
    code, _ = code_of(cri.pod_status, pod)
    assert code == grpc.StatusCode.NOT_FOUND
    cri.StopPodSandbox(pod_sandbox_id=pod)
    cri.RemovePodSandbox(pod_sandbox_id=pod)


def test_list_filters(cri):
    a, b = cri.run_pod(labels={"app": "a", "tier": "x"}), cri.run_pod(labels={"app": "b", "tier": "x"})

    def ids(**filter_fields):
        return {i.id for i in cri.ListPodSandbox(filter=pb.PodSandboxFilter(**filter_fields)).items}

    assert ids() == {a, b}
    assert ids(label_selector={"app": "a"}) == {a}
    assert ids(label_selector={"app": "a", "tier": "y"}) == set()
    assert ids(id=b[:13]) == {b}
    cri.StopPodSandbox(pod_sandbox_id=a)
    assert ids(state=pb.PodSandboxStateValue(state=pb.SANDBOX_READY)) == {b}
    assert ids(state=pb.PodSandboxStateValue(state=pb.SANDBOX_NOTREADY)) == {a}
    newest_first = [i.id for i in cri.ListPodSandbox().items]
    assert newest_first == [b, a]


def test_same_config_again_is_the_same_pod(cri):
    config = cri.pod_config()
    first = cri.run_pod(config)
    assert cri.run_pod(config) == first
    other = pb.PodSandboxConfig()
    other.CopyFrom(config)
    other.labels["changed"] = "yes"
    code, text = code_of(cri.run_pod, other)
    assert code == grpc.StatusCode.ALREADY_EXISTS and first[:12] in text
    other = pb.PodSandboxConfig()
    other.CopyFrom(config)
    other.metadata.attempt = 1
    assert cri.run_pod(other) != first


def test_two_identical_calls_at_once(cri):
    config = cri.pod_config()
    calls = [cri.future("RunPodSandbox", config=config) for _ in range(4)]
    assert len({call.result().pod_sandbox_id for call in calls}) == 1
    assert len(cri.ListPodSandbox().items) == 1


def test_retry_after_client_timeout_joins(cri):
    config = cri.pod_config()
    code, _ = code_of(cri.RunPodSandbox, config=config, deadline=0.004)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    pod = cri.run_pod(config)
    assert cri.pod_status(pod).state == pb.SANDBOX_READY
    assert len(cri.ListPodSandbox().items) == 1


@pytest.mark.parametrize("field", ["name", "uid", "namespace"])
def test_metadata_is_required(cri, field):
    config = cri.pod_config()
    setattr(config.metadata, field, "")
    code, text = code_of(cri.RunPodSandbox, config=config)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and field in text


def test_no_config_is_invalid(cri):
    assert code_of(cri.RunPodSandbox)[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_runtime_handler_is_refused(cri):
    code, text = code_of(cri.RunPodSandbox, config=cri.pod_config(), runtime_handler="kata")
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND) and "kata" in text


def test_pod_without_linux_or_log_directory(cri):
    config = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="bare", uid="u", namespace="n"))
    pod = cri.run_pod(config)
    container = cri.run(pod, ["sleep", "3600"], log_path="")
    assert cri.exec(container, "echo", "x") == (0, "x\n", "")
    assert not cri.status(container).log_path
    assert cri.wait(cri.run(pod, ["true"], log_path="not/used.log")).exit_code == 0


def test_missing_pod_is_not_found_but_stops_and_removes(cri):
    code, text = code_of(cri.pod_status, "0" * 64)
    assert code == grpc.StatusCode.NOT_FOUND and "0" * 12 in text
    cri.StopPodSandbox(pod_sandbox_id="0" * 64)
    cri.RemovePodSandbox(pod_sandbox_id="0" * 64)


def test_remove_takes_running_containers_with_it(cri, pod):
    container = cri.run(pod, ["sleep", "3600"])
    pid = cri.pid_of(container)
    cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert not os.path.exists(f"/proc/{pid}")
    assert code_of(cri.status, container)[0] == grpc.StatusCode.NOT_FOUND


def test_stop_kills_containers(cri, pod, busy):
    cri.StopPodSandbox(pod_sandbox_id=pod)
    status = cri.status(busy)
    assert status.state == pb.CONTAINER_EXITED and status.exit_code in (137, 143)
    code, text = code_of(cri.create, pod, ["true"])
    assert code != grpc.StatusCode.OK and text


def test_host_network_pod(cri):
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(
        security_context=pb.LinuxSandboxSecurityContext(namespace_options=NODE)))
    container = cri.run(pod, ["sleep", "3600"])
    pid = cri.pid_of(container)
    for kind, shared in (("net", True), ("ipc", True), ("uts", True), ("pid", False), ("mnt", False)):
        assert (os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")) == shared, kind
    assert cri.sh(container, "hostname").strip() == os.uname().nodename
    assert not cri.pod_status(pod).network.ip
    assert cri.pod_status(pod).linux.namespaces.options.network == pb.NODE


def test_containers_share_net_ipc_uts_but_not_pid_and_mnt(cri, pod):
    one, two = (cri.pid_of(cri.run(pod, ["sleep", "3600"])) for _ in range(2))

    def ns(pid, kind):
        return os.readlink(f"/proc/{pid}/ns/{kind}")

    for kind in ("net", "ipc", "uts"):
        assert ns(one, kind) == ns(two, kind) != ns("self", kind)
    for kind in ("pid", "mnt", "cgroup"):
        assert ns(one, kind) != ns(two, kind) != ns("self", kind)


@pytest.mark.vm
def test_shared_pid_namespace(cri):
    options = pb.NamespaceOption(pid=pb.POD)
    linux = pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(namespace_options=options))
    pod = cri.run_pod(linux=linux)
    container_linux = pb.LinuxContainerConfig(
        security_context=pb.LinuxContainerSecurityContext(namespace_options=options))
    cri.run(pod, ["sleep", "4321"], linux=container_linux)
    second = cri.run(pod, ["sleep", "3600"], linux=container_linux)
    assert "sleep 4321" in cri.sh(second, "ps")
    assert "sleep 4321" in cri.output(pod, ["ps"])  # as the pod: there are no options of its own


def test_another_containers_pid_namespace(cri, pod):
    """TARGET, as kubectl debug has it: the other's processes are seen, and outlive the one that joined."""
    target = cri.run(pod, ["sleep", "4321"])
    options = pb.NamespaceOption(pid=pb.TARGET, target_id=target)
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(namespace_options=options))
    debugger = cri.run(pod, ["sleep", "3600"], linux=linux)
    ns = [os.readlink(f"/proc/{cri.pid_of(container)}/ns/pid") for container in (target, debugger)]
    assert ns[0] == ns[1] != os.readlink("/proc/self/ns/pid")
    assert cri.sh(debugger, "tr '\\0' ' ' </proc/1/cmdline") == "sleep 4321 "
    cri.StopContainer(container_id=debugger, timeout=0)
    assert cri.status(target).state == pb.CONTAINER_RUNNING
    config = cri.container_config(["true"], linux=linux)
    config.linux.security_context.namespace_options.target_id = "0" * 64
    container = cri.create(pod, config=config)
    code, text = code_of(cri.StartContainer, container_id=container)
    assert code != grpc.StatusCode.OK and "0" * 12 in text


def test_sysctls(cri):
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_unprivileged_port_start": "80",
                                                              "kernel.shm_rmid_forced": "1"}))
    assert cri.output(pod, ["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start",
                            "/proc/sys/kernel/shm_rmid_forced"]) == "80\n1\n"


def test_sysctls_of_the_node(cri):
    """Those of no namespace, and those of a namespace that is the node's."""
    host = pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(network=pb.NODE, ipc=pb.NODE))
    for name, security, words in (("vm.swappiness", None, "belongs to no namespace"),
                                  ("kernel.hostname", None, "field hostname"),
                                  ("net.ipv4.ip_forward", host, "would be the node's"),
                                  ("kernel.shmmax", host, "would be the node's"),
                                  ("net.no_such", None, "this kernel lacks it"),
                                  ("net.ipv4.ip_default_ttl", None, "Invalid argument")):
        config = cri.pod_config(linux=pb.LinuxPodSandboxConfig(sysctls={name: "100000"}, security_context=security))
        code, text = code_of(cri.RunPodSandbox, config=config)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and name in text and words in text
    assert not cri.ListPodSandbox().items


def test_default_sysctls_and_shm(make_crispd):
    crispd = make_crispd(settings={"runtime": {
        "default_sysctls": ["net.ipv4.ping_group_range=0 2147483647", "kernel.domainname=from.config"],
        "shm_size_mib": 3}})
    cri = Cri(crispd.start())
    show = ["sh", "-c", "cd /proc/sys; cat net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start "
            "kernel/domainname; df -k /dev/shm | tail -n1 | awk '{print $2}'"]
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(sysctls={"kernel/domainname": "from.pod"}))
    assert cri.output(pod, show) == "0\t2147483647\n1024\nfrom.pod\n3072\n"
    cri.clean()
    wrong = make_crispd(settings={"runtime": {"default_sysctls": ["vm.swappiness=1"]}})
    with pytest.raises(AssertionError, match="runtime.default_sysctls.*belongs to no namespace"):
        wrong.start()
    wrong.process = None


def test_anybody_may_listen_on_low_ports(cri, pod):
    assert cri.output(pod, ["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]) == "0\n"


@pytest.mark.vm
def test_pod_cgroup_parent(cri, crispd):
    import cgroups
    parent, path = crispd.below("podx")
    pod = cri.run_pod(linux=pb.LinuxPodSandboxConfig(cgroup_parent=parent))
    container = cri.run(pod, ["sleep", "3600"])
    places = cgroups.of_process(cri.pid_of(container))
    mine = [places[name] for name in ("memory", "pids", "cpu") if name in places] or [places[""]]
    assert all(place.startswith(path + "/") for place in mine), mine
    cri.remove_pod(pod)
    wait_for(lambda: not cgroups.processes(path), 5, "the pod's cgroup is empty")
    cgroups.remove(path)  # the kubelet's, which it removes itself


def test_supervisor_is_all_that_a_pod_costs(cri, crispd, pod):
    import cgroups
    supervisors = crispd.supervisors()
    assert len(supervisors) == 1
    # What waits for a first container doesn't wait for long.
    wait_for(lambda: sorted(cgroups.processes(crispd.cgroup)) == supervisors, 10, "nothing but crisp-pod is there")
    cri.StopPodSandbox(pod_sandbox_id=pod)
    wait_for(lambda: not crispd.supervisors(), 5, "crisp-pod ends with its pod")


def test_many_pods(cri, crispd):
    cri.have(BUSYBOX)
    configs = [cri.pod_config() for _ in range(20)]
    pods = [call.result().pod_sandbox_id for call in [cri.future("RunPodSandbox", config=c) for c in configs]]
    assert len({cri.pod_status(p).network.ip for p in pods}) == 20
    containers = [cri.run(p, ["sh", "-c", "echo $HOSTNAME; sleep 3600"]) for p in pods]
    assert len(crispd.supervisors()) == 20
    assert {c.state for c in cri.ListContainers().containers} == {pb.CONTAINER_RUNNING}
    stops = [cri.future("StopPodSandbox", pod_sandbox_id=p) for p in pods]
    for stop in stops:
        stop.result()
    assert {cri.status(c).state for c in containers} == {pb.CONTAINER_EXITED}
    for p in pods:
        cri.RemovePodSandbox(pod_sandbox_id=p)
    assert not cri.ListContainers().containers and not cri.ListPodSandbox().items
