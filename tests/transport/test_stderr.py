"""The newest lines of a command's stderr: bounded, whole, safe for a terminal."""

import random

from blockdiff.transport.stderr import MAX_LINE, MAX_LOGGED, MAX_LOGGED_SIZE, MAX_TAIL, Diagnostics, HostLog


def test_diagnostics_however_they_are_cut():
    text = b"first\n" + b"x" * (3 * MAX_LINE) + b"\nlast"
    for step in (1, 7, len(text)):
        lines = []
        diagnostics = Diagnostics(lines.append)
        for start in range(0, len(text), step):
            diagnostics.feed(text[start : start + step])
        diagnostics.end()
        assert lines[0] == "first"
        assert "".join(lines[1:-1]) == "x" * (3 * MAX_LINE)
        assert lines[-1] == "last"
        assert all(len(line) <= MAX_LINE for line in lines)


def test_diagnostics_stay_bounded_whatever_the_bytes():
    diagnostics = Diagnostics()
    source = random.Random(2)
    for _ in range(200):
        diagnostics.feed(source.randbytes(5000))
    assert len(diagnostics.text().encode()) <= MAX_TAIL
    assert all(character.isprintable() for character in diagnostics.text().replace("\n", ""))


def test_lines_of_a_host_have_its_name_and_are_limited():
    lines = []
    log = HostLog("nas", lines.append)
    for number in range(MAX_LOGGED + 5):
        log(str(number))
    assert lines[0] == "nas: 0" and lines[-2] == f"nas: {MAX_LOGGED - 1}"
    assert lines[-1] == "nas: too much output; the rest is not logged"
    assert len(lines) == MAX_LOGGED + 1


def test_long_lines_of_a_host_are_limited_by_their_size():
    lines = []
    log = HostLog("nas", lines.append)
    for _ in range(MAX_LOGGED_SIZE // 1000 + 5):
        log("x" * 1000)
    assert lines[-1].endswith("the rest is not logged") and len(lines) == MAX_LOGGED_SIZE // 1000 + 1
