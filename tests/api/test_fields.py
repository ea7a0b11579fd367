#!/usr/bin/env python3
"""docs/fields.md against the CRI's schema: each field of the messages that it has headings for has one row, with all
columns filled but `refused`; and the messages that isolation is made of are there.

Needs the standard library only. Run it by itself or by pytest.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "fields.md"
MUST = {"LinuxSandboxSecurityContext", "LinuxContainerSecurityContext", "Mount", "Device", "CDIDevice", "NamespaceOption",
        "LinuxContainerResources"}


def schema():
    """{message: [fields]}, and {message: messages and enums that its fields are of}."""
    fields, types = {}, {}
    for line in (HERE / "cri-v1-schema.tsv").read_text(encoding="utf-8").splitlines():
        words = line.split("\t")
        if words[0] == "field":
            fields.setdefault(words[1], []).append(words[2])
            types.setdefault(words[1], set()).add(words[4])
    return fields, types


def page():
    """{heading: [rows, each a list of cells]}"""
    found, here = {}, None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            here = found.setdefault(line[3:].strip(), [])
        elif here is not None and line.startswith("| `"):
            here.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return found


def problems():
    fields, types = schema()
    tables, out = page(), []
    # The messages that these are made of, but for wrapped numbers and the image's name.
    wanted, left = set(), set(MUST)
    while left:
        name = left.pop()
        wanted.add(name)
        left |= {t for t in types[name] if t in fields and t not in ("Int64Value", "ImageSpec")} - wanted
    out += [f"{name}: has no table" for name in sorted(wanted - set(tables))]
    for heading, rows in tables.items():
        if heading not in fields:
            out.append(f"{heading}: the schema has no such message")
            continue
        named = [re.fullmatch(r"`(\w+)`", row[0])[1] for row in rows]
        out += [f"{heading}.{name}: has {named.count(name)} rows" for name in fields[heading] if named.count(name) != 1]
        out += [f"{heading}.{name}: the schema has no such field" for name in named if name not in fields[heading]]
        out += [f"{heading}.{name}: {len(row)} columns, not 4, or an empty one" for name, row in zip(named, rows)
                if len(row) != 4 or not row[1] or not row[3]]
    return out


def test_every_field_is_told():
    assert not problems()


if __name__ == "__main__":
    FOUND = problems()
    print("\n".join(FOUND) or "docs/fields.md: ok")
    sys.exit(1 if FOUND else 0)
