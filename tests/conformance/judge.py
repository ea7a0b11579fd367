#!/usr/bin/python3
"""Reads critest's report, holds it to the list must-pass, and writes the JUnit file that hack/test counts.

A spec that must pass and did not is a failure. One that needn't pass yet and failed is told and counted as
skipped ("not required yet"), so that the list grows knowingly; one that passes without being listed is told too.
"""
import argparse
import os
import re
import sys
import xml.etree.ElementTree as ET

HERE = os.path.dirname(os.path.abspath(__file__))


def names_of(path):
    with open(path, encoding="utf-8") as f:
        return [line.strip() for line in f if line.strip() and not line.startswith("#")]


def specs(report):
    """Yields (name, outcome, text) of every spec that was selected."""
    for case in ET.parse(report).getroot().iter("testcase"):
        name = case.get("name", "")
        if not name.startswith("[It] "):
            continue
        name = re.sub(r"\s+", " ", name.removeprefix("[It] ").removeprefix("[k8s.io] ")).strip()
        bad = case.find("failure")
        bad = case.find("error") if bad is None else bad
        skip = case.find("skipped")
        if bad is not None:
            yield name, "failed", re.sub(r"\s+", " ", bad.get("message") or bad.text or "")[:300]
        elif skip is not None:
            message = skip.get("message") or ""
            if message == "skipped" or not message:  # not selected by the focus, or a benchmark
                continue
            yield name, "skipped", message
        else:
            yield name, "passed", ""


def enabled(path, answers):
    """Whether a file of the kernel's is there and begins with one of these: a module that is built in may be off."""
    try:
        with open(path, encoding="ascii") as f:
            return f.read(1) in answers
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report")
    parser.add_argument("junit")
    parser.add_argument("--regex", default="")
    args = parser.parse_args()
    must = set(names_of(f"{HERE}/must-pass"))
    if enabled("/sys/module/apparmor/parameters/enabled", "Y"):  # as in the machine of hack/vm
        must |= set(names_of(f"{HERE}/must-pass-apparmor"))
    if enabled("/sys/fs/selinux/enforce", "01"):
        must |= set(names_of(f"{HERE}/must-pass-selinux"))
    count = {"passed": 0, "failed": 0, "skipped": 0}
    broken, seen = [], set()
    suite = ET.Element("testsuite", name="critest")
    for name, outcome, text in specs(args.report):
        seen.add(name)
        count[outcome] += 1
        case = ET.SubElement(suite, "testcase", name=name)
        if outcome != "passed":
            print(f"{outcome}: {name}: {text}")
        if outcome == "passed":
            if name not in must:
                print(f"passes and is not in must-pass: {name}")
        elif name in must:
            broken.append(name)
            ET.SubElement(case, "failure", message=f"must pass, but {outcome}: {text}")
        else:
            why = "not required yet, failed" if outcome == "failed" else "critest skips it"
            ET.SubElement(case, "skipped", message=f"{why}: {text}")
    for name in sorted(must - seen):
        if not args.regex or re.search(args.regex, name):
            broken.append(name)
            case = ET.SubElement(suite, "testcase", name=name)
            ET.SubElement(case, "failure", message="must pass, but critest ran no such spec")
    ET.ElementTree(suite).write(args.junit, encoding="utf-8")
    for name in broken:
        print(f"MUST PASS, BUT DID NOT: {name}")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if broken or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
