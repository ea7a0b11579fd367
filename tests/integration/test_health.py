"""Health checks, which the annotation crisp.run/health asks for."""
import json
import os
import re
import time

import grpc
import pytest

from conftest import finish
from cri import Cri
from daemon import Crispd, wait_for
from stubs import pb

HOST = pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
    namespace_options=pb.NamespaceOption(network=pb.NODE)))
pytestmark = [pytest.mark.core]


@pytest.fixture(scope="module")
def daemon(registry):
    crispd = Crispd(registry.url, cni="", settings={"annotations": {"allowed": ["health"]}})
    try:
        yield crispd.start()
    finally:
        finish(crispd)


@pytest.fixture
def checked(daemon):
    cri = Cri(daemon)
    yield cri
    cri.clean()


def start(cri, test, pod=None, command=("sleep", "3600"), **more):
    spec = {"test": test, "interval": "100ms", **more}
    return cri.run(pod or cri.run_pod(linux=HOST), list(command), annotations={"crisp.run/health": json.dumps(spec)})


def health(cri, container):
    return json.loads(cri.ContainerStatus(container_id=container, verbose=True).info["info"]).get("health")


def becomes(cri, container, status):
    return wait_for(lambda: health(cri, container) if health(cri, container)["status"] == status else None,
                    what=f"{status}: {health(cri, container)}")


def running(argv):
    """The processes of this host with these arguments."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", encoding="utf-8", errors="replace") as f:
                if f.read().split("\0")[:-1] == argv:
                    found.append(int(entry))
        except OSError:
            pass  # it has ended meanwhile
    return found


def test_states(cri, pod, checked):
    """From starting to healthy, to unhealthy after so many failures, and back; told in the log once each."""
    container = start(checked, ["CMD-SHELL", "echo well; echo $HOME >&2; test ! -e /ill"], retries=2)
    assert health(checked, container)["status"] in ("starting", "healthy")
    told = becomes(checked, container, "healthy")
    assert told["failing_streak"] == 0
    assert told["log"][-1]["exit_code"] == 0 and told["log"][-1]["output"] == "well\n/root\n"
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$", told["log"][-1]["start"])
    checked.sh(container, "touch /ill")
    told = becomes(checked, container, "unhealthy")
    assert told["failing_streak"] >= 2 and told["log"][-1]["exit_code"] == 1
    wait_for(lambda: len(health(checked, container)["log"]) == 5)
    checked.sh(container, "rm /ill")
    becomes(checked, container, "healthy")
    log = open(checked.crispd.log, encoding="utf-8").read()
    assert len(re.findall(rf'"container is healthy" container={container}', log)) == 2
    assert len(re.findall(rf'"container is unhealthy" container={container} .*exit_code=1', log)) == 1
    # Who asks for none has none.
    assert health(cri, cri.run(pod, ["sleep", "3600"])) is None


def test_a_check_that_hangs_is_killed(checked):
    container = start(checked, ["CMD", "sleep", "3599"], timeout="200ms", retries=1)
    told = becomes(checked, container, "unhealthy")
    assert told["log"][0]["exit_code"] == -1 and "longer than 200 ms" in told["log"][0]["output"]
    # One that can't be executed is a failure too, and what is printed is bounded.
    container = start(checked, ["CMD", "/no/such/program"], retries=1)
    told = becomes(checked, container, "unhealthy")
    assert told["log"][0]["exit_code"] != 0
    container = start(checked, ["CMD-SHELL", "yes | head -c 100000"], retries=1)
    assert len(becomes(checked, container, "healthy")["log"][0]["output"]) == 4096


def test_many_that_hang_do_not_hold_up_the_others(checked):
    """Not those of other pods, however many there are; its own pod has two at one time, in turn."""
    pod, seconds = checked.run_pod(linux=HOST), str(10**7 + os.getpid())
    for _ in range(17):
        start(checked, ["CMD", "sleep", seconds], pod=pod, timeout="1h")
    for pod in [checked.run_pod(linux=HOST) for _ in range(8)]:
        start(checked, ["CMD", "sleep", seconds], pod=pod, timeout="1h")
        start(checked, ["CMD", "sleep", seconds], pod=pod, timeout="1h")
    becomes(checked, start(checked, ["CMD", "true"]), "healthy")
    wait_for(lambda: len(running(["sleep", seconds])) == 2 + 2 * 8, what="two in each pod")
    pod = checked.run_pod(linux=HOST)
    for container in [start(checked, ["CMD", "sleep", "3599"], pod=pod, timeout="100ms", retries=1) for _ in range(4)]:
        becomes(checked, container, "unhealthy")


def test_the_start_period_forgives(checked):
    container = start(checked, ["CMD", "false"], retries=1, start_period="1h", start_interval="100ms", interval="1h")
    wait_for(lambda: len(health(checked, container)["log"]) >= 3)
    assert health(checked, container)["status"] == "starting"


def test_it_survives_the_daemon(checked):
    """What is known is known after a restart, however the daemon ended, and checks go on."""
    container = start(checked, ["CMD", "false"], retries=2)
    start(checked, ["CMD", "sleep", "3599"], timeout="1h")  # a check under way holds up no end
    becomes(checked, container, "unhealthy")
    for end in (checked.crispd.kill, checked.crispd.terminate):
        streak = health(checked, container)["failing_streak"]
        end()
        checked.crispd.start()
        told = health(checked, container)
        assert told["status"] == "unhealthy" and told["failing_streak"] >= streak
        wait_for(lambda: health(checked, container)["failing_streak"] > streak + 1)


def test_it_ends_with_the_container(checked):
    """A container that is being stopped isn't ill, and nothing is executed in one that has ended."""
    container = start(checked, ["CMD-SHELL", "test ! -e /ill"], retries=1,
                      command=["sh", "-c", "trap 'touch /ill; sleep 0.6; exit 3' TERM; while :; do sleep 0.05; done"])
    becomes(checked, container, "healthy")
    checked.StopContainer(container_id=container, timeout=10)
    assert checked.status(container).exit_code == 3
    told = health(checked, container)
    assert told["status"] == "healthy"
    time.sleep(0.3)  # that nothing happens is what is waited for
    assert health(checked, container) == told


def test_bad_ones_are_refused(checked):
    pod = checked.run_pod(linux=HOST)
    for spec, words in (('{"test": "true"}', '"test" is not'), ('{"test": ["CMD", "a"], "every": "1s"}', '"every"')):
        with pytest.raises(grpc.RpcError) as e:
            checked.create(pod, ["true"], annotations={"crisp.run/health": spec})
        assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "crisp.run/health" in e.value.details() and words in e.value.details()
