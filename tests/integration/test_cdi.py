"""CDI devices: by name and by annotation, from JSON and YAML files; what is wrong is told with file and key."""
import json
import os

import grpc
import pytest

from cdispecs import Specs
from cri import Cri, code_of
from stubs import pb

FUSE = "/dev/fuse"


@pytest.fixture(scope="module")
def daemon(registry):
    from conftest import finish
    from daemon import Crispd
    crispd = Crispd(registry.url)
    specs = Specs(crispd.base)
    crispd.write_config(registry.url, {"cdi": {"spec_dirs": [specs.etc, specs.run]}})
    crispd.specs = specs
    crispd.start()
    yield crispd
    finish(crispd)


@pytest.fixture
def cri(daemon):
    client = Cri(daemon)
    yield client
    client.clean()
    daemon.specs.clear()


@pytest.fixture
def specs(daemon):
    return daemon.specs


def cdi(*names):
    return [pb.CDIDevice(name=name) for name in names]


def test_everything_that_a_device_can_bring(cri, pod, specs, daemon):
    with open(f"{daemon.base}/library", "w", encoding="utf-8") as f:
        f.write("the driver's\n")
    specs.put("gpu.yaml", {"one": {
        "env": ["DEVICE=one", "SHARED=device"], "additionalGids": [4711],
        "deviceNodes": [{"path": "/dev/gpu/0", "hostPath": FUSE, "fileMode": 0o640, "uid": 12, "gid": 34,
                         "permissions": "r"}, {"path": "/dev/pipe", "type": "p"}],
        "mounts": [{"hostPath": f"{daemon.base}/library", "containerPath": "/usr/lib/driver.so",
                    "options": ["ro", "nosuid", "nodev", "bind"]},
                   {"hostPath": "tmpfs", "containerPath": "/scratch", "type": "tmpfs", "options": ["size=1m"]}]}},
        containerEdits={"env": ["DRIVER=5", "SHARED=file"]})
    container = cri.run(pod, ["sleep", "3600"], CDI_devices=cdi("vendor.com/dev=one"))
    assert cri.sh(container, "echo $DEVICE $DRIVER $SHARED") == "one 5 device\n"
    assert cri.sh(container, "stat -c '%F %a %u:%g' /dev/gpu/0 /dev/pipe") == \
        "character special file 640 12:34\nfifo 600 0:0\n"
    assert "4711" in cri.sh(container, "id -G").split()
    assert 4711 in cri.status(container).user.linux.supplemental_groups
    assert cri.sh(container, "cat /usr/lib/driver.so") == "the driver's\n"
    assert cri.exec(container, "sh", "-c", "echo x >/usr/lib/driver.so")[0] != 0
    assert "1024" in cri.sh(container, "df -k /scratch | tail -n1").split()
    assert cri.sh(container, ": </dev/gpu/0; echo fine") == "fine\n"
    assert "not permitted" in cri.exec(container, "sh", "-c", ": >/dev/gpu/0")[2]


def test_by_annotation_and_both(cri, pod, specs):
    """A device that is named twice is there once, and its file's own edits too."""
    specs.put("a.json", {"x": {"env": ["X=1"]}, "y": {"env": ["Y=1"]}}, version="0.3.0")
    out = cri.output(pod, ["sh", "-c", "echo $X$Y"], annotations={"cdi.k8s.io/plugin_1": "vendor.com/dev=x,vendor.com/dev=y"})
    assert out == "11\n"
    out = cri.output(pod, ["sh", "-c", "env | grep -c '^[XY]='"], CDI_devices=cdi("vendor.com/dev=x"),
                     annotations={"cdi.k8s.io/plugin_1": "vendor.com/dev=x", "other/key": "vendor.com/dev=y"})
    assert out == "1\n"


def test_a_later_directory_wins_at_once(cri, pod, specs):
    def value():
        return cri.output(pod, ["sh", "-c", "echo $FROM"], CDI_devices=cdi("vendor.com/dev=x"))

    specs.put("a.yaml", {"x": {"env": ["FROM=etc"]}})
    assert value() == "etc\n"
    specs.put("b.json", {"x": {"env": ["FROM=run"]}}, where=specs.run)
    assert value() == "run\n"
    specs.put("b.json", {"x": {"env": ["FROM=new"]}}, where=specs.run)
    assert value() == "new\n"
    os.unlink(f"{specs.run}/b.json")
    assert value() == "etc\n"


def test_refusals(cri, pod, specs):
    missing = {"deviceNodes": [{"path": "/dev/no-such"}]}
    file = specs.put("a.yaml", {"gone": missing, "twice": {"env": ["A=1"]}, "rdt": {"intelRdt": {"closID": "x"}}})
    other = specs.put("b.yaml", {"twice": {"env": ["A=2"]}})
    wrong = specs.put("c.yaml", {"w": {"deviceNodes": [{"path": "dev/x"}]}}, kind="vendor.com/wrong")
    bad, precondition = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    for name, want, words in (
            ("vendor.com/dev", bad, ["CDI_devices[0].name", '"vendor.com/dev"', "vendor.com/class=name"]),
            ("vendor.com/dev=none", precondition, ["vendor.com/dev=none", specs.etc]),
            ("vendor.com/wrong=w", precondition, [wrong, "devices[0].containerEdits.deviceNodes[0]", "dev/x"]),
            ("vendor.com/dev=twice", precondition, [file, other]),
            ("vendor.com/dev=gone", precondition, [file, "devices[0].containerEdits.deviceNodes[0].path", "/dev/no-such"]),
            ("vendor.com/dev=rdt", grpc.StatusCode.UNIMPLEMENTED, [file, "devices[2].containerEdits.intelRdt"])):
        code, text = code_of(cri.create, pod, ["true"], CDI_devices=cdi(name))
        assert code == want and all(word in text for word in words), text
    code, text = code_of(cri.create, pod, ["true"], annotations={"cdi.k8s.io/x": "vendor.com/dev=a,"})
    assert code == bad and "cdi.k8s.io/x" in text
    info = json.loads(cri.Status(verbose=True).info["cdi"])
    assert info["dirs"] == [specs.etc, specs.run]
    assert "vendor.com/dev=gone" in info["devices"] and "vendor.com/dev=twice" not in info["devices"]
    assert any(wrong in error for error in info["errors"])


def test_recorded_with_the_container(cri, pod, specs, daemon):
    """What a device brings is settled when the container is made."""
    file = specs.put("a.yaml", {"x": {"env": ["X=kept"]}})
    container = cri.create(pod, ["sh", "-c", "echo $X"], CDI_devices=cdi("vendor.com/dev=x"))
    os.unlink(file)
    daemon.kill()
    daemon.start()
    cri.StartContainer(container_id=container)
    cri.wait(container)
    assert [line.text for line in cri.log_lines(container)] == ["kept"]
