"""The times that --as-of takes."""

import datetime
import time

import click
import pytest

from blockdiff.commands.options_store import Moment


def taken(text):
    return Moment().convert(text, None, None)


def test_times(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        utc = int(datetime.datetime(2025, 6, 30, 22, tzinfo=datetime.UTC).timestamp())
        for text in ("2025-07-01", "2025-07-01T00:00", "2025-07-01 00:00:00", "2025-06-30T22:00Z", "2025-07-01T03:00+05:00"):
            assert taken(text) == utc, text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("text", "ago"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129600)])
def test_how_long_ago(text, ago):
    assert abs(time.time() - ago - taken(text)) < 60


@pytest.mark.parametrize("text", ["", "yesterday", "2025-02-30", "12", "d", "-1d", "9999-12-31", "0001-01-01"])
def test_what_is_no_time(text):
    with pytest.raises(click.BadParameter):
        taken(text)
