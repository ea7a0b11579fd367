"""Cgroups of all hierarchies mounted here, v1 and v2."""
import os


def hierarchies():
    """Mount points of cgroup hierarchies."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        found = []
        for line in f:
            left, right = line.split(" - ")
            if right.split()[0] in ("cgroup", "cgroup2"):
                found.append(left.split()[4])
    return sorted(set(found))


def directories(parent):
    """All cgroup directories at and below `parent`, deepest first, in every hierarchy."""
    found = []
    for top in hierarchies():
        for path, _, _ in os.walk(top + parent, topdown=False):
            found.append(path)
    return found


def processes(parent):
    pids = set()
    for path in directories(parent):
        try:
            with open(path + "/cgroup.procs", encoding="utf-8") as f:
                pids.update(int(line) for line in f if int(line) > 0)
        except OSError:
            pass
    return pids


def of_process(pid):
    """{controllers: path} of a process."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        return {fields[1]: fields[2] for fields in (line.strip().split(":", 2) for line in f)}


def read(pid, controller, file):
    """A control file of a process's cgroup, v1 or v2 (`file` is v1's, then v2's name)."""
    v1, v2 = file
    paths = of_process(pid)
    for top in hierarchies():
        if os.path.basename(top) == controller and controller in paths:
            with open(f"{top}{paths[controller]}/{v1}", encoding="utf-8") as f:
                return f.read().strip()
    top = next(t for t in hierarchies() if os.path.exists(t + "/cgroup.controllers"))
    with open(f"{top}{paths['']}/{v2}", encoding="utf-8") as f:
        return f.read().strip()


def remove(parent):
    for path in directories(parent):
        try:
            os.rmdir(path)
        except OSError:
            pass
