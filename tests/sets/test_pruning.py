"""What a prune does with versions that need not stay: groups by hand, and what holds of all plans."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from blockdiff.sets.pruning import Link, plan
from blockdiff.sets.retention import Point, Rules


def chain(word, diff=10, full=100, beside=1):
    """Links as in test_chain: F a full version, i one on the number before, a digit one on that number, . none."""
    parents = {"F": lambda n: None, "i": lambda n: n - 1}
    return [
        Link(n, parents.get(letter, lambda n, letter=letter: int(letter))(n), full if letter == "F" else diff, beside)
        for n, letter in enumerate(word, 1)
        if letter != "."
    ]


def apart(onto, path):
    """Every version has blocks of its own: nothing is saved by putting them together."""
    return (100 if onto is None else 0) + 10 * (len(path) - (onto is None))


def same(onto, path):
    """Every version has the same blocks."""
    return 100 if onto is None else 10


def rows(groups):
    return [(group.numbers, [(r.number, r.onto, r.path) for r in group.rewrites]) for group in groups]


@pytest.mark.parametrize(
    "word, stay, go, held",
    [
        ("Fii", [1, 2, 3], [], []),
        ("FiiFi", [4, 5], [((1, 2, 3), [])], []),  # a whole chain: nothing is rewritten
        ("FiiFi", [2, 4, 5], [((3,), []), ((1,), [(2, None, (1, 2))])], []),
        ("Fiii", [1, 4], [((2, 3), [(4, 1, (2, 3, 4))])], []),
        ("Fiii", [4], [((1, 2, 3), [(4, None, (1, 2, 3, 4))])], []),
        ("Fiiii", [1, 3, 5], [((2,), [(3, 1, (2, 3))]), ((4,), [(5, 3, (4, 5))])], []),
        ("F..1i", [1, 5], [((4,), [(5, 1, (4, 5))])], []),
        ("Fii1i", [1, 5], [((2, 3), []), ((4,), [(5, 1, (4, 5))])], []),  # a killed rewrite left two on 1
        ("Fii2i", [3, 5], [((1, 2, 4), [(3, None, (1, 2, 3)), (5, None, (1, 2, 4, 5))])], []),
    ],
)
def test_versions_go_in_groups(word, stay, go, held):
    found = plan(chain(word, full=10), stay, same, exact=True)
    assert sorted(rows(found.go)) == sorted(go) and rows(found.held) == held


def test_what_only_frees_comes_first_then_what_costs_least():
    links = [Link(1, None, 100), *(Link(n, n - 1, 10 * n) for n in range(2, 8)), Link(8, None, 100), Link(9, 8, 5)]
    found = plan(links, [1, 4, 7, 8], lambda onto, path: 11 * path[-1], exact=True)
    assert [group.numbers for group in found.go] == [(9,), (5, 6), (2, 3)]


def test_what_does_not_pay_is_held_unless_it_is_asked_for_or_the_chain_is_too_long():
    links, stay = chain("F" + "i" * 9), [1, 10]
    assert plan(links, stay, apart).gone == frozenset()
    assert plan(links, stay, apart).held[0].numbers == tuple(range(2, 10))
    assert plan(links, stay, same).gone == frozenset(range(2, 10))
    assert plan(links, stay, apart, exact=True).gone == frozenset(range(2, 10))
    assert plan(links, stay, apart, max_chain=9).gone == frozenset(range(2, 10))
    assert plan(links, stay, apart, max_chain=10).gone == frozenset()


def test_whether_it_pays_is_decided_again_with_what_was_written():
    (group,) = plan(chain("Fii"), [1, 3], same).go
    assert (group.removed, group.writes, group.frees) == (10 + 1 + 10, 10, 11)
    assert group.pays() and group.pays(16) and not group.pays(17)


def unneeded(links, gone, moved):
    """No version that stays names one that is gone, once `moved` (number: onto) is done."""
    for link in links:
        if link.number not in gone:
            parent = moved.get(link.number, link.parent)
            assert parent is None or parent not in gone, link


def test_what_holds_of_all_plans():
    """10,000 random sets: what stays rests on nothing that goes, at any point of the work."""
    choose = random.Random(12)
    for _ in range(10_000):
        links = []
        for number in sorted(choose.sample(range(1, 90), choose.randrange(1, 30))):
            old = [link.number for link in links]
            parent = choose.choice([None, *old[-1:] * 8, choose.choice(old)]) if old else None
            links.append(Link(number, parent, choose.randrange(1, 1000), choose.randrange(50)))
        known = {link.number: link for link in links}
        stay = {link.number for link in links if choose.random() < 0.5} | {links[-1].number}

        def estimate(onto, path, known=known):
            return sum(known[n].diff for n in path) * 2 // 3

        found = plan(links, stay, estimate, exact=choose.random() < 0.3, max_chain=choose.choice((3, 400)))
        both = [*found.go, *found.held]
        assert sorted(n for group in both for n in group.numbers) == sorted(known.keys() - stay)
        gone, moved = set(), {}
        for group in found.go:
            for rewrite in group.rewrites:
                path = list(rewrite.path)
                assert path[-1] == rewrite.number and [known[n].parent for n in path] == [rewrite.onto, *path[:-1]]
                assert rewrite.onto is None or rewrite.onto not in gone | set(group.numbers)
                moved[rewrite.number] = rewrite.onto
            gone |= set(group.numbers)
            unneeded(links, gone, moved)
        left = [Link(n, moved.get(n, known[n].parent), 1) for n in known if n not in gone]
        again = plan(left, stay, estimate, exact=True)
        assert not gone & set(again.gone)


@pytest.mark.parametrize("share, most", [(0.0, 6), (0.5, 4), (1.0, 2)])
def test_over_two_years_at_most_four_bytes_are_written_for_one_that_is_freed(share, most):
    """`share`: how much of a day's blocks are those of the day before; `most`: fulls of disk at the end."""
    full, day, rules = 1000, 13, Rules(daily=14, weekly=8, monthly=12)
    begin, links, points = datetime(2024, 1, 1, 3, tzinfo=UTC), [], []
    written = freed = 0
    for number in range(1, 731):
        links.append(Link(number, number - 1 or None, day if links else full, 1))
        points.append(Point(number, begin + timedelta(days=number)))
        sizes = {link.number: link.diff for link in links}

        def union(onto, path, sizes=sizes):
            one = max(sizes[n] for n in path)
            return min(full, round(one + (1 - share) * (sum(sizes[n] for n in path) - one)))

        stay = rules.keep(points, lambda time: time)
        found = plan(links, stay, union, max_chain=10_000)
        for group in found.go:
            written += group.writes
            freed += group.frees
            new = {rewrite.number: rewrite for rewrite in group.rewrites}
            links = [
                Link(link.number, new[link.number].onto, new[link.number].writes, 1) if link.number in new else link
                for link in links
                if link.number not in group.numbers
            ]
        points = [point for point in points if point.number not in found.gone]
        assert written <= 4 * max(freed, 0)
        assert stay.keys() <= {link.number for link in links}
    held = sum(link.diff for link in links)
    assert freed > 0 and held <= most * full, (written, freed, held)
