"""The line of numbers with which a backup ends, for tests that are about its other lines."""

import re

AMOUNT = r"(?:\d+ bytes|\d+\.\d [KMGTP]iB)"
LINE = re.compile(
    rf"(?:\[(?:TIME|.{{24}})\] )?version \d+ of .+: (?:full|incremental), {AMOUNT} of {AMOUNT} changed"
    rf"(?: \(\d+ of \d+ blocks\))?, {AMOUNT} stored, \d+\.\d s"
)


def without(lines):
    """Return lines without those of numbers."""
    return [line for line in lines if LINE.fullmatch(line) is None]
