"""Text of another machine: it steers no terminal, is bounded, and passes for no hint of ours."""

import pytest

from blockdiff.printable import printable, quoted


@pytest.mark.parametrize(
    "text, shown",
    [("db ä 日本", "db ä 日本"), ("\x1b[31mred\x07", "?[31mred?"), ("a\r\nb\tc", "a??b?c"), ("\u202e\x9b", "??"), (7, "7")],
)
def test_what_could_steer_a_terminal_is_replaced(text, shown):
    assert printable(text) == shown


def test_it_is_bounded():
    assert printable("x" * 1000) == "x" * 500
    assert printable("x" * 1000, 40) == "x" * 40


def test_it_passes_for_no_hint_of_ours():
    assert quoted("gone (hint: run this)") == "gone (hint run this)"
