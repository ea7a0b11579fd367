#!/usr/bin/python3
"""What unit tests say of themselves: a program of cmocka's, or of Python's unittest, ends with 0 also if it skipped some
of its tests, or all.

  cmocka.py REPORT      goes over ctest's JUnit report: each skipped test becomes a case of its own, with its reason

A program of which every test was skipped has not passed, and has no case but theirs.
"""
import re
import sys
import xml.etree.ElementTree as ET

PYTHON = re.compile(r"^(?P<name>\w+) \([\w.]+\)(?:\n.*)?? \.\.\. skipped (?P<quote>['\"])(?P<why>.*)(?P=quote)$", re.M)
LINE = re.compile(r"^(?:skipped: (?P<why>.*)|\[ +(?P<what>RUN|OK|SKIPPED|FAILED) +\] (?P<name>\w+))$", re.M)


def skips(text):
    """([(test, reason)], whether all tests were skipped) of what a program wrote. A program that ran no test and says why
    counts as one skipped test, `all`."""
    found, why, others, running, ran = [], "", 0, None, False
    for line in LINE.finditer(text.replace("\r", "")):
        what, name = line["what"], line["name"]
        if line["why"] is not None:
            why = line["why"].strip()
        elif what == "RUN":
            running, why, ran = name, "", True
        elif name == running:  # the list at the end repeats names
            if what == "SKIPPED":
                found.append((name, why))
            else:
                others += 1
            running = None
    for test in PYTHON.finditer(text):
        found.append((test["name"], test["why"]))
        others = ran = True  # what else there was is not looked at
    if why and not ran:
        found = [("all", why)]
    return found, bool(found) and not others


def add(suite, case, text):
    """Adds a program's skipped tests to a JUnit suite that has its case; how many they are."""
    found, all_of_them = skips(text)
    passed = not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
    for name, why in found:
        skipped = ET.SubElement(suite, "testcase", name=name, classname=case.get("name"))
        ET.SubElement(skipped, "skipped", message=why)
    if all_of_them and passed:
        suite.remove(case)
    return len(found)


def main():
    tree = ET.parse(sys.argv[1])
    suite = tree.getroot()
    for case in list(suite.iter("testcase")):
        add(suite, case, case.findtext("system-out") or "")
    tree.write(sys.argv[1], encoding="utf-8")


if __name__ == "__main__":
    main()
