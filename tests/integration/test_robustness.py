"""Garbage on the socket, huge messages, many connections."""
import os
import socket
import stat

import grpc
import pytest

from cri import code_of
from daemon import limit
from stubs import pb

pytestmark = pytest.mark.core


def test_socket_is_not_for_everybody(crispd):
    assert stat.S_IMODE(os.stat(crispd.socket).st_mode) == 0o660


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100000, os.urandom(50000),
                                     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(50000), b""],
                         ids=["http1", "zeros", "random", "preface and random", "nothing"])
def test_garbage_on_the_socket(cri, crispd, garbage):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(limit(5))
        s.connect(crispd.socket)
        try:
            s.sendall(garbage)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        except OSError:
            pass
    assert cri.Version().runtime_name


def raw(cri, method, data, deadline=20):
    call = cri.crispd.channel.unary_unary(f"/runtime.v1.RuntimeService/{method}", lambda x: x, lambda x: x)
    return call(data, timeout=deadline)


def test_message_that_is_no_protobuf(cri):
    code, text = code_of(raw, cri, "RunPodSandbox", b"\xff" * 1000)
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL) and text


def test_unknown_method(cri):
    code, text = code_of(raw, cri, "NoSuchMethod", b"")
    assert code == grpc.StatusCode.UNIMPLEMENTED and "NoSuchMethod" in text


def test_20_mib_message(cri):
    config = cri.pod_config(annotations={"big": "x" * (20 << 20)})
    code, text = code_of(cri.RunPodSandbox, config=config)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and text
    assert cri.Version().runtime_name


def test_message_that_unpacks_to_much_more(cri, crispd):
    # 15 MiB of empty sub-messages would be gigabytes as structures.
    code, _ = code_of(raw, cri, "CreateContainer", b"\x12\xff\xff\xbf\x07" + b"\x32\x00" * 7864319)
    assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    with open(f"/proc/{crispd.process.pid}/status", encoding="utf-8") as f:
        peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    if "asan" not in os.environ.get("CRISP_BUILD", ""):
        assert peak < 256 << 10


def test_200_connections(cri, crispd):
    channels = []
    try:
        for _ in range(200):
            channel = grpc.insecure_channel(crispd.endpoint, options=[("grpc.use_local_subchannel_pool", 1)])
            channels.append(channel)
            from stubs import grpc_stub
            assert grpc_stub.RuntimeServiceStub(channel).Version(pb.VersionRequest(), timeout=limit(10)).version
    finally:
        for channel in channels:
            channel.close()


def test_labels_that_are_not_utf8_do_not_break_lists(cri):
    config = cri.pod_config(labels={"k": "MARK"}).SerializeToString().replace(b"MARK", b"\xff\xfe\xfd!")
    data = pb.RunPodSandboxRequest(config=cri.pod_config()).SerializeToString()
    data = b"\x0a" + varint(len(config)) + config
    try:
        raw(cri, "RunPodSandbox", data)
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.INVALID_ARGUMENT
    for item in cri.ListPodSandbox().items:
        assert item.id


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def test_idle_memory(cri, crispd):
    if "asan" in os.environ.get("CRISP_BUILD", ""):
        return
    with open(f"/proc/{crispd.process.pid}/smaps_rollup", encoding="utf-8") as f:
        pss = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    assert pss < 30 << 10
