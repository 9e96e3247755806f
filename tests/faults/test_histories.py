"""The great invariant: whatever a volume went through, every version restores equal in bytes and size."""

import pathlib
import shutil
import tempfile

import chains
from engine import back_up, restored
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockdiff import codecs, verify
from blockdiff.sets.backupset import BackupSet

BLOCK_SIZES = st.sampled_from([1, 2, 3, 16, 511, 512, 1000, 4096, 16834, 65536, 131072, 1 << 20])
HAS_LZOP = shutil.which("lzop") is not None
OURS = [".gz", ".zst", ""] + ([".lzop"] if HAS_LZOP else [])
THEIRS = [codecs.GZIP, codecs.PLAIN] + ([codecs.LZOP] if HAS_LZOP else [])

# one change of a volume, its numbers relative to what there is: (what, where, how much, seed)
EDIT = st.tuples(
    st.sampled_from(["write", "zero", "grow", "grow_zero", "shrink", "empty", "nothing", "block_border", "alternate"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1),
    st.integers(1, 255),
)
WRITER = st.sampled_from(
    [("ours", suffix) for suffix in OURS] * 2 + [("full", suffix) for suffix in OURS] + [("theirs", c) for c in THEIRS]
)


def edited(volume, edit, block_size):
    what, where, how_much, seed = edit
    most = min(4 * block_size + 7, 300_000) if block_size > 16 else 50
    place, length = int(where * len(volume)), int(how_much * most)
    if what == "write":
        volume[place : place + length] = bytes([seed]) * min(length, len(volume) - place)
    elif what == "zero":
        volume[place : place + length] = bytes(min(length, len(volume) - place))
    elif what == "grow":
        volume += bytes([seed, 0]) * (length // 2 + 1)
    elif what == "grow_zero":
        volume += bytes(length)
    elif what == "shrink":
        del volume[place:]
    elif what == "empty":
        volume.clear()
    elif what == "alternate":  # single blocks of zeros, as many as 40
        for start in range(place // block_size * block_size, len(volume), 2 * block_size)[:40]:
            volume[start : start + block_size] = bytes(min(block_size, len(volume) - start))
    elif what == "block_border":
        del volume[len(volume) // block_size * block_size :]
    return volume


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(block_size=BLOCK_SIZES, history=st.lists(st.tuples(st.lists(EDIT, max_size=3), WRITER), min_size=1, max_size=6))
def test_every_version_of_any_history_restores(block_size, history):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="blockdiff-test-"))
    try:
        name, source, volume, versions = folder / "a set", folder / "source", bytearray(), []
        for edits, (who, how) in history:
            for edit in edits:
                volume = edited(volume, edit, block_size)
            source.write_bytes(volume)
            if who == "theirs":
                chains.write_version(BackupSet(str(name)), bytes(volume), block_size, how, original=True)
            else:
                first = not versions
                back_up(name, source, suffix=how, block_size=block_size if first else None, full=who == "full")
            versions.append(bytes(volume))

        for number, expected in enumerate(versions, 1):
            found = restored(name, number, folder / "out")
            assert found == expected, number
        report = verify.verify(BackupSet(str(name)))
        assert not report.faults
        assert [(v.number, v.restores, v.faults) for v in report.versions] == [
            (number, True, []) for number in range(1, len(versions) + 1)
        ]
    finally:
        shutil.rmtree(folder)

