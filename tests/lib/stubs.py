"""Python stubs of the CRI, generated from api/cri/api.proto at the first use: `from stubs import pb, grpc_stub`.

`stubs.py DIR` leaves them in a directory instead; CRISP_TEST_STUBS names one, for a machine that can't make them.
"""
import atexit
import os
import shutil
import sys
import tempfile

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def _generate(out):
    from grpc_tools import protoc
    # The proto imports protobuf-c's options, whose stub is needed too.
    for include, names in ((TOP, ["api/cri/api.proto"]), ("/usr/include", ["protobuf-c/protobuf-c.proto"])):
        args = ["protoc", f"-I{include}", "-I/usr/include", f"--python_out={out}", f"--grpc_python_out={out}"]
        if protoc.main(args + [os.path.join(include, name) for name in names]):
            raise RuntimeError("protoc failed")


def _load():
    out = os.environ.get("CRISP_TEST_STUBS")
    if not out:
        out = tempfile.mkdtemp(prefix="crisp-stubs-")
        atexit.register(shutil.rmtree, out, ignore_errors=True)
        _generate(out)
    # protoc names the package of protobuf-c/protobuf-c.proto `protobuf_c`.
    sys.path.insert(0, out)
    sys.dont_write_bytecode = True
    from api.cri import api_pb2, api_pb2_grpc
    return api_pb2, api_pb2_grpc


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    _generate(sys.argv[1])
else:
    pb, grpc_stub = _load()
