"""Container logs: form, completeness, rotation."""
import os

import grpc
import pytest

from cri import code_of, read_log, text_of
from daemon import wait_for

pytestmark = pytest.mark.core


def test_both_streams_and_a_last_line_without_newline(cri, pod):
    container = cri.run(pod, ["sh", "-c", "echo out; echo err >&2; printf 'é no newline'"])
    assert cri.wait(container).exit_code == 0
    lines = cri.log_lines(container)
    assert {(line.stream, line.text) for line in lines if line.text} == \
        {("stdout", "out"), ("stderr", "err"), ("stdout", "é no newline")}


def test_log_exists_when_start_returns(cri, pod, busy):
    assert os.path.exists(cri.status(busy).log_path)


def test_long_lines_are_split_and_whole(cri, pod):
    size = 100000
    container = cri.run(pod, ["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x; echo; echo end"])
    cri.wait(container)
    lines = cri.log_lines(container)
    assert text_of(lines) == "x" * size + "\nend\n"
    assert lines[0].tag == "P" and max(len(line.text) for line in lines) <= 16384


def test_much_output_is_complete_when_the_exit_is_seen(cri, pod):
    n = 200000
    container = cri.run(pod, ["sh", "-c", f"seq 1 {n}; seq 1 {n} >&2"])
    assert cri.wait(container, 60).exit_code == 0
    lines = cri.log_lines(container)
    expected = "".join(f"{i}\n" for i in range(1, n + 1))
    assert text_of(lines, "stdout") == expected and text_of(lines, "stderr") == expected


def test_binary_output(cri, pod):
    container = cri.run(pod, ["sh", "-c", "printf 'a\\377b\\000c\\n'"])
    cri.wait(container)
    assert [line.text for line in cri.log_lines(container)] == ["a\udcffb\0c"]


def test_reopen_loses_nothing(cri, pod):
    container = cri.run(pod, ["sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done; sleep 3600"])
    path = cri.status(container).log_path
    parts = []
    for number in range(3):
        os.rename(path, f"{path}.{number}")
        cri.ReopenContainerLog(container_id=container)
        assert os.path.exists(path)
        parts.append(f"{path}.{number}")

    def everything():
        return "".join(text_of(read_log(p)) for p in parts + [path])

    wait_for(lambda: everything().endswith("\n3000\n"), 20, "all lines")
    assert everything() == "".join(f"{i}\n" for i in range(1, 3001))


def test_reopen_of_a_stopped_container_is_an_error(cri, pod):
    container = cri.run(pod, ["true"])
    path = cri.wait(container).log_path
    os.rename(path, path + ".old")
    code, text = code_of(cri.ReopenContainerLog, container_id=container)
    assert code == grpc.StatusCode.FAILED_PRECONDITION and text
    assert not os.path.exists(path)
    assert code_of(cri.ReopenContainerLog, container_id="0" * 64)[0] == grpc.StatusCode.NOT_FOUND


def test_logs_stay_when_the_pod_is_removed(cri, pod):
    container = cri.run(pod, ["echo", "kept"])
    path = cri.wait(container).log_path
    cri.remove_pod(pod)
    assert text_of(read_log(path)) == "kept\n"


def test_log_path_may_not_leave_the_log_directory(cri, pod):
    code, text = code_of(cri.create, pod, ["true"], log_path="../../escaped.log")
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "log_path" in text
