"""What is not well with a set: each finding, and the limits on both sides."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from blockdiff.errors import NoSuchSet, StoreUnreadable
from blockdiff.sets.catalogue import Entry, Listed
from blockdiff.sets.drills import Drill
from blockdiff.sets.health import Finding, Limits, State, findings, span, worst
from blockdiff.sets.verified import Damage

NOW = datetime(2026, 11, 23, 3, 5, tzinfo=UTC)
DAY, HOUR = 86400, 3600


def at(seconds):
    return (NOW - timedelta(seconds=seconds)).isoformat()


def nights(count, age=HOUR):
    """A set of so many nights; the newest is `age` seconds old."""
    made = [
        Entry(n, True, kind="incremental" if n > 1 else "full", begun=at(age + (count - n) * DAY), size=4096 * 10,
              block_size=4096, blocks=10, changed=3, consistency="application", parent=n - 1 or None)
        for n in range(1, count + 1)
    ]  # fmt: skip
    return Listed("web", newest=count, versions=made)


def last(listed, **fields):
    return replace_at(listed, -1, **fields)


def replace_at(listed, place, **fields):
    listed.versions[place] = replace(listed.versions[place], **fields)
    return listed


def found(listed, proved=None, damage=None, **limits):
    return [(f.state, f.text) for f in findings(listed, proved or {}, damage or {}, Limits(**limits), NOW)]


def test_damage_that_a_verify_found_is_critical_while_the_version_is_there():
    damage = {n: Damage(int(NOW.timestamp()) - 3 * DAY, f"bytes {n}") for n in (2, 3, 9)}
    text = "version 2 (and 1 more) was found damaged 3 d ago: bytes 2"
    assert found(nights(5), damage=damage) == [(State.CRITICAL, text)]
    assert found(nights(5), damage={9: damage[9]}) == []


def test_drills():
    """A drill that failed is critical, asked for or not; of one that passed only its age counts, where that is asked."""
    def found_of(drill, **limits):
        return [(f.state, f.text) for f in findings(nights(3), {}, {}, Limits(**limits), NOW, drill)]

    now = int(NOW.timestamp())
    passed, failed = Drill(2, now - 3 * DAY, True, ""), Drill(2, now - 3 * DAY, False, "a page")
    assert found_of(None) == found_of(passed) == found_of(passed, drilled=3 * DAY) == []
    assert found_of(None, drilled=DAY) == [(State.WARNING, "it was never drilled")]
    assert found_of(passed, drilled=2 * DAY) == [
        (State.WARNING, "version 2 was drilled 3 d ago, the last one (limit 2 d)")
    ]
    assert found_of(failed) == [(State.CRITICAL, "the drill of version 2 failed 3 d ago: a page")]


def test_a_set_that_is_well_has_no_finding():
    assert found(nights(5), consistency="application", points=5) == []


@pytest.mark.parametrize(
    "age, finding",
    [
        (26 * HOUR, []),
        (26 * HOUR + 1, [(State.WARNING, "version 3 is 1 d 2 h old (limit 1 d 2 h)")]),
        (50 * HOUR, [(State.WARNING, "version 3 is 2 d 2 h old (limit 1 d 2 h)")]),
        (76 * HOUR, [(State.CRITICAL, "version 3 is 3 d 4 h old (limit 2 d 2 h)")]),
        (-7200, [(State.WARNING, "version 3 was begun in the future, in 2 h")]),
    ],
)
def test_age(age, finding):
    assert found(nights(3, age)) == finding


def test_a_time_that_is_not_known_is_unknown():
    listed = last(nights(2), begun="")
    assert found(listed) == [(State.UNKNOWN, "the time of version 2 is not known")]


@pytest.mark.parametrize(
    "days, finding",
    [
        (35, []),
        (41, [(State.WARNING, "version 2 was proved 41 d ago (limit 35 d)")]),
        (71, [(State.CRITICAL, "version 2 was proved 71 d ago (limit 70 d)")]),
    ],
)
def test_a_proof_that_is_too_old(days, finding):
    assert found(nights(3), {2: int(NOW.timestamp()) - days * DAY}) == finding


def test_a_version_never_proved_counts_from_its_beginning():
    assert found(nights(41)) == [(State.WARNING, "version 1 was never proved in 40 d 1 h (limit 35 d)")]


def test_too_few_versions_restore():
    listed = replace_at(nights(3), 0, restores=False)
    assert found(listed, points=2) == []
    assert found(listed, points=3) == [(State.WARNING, "2 versions restore, 3 are asked for")]


def test_a_newest_version_that_does_not_restore_is_critical():
    listed = last(nights(3), restores=False, why="version 2 is missing")
    assert found(listed) == [(State.CRITICAL, "version 3 does not restore: version 2 is missing")]


def test_no_set_no_version_and_a_missing_newest_are_critical():
    gone = Listed("web", problems=[NoSuchSet("web")])
    assert found(gone) == [(State.CRITICAL, str(NoSuchSet("web")))]
    assert found(Listed("web")) == [(State.CRITICAL, "no version is published")]
    missing = replace(nights(3), newest=4)
    assert found(missing) == [(State.CRITICAL, "version 4 is missing")]


def test_a_set_that_cannot_be_read_is_unknown():
    error = StoreUnreadable("/backup", "Permission denied")
    assert found(Listed("web", problems=[error])) == [(State.UNKNOWN, str(error))]


def test_the_border_of_the_calendar_stops_nothing():
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        assert len(found(last(nights(1), begun=time))) > 0


def test_versions_that_are_not_published_do_not_count():
    listed = nights(3)
    listed.versions.append(Entry(4, False, "not published"))
    assert found(listed) == []


def test_no_block_changed_for_too_long():
    listed = nights(11)
    for place in range(2, 11):
        replace_at(listed, place, changed=0)
    assert found(listed) == [(State.WARNING, "no block changed since version 2, 9 d 1 h ago")]
    assert found(listed, still=10 * DAY) == found(listed, still=None) == []
    assert found(last(listed, changed=None)) == []


def test_a_volume_that_halved():
    assert found(last(nights(3), size=4096 * 5 + 1)) == []
    assert found(last(nights(3), size=4096 * 5)) == [(State.WARNING, "the volume shrank from 40.0 KiB to 20.0 KiB")]


def test_less_consistency_than_asked():
    listed = last(nights(3), consistency="crash")
    assert found(listed) == []
    text = "consistency of version 3 is crash, not application"
    assert found(listed, consistency="application") == [(State.WARNING, text)]
    assert found(listed, consistency="crash") == []
    assert found(last(listed, consistency="none"), consistency="crash") != []


def test_a_chain_that_is_too_long():
    assert found(nights(5), max_chain=5) == []
    assert found(nights(5), max_chain=4) == [(State.WARNING, "the chain of version 5 is longer than 4")]


def test_the_worst_comes_first():
    listed = last(nights(3), restores=False, why="it is damaged", begun="", size=1)
    assert [state for state, _ in found(listed)] == [State.CRITICAL, State.WARNING, State.UNKNOWN]
    assert worst([State.UNKNOWN, State.WARNING, State.OK]) is State.WARNING
    assert worst([State.UNKNOWN, State.OK]) is State.UNKNOWN
    assert worst([]) is State.OK
    assert Finding(State.OK, "").state == 0


def test_spans():
    assert [span(s) for s in (59, 60, 7300, DAY, 3 * DAY + 4 * HOUR)] == ["0 min", "1 min", "2 h", "1 d", "3 d 4 h"]
