"""crispd's options and its configuration's errors."""
import json
import subprocess

import pytest

from daemon import limit, program


def crispd(*args):
    return subprocess.run([program("crispd"), *args], check=False, capture_output=True, text=True, timeout=limit(30))


def test_help_and_version():
    for option, word in (("--help", "--config"), ("--version", "crisp")):
        run = crispd(option)
        assert run.returncode == 0 and word in run.stdout


def test_unknown_option():
    run = crispd("--no-such-option")
    assert run.returncode == 2 and "--no-such-option" in run.stderr


def test_print_config_is_a_config(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"root: {tmp_path}/root\nlog: {{level: warn}}\n")
    printed = crispd("--config", str(path), "--print-config")
    assert printed.returncode == 0 and f"{tmp_path}/root" in printed.stdout
    again = tmp_path / "again.yaml"
    again.write_text(printed.stdout)
    assert crispd("--config", str(again), "--print-config").stdout == printed.stdout
    assert crispd("--config", str(again), "--check-config").returncode == 0


@pytest.mark.parametrize("text,line,words", [
    ("nosuchkey: 1", 1, ["nosuchkey"]),
    ("root: /tmp/x\nlog:\n  levle: info", 3, ["levle"]),
    ("log: {level: loud}", 1, ["log.level", "loud"]),
    ("log: [1]", 1, ["log"]),
    ("root: relative", 1, ["root"]),
    ("root: [a]", 1, ["root"]),
    ("\nsocket: /" + "x" * 200, 2, ["socket"]),
    ("cgroup: {driver: docker}", 1, ["cgroup.driver"]),
    ("cgroup: {parent: /a/../..}", 1, ["cgroup.parent"]),
    ("streaming: {address: nowhere}", 1, ["streaming.address"]),
    ("max_connections: many", 1, ["max_connections"]),
    ("max_connections: 0", 1, ["max_connections"]),
    ("shutdown_grace: 5 parsecs", 1, ["shutdown_grace"]),
    ("registries: {x.y: {mirrors: [{url: 'ftp://x'}]}}", 1, ["url"]),
    ("registries: {x.y: {mirrrors: []}}", 1, ["mirrrors"]),
    ("root: /a\nroot: /b", 2, ["root"]),
    ("a: [", 1, []),
    ("\tx", 1, []),
])
def test_errors_name_file_line_and_key(tmp_path, text, line, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    for mode in (["--check-config"], []):
        run = crispd("--config", str(path), *mode)
        assert run.returncode not in (0, -6, -11), run.stderr
        assert f"{path}:{line}" in run.stderr or (not words and str(path) in run.stderr), run.stderr
        assert all(word in run.stderr for word in words), run.stderr


def test_missing_file_is_an_error(tmp_path):
    run = crispd("--config", str(tmp_path / "none.yaml"), "--check-config")
    assert run.returncode != 0 and "none.yaml" in run.stderr


def test_alias_bomb_and_depth_are_refused(tmp_path):
    path = tmp_path / "bomb.yaml"
    path.write_text("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)))
    assert crispd("--config", str(path), "--check-config").returncode == 1
    path.write_text("[" * 20000)
    assert crispd("--config", str(path), "--check-config").returncode == 1


def test_verbose_status_shows_no_surprises(shared_crispd):
    from cri import Cri
    shared_crispd.connect()
    for value in Cri(shared_crispd).Status(verbose=True).info.values():
        if value.startswith("{"):
            assert isinstance(json.loads(value), dict)
