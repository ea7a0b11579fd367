#!/usr/bin/python3
"""Sums up JUnit reports, and makes one for what no test runner reports.

  tally.py [--strict] [--names] REPORT...        prints skips, failures and `N passed, N failed, N skipped`
  tally.py --write REPORT SUITE NAME OUTCOME TEXT

A skip must be listed in tests/may-skip; with --strict one that isn't counts as a failure.
"""
import argparse
import fnmatch
import os
import sys
import xml.etree.ElementTree as ET

MAY_SKIP = os.path.join(os.path.dirname(__file__), "..", "may-skip")


def may_skip():
    """The patterns of tests/may-skip: `suite:name` with shell wildcards, then `#` and the reason."""
    patterns = []
    with open(MAY_SKIP, encoding="utf-8") as f:
        for line in f:
            pattern, _, why = line.partition(" # ")
            if pattern.strip() and not pattern.startswith("#"):
                if not why.strip():
                    sys.exit(f"tests/may-skip: {pattern.strip()}: say why after ' # '")
                patterns.append(pattern.strip())
    return patterns


def outcomes(report):
    """Yields (name, outcome, text) for each test case of a JUnit file."""
    for case in ET.parse(report).getroot().iter("testcase"):
        name = case.get("name", "?")
        if case.get("classname") and not name.startswith("["):
            name = f"{case.get('classname').rsplit('.', 1)[-1]}.{name}"
        bad = case.find("failure")
        bad = case.find("error") if bad is None else bad
        skip = case.find("skipped")
        if bad is not None:
            yield name, "failed", (bad.get("message") or bad.text or "").strip()
        elif skip is not None or case.get("status") in ("skipped", "pending", "notrun", "disabled"):
            text = "" if skip is None else (skip.get("message") or skip.text or "").strip()
            yield name, "skipped", text
        else:
            yield name, "passed", ""


def write(path, suite, name, outcome, text):
    case = ET.Element("testcase", name=name, classname=suite)
    if outcome != "passed":
        ET.SubElement(case, {"failed": "failure", "skipped": "skipped"}[outcome], message=text)
    root = ET.Element("testsuite", name=suite)
    root.append(case)
    ET.ElementTree(root).write(path, encoding="utf-8")


def tally(reports, strict):
    allowed = may_skip()
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for report in reports:
        name = os.path.basename(report)
        suite = "conformance" if name.endswith(".critest.xml") else name.split(".")[0]
        try:
            cases = list(outcomes(report))
        except (ET.ParseError, OSError) as e:
            cases = [(os.path.basename(report), "failed", f"unreadable report: {e}")]
        for name, outcome, text in cases:
            if outcome == "skipped":
                listed = any(fnmatch.fnmatch(f"{suite}:{name}", p.replace("[", "[[]")) for p in allowed)
                print(f"SKIPPED {suite}: {name}: {text or 'no reason given'}")
                if strict and not (listed and text):
                    print(f"FAILED  {suite}: {name}: may not be skipped here: tests/may-skip doesn't list it")
                    outcome = "failed"
            elif outcome == "failed":
                print(f"FAILED  {suite}: {name}: {text.splitlines()[0][:300] if text else ''}")
            count[outcome] += 1
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


def main():
    if sys.argv[1:2] == ["--write"]:
        write(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("reports", nargs="*")
    args = parser.parse_args()
    return tally(args.reports, args.strict)


if __name__ == "__main__":
    sys.exit(main())
