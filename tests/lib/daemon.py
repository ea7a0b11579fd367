"""A crispd of one's own: directories, socket, bridge and subnet that nobody else uses."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import grpc

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cgroups  # noqa: E402

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("CRISP_BUILD", os.path.join(TOP, "build", "release"))
MAX_MESSAGE = 16 << 20
SCALE = max(1, int(os.environ.get("CRISP_TIME_SCALE", "1")))  # how many times slower this machine is (hack/vm)


DRIVER = os.environ.get("CRISP_CGROUP_DRIVER", "cgroupfs")  # of the daemons under test (hack/vm --driver)


def free_port_text():
    """A port that nobody listens on, at least now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def program(name):
    """The path of one of our programs in the build under test."""
    found = [p for p in glob.glob(f"{BUILD}/**/{name}", recursive=True) if os.path.isfile(p) and os.access(p, os.X_OK)]
    if not found:
        raise FileNotFoundError(f"no {name} under {BUILD}: build it first")
    return found[0]


def limit(seconds):
    """An upper limit of what may take so long: longer on a machine that is slower."""
    return seconds * SCALE


def wait_for(condition, timeout=10.0, what="condition"):
    """Polls until condition() is true and returns its value; a bounded wait for what has no event."""
    timeout = limit(timeout)
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)


def build_null_plugin(program):
    """Where no compiler is (in the machine of hack/vm), it has been built elsewhere."""
    built = os.environ.get("CRISP_TEST_NULL_PLUGIN")
    if built:
        shutil.copy2(built, program)
        return
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "null_plugin.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)


class Crispd:
    """Starts, stops and kills one crispd. Run inside a network namespace of the suite's own
    (tests/lib/isolate), so that bridges and firewall rules vanish with it."""

    count = 0

    def __init__(self, registry_url=None, cni="debian", base=None, settings=None, driver=DRIVER):
        program("crispd")  # nothing is made for a build that isn't there
        Crispd.count += 1
        self.number = Crispd.count
        self.base = base or tempfile.mkdtemp(prefix=f"crisp-test-{self.number}-", dir=os.environ.get("CRISP_TMP", "/tmp"))
        self.root, self.run_dir = f"{self.base}/root", f"{self.base}/run"
        self.socket, self.log = f"{self.run_dir}/crisp.sock", f"{self.base}/crispd.log"
        self.cni_conf, self.cni_bin = f"{self.base}/cni", "/usr/lib/cni"
        # Where pods go whose configuration names no parent; a slice's dashes would be further levels.
        self.driver = driver
        self.cgroup = f"/crisp-test-{os.getpid()}-{self.number}" if driver == "cgroupfs" else \
            f"/crisptest{os.getpid()}x{self.number}.slice"
        self.bridge, self.subnet = f"ct{os.getpid() % 100000}x{self.number}", f"10.88.{self.number % 250}"
        self.config = f"{self.base}/crisp.yaml"
        self.prefix = []  # words before crispd's own, of a program that ends as it
        self.process = self.channel = None
        os.makedirs(self.cni_conf, exist_ok=True)
        if cni:
            self.write_conflist(cni)
        self.write_config(registry_url, settings or {})

    def write_conflist(self, flavour="debian"):
        """`debian`: containernetworking-plugins 1.1.1; `reference`: the pinned 1.9.1, with CNI 1.1.0;
        `null`: a plugin that does nothing."""
        version = "1.0.0"
        if flavour == "reference":
            version = "1.1.0"
            self.cni_bin = f"{TOP}/build/go/cni"
        bridge = {"type": "bridge", "bridge": self.bridge, "isGateway": True, "ipMasq": True, "hairpinMode": True,
                  "ipam": {"type": "host-local", "dataDir": f"{self.base}/ipam",
                           "ranges": [[{"subnet": f"{self.subnet}.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
        plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
        if flavour == "null":
            self.cni_bin = f"{self.base}/bin"
            os.makedirs(self.cni_bin)
            build_null_plugin(f"{self.cni_bin}/null")
            plugins = [{"type": "null"}]
        conflist = {"cniVersion": version, "name": self.bridge, "plugins": plugins}
        with open(f"{self.cni_conf}/10-test.conflist.new", "w", encoding="utf-8") as f:
            json.dump(conflist, f)
        os.rename(f"{self.cni_conf}/10-test.conflist.new", f"{self.cni_conf}/10-test.conflist")

    def write_config(self, registry_url, settings):
        config = {
            "root": self.root, "run_dir": self.run_dir, "socket": self.socket,
            "log": {"level": "debug"}, "cgroup": {"driver": self.driver, "parent": self.cgroup if self.driver == "cgroupfs" else self.cgroup[1:]},
            "cni": {"conf_dir": self.cni_conf, "bin_dirs": [self.cni_bin], "cache_dir": f"{self.base}/cni-cache"},
            "streaming": {"address": "127.0.0.1:0"},
            "helpers": {"crisp_pod": program("crisp-pod"), "crisp_pull": program("crisp-pull")},
        }
        if registry_url:
            config["registries"] = {"*": {"strict": True,
                                          "mirrors": [{"url": registry_url, "path_prefix": "{host}"}]}}
        config.update(settings)
        with open(self.config, "w", encoding="utf-8") as f:
            json.dump(config, f, indent=1)  # JSON is YAML

    def start(self, wait=True):
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
               "UBSAN_OPTIONS": "print_stacktrace=1"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.prefix, program("crispd"), "--config", self.config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env, start_new_session=True)
        if wait:
            wait_for(self._serves, 30, "crispd serves: " + self.log)
        return self

    def _serves(self):
        if self.process.poll() is not None:
            raise AssertionError(f"crispd ended with {self.process.returncode}:\n{self.log_tail()}")
        with socket.socket(socket.AF_UNIX) as probe:  # gRPC would wait a second after a first refusal
            if probe.connect_ex(self.socket):
                return False
        return self.connect()

    def connect(self):
        """A new channel; False if nobody answers."""
        self.disconnect()
        self.channel = grpc.insecure_channel(f"unix://{self.socket}", options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", 64 << 20),
            ("grpc.use_local_subchannel_pool", 1)])
        try:
            grpc.channel_ready_future(self.channel).result(limit(1))
            return True
        except grpc.FutureTimeoutError:
            return False

    def disconnect(self):
        if self.channel:
            self.channel.close()
            self.channel = None

    def kill(self):
        """kill -9."""
        self.disconnect()
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout=30):
        """SIGTERM; returns the exit status."""
        self.disconnect()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(limit(timeout))
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"crispd didn't end within {timeout} s:\n{self.log_tail()}") from None
        return self.process.returncode if self.process else 0

    def restart(self):
        self.terminate()
        return self.start()

    def below(self, name):
        """A further parent of pods, in the driver's syntax, and its path in the hierarchies."""
        if self.driver == "cgroupfs":
            return f"{self.cgroup}/{name}", f"{self.cgroup}/{name}"
        part = f"{self.cgroup.removeprefix('/').removesuffix('.slice')}-{name}.slice"
        return part, f"{self.cgroup}/{part}"

    @property
    def endpoint(self):
        return f"unix://{self.socket}"

    def log_tail(self, lines=40):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except OSError as e:
            return str(e)

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def sanitizer_reports(self):
        text = self.log_text() if os.path.exists(self.log) else ""
        return [line for line in text.splitlines()
                if "ERROR: AddressSanitizer" in line or "ERROR: LeakSanitizer" in line or "runtime error:" in line]

    def supervisors(self):
        """The ids of this daemon's crisp-pod processes: those that sit in its cgroups, without their children."""
        parents = {}
        for pid in cgroups.processes(self.cgroup):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                    comm, _, rest = f.read().partition("(")[2].rpartition(") ")
            except OSError:
                continue
            if comm.startswith("crisp-pod"):
                parents[pid] = int(rest.split()[1])
        return sorted(pid for pid, parent in parents.items() if parent not in parents)

    def supervisor_of(self, pod):
        """The process id of this pod's crisp-pod: another's may still be about to end."""
        with open(f"{self.run_dir}/pods/{pod}/state", encoding="utf-8") as f:
            return int(f.read().split()[1])  # after the version

    def strays(self):
        """Processes that were started for this daemon's directories and are not the daemon itself."""
        found = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if words[0].startswith(b"crisp-pod") and any(self.base.encode() in word for word in words):
                found.append(int(name))
        return found

    def destroy(self, keep=False):
        """Ends everything that is left, whatever state it is in, and removes the directories."""
        try:
            self.terminate()
        finally:
            for pid in cgroups.processes(self.cgroup) | set(self.strays()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_for(lambda: not cgroups.processes(self.cgroup), 5, "the daemon's containers end")
            if self.driver == "systemd":
                subprocess.run(["systemctl", "stop", self.cgroup[1:]], check=False, capture_output=True)
            cgroups.remove(self.cgroup)
            self.unmount()
            subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
            if not keep:
                shutil.rmtree(self.base, ignore_errors=True)

    def unmount(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            points = [line.split()[4] for line in f]
        for point in reversed(points):
            if point.startswith(self.base + "/"):
                subprocess.run(["umount", "-l", point], check=False, capture_output=True)
