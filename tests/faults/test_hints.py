"""What an agent says of hints, by hand: a second pass replaces the first one wholly, and no lie is published."""

import json

import pytest
from engine import back_up
from hostile import FIRST, HONEST, LEFT, SECOND, Set, extent, put_together, raw, talk

from blockdiff.errors import ProtocolBroken
from blockdiff.sets.backupset import BackupSet
from blockdiff.wire import messages
from blockdiff.wire.messages import SAME

HINT = {"method": "thin_delta", "blocks": 5, "audited": 3, "wrong": None}
AGAIN = talk(messages.AGAIN, offset=700)
BODY = HONEST[2][2:-2]


def ended(hint=HINT, **changes):
    """The end of an honest second version, with what it says of a hint."""
    value = {**json.loads(HONEST[2][-2][1]), "hint": hint, "keeps": False, **changes}
    return [talk(messages.END, **value), LEFT]


def told(*spoken):
    return put_together([*HONEST[2][:2], *spoken])


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_has_the_hint_by_which_it_was_read(number):
    hint = {**HINT, "method": "mappings"} if number == 1 else HINT
    with Set(number) as it:
        value = {**json.loads(HONEST[number][-2][1]), "hint": hint, "keeps": True}
        stays = {"endless": raw(messages.PING)}  # it waits until the version is published
        spoken = put_together([*HONEST[number][:-2], talk(messages.END, **value), LEFT])
        outcome = it.back_up(spoken, hints=True, played=stays)
        it.is_whole()
        assert BackupSet(str(it.folder / "set")).read_manifest(number).value["hint"] == hint
        assert outcome.as_json()["hint"] == hint
        assert outcome.warnings == []


def test_what_has_no_snapshot_has_no_hints(tmp_path):
    (tmp_path / "vol").write_bytes(FIRST)
    for number, options in enumerate(({}, {"snapshot": "none"}), 1):
        notes = []
        assert back_up(tmp_path / "set", tmp_path / "vol", hints=True, note=notes.append, **options).warnings == []
        assert notes[-1] == "localhost: no hints, the whole volume is read: it has no snapshot"
        assert "hint" not in BackupSet(str(tmp_path / "set")).read_manifest(number).value


def test_a_wrong_hint_costs_a_second_pass_and_is_a_warning():
    """Nothing of the first pass is in the version, not even what was right."""
    wrong = {**HINT, "wrong": 700}
    for first in ([], BODY, [extent(0, [(SAME, 4)])], BODY[:1]):
        done = []
        with Set(2) as it:
            if first == BODY[:1]:  # in the middle of its data
                it.refuses(told(*first, AGAIN, *BODY, *ended(wrong)), hints=True)
                continue
            outcome = it.back_up(told(*first, AGAIN, *BODY, *ended(wrong, read=len(SECOND) + 900)), hints=True, warn=done.append)
            it.is_whole()
            assert BackupSet(str(it.folder / "set")).read_manifest(2).value["bytes"]["read"] == len(SECOND) + 900
        assert outcome.warnings == done == ["a hint left out the block at byte 700, so the whole volume is read"]


def test_the_warning_names_the_versions_that_may_be_wrong():
    with Set(2) as it:
        it.back_up(told(*BODY, *ended()), hints=True)
        body = [extent(0, [(SAME, 13)])]
        end = {**json.loads(HONEST[2][-2][1]), "changed": 0, "zero": 0, "hint": {**HINT, "wrong": 0}, "keeps": False}
        wrong = put_together([*HONEST[2][:2], talk(messages.AGAIN, offset=0), *body, talk(messages.END, **end), LEFT])
        (warning,) = it.back_up(wrong, hints=True).warnings
        assert warning.endswith("; versions 2 to 2, which were read by hints, may have older bytes there")


LIES = {
    "again, and hints were not asked for": (False, [AGAIN, *BODY, *HONEST[2][-2:]]),
    "again twice": (True, [AGAIN, extent(0, [(SAME, 1)]), AGAIN, *BODY, *ended({**HINT, "wrong": 700})]),
    "again beyond the end": (True, [talk(messages.AGAIN, offset=len(SECOND)), *BODY, *ended({**HINT, "wrong": len(SECOND)})]),
    "again before the begin": (True, [talk(messages.AGAIN, offset=-1), *BODY, *ended({**HINT, "wrong": -1})]),
    "again nowhere": (True, [talk(messages.AGAIN, offset=None), *BODY, *ended({**HINT, "wrong": 700})]),
    "again, and right after all": (True, [AGAIN, *BODY, *ended()]),
    "again somewhere else": (True, [AGAIN, *BODY, *ended({**HINT, "wrong": 800})]),
    "again, and no hint": (True, [AGAIN, *BODY, *ended(None)]),
    "wrong, and not again": (True, [*BODY, *ended({**HINT, "wrong": 700})]),
    "read twice, and not again": (True, [*BODY, *ended(read=2 * len(SECOND))]),
    "no hint told": (True, [*BODY, *HONEST[2][-2:]]),
    "an unknown method": (True, [*BODY, *ended({**HINT, "method": "\x1b[2J"})]),
    "more blocks than there are": (True, [*BODY, *ended({**HINT, "blocks": 12})]),
    "fewer than none": (True, [*BODY, *ended({**HINT, "audited": -1})]),
    "a hint of text": (True, [*BODY, *ended("yes")]),
    "it keeps perhaps": (True, [*BODY, *ended(keeps="perhaps")]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_a_hint_publishes_nothing(lie):
    hints, spoken = LIES[lie]
    with Set(2) as it:
        assert isinstance(it.refuses(told(*spoken), hints=hints), ProtocolBroken)
    assert FIRST != SECOND
