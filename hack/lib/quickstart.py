"""The second half of hack/quickstart: registry, daemon, pod, and that nothing is left behind."""
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

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path[:0] = [os.path.join(TOP, "tests", "images"), os.path.join(TOP, "tests", "lib")]
import oci  # noqa: E402
import recipes  # noqa: E402
from registry import Registry  # noqa: E402

RELEASE = os.path.join(TOP, "build", "quickstart")
CRISP = os.path.join(RELEASE, "cri", "client", "crisp")
IMAGE = "registry.example/quickstart/busybox:1"
BRIDGE, SUBNET = "crisp-qs0", "10.209.77.0/24"
CGROUP = "/crisp-quickstart"
SCRIPT = 'echo "hello from $(hostname), my address is $(hostname -i)"; echo "a warning" >&2; trap "exit 0" TERM; ' \
         'sleep 600 & wait'


def say(text):
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}", flush=True)


def show(*command, **more):
    print("$", " ".join(os.path.basename(c) if c == command[0] else c for c in command), flush=True)
    return subprocess.run(command, check=True, **more)


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"quickstart: not within {seconds} s: {what}")
        time.sleep(0.05)


def forwarding(value=None):
    path = "/proc/sys/net/ipv4/ip_forward"
    with open(path, "r" if value is None else "w", encoding="ascii") as f:
        return f.read() if value is None else f.write(value)


def links():
    return {name for name in os.listdir("/sys/class/net") if name.startswith(("veth", BRIDGE))}


def traces():
    """What a run could leave behind, to be compared before and after."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        mounts = {line.split()[1] for line in f if "/crisp-quickstart-" in line}
    found = {"mounts": mounts, "network interfaces": links(), "ip_forward": {forwarding()},
             "cgroups": {p for p in glob.glob(f"/sys/fs/cgroup{CGROUP}") + glob.glob(f"/sys/fs/cgroup/*{CGROUP}")},
             "processes": set(processes()), "files": set(glob.glob(tempfile.gettempdir() + "/crisp-quickstart-*") + glob.glob("/var/log/crisp*"))}
    return found


def left_since(before):
    return {kind: now - before[kind] for kind, now in traces().items() if now - before[kind]}


def processes():
    """Of the daemon, its supervisors and its helpers: their command lines or parents name its directories."""
    found = {}
    for pid in (p for p in os.listdir("/proc") if p.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if os.path.basename(words[0]).startswith("crisp") and any("/crisp-quickstart-" in w for w in words):
            found[pid] = os.path.basename(words[0])
    return found


class Quickstart:
    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="crisp-quickstart-")
        self.registry = self.daemon = self.run = None
        self.forward = forwarding()
        self.env = {**os.environ, "CRISP_ENDPOINT": f"unix://{self.base}/run/crisp.sock"}

    def path(self, name):
        return os.path.join(self.base, name)

    def start_registry(self):
        self.registry = Registry(self.path("registry"), self.base)
        image = oci.Image([recipes.busybox_layer()], {"Cmd": ["sh"], "Env": [oci.PATH]})
        self.registry.push(IMAGE, image)
        print(f"{IMAGE} is at {self.registry.url}, image id {image.id}")

    def write_config(self):
        os.makedirs(self.path("cni"))
        conflist = {"cniVersion": "1.0.0", "name": "crisp-quickstart", "plugins": [
            {"type": "bridge", "bridge": BRIDGE, "isGateway": True,
             "ipam": {"type": "host-local", "dataDir": self.path("ipam"), "ranges": [[{"subnet": SUBNET}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}}]}
        with open(self.path("cni/10-quickstart.conflist"), "w", encoding="utf-8") as f:
            json.dump(conflist, f, indent=2)
        config = f"""# what hack/quickstart runs crispd with
root: {self.path("root")}
run_dir: {self.path("run")}
socket: {self.path("run/crisp.sock")}
cgroup:
  parent: {CGROUP}
cni:
  conf_dir: {self.path("cni")}
  bin_dirs: [/usr/lib/cni]
  cache_dir: {self.path("cni-cache")}
registries:
  registry.example:
    strict: true
    mirrors:
      - url: {self.registry.url}
        path_prefix: "{{host}}"
helpers:
  crisp_pod: {RELEASE}/runtime/pod/crisp-pod
  crisp_pull: {RELEASE}/image/pull/crisp-pull
"""
        with open(self.path("crisp.yaml"), "w", encoding="utf-8") as f:
            f.write(config)
        print(config, end="")

    def start_daemon(self):
        crispd = os.path.join(RELEASE, "cri", "crispd")
        show(crispd, "--config", self.path("crisp.yaml"), "--check-config")
        with open(self.path("crispd.log"), "wb") as log:
            self.daemon = subprocess.Popen([crispd, "--config", self.path("crisp.yaml")],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: os.path.exists(self.path("run/crisp.sock")) or self.daemon.poll() is not None,
                 "crispd serves")
        if self.daemon.poll() is not None:
            with open(self.path("crispd.log"), encoding="utf-8") as f:
                raise SystemExit("quickstart: crispd ended:\n" + f.read())
        show(CRISP, "info", env=self.env)

    def run_pod(self):
        with open(self.path("output"), "wb") as out:
            command = [CRISP, "run", "--rm", "--name", "hello", "-e", "WHO=quickstart", IMAGE, "sh", "-c", SCRIPT]
            print("$ crisp", *command[1:-1], repr(SCRIPT), "&")
            self.run = subprocess.Popen(command, env=self.env, stdout=out, stderr=subprocess.STDOUT)

        def said_hello():
            if self.run.poll() is not None:
                raise SystemExit(f"quickstart: crisp run ended with {self.run.returncode}: {self.output()}")
            return "hello from" in self.output()
        wait_for(said_hello, "the container says hello")

    def output(self):
        with open(self.path("output"), encoding="utf-8") as f:
            return f.read()

    def look(self):
        say("The pod: its address, its log file, its image")
        show(CRISP, "ps", env=self.env)
        show(CRISP, "images", env=self.env)
        text = show(CRISP, "inspect", "hello", env=self.env, capture_output=True, text=True).stdout
        print(text, end="")
        facts = dict(line.split(None, 1) for line in text.splitlines() if len(line.split(None, 1)) == 2)
        say("What it printed (crisp run follows it), and its log in the CRI's format")
        print(self.output(), end="")
        show("cat", facts["log"])
        say("A command in the running container")
        show(CRISP, "exec", "hello", "sh", "-c", "echo $WHO; id; ps; ip -4 addr show eth0", env=self.env)
        say("The host reaches the pod")
        show(CRISP, "exec", "hello", "sh", "-c", "nc -l -p 7777 -e echo 'answer from the pod' >/dev/null 2>&1 &",
             env=self.env)
        wait_for(lambda: self.ask(facts["ip"], 7777), "the pod answers on port 7777")
        say("Its cgroups and namespaces, beside the host's")
        info = json.loads(subprocess.run([CRISP, "inspect", "--info", "hello"], env=self.env, check=True,
                                         capture_output=True, text=True).stdout)
        show("cat", f"/proc/{info['pid']}/cgroup")
        for kind in ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user"):
            mine, its = os.readlink(f"/proc/self/ns/{kind}"), os.readlink(f"/proc/{info['pid']}/ns/{kind}")
            print(f"{kind:7} {its:22}", "the host's" if mine == its else "its own")
        say("What runs for it: the daemon, and one small supervisor for the pod")
        self.memory()

    def ask(self, address, port):
        try:
            with socket.create_connection((address, port), 2) as s:
                print(f"{address}:{port} says: {s.recv(100).decode().strip()}")
                return True
        except OSError:
            return False

    def memory(self):
        for pid, name in sorted(processes().items(), key=lambda item: int(item[0])):
            if name in ("crispd", "crisp-pod"):
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                    pss = next(line.split()[1] for line in f if line.startswith("Pss:"))
                print(f"{name:10} pid {pid:>7}  PSS {pss} KiB (of that, a supervisor's code is shared by all pods)"
                      if name == "crisp-pod" else f"{name:10} pid {pid:>7}  PSS {pss} KiB")

    def clean_up(self):
        if self.run and self.run.poll() is None:
            self.run.send_signal(signal.SIGTERM)
            self.run.wait(60)
        if self.daemon:
            if self.daemon.poll() is None and self.run:
                subprocess.run([CRISP, "ps", "-a"], env=self.env, check=False)
            self.daemon.terminate()
            self.daemon.wait(60)
        if self.registry:
            self.registry.stop()
        if os.path.exists(f"/sys/class/net/{BRIDGE}"):  # the bridge plugin leaves its bridge, as it should
            subprocess.run(["ip", "link", "del", BRIDGE], check=True)
        if forwarding() != self.forward:  # and switches forwarding on for it
            forwarding(self.forward)
        shutil.rmtree(self.base)


def main():
    before = traces()
    quick = Quickstart()
    try:
        say("Making an image from Debian's busybox, and a registry on the loopback that has it")
        quick.start_registry()
        say(f"Configuring crispd, all of it below {quick.base}")
        quick.write_config()
        say("Starting crispd")
        quick.start_daemon()
        say("Running a pod: crisp pulls the image, makes pod and container, follows the output")
        quick.run_pod()
        quick.look()
    except BaseException:
        log = quick.path("crispd.log")
        if os.path.exists(log):
            with open(log, encoding="utf-8") as f:
                sys.stderr.write("".join(f.readlines()[-20:]))
        raise
    finally:
        say("Stopping the container, removing pod, image, daemon, registry and bridge")
        quick.clean_up()
    say("What is left behind")
    deadline = time.monotonic() + 10  # the kernel takes a network namespace apart by and by
    while left_since(before) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left_since(before):
        raise SystemExit(f"quickstart: left behind: {left_since(before)}")
    print("nothing: no mount, interface, cgroup, process or file")


main()
