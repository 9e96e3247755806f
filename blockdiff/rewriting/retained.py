"""Versions that a place keeps from being removed until a date, as an object store does with locked objects.

Removing them there would only hide them: they take space until that date, and may as well be restore points.
"""

from collections.abc import Mapping

from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.pruning import Group, Plan


def hold(backup_set: BackupSet, plan: Plan, stored: Mapping[int, int], now: float) -> Plan:
    """Return a plan that rewrites nothing, with those versions held that the place keeps after `now`.

    `stored`: bytes of each version; `now`: seconds since 1970.  A place that really removes what is removed is
    asked no more than whether it does.  Raises as Place.retained.
    """
    if not plan.go or backup_set.place.keeps_removed() is False:
        return plan
    go: list[Group] = []
    held = list(plan.held)
    for group in plan.go:
        newest, until = _newest(backup_set, group, now)
        kept = tuple(number for number in group.numbers if number <= newest)  # what the newest needs is before it
        gone = tuple(number for number in group.numbers if number > newest)
        if kept:
            held.append(Group(kept, (), sum(stored[number] for number in kept), until))
        if gone:
            go.append(Group(gone, (), sum(stored[number] for number in gone)))
    return Plan(tuple(go), tuple(held))


def _newest(backup_set: BackupSet, group: Group, now: float) -> tuple[int, int]:
    """Return the newest version of which the place keeps a file, and until when; 0 and 0 if there is none."""
    suffixes = backup_set.listing().versions
    for number in sorted(group.numbers, reverse=True):
        paths = (backup_set.path(number, suffix) for suffix in sorted(suffixes.get(number, ())))
        until = max(map(backup_set.place.retained, paths), default=0)
        if until > now:
            return number, until
    return 0, 0
