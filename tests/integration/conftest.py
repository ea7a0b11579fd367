"""Fixtures: a registry for the session, a crispd for the session, and a leak check around every test."""
import os
import signal
import subprocess
import sys
import tempfile

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(TOP, "tests", "lib"), os.path.join(TOP, "tests", "images")]

import leaks  # noqa: E402
from cri import Cri  # noqa: E402
from daemon import Crispd, limit  # noqa: E402
from registry import Registry  # noqa: E402
from stubs import pb  # noqa: E402


def terminated(*_):
    """Somebody ends the suite: daemons and what they made are to go all the same."""
    raise KeyboardInterrupt


def pytest_configure(config):
    signal.signal(signal.SIGTERM, terminated)
    config.addinivalue_line("markers", "core: also run under sanitizers and in a shared mount tree")
    config.addinivalue_line("markers", "vm: also run in the second test machine by CI (hack/vm)")
    for name, (what, _) in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {what}; left out where that is not, and run by hack/vm")


def has_lsm(name):
    try:
        with open("/sys/kernel/security/lsm", encoding="ascii") as f:
            return name in f.read().strip().split(",")
    except OSError:
        return False


# Tests with these markers run only on a machine that can: the second one (hack/vm) has AppArmor or SELinux, and cgroup
# v2 alone. Elsewhere they don't count as skipped, since they are run there.
NEEDS = {
    "apparmor": ("AppArmor", lambda: has_lsm("apparmor")),
    "selinux": ("SELinux", lambda: has_lsm("selinux")),
    "cgroup1": ("cgroup v1's freezer", lambda: os.path.isdir("/sys/fs/cgroup/freezer")),
    "cgroup2": ("cgroup v2 alone", lambda: os.path.exists("/sys/fs/cgroup/cgroup.controllers")),
    "systemd": ("systemd as the first process", lambda: os.path.isdir("/run/systemd/system")),
}


def pytest_collection_modifyitems(config, items):
    missing = {name for name, (_, there) in NEEDS.items() if not there()}
    out = [item for item in items if any(item.get_closest_marker(name) for name in missing)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture(autouse=True)
def time_limit():
    """No test hangs the suite: after three minutes it fails with the stack of where it waits."""
    def expire(*_):
        raise TimeoutError("the test takes longer than three minutes (or what CRISP_TIME_SCALE makes of them)")

    signal.signal(signal.SIGALRM, expire)
    signal.alarm(limit(180))
    yield
    signal.alarm(0)


@pytest.fixture(scope="session")
def registry():
    """The loopback registry with all test images (read-only: tests that push have one of their own)."""
    storage = subprocess.run([f"{TOP}/tests/images/build"], check=True, stdout=subprocess.PIPE,
                             text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="crisp-registry-") as work:
        server = Registry(storage, work)
        yield server
        server.stop()


def finish(crispd, failed=False):
    """Ends a daemon and reports what it must never do."""
    status = crispd.terminate()
    reports = crispd.sanitizer_reports()
    keep = os.environ.get("CRISP_KEEP") == "1" or bool(reports)
    log_dir = os.environ.get("CRISP_LOGS")
    if log_dir and os.path.exists(crispd.log):
        name = f"crispd-{os.environ.get('CRISP_SUITE', 'integration')}-{os.getpid()}-{crispd.number}.log"
        subprocess.run(["cp", crispd.log, os.path.join(log_dir, name)], check=False)
    crispd.destroy(keep=keep)
    assert not reports, f"sanitizer reports in {crispd.log}: {reports[:3]}"
    assert failed or status == 0, f"crispd ended with status {status}"


@pytest.fixture(scope="session")
def shared_crispd(registry):
    daemon = Crispd(registry.url)
    try:
        daemon.start()
        yield daemon
    finally:
        finish(daemon)


@pytest.fixture
def make_crispd(registry):
    """make_crispd(**options): further daemons, which end with the test. Not started yet."""
    made = []

    def make(**options):
        made.append(Crispd(options.pop("registry_url", registry.url), **options))
        return made[-1]

    yield make
    for daemon in made:
        finish(daemon)


@pytest.fixture
def crispd(shared_crispd):
    """The session's daemon, alive; what the test leaves on the machine is a failure."""
    if shared_crispd.process.poll() is not None:
        shared_crispd.start()
    shared_crispd.connect()
    client = Cri(shared_crispd)
    client.clean()
    before = leaks.snapshot(shared_crispd)
    died = shared_crispd.process
    yield shared_crispd
    if shared_crispd.process.poll() is not None:
        status = shared_crispd.process.returncode
        log = shared_crispd.log_tail()
        shared_crispd.start()
        client.clean()
        pytest.fail(f"crispd died with status {status}:\n{log}")
    client.clean()
    if shared_crispd.process is not died:  # restarted by the test: descriptors can't be compared
        before |= leaks.fds(shared_crispd)
    left = leaks.find(shared_crispd, before)
    assert not left, "left behind:\n  " + "\n  ".join(left[:40])


@pytest.fixture
def cri(crispd):
    return Cri(crispd)


@pytest.fixture
def pod(cri):
    """A running pod."""
    return cri.run_pod()


@pytest.fixture
def privileged_pod(cri):
    """A pod that says that privileged containers will come, without which there are none."""
    return cri.run_pod(linux=pb.LinuxPodSandboxConfig(
        security_context=pb.LinuxSandboxSecurityContext(privileged=True)))


@pytest.fixture
def busy(cri, pod):
    """A running busybox container that sleeps."""
    return cri.run(pod, ["sleep", "3600"])
