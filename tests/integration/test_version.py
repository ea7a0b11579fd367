"""What a client asks first: Version, Status, RuntimeConfig."""
import json

import grpc
import pytest

from cri import code_of
from stubs import pb

pytestmark = pytest.mark.core


def test_version_has_all_four_fields(cri):
    version = cri.Version()
    assert version.runtime_name == "crisp"
    assert version.runtime_api_version == "v1"
    assert version.version and version.runtime_version


def test_status_is_ready_with_conditions_and_handlers(cri):
    status = cri.Status()
    conditions = {c.type: c for c in status.status.conditions}
    assert conditions["RuntimeReady"].status and conditions["NetworkReady"].status
    handlers = {handler.name for handler in status.runtime_handlers}
    assert "" in handlers and len(handlers) >= 2


def test_verbose_status_info_is_json(cri):
    info = cri.Status(verbose=True).info
    assert info
    for value in info.values():
        if value.startswith("{"):
            json.loads(value)


def test_runtime_config_tells_the_cgroup_driver(cri):
    assert cri.RuntimeConfig().linux.cgroup_driver == pb.CGROUPFS


def test_update_runtime_config_is_accepted(cri):
    cri.UpdateRuntimeConfig(runtime_config=pb.RuntimeConfig(
        network_config=pb.NetworkConfig(pod_cidr="10.1.2.0/24")))


@pytest.mark.parametrize("call", ["Exec", "Attach", "PortForward", "CheckpointContainer"])
def test_rpcs_to_come_say_unimplemented_and_their_name(cri, call):
    code, text = code_of(getattr(cri, call))
    assert code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT)
    if code == grpc.StatusCode.UNIMPLEMENTED:
        assert call in text


def test_network_not_ready_without_configuration_then_ready(make_crispd):
    from cri import Cri
    from daemon import wait_for
    daemon = make_crispd(cni=None).start()
    cri = Cri(daemon)

    def network():
        return {c.type: c for c in cri.Status().status.conditions}["NetworkReady"]

    assert not network().status and network().reason and network().message
    code, text = code_of(cri.run_pod)
    assert code != grpc.StatusCode.OK and text
    daemon.write_conflist()
    wait_for(lambda: network().status, 10, "NetworkReady follows the directory")
    cri.remove_pod(cri.run_pod())
