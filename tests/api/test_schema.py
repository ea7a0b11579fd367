#!/usr/bin/env python3
"""api/cri/api.proto against a table of the CRI's wire schema (cri-v1-schema.tsv), both ways.

Needs protoc and the standard library only. Run it by itself or by pytest.
"""
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGE = "runtime.v1"

# FieldDescriptorProto.Type (google/protobuf/descriptor.proto)
SCALARS = {1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 12: "bytes",
           13: "uint32", 17: "sint32", 18: "sint64"}
TYPE_MESSAGE, TYPE_ENUM, LABEL_REPEATED = 11, 14, 3


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """A protobuf message as {field number: [values]}; sub-messages stay bytes."""
    out, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(data, at)
        elif wire == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            size = {1: 8, 5: 4}[wire]
            value, at = data[at:at + size], at + size
        out.setdefault(number, []).append(value)
    return out


def text(message, number):
    return message.get(number, [b""])[0].decode()


def number_of(message, number):
    return message.get(number, [0])[0]


def compile_descriptors():
    """The FileDescriptorProto of api.proto, as protoc sees it."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "api.desc")
        subprocess.run(["protoc", f"--proto_path={ROOT}", "--proto_path=/usr/include",
                        f"--descriptor_set_out={out}", "api/cri/api.proto"], check=True, cwd=ROOT)
        descriptor_set = fields(out.read_bytes())
    return fields(descriptor_set[1][0])


def local(name):
    assert name.startswith(f".{PACKAGE}."), name
    return name[len(PACKAGE) + 2:]


def enum_rows(enum, prefix):
    name = prefix + text(enum, 1)
    for value in map(fields, enum.get(2, [])):
        yield ("enum", name, text(value, 1), str(number_of(value, 2)), "-", "-", "-")


def field_row(parent, field, maps):
    kind, label = number_of(field, 5), "repeated" if number_of(field, 4) == LABEL_REPEATED else "single"
    if kind in SCALARS:
        typename = SCALARS[kind]
    else:
        assert kind in (TYPE_MESSAGE, TYPE_ENUM)
        typename = local(text(field, 6))
        if typename in maps:
            typename, label = maps[typename], "map"
        else:
            typename = typename.rsplit(".", 1)[-1]
    deprecated = number_of(fields(field.get(8, [b""])[0]), 3)
    return ("field", parent, text(field, 1), str(number_of(field, 3)), typename, label,
            "deprecated" if deprecated else "-")


def message_rows(message):
    name, maps = text(message, 1), {}
    for nested in map(fields, message.get(3, [])):
        assert number_of(fields(nested[7][0]), 7), f"{name}: nested messages are map entries only"
        pair = [SCALARS[number_of(fields(f), 5)] for f in nested[2]]
        maps[f"{name}.{text(nested, 1)}"] = f"map<{pair[0]},{pair[1]}>"
    for enum in map(fields, message.get(4, [])):
        yield from enum_rows(enum, name + ".")
    members = list(map(fields, message.get(2, [])))
    if not members:
        yield ("message", name, "-", "-", "empty", "-", "-")
    for member in members:
        yield field_row(name, member, maps)


def rows_of_proto():
    file = compile_descriptors()
    assert text(file, 2) == PACKAGE
    assert text(file, 12) == "proto3"
    rows = []
    for enum in map(fields, file.get(5, [])):
        rows += enum_rows(enum, "")
    for message in map(fields, file.get(4, [])):
        rows += message_rows(message)
    for service in map(fields, file.get(6, [])):
        for method in map(fields, service.get(2, [])):
            stream = "stream " if number_of(method, 6) else ""
            assert not number_of(method, 5), "no RPC streams requests"
            rows.append(("rpc", text(service, 1), text(method, 1), "-",
                         f"{local(text(method, 2))} -> {stream}{local(text(method, 3))}", "-", "-"))
    return rows


def rows_of_table():
    rows = []
    for line in (HERE / "cri-v1-schema.tsv").read_text().splitlines():
        if not line.startswith("#"):
            row = line.split("\t")
            assert len(row) == 7, line
            # A secret is a matter of the comment: protoc-c knows no option for it.
            rows.append(tuple(row[:6]) + ("-" if row[6].startswith("secret") else row[6],))
    return rows


def test_schema_is_the_table():
    proto, table = rows_of_proto(), rows_of_table()
    assert len(set(proto)) == len(proto) and len(set(table)) == len(table)
    missing, extra = set(table) - set(proto), set(proto) - set(table)
    assert not missing, f"in the table but not in api.proto: {sorted(missing)}"
    assert not extra, f"in api.proto but not in the table: {sorted(extra)}"


def test_all_rpcs_are_there():
    rpcs = [row for row in rows_of_proto() if row[0] == "rpc"]
    assert len(rpcs) == 41
    assert sum("-> stream " in row[4] for row in rpcs) == 7


def test_secrets_are_marked():
    proto = (ROOT / "api/cri/api.proto").read_text().splitlines()
    for line in (HERE / "cri-v1-schema.tsv").read_text().splitlines():
        if line.endswith("secret: never log"):
            name = line.split("\t")[2]
            assert any(f" {name} = " in p and "never log" in p for p in proto), f"{name} lacks its warning"


if __name__ == "__main__":
    for test in (test_schema_is_the_table, test_all_rpcs_are_there, test_secrets_are_marked):
        try:
            test()
        except AssertionError as failure:
            sys.exit(f"{test.__name__}: {failure}")
    print("api/cri/api.proto agrees with tests/api/cri-v1-schema.tsv")
