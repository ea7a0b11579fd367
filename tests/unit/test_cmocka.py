#!/usr/bin/python3
"""Tests tests/lib/cmocka.py: skipped tests of a program are counted, with their reasons."""
import os
import sys
import unittest
import xml.etree.ElementTree as ET

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.dont_write_bytecode = True
import cmocka  # noqa: E402

SOME = """[==========] tests: Running 4 test(s).
[ RUN      ] one
[       OK ] one
[ RUN      ] two
skipped: needs the moon
[  SKIPPED ] two
[ RUN      ] three
skipped: is what a container printed
[       OK ] three
[ RUN      ] four
[  SKIPPED ] four
[==========] tests: 4 test(s) run.
[  PASSED  ] 2 test(s).
[  SKIPPED ] 2 test(s), listed below:
[  SKIPPED ] two
[  SKIPPED ] four
"""
ALL = "[ RUN      ] one\nskipped: needs root\n[  SKIPPED ] one\n[  SKIPPED ] one\n"
PYTHON = """test_a (__main__.Case.test_a) ... ok
test_b (__main__.Case.test_b) ... skipped 'needs terabytes'
test_c (__main__.Case.test_c)
What it is about. ... skipped "it's off"

----------------------------------------------------------------------
Ran 3 tests in 0.1s

OK (skipped=2)
"""


def suite_of(text):
    suite = ET.Element("testsuite")
    cmocka.add(suite, ET.SubElement(suite, "testcase", name="x", classname="x"), text)
    return [(case.get("name"), None if case.find("skipped") is None else case.find("skipped").get("message"))
            for case in suite]


class Cmocka(unittest.TestCase):
    def test_some(self):
        self.assertEqual(suite_of(SOME), [("x", None), ("two", "needs the moon"), ("four", "")])

    def test_all(self):
        self.assertEqual(suite_of(ALL), [("one", "needs root")])

    def test_program(self):
        self.assertEqual(suite_of("skipped: needs root\n"), [("all", "needs root")])

    def test_python(self):
        self.assertEqual(suite_of(PYTHON), [("x", None), ("test_b", "needs terabytes"), ("test_c", "it's off")])

    def test_none(self):
        self.assertEqual(suite_of("[ RUN      ] a\n[       OK ] a\n"), [("x", None)])
        self.assertEqual(suite_of("no output of cmocka's"), [("x", None)])


if __name__ == "__main__":
    unittest.main()
