"""Pod networks through CNI, with Debian's plugins and with the reference ones."""
import json
import os
import socket
import subprocess
import sys

import grpc
import pytest

from cri import E2E, Cri, code_of
from daemon import TOP, wait_for
from stubs import pb


@pytest.mark.core
def test_pod_has_eth0_lo_and_a_default_route(cri, pod):
    ip = cri.pod_status(pod).network.ip
    out = cri.output(pod, ["sh", "-c", "ip addr; ip route"])
    assert f"inet {ip}/24" in out and "127.0.0.1/8" in out and "default via" in out


@pytest.mark.core
def test_containers_reach_each_other_by_localhost_and_pods_by_ip(cri, pod):
    cri.run(pod, [], image=E2E + "nginx:1.14-2")
    same = cri.run(pod, ["sleep", "3600"])
    wait_for(lambda: cri.exec(same, "wget", "-qO-", "http://127.0.0.1/")[0] == 0, 10, "the server answers")
    other = cri.run(cri.run_pod(), ["sleep", "3600"])
    assert "Welcome" in cri.sh(other, f"wget -qO- http://{cri.pod_status(pod).network.ip}/")


def test_redis_is_reached_at_the_pods_ip(cri, pod):
    cri.run(pod, [], image="docker.io/library/redis:latest")
    ip = cri.pod_status(pod).network.ip

    def ask(command):
        try:
            with socket.create_connection((ip, 6379), 2) as redis:
                redis.sendall(command.encode() + b"\r\n")
                return redis.recv(100).decode().split()
        except OSError:
            return None
    wait_for(lambda: ask("PING") == ["+PONG"], 20, "redis answers")
    assert ask("SET key value") == ["+OK"] and ask("GET key") == ["$5", "value"]


@pytest.mark.core
def test_host_port(cri):
    pod = cri.run_pod(port_mappings=[pb.PortMapping(protocol=pb.TCP, container_port=80, host_port=18080)])
    cri.run(pod, [], image=E2E + "nginx:1.14-2")
    wait_for(lambda: fetch("127.0.0.1", 18080), 10, "the host port answers")
    assert fetch(cri.crispd.subnet + ".1", 18080)
    cri.StopPodSandbox(pod_sandbox_id=pod)
    assert not fetch("127.0.0.1", 18080)


def fetch(host, port):
    run = subprocess.run(["curl", "-sS", "-m", "3", f"http://{host}:{port}/"], check=False, capture_output=True, text=True)
    return "Welcome" in run.stdout


@pytest.mark.core
def test_ping_needs_net_raw(cri, pod):
    def ping(**capability):
        linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
            capabilities=pb.Capability(**capability)))
        return cri.run_to_end(pod, ["ping", "-c1", "127.0.0.1"], linux=linux)

    assert ping(add_capabilities=["NET_RAW"])[0] == 0
    code, _, err = ping(drop_capabilities=["NET_RAW"])
    assert code != 0 and "ermission denied" in err


def test_reference_plugins_and_cni_1_1(make_crispd):
    if not os.path.exists(f"{TOP}/build/go/cni/bridge"):
        pytest.skip("the reference plugins are not built (no Go)")
    cri = Cri(make_crispd(cni="reference").start())
    pod = cri.run_pod(port_mappings=[pb.PortMapping(container_port=80, host_port=18081)])
    ip = cri.pod_status(pod).network.ip
    assert ip.startswith(cri.crispd.subnet)
    cri.run(pod, [], image=E2E + "nginx:1.14-2")
    wait_for(lambda: fetch(ip, 80) and fetch("127.0.0.1", 18081), 10, "the pod answers")
    cri.remove_pod(pod)


def test_stop_works_when_configuration_and_plugins_are_gone(make_crispd):
    daemon = make_crispd().start()
    cri = Cri(daemon)
    pod = cri.run_pod()
    os.rename(daemon.cni_conf, daemon.cni_conf + ".gone")
    cri.StopPodSandbox(pod_sandbox_id=pod)
    cri.RemovePodSandbox(pod_sandbox_id=pod)
    assert not cri.ListPodSandbox().items
    assert not [name for name in os.listdir(f"{daemon.base}/ipam/{daemon.bridge}") if name[0].isdigit()]


@pytest.fixture
def plugin(make_crispd, tmp_path):
    """plugin(shell script): a crispd whose only plugin is that script."""
    def make(script):
        daemon = make_crispd(cni=None)
        daemon.cni_bin = str(tmp_path)
        path = tmp_path / "made-up"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        with open(f"{daemon.cni_conf}/10.conflist", "w", encoding="utf-8") as f:
            json.dump({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "made-up"}]}, f)
        with open(daemon.config, encoding="utf-8") as f:
            config = json.load(f)
        config["cni"]["bin_dirs"] = [str(tmp_path)]
        with open(daemon.config, "w", encoding="utf-8") as f:
            json.dump(config, f)
        return Cri(daemon.start())

    return make


@pytest.mark.parametrize("script,word", [
    ('[ "$CNI_COMMAND" = ADD ] || exit 0\necho \'{"cniVersion":"1.0.0","code":11,"msg":"no addresses left"}\'; exit 1',
     "no addresses left"),
    ('[ "$CNI_COMMAND" = ADD ] || exit 0\necho garbage', "made-up"),
    ('[ "$CNI_COMMAND" = ADD ] || exit 0\nhead -c 50000000 /dev/zero', "made-up"),
    ('[ "$CNI_COMMAND" = ADD ] || exit 0\nkill -9 $$', "made-up"),
])
def test_plugin_that_fails(plugin, script, word):
    cri = plugin(script)
    code, text = code_of(cri.run_pod)
    assert code not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN) and word in text, text
    assert not cri.ListPodSandbox().items
    assert not cri.crispd.supervisors()


assert sys.version_info >= (3, 11)
