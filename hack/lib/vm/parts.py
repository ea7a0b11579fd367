"""What hack/vm runs: the jobs of the command line, of continuous integration, and of --all."""
import fnmatch
import glob
import json
import os
import re
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
SUBSET = os.path.join(HERE, "subset")
FOLDERS = 4  # into how many parts --all divides the integration tests

# --all: {part: (security module, what it is of, most minutes)}. A machine of its own for each: what one leaves behind
# or hangs in does not touch the others, and any can be run by itself.
PARTS = {
    "unit": ("apparmor", "all unit tests", 40),
    **{f"integration-{n + 1}": ("apparmor", f"integration tests, every {FOLDERS}th file", 60) for n in range(FOLDERS)},
    "integration-systemd": ("apparmor", "integration tests with the marker core, cgroup driver systemd", 60),
    "critest": ("apparmor", "the whole critest, cgroup driver cgroupfs", 40),
    "critest-systemd": ("apparmor", "the whole critest, cgroup driver systemd", 40),
    "selinux": ("selinux", "integration tests with the marker selinux, critest's SELinux specs", 20),
}


def unit_tests(build):
    """What ctest knows of the build: [{name, command, directory, timeout}], without those that make no sense there."""
    shown = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True)
    tests = []
    for test in json.loads(shown.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        command = test["command"]
        if os.path.basename(command[0]).startswith("python3"):
            command[0] = "/usr/bin/python3"
        tests.append({"name": test["name"], "command": command, "timeout": properties.get("TIMEOUT", 300),
                      "directory": properties["WORKING_DIRECTORY"]})
    return [t for t in tests if not matches(t["name"], subset("never"))]


def subset(kind):
    """The patterns of the file `subset` for `never` or `slow`."""
    with open(SUBSET, encoding="utf-8") as f:
        lines = [line.split("#")[0].split() for line in f]
    return [words[1] for words in lines if words and words[0] == kind]


def matches(name, patterns):
    return any(fnmatch.fnmatch(name, p) for p in patterns)


def job(**what):
    return {"unit": [], "pytest": None, "critest": None, "command": None, "driver": "cgroupfs", **what}


def part(name, top, build):
    """The job of one part of --all."""
    if name == "unit":
        return job(unit=unit_tests(build))
    if name == "critest":
        return job(critest=".")
    if name == "critest-systemd":
        return job(critest=".", driver="systemd")
    if name == "integration-systemd":
        return job(pytest=["-m", "core"], driver="systemd")
    if name == "selinux":
        return job(pytest=["-m", "selinux"], critest="SELinux")
    files = sorted(os.path.basename(path) for path in glob.glob(f"{top}/tests/integration/test_*.py"))
    return job(pytest=files[int(name.rsplit("-", 1)[1]) - 1::FOLDERS])


def chosen(args, build):
    """The job that the command line names, or else continuous integration's."""
    if args.command:
        return job(command=args.command, driver=args.driver)
    if not (args.regex or args.expression or args.marker or args.critest):
        if args.lsm == "selinux":
            return job(pytest=["-m", "selinux"])
        tests = [t for t in unit_tests(build) if not matches(t["name"], subset("slow"))]
        return job(unit=tests, pytest=["-m", "vm or apparmor"], critest="AppArmor", driver=args.driver)
    made = job(critest=args.critest, driver=args.driver)
    if args.regex:
        made["unit"] = [t for t in unit_tests(build) if re.search(args.regex, t["name"])]
    if args.expression or args.marker:
        made["pytest"] = (["-k", args.expression] if args.expression else []) + \
            (["-m", args.marker] if args.marker else [])
    return made
