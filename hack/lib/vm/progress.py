"""A pytest plugin for the slow machine: tells at once what fails and what takes long, on the descriptor in CRISP_PROGRESS."""
import os
import time

STARTED = time.monotonic()
FD = int(os.environ.get("CRISP_PROGRESS", "2"))
spent = {}


def tell(text):
    os.write(FD, text.encode("utf-8", "replace") + b"\n")


def pytest_collection_finish(session):
    tell(f"integration tests: {len(session.items)}")


def pytest_runtest_logreport(report):
    spent[report.nodeid] = spent.get(report.nodeid, 0) + report.duration
    if report.failed:
        tell(f"FAILED {report.nodeid} ({report.when}, {spent[report.nodeid]:.0f} s)")
        tell("\n".join("    " + line for line in report.longreprtext.splitlines()[-30:]))
    elif report.when == "teardown" and spent[report.nodeid] > 10:
        tell(f"[{time.monotonic() - STARTED:4.0f}s] {report.nodeid}: {spent[report.nodeid]:.0f} s")


def pytest_sessionfinish(session):
    tell(f"[{time.monotonic() - STARTED:4.0f}s] {session.testscollected} integration tests, {session.testsfailed} failed")
