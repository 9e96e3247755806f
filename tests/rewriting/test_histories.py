"""Random histories with rewrites upon rewrites: every version restores, with ours and with the original's loop.

Every limit is tiny, so that each border is crossed in each run, and is seen to.
"""

import collections
import random
import shutil

import chains
import limits
import pytest
from rewrites import changed, faults, identities, restores, rewrite

from blockdiff import codecs
from blockdiff.ingest import members
from blockdiff.rewriting import folding, merge, packer, source
from blockdiff.sets import chain

SUFFIXES = ["", ".gz", ".zst"] + ([".lzop"] if shutil.which("lzop") else [])
TINY = {merge: {"VERSIONS": 3, "_ROW": 0}, source: {"HELD": 700}, packer: {"_IN_FLIGHT": 300}}
BORDERS = {
    "a chain that is folded",
    "a chain that is folded twice",
    "no room for a piece in advance",
    "a member that is copied",
    "a member of zeros",
    "a member that is full",
    "members that wait for each other",
    "a record that a newer one replaces",
    "a record of the version before that is the newest",
}


@pytest.fixture
def crossed(monkeypatch):
    """How often each border was crossed, by name; all limits are tiny."""
    found = collections.Counter(dict.fromkeys(BORDERS, 0))
    levels = []

    def folds(result, *_):
        found["a chain that is folded"] += 1

    def folded(result, plan, *_):
        steps, length = 0, len(plan.links) - (plan.onto is None)
        while length + (plan.onto is None) > merge.most_versions(plan.version.block_size):
            steps, length = steps + 1, -(-length // merge.most_versions(plan.version.block_size))
        found["a chain that is folded twice"] += steps > 1
        levels.append(steps)

    def more(result, *_):
        found["no room for a piece in advance"] += not result

    def flushed(result, work, *_):
        found["members that wait for each other"] += len(work._pending) > 1

    def newest(result, rows, *_):
        lists = [some for _, some in rows if some]
        found["a record that a newer one replaces"] += sum(map(len, lists)) > len(result)
        found["a record of the version before that is the newest"] += len(lists) > 1

    with limits.small(monkeypatch):
        for module, values in TINY.items():
            for name, value in values.items():
                assert hasattr(module, name)
                monkeypatch.setattr(module, name, value)
        limits.watch(monkeypatch, folding, "_fold", folds)
        limits.watch(monkeypatch, folding, "folded", folded)
        limits.watch(monkeypatch, source.Room, "has_more", more)
        limits.watch(monkeypatch, packer.Packer, "copy", lambda *_: found.update(["a member that is copied"]))
        limits.watch(monkeypatch, members.ZeroMembers, "of", lambda *_: found.update(["a member of zeros"]))
        limits.watch(monkeypatch, packer.Packer, "_put", lambda _, work, *__: found.update(["a member that is full"] * (work._held == work._most)))
        limits.watch(monkeypatch, packer.Packer, "_queue", flushed)
        limits.watch(monkeypatch, merge, "_newest", newest)
        yield found


def history(seed, suffix, block_size, folder, versions=14, rewrites=6):
    """Make a set of versions, and rewrite some again and again."""
    rng = random.Random(seed)
    backup_set = chains.new_set(folder)
    volume = rng.randbytes(20 * block_size) + bytes(12 * block_size) + rng.randbytes(15 * block_size + block_size // 2)
    volumes = {}
    for number in range(1, versions + 1):
        full = number > 1 and rng.random() < 0.08 and suffix != ".lzop"
        codec = codecs.BY_SUFFIX[suffix]
        chains.write_version(backup_set, volume, block_size, codec, full=full, member=rng.choice((100, 180)), original=suffix == ".lzop")
        volumes[number] = volume
        volume = changed(volume, rng, block_size, list(volumes.values()))
    kept = identities(backup_set)
    for _ in range(rewrites):
        number = rng.randrange(1, versions + 1)
        links = [link.number for link in chain.chain_of(backup_set, number, backup_set.listing())]
        onto = rng.choice([None, None, *links[:-1], *links[:1]]) if len(links) > 1 else None
        rewrite(backup_set, number, onto)
        sheet = backup_set.read_manifest(number)
        assert (sheet.parent, sheet.value["rewritten"]["versions"][1]) == (onto, number)
        restores(backup_set, volumes, folder)
        assert faults(backup_set) == []
    assert identities(backup_set) == kept
    assert not backup_set.listing().parts


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_version_restores_whatever_border_is_crossed(suffix, tmp_path, crossed):
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        history(f"{suffix} {seed}", suffix, 16, folder)
    never = set() if suffix in (".gz", ".zst") else {"a member that is copied", "no room for a piece in advance"}
    assert {border for border, times in crossed.items() if times < 3} <= never, crossed


@pytest.mark.long
@pytest.mark.parametrize("seed", range(60))
def test_many_histories(seed, tmp_path, crossed):
    rng = random.Random(seed)
    history(seed, rng.choice(SUFFIXES), rng.choice((1, 3, 8, 16, 33, 64, 100)), tmp_path, 25, 10)
