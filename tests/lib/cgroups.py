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


def find(paths, controller, file):
    v1, v2 = file
    for top in hierarchies():
        if os.path.basename(top) == controller and controller in paths:
            return f"{top}{paths[controller]}/{v1}"
    top = next(t for t in hierarchies() if os.path.exists(t + "/cgroup.controllers"))
    return f"{top}{paths['']}/{v2}"


def file_of(pid, controller, file):
    """A control file of a process's cgroup, v1 or v2 (`file` is v1's, then v2's name)."""
    return find(of_process(pid), controller, file)


def read(pid, controller, file):
    with open(file_of(pid, controller, file), encoding="utf-8") as f:
        return f.read().strip()


def read_path(path, controller, file):
    """The same of a cgroup's path."""
    with open(find({controller: path, "": path}, controller, file), encoding="utf-8") as f:
        return f.read().strip()


def make(path):
    for top in hierarchies():
        os.makedirs(top + path, exist_ok=True)


def remove(parent):
    for path in directories(parent):
        try:
            os.rmdir(path)
        except OSError:
            pass
