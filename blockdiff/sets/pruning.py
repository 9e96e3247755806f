"""What a prune does with the versions that need not stay: removed, or held because that does not pay.

A version that another one needs can go once that one is rewritten onto an older version, or as a
full.  Versions that must go together are a group.  Removing a group pays if it frees a quarter of
what rewriting writes.  So over time at most four bytes are written for each that is freed.  Pure.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

PAYS = 4  # bytes that may be written for each byte that is freed
MAX_CHAIN = 400  # versions that a restore reads


@dataclass(frozen=True)
class Link:
    """One version and its place in the set; sizes in bytes."""

    number: int
    parent: int | None  # None: it is a full
    diff: int  # of its diff file
    beside: int = 0  # of its other files


@dataclass(frozen=True)
class Rewrite:
    """Version `number` made anew onto `onto` (None: as a full), out of `path`, which ends with it."""

    number: int
    onto: int | None
    path: tuple[int, ...]
    writes: int  # bytes of its new diff file, estimated


@dataclass(frozen=True)
class Group:
    """Versions that go together, once those that need them are rewritten."""

    numbers: tuple[int, ...]
    rewrites: tuple[Rewrite, ...]
    removed: int  # bytes of all that goes, the old diff files of what is rewritten among it
    until: int = 0  # until when, in seconds since 1970, their place keeps them from being removed

    @property
    def writes(self) -> int:
        """Bytes that are written, estimated."""
        return sum(rewrite.writes for rewrite in self.rewrites)

    @property
    def frees(self) -> int:
        """Bytes that are freed in the end, estimated; negative if it then takes more."""
        return self.removed - self.writes

    def pays(self, written: int | None = None) -> bool:
        """Return whether enough is freed for what is written; `written`: bytes, where they are known."""
        writes = self.writes if written is None else written
        return (self.removed - writes) * PAYS >= writes


@dataclass(frozen=True)
class Plan:
    """What a prune does."""

    go: tuple[Group, ...]  # in the order of the work
    held: tuple[Group, ...]

    @property
    def gone(self) -> frozenset[int]:
        """The versions that go."""
        return frozenset(number for group in self.go for number in group.numbers)

    def without_rewrites(self) -> "Plan":
        """Return the same, but what another version needs stays as it is."""
        rewriting = tuple(group for group in self.go if group.rewrites)
        return Plan(tuple(group for group in self.go if not group.rewrites), self.held + rewriting)


def plan(
    links: Iterable[Link],
    stay: Collection[int],
    estimate: Callable[[int | None, tuple[int, ...]], int],
    *,
    exact: bool = False,
    max_chain: int = MAX_CHAIN,
) -> Plan:
    """Return what to do with the versions that are not in `stay`.

    `estimate` returns the bytes of a diff file that is made onto a version (None: as a full) out of
    a path, oldest first.  `exact`: whether or not it pays.  A chain of more than `max_chain` versions
    is made shorter whether or not it pays.
    """
    known = {link.number: link for link in links}
    groups = [_group(known, numbers, stay, estimate) for numbers in _together(known, stay)]
    long: set[int] = set()
    for number in stay:
        chain = _chain(known, number)
        if len(chain) > max_chain:
            long.update(chain)
    go = [group for group in groups if exact or group.pays() or long.intersection(group.numbers)]
    order = sorted(go, key=lambda group: (bool(group.rewrites), _price(group), group.numbers))
    return Plan(tuple(order), tuple(group for group in groups if group not in go))


def _chain(known: Mapping[int, Link], number: int) -> list[int]:
    chain: list[int] = []
    at: int | None = number
    while at is not None and at in known:
        chain.append(at)
        at = known[at].parent
    return chain


def _together(known: Mapping[int, Link], stay: Collection[int]) -> list[list[int]]:
    """Return the versions that go, those that need each other together."""
    first: dict[int, int] = {}  # of each version, the first one of its group
    groups: dict[int, list[int]] = {}
    for number in sorted(known.keys() - set(stay)):
        parent = known[number].parent
        first[number] = number if parent is None else first.get(parent, number)
        groups.setdefault(first[number], []).append(number)
    return list(groups.values())


def _group(
    known: Mapping[int, Link],
    numbers: list[int],
    stay: Collection[int],
    estimate: Callable[[int | None, tuple[int, ...]], int],
) -> Group:
    rewrites, members = [], set(numbers)
    removed = sum(known[number].diff + known[number].beside for number in numbers)
    for number in sorted(stay):
        if number not in known or known[number].parent not in members:
            continue
        path, parent = [number], known[number].parent
        while parent is not None and parent in members:
            path.append(parent)
            parent = known[parent].parent
        whole = tuple(reversed(path))
        rewrites.append(Rewrite(number, parent, whole, estimate(parent, whole)))
        removed += known[number].diff
    return Group(tuple(numbers), tuple(rewrites), removed)


def _price(group: Group) -> float:
    """Return how many bytes are written for one that is freed."""
    return group.writes / group.frees if group.frees > 0 else float("inf")
