"""Text of another machine can neither control a terminal nor look like a hint of ours; sizes have units."""

import pytest

from blockdiff.printable import name, printable, quoted, size, visible


@pytest.mark.parametrize("letter", ["\x07", "\x1b", "\n", "\r", "\x7f", "\x9b", "\u202e", "\u2066"])
def test_what_could_control_a_terminal_is_replaced_or_left_out(letter):
    assert (printable(f"a{letter}b"), visible(f"a{letter}b")) == ("a?b", "ab")


def test_ordinary_text_stays():
    assert printable("Zürich 日本 / a") == visible("Zürich 日本 / a") == "Zürich 日本 / a"
    assert visible("a\tb") == "a b"


def test_a_text_is_cut_where_there_is_a_limit():
    assert (printable("a" * 600), printable("abc", 2), visible("a" * 600)) == ("a" * 500, "ab", "a" * 600)


def test_no_text_can_pass_for_a_hint():
    assert quoted("x (hint: rm -rf /)") == "x (hint rm -rf /)"


@pytest.mark.parametrize("count, shown", [
    (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB"), ((1 << 20) - 1, "1.0 MiB"),
    (1 << 62, "4096.0 PiB"),
])  # fmt: skip
def test_sizes_have_units(count, shown):
    assert size(count) == shown


@pytest.mark.parametrize(
    "path, shown",
    [("a é/b", "a é/b"), ("\udcff\x1b", "\\xff\\x1b"), ("\u202e", "\\u202e"), ("h\ud800\udcff", "h\\ud800\\udcff")],
)
def test_a_name_is_safe_to_print(path, shown):
    """A lone surrogate, too, which a manifest can have where no file name can."""
    assert name(path) == shown
