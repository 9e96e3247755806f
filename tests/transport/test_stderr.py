"""The newest lines of a command's stderr: bounded, whole, safe for a terminal."""

import random

from blockdiff.transport.stderr import MAX_LINE, MAX_TAIL, Diagnostics


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
