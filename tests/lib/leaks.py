"""What a machine shows of pods and containers: taken before and after a test, the two must be equal."""
import os
import subprocess
import time

import cgroups
from daemon import limit

# Below the daemon's directories: what may change from test to test without being a leak.
IGNORED = ("/root/image/layers", "/logs", "/crispd.log", "/registry", "/root/cni")
IGNORED_PARTS = (".db", "-wal", "-shm", "-journal", ".lock", ".json.new")


def mounts(crispd):
    """Mount points below the daemon's directory, each as often as it is mounted."""
    count = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for point in (line.split()[4] for line in f):
            if point.startswith(crispd.base):
                count[point] = count.get(point, 0) + 1
    return {f"mount {point} #{i}" for point, n in count.items() for i in range(n)}


def links():
    out = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    return {"link " + line.split(": ")[1].split("@")[0] for line in out.splitlines()}


def firewall():
    """Rules of pods (masquerading, host ports); chains that a plugin makes once for all don't count."""
    out = subprocess.run(["iptables-save"], check=False, capture_output=True, text=True).stdout
    return {"rule " + line for line in out.splitlines() if line.startswith("-A ") and "id: \\\"" in line}


def waiting(crispd):
    """crisp-pulls that wait for a next pull, half a minute long and at most two, each with its unpacker: no leak."""
    found = {}
    for task in os.listdir(f"/proc/{crispd.process.pid}/task"):
        try:
            with open(f"/proc/{crispd.process.pid}/task/{task}/children", encoding="utf-8") as f:
                pids = f.read().split()
        except OSError:
            continue
        for pid in pids:
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                    idle = f.read() == "crisp-pull-idle\n"
                with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as f:
                    unpackers = f.read().split()
            except OSError:
                continue
            if idle and len(unpackers) == 1 and len(found) < 2:
                found[int(pid)] = int(unpackers[0])
    return found


def processes(crispd):
    """Everything in the daemon's cgroups, and what is outside of them but works for this daemon."""
    found = set()
    spare = waiting(crispd)
    for pid in (cgroups.processes(crispd.cgroup) | set(crispd.strays())) - set(spare) - set(spare.values()):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                found.add(f"process {pid} {f.read().strip()}")
        except OSError:
            pass
    return found


def children(crispd):
    """Processes started by the daemon itself: plugins, pulls."""
    found = set()
    for task in os.listdir(f"/proc/{crispd.process.pid}/task"):
        try:
            with open(f"/proc/{crispd.process.pid}/task/{task}/children", encoding="utf-8") as f:
                found.update(int(pid) for pid in f.read().split())
        except OSError:
            pass
    return {f"child {pid}" for pid in found - set(waiting(crispd))}


def files(crispd):
    found = set()
    for top, dirs, names in os.walk(crispd.base):
        for name in dirs + names:
            path = os.path.join(top, name)[len(crispd.base):]
            if not path.startswith(IGNORED) and not any(part in name for part in IGNORED_PARTS):
                found.add("file " + path)
    return found


def fds(crispd):
    """How many of each kind of descriptor the daemon has, but for sockets: clients come and go."""
    count = {}
    spare = len(waiting(crispd))  # each has a pidfd
    directory = f"/proc/{crispd.process.pid}/fd"
    for fd in os.listdir(directory):
        try:
            kind = os.readlink(f"{directory}/{fd}")
        except OSError:
            continue
        if "pidfd" in kind and spare > 0:
            spare -= 1
            continue
        # Device programs (cgroup v2) are kept by rule set, at most a fixed number of them.
        if not kind.startswith("socket:") and ".db" not in kind and kind != "anon_inode:bpf-prog":
            kind = kind.split(":[")[0] if ":[" in kind else kind
            count[kind] = count.get(kind, 0) + 1
    return {f"fd {kind} #{i}" for kind, n in count.items() for i in range(n)}


def snapshot(crispd):
    state = mounts(crispd) | links() | firewall() | files(crispd)
    state |= {"cgroup " + path for path in cgroups.directories(crispd.cgroup)}
    state |= processes(crispd) | children(crispd) | fds(crispd)
    return state


def find(crispd, before, patience=10):
    """What is there now that was not before; work that goes on in the background has `patience` seconds."""
    deadline = time.monotonic() + limit(patience)
    while True:
        left = snapshot(crispd) - before
        left = {x for x in left if x != f"link {crispd.bridge}" and not x.endswith(crispd.cgroup)
                and not x.startswith("file /ipam")}
        if not left or time.monotonic() > deadline:
            return sorted(left) + addresses(crispd)
        time.sleep(0.1)


def addresses(crispd):
    """IP addresses that host-local still has reserved although no pod is left."""
    directory = f"{crispd.base}/ipam/{crispd.bridge}"
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted("address " + name for name in names if name[0].isdigit())
