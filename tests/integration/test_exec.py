"""ExecSync."""
import os
import time

import grpc
import pytest

from cri import code_of, env
from daemon import limit
from stubs import pb

pytestmark = pytest.mark.core


def test_output_and_exit_code(cri, busy):
    assert cri.exec(busy, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert cri.exec(busy, "sh", "-c", "kill -9 $$")[0] == 137


def test_runs_as_the_container_does(cri, pod):
    container = cri.run(pod, ["sleep", "3600"], working_dir="/tmp", envs=env(X="y"),
                        linux=pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
                            run_as_user=pb.Int64Value(value=1005), supplemental_groups=[9])))
    assert cri.sh(container, "id -u; id -G; pwd; echo $X") == "1005\n0 9\n/tmp\ny\n"


def test_timeout_kills_the_whole_tree(cri, busy):
    started = time.monotonic()
    code, text = code_of(cri.ExecSync, container_id=busy, timeout=1,
                         cmd=["sh", "-c", "setsid sleep 4247 & sleep 4248"])
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED and text
    assert 0.9 < time.monotonic() - started < limit(4)
    assert "424" not in cri.sh(busy, "ps | grep -v grep | grep 'sleep 424' || true")


def test_background_child_does_not_hold_the_call(cri, busy):
    started = time.monotonic()
    assert cri.exec(busy, "sh", "-c", "echo hi; sleep 3000 &") == (0, "hi\n", "")
    assert time.monotonic() - started < limit(8)


def test_large_output(cri, busy):
    code, out, _ = cri.exec(busy, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")
    assert code == 0 and out == "x" * 3000000


def test_output_beyond_the_limit_is_discarded_and_the_command_ends(cri, busy):
    # 16 MiB of each stream are kept; a client that takes no more than 16 MiB in all gets an error.
    try:
        r = cri.ExecSync(container_id=busy, timeout=limit(30), cmd=["sh", "-c", "head -c 20000000 /dev/zero; exit 4"])
        assert r.exit_code == 4 and len(r.stdout) <= 16 << 20
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert cri.exec(busy, "true")[0] == 0


@pytest.mark.parametrize("command,word", [(["/no/such"], "/no/such"), (["/etc/passwd"], "/etc/passwd")])
def test_what_cannot_be_executed(cri, busy, command, word):
    try:
        response = cri.ExecSync(container_id=busy, cmd=command, timeout=limit(5))
    except grpc.RpcError as e:
        assert e.code() != grpc.StatusCode.UNKNOWN and word in e.details()
    else:
        assert response.exit_code in (126, 127) and word.encode() in response.stderr


def test_errors(cri, pod, busy):
    assert code_of(cri.ExecSync, container_id=busy, cmd=[], timeout=5)[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(cri.ExecSync, container_id="0" * 64, cmd=["true"])[0] == grpc.StatusCode.NOT_FOUND
    created = cri.create(pod, ["true"])
    code, text = code_of(cri.ExecSync, container_id=created, cmd=["true"])
    assert code == grpc.StatusCode.FAILED_PRECONDITION and text
    cri.StopContainer(container_id=busy, timeout=0)
    assert code_of(cri.ExecSync, container_id=busy, cmd=["true"])[0] == grpc.StatusCode.FAILED_PRECONDITION


def test_many_at_once(cri, busy):
    calls = [cri.future("ExecSync", container_id=busy, cmd=["sh", "-c", f"echo {i}; sleep 0.2"], timeout=limit(20))
             for i in range(60)]
    assert [call.result().stdout for call in calls] == [f"{i}\n".encode() for i in range(60)]


def test_in_the_containers_namespaces_and_cgroup(cri, busy):
    paths = [f"/proc/{pid}/ns/{kind}" for kind in ("pid", "mnt", "net") for pid in ("self", "1")]
    out = cri.sh(busy, "for p in " + " ".join(paths) + "; do readlink $p; done").split()
    assert out[0] == out[1] and out[2] == out[3] and out[4] == out[5]
    assert out[2] != os.readlink("/proc/self/ns/mnt")


def test_client_that_goes_away_leaves_nothing(cri, busy):
    code, _ = code_of(cri.ExecSync, container_id=busy, cmd=["sleep", "4249"], timeout=3, deadline=0.5)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    deadline = time.monotonic() + limit(6)
    while "4249" in cri.sh(busy, "ps | grep -v grep | grep 'sleep 4249' || true"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
