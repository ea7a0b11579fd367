"""Runs in the test machine: the job that hack/vm put on its second disk. Reports go to /crisp-vm/out."""
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "tests", "lib"))
import cmocka  # noqa: E402

OUT = "/crisp-vm/out"
STARTED = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - STARTED:4.0f}s] {text}", flush=True)


def left(job):
    """Seconds of the time that the host gives us."""
    return job["seconds"] - (time.monotonic() - STARTED)


def run_limited(command, seconds, log, **more):
    """Runs a command in a session of its own; its exit status, or None if it had to be killed or no time is left."""
    if seconds <= 0:
        return None
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                               start_new_session=True, **more)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return None


def unit_test(test, job):
    """Runs one unit test; (exit status or None, seconds, what it wrote)."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as log:
        status = run_limited(test["command"], min(test["timeout"] * 2, left(job)), log, cwd=test["directory"])
        log.seek(0)
        return status, time.monotonic() - begin, log.read()


def unit(tests, job):
    """Runs the unit tests, two at a time, and writes a JUnit report; how many failed."""
    suite, failed, skipped = ET.Element("testsuite", name="unit"), 0, 0
    with open(f"{OUT}/unit.log", "wb") as log, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for test, (status, took, text) in zip(tests, pool.map(lambda t: unit_test(t, job), tests)):
            log.write(f"==== {test['name']}: {took:.0f} s\n".encode() + text)
            case = ET.SubElement(suite, "testcase", name=test["name"], time=f"{took:.1f}")
            skipped += cmocka.add(suite, case, text.decode("utf-8", "replace")) if status == 0 else 0
            if status != 0:
                failed += 1
                why = f"no result within {took:.0f} s" if status is None else f"ended with {status}"
                ET.SubElement(case, "failure", message=why)
                say(f"FAILED {test['name']}: {why}")
                lines = [x for x in text.decode("utf-8", "replace").splitlines()
                         if "[       OK" not in x and "[ RUN" not in x]
                wrong = [x for x in lines[:-25] if "ERROR  " in x or x.startswith("ERROR:")]  # cmocka's, far above
                print("\n".join("    " + x for x in wrong[:25] + lines[-25:]), flush=True)
            elif took > 10:
                say(f"{test['name']}: {took:.0f} s")
    ET.ElementTree(suite).write(f"{OUT}/vm.unit.xml", encoding="utf-8")
    say(f"unit tests: {len(tests) - failed} programs passed, {failed} failed; {skipped} of their tests were skipped")
    return failed


def integration(arguments, job, env):
    """Runs pytest, whose output goes to a log; its exit status."""
    command = [f"{job['top']}/tests/lib/isolate", "/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider",
               "-p", "progress", "-v", "-ra", "--color=no", "--tb=short", "--durations=25", "--rootdir", ".",
               "--junitxml", f"{OUT}/vm.integration.xml"]
    console = os.dup(1)
    env = {**env, "CRISP_PROGRESS": str(console), "PYTHONPATH": f"{job['top']}/hack/lib/vm"}
    with open(f"{OUT}/integration.log", "wb") as log:
        status = run_limited(command + arguments, left(job), log, env=env, cwd=f"{job['top']}/tests/integration",
                             pass_fds=[console])
    if status is None:
        say("integration tests take too long")
    return 1 if status is None else status


def main():
    with open("/crisp-vm/in/job.json", encoding="utf-8") as f:
        job = json.load(f)
    with open("/proc/uptime", encoding="utf-8") as f:
        say(f"Linux {os.uname().release}, up {f.read().split()[0]} s")
    env = {**os.environ, "CRISP_BUILD": job["build"], "CRISP_LOGS": OUT, "CRISP_SUITE": "vm", "PYTHONUNBUFFERED": "1",
           "CRISP_TEST_IMAGES": "/crisp-vm/in/images", "CRISP_TEST_STUBS": "/crisp-vm/in/stubs",
           "CRISP_TEST_GO": "built", "CRISP_TEST_NULL_PLUGIN": "/crisp-vm/in/null-plugin",
           "CRISP_TIME_SCALE": str(job["scale"]), "CRISP_CGROUP_DRIVER": job["driver"], "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.update(env)
    if job["command"]:
        status = run_limited(job["command"], left(job), None, cwd=job["top"], env=env)
        return 124 if status is None else status
    failed = unit(job["unit"], job) if job["unit"] else 0
    if job["critest"]:
        failed += run_limited([f"{job['top']}/tests/conformance/run", job["critest"]], left(job), None,
                              env={**env, "CRISP_SUITE": "vm.critest"}) != 0
    if job["pytest"] is not None:
        failed += integration(job["pytest"], job, env)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
