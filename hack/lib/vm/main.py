"""hack/vm: runs tests in an emulated Debian 12 with its own kernel, pure cgroup v2 and real systemd.

  hack/vm                    the part that CI runs: all unit tests but slow ones, integration tests marked `vm`,
                             critest's AppArmor specs
  hack/vm --all              everything that makes sense there, in parts, each in a machine of its own: about two hours
  hack/vm --part NAME        one part of that (can be repeated); --list --all names them
  hack/vm -k EXPR            integration tests by pytest's expression
  hack/vm -R REGEX           unit tests by name; with -k: both
  hack/vm --list             what would run, and nothing else
  hack/vm --critest REGEX    specs of the real critest ('.': all)
  hack/vm --driver systemd   daemons under test have cgroup driver systemd instead of cgroupfs
  hack/vm -- COMMAND...      a command instead, in the source's folder; what it writes to $CRISP_LOGS is brought back
  hack/vm --lsm selinux      the machine boots with SELinux (permissive) instead of AppArmor

Tests of CRISP_BUILD (default: build/release) are run; results and logs come to CRISP_LOGS (default:
build/test-logs) as vm.* (CRISP_SUITE.*). The machine's disk is made once and cached in CRISP_VM_CACHE (default:
~/.cache/crisp/vm); remove that to get newer Debian packages. There is no network in the machine but its own.
"""
import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.abspath(os.path.join(HERE, "..", "..", ".."))
sys.path.insert(0, HERE)
import machine  # noqa: E402
import parts  # noqa: E402

BUILD = os.path.abspath(os.environ.get("CRISP_BUILD", os.path.join(TOP, "build", "release")))
LOGS = os.path.abspath(os.environ.get("CRISP_LOGS", os.path.join(TOP, "build", "test-logs")))
CACHE = os.environ.get("CRISP_VM_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "crisp", "vm")
SUITE = os.environ.get("CRISP_SUITE", "vm")  # what reports and logs are named by
TALLY = f"{TOP}/tests/lib/tally.py"


def say(text):
    print(f"hack/vm: {text}", flush=True)


def cached_root(lsm):
    """The directory with root.img and vmlinuz for the packages and scripts as they are now."""
    key = hashlib.sha256(lsm.encode())
    for name in ("packages", "make-root", "start", "crisp-vm.service"):
        with open(os.path.join(HERE, name), "rb") as f:
            key.update(f.read())
    directory = os.path.join(CACHE, f"{lsm}-{key.hexdigest()[:16]}")
    os.makedirs(directory, exist_ok=True)
    for name in os.listdir(CACHE):  # what earlier states of the scripts left, unless it is in use elsewhere
        path = os.path.join(CACHE, name)
        if path != directory and os.path.isdir(path) and time.time() - os.stat(path).st_mtime > 3 * 86400:
            shutil.rmtree(path, ignore_errors=True)
    with open(f"{directory}/lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(f"{directory}/root.img"):
            say(f"making the machine's disk in {directory}: about a minute, this once")
            with open(f"{directory}/make-root.log", "wb") as log:
                if subprocess.run([f"{HERE}/make-root", directory, lsm], stdout=log, stderr=log, check=False).returncode:
                    sys.exit(f"hack/vm: the disk can't be made: see {directory}/make-root.log")
    os.utime(directory)
    return directory


def copy_programs(to):
    """The build's executables and services, without its objects."""
    for directory, folders, names in os.walk(BUILD):
        folders[:] = [f for f in folders if f not in ("CMakeFiles", "generated", "Testing")]
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".service") or \
                    os.path.isfile(path) and os.access(path, os.X_OK) and not name.endswith((".o", ".a")):
                target = to + path
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy2(path, target)


def build_source():
    """The source directory that the build was made from."""
    with open(f"{BUILD}/CMakeCache.txt", encoding="utf-8") as f:
        return next(line.split("=", 1)[1].strip() for line in f if line.startswith("CMAKE_HOME_DIRECTORY:"))


def fill(work, job):
    """Makes the directory that becomes the second disk: sources, programs, images, and the job."""
    disk = f"{work}/in"
    os.makedirs(disk)
    shutil.copytree(TOP, disk + TOP, symlinks=True, ignore=lambda d, names: [
        n for n in names if n == ".git" or (d == TOP and n.startswith("build")) or n == "__pycache__"])
    copy_programs(disk)
    images = subprocess.run([f"{TOP}/tests/images/build"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    shutil.copytree(images, f"{disk}/images")
    go = f"{TOP}/build/go"
    programs = ["crictl", "cni"] + (["critest"] if job["critest"] else [])
    if subprocess.run([f"{TOP}/tests/go/build"] + programs, check=False, stdout=subprocess.DEVNULL).returncode == 3:
        say("without Go there are no critest, crictl and reference plugins")
        job["critest"] = None
    for name in ("cni", "bin/crictl") + (("bin/critest",) if job["critest"] else ()):
        if os.path.isdir(f"{go}/{name}"):
            shutil.copytree(f"{go}/{name}", f"{disk}{go}/{name}")
        elif os.path.exists(f"{go}/{name}"):
            os.makedirs(os.path.dirname(f"{disk}{go}/{name}"), exist_ok=True)
            shutil.copy2(f"{go}/{name}", f"{disk}{go}/{name}")
    subprocess.run(["/usr/bin/python3", "-B", f"{TOP}/tests/lib/stubs.py", f"{disk}/stubs"], check=True)
    subprocess.run(["gcc", "-O2", "-static", "-o", f"{disk}/null-plugin", f"{TOP}/tests/lib/null_plugin.c"], check=True)
    job.update(top=TOP, build=BUILD)
    with open(f"{disk}/job.json", "w", encoding="utf-8") as f:
        json.dump(job, f)
    # The trees appear where they are here: programs and build files know their own paths. A build of other sources
    # than these (another clone) finds these under the name of its own.
    roots = {TOP: TOP, build_source(): TOP}
    if not BUILD.startswith(TOP + "/"):
        roots[BUILD] = BUILD
    with open(f"{disk}/job", "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\nset -e\n")
        for path, there in roots.items():
            f.write(f"mkdir -p '{path}'\nmount --bind '/crisp-vm/in{there}' '{path}'\n")
        f.write(f"exec /usr/bin/python3 -B '{TOP}/hack/lib/vm/inside.py'\n")
    os.chmod(f"{disk}/job", 0o755)
    return disk


def collect(out, prefix):
    """Brings what the machine wrote to the logs; the reports."""
    os.makedirs(LOGS, exist_ok=True)
    reports = []
    for name in sorted(os.listdir(out)):
        if name != "rc" and os.path.isfile(f"{out}/{name}"):
            target = f"{LOGS}/{prefix}.{name.removeprefix('vm.')}"
            shutil.copy(f"{out}/{name}", target)
            if name.endswith(".xml"):
                reports.append(target)
    return reports


def arguments():
    parser = argparse.ArgumentParser(prog="hack/vm", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="everything")
    parser.add_argument("--part", action="append", choices=list(parts.PARTS), metavar="NAME", help="a part of --all")
    parser.add_argument("--list", action="store_true", help="only say what would run")
    parser.add_argument("-k", dest="expression", help="integration tests that match pytest's EXPRESSION")
    parser.add_argument("-m", dest="marker", help="integration tests with this marker")
    parser.add_argument("-R", dest="regex", help="unit tests whose name matches")
    parser.add_argument("--critest", metavar="REGEX", help="specs of critest whose names match")
    parser.add_argument("--driver", choices=("cgroupfs", "systemd"), default="cgroupfs", help="the cgroup driver")
    parser.add_argument("--lsm", choices=("apparmor", "selinux"), default="apparmor")
    parser.add_argument("--scale", type=int, default=20, help="how many times longer the tests' time-outs are")
    parser.add_argument("--minutes", type=float, help="the longest run (default: 12; parts of --all have their own)")
    parser.add_argument("--memory", type=int, default=3072, help="the machine's memory, MiB")
    parser.add_argument("--keep", action="store_true", help="keep the disks; says where")
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="run this instead of tests")
    return parser.parse_args()


def boot(args, job, lsm, minutes, prefix):
    """Boots the machine with the job; its status (None: it ended without one) and reports."""
    job.update(scale=args.scale, seconds=minutes * 60 - 60)
    root = cached_root(lsm)
    work = tempfile.mkdtemp(prefix="crisp-vm-", dir=os.environ.get("CRISP_TMP", "/tmp"))
    try:
        disk = fill(work, job)
        started = time.monotonic()
        status, out = machine.Machine(root, work, lsm, args.memory).run(disk, minutes * 60)
        reports = collect(out, prefix)
        shutil.copy(f"{work}/console.log", f"{LOGS}/{prefix}.console.log")
        say(f"{time.monotonic() - started:.0f} s; logs: {LOGS}/{prefix}.*")
        return status, reports
    finally:
        if args.keep:
            say(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def run(args, jobs):
    """Boots a machine for each job, [(name, job, security module, minutes)]; the exit status."""
    for name in os.listdir(LOGS) if os.path.isdir(LOGS) else []:
        if name.startswith(SUITE + ".") and name != SUITE + ".log":  # hack/test's own
            os.unlink(f"{LOGS}/{name}")
    failed, reports = 0, []
    for name, job, lsm, minutes in jobs:
        prefix = f"{SUITE}.{name}" if name else SUITE
        if name:
            say(f"part {name}: {parts.PARTS[name][1]}")
        status, made = boot(args, job, lsm, minutes, prefix)
        if job["command"] and status is not None:
            return status
        if status is None:
            why = f"the machine ended without a result: see {LOGS}/{prefix}.console.log"
            say(why)
            made.append(f"{LOGS}/{prefix}.ended.xml")
            subprocess.run([TALLY, "--write", made[-1], SUITE, name or "machine", "failed", why], check=True)
        reports += made
        failed += status != 0
    tally = subprocess.run([TALLY, "--strict"] + reports, check=False).returncode
    return tally or int(failed > 0)


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the machine is ended and its disks removed
    names = args.part or (list(parts.PARTS) if args.all else None)
    if names:
        jobs = [(name, parts.part(name, TOP, BUILD), parts.PARTS[name][0], args.minutes or parts.PARTS[name][2])
                for name in names]
    else:
        jobs = [("", parts.chosen(args, BUILD), args.lsm, args.minutes or 12)]
    if not args.list:
        return run(args, jobs)
    for name, job, lsm, minutes in jobs:
        if name:
            print(f"part {name} ({lsm}, at most {minutes} minutes)")
        for test in job["unit"]:
            print("unit", test["name"])
        if job["pytest"] is not None:
            print("pytest", *job["pytest"])
        if job["critest"]:
            print("critest", job["critest"], "with cgroup driver", job["driver"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
