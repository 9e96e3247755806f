"""The original and we take turns on one set, in both directions."""

import gzip
import hashlib
import json
import shutil
import subprocess

import chains
import places
import pytest
from engine import back_up, restored

from blockdiff import codecs, verify
from blockdiff.formats import difffile
from blockdiff.sets.backupset import BackupSet

GOLDEN = places.GOLDEN
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
SUFFIXES = {".gz": codecs.GZIP, "": codecs.PLAIN, ".lzop": codecs.LZOP}


def merge_as_the_original(folder, name, newest):
    """The original's restore: every diff file in turn, gunzipped, each record written at its offset."""
    target = bytearray()
    for number in range(1, newest + 1):
        plain = folder / f"{name}.{number}"
        if plain.exists():
            payload = plain.read_bytes()
        else:
            payload = gzip.decompress((folder / f"{name}.{number}.gz").read_bytes())
        block_size = difffile.decode_header(payload[:4])
        for index, start, end in difffile.split(payload[4:], block_size, last=True):
            place = index * block_size
            if len(target) < place:
                target.extend(bytes(place - len(target)))
            target[place : place + end - start] = payload[4 + start : 4 + end]
    return bytes(target)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_set_is_continued_by_ours_and_then_by_the_original(name, tmp_path):
    facts = EXPECTED[name]
    if facts["suffix"] == ".lzop" and shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")
    for path in (GOLDEN / name).iterdir():
        shutil.copy(path, tmp_path)
    theirs = len(facts["versions"])
    volume = bytearray(restored(tmp_path / name, theirs, tmp_path / "out"))
    source = tmp_path / "source"
    histories = []
    for turn in range(3):
        volume[: 5 + turn] = b"turn%d" % turn + b"!" * turn
        volume += b"grown" * (turn + 1)
        source.write_bytes(volume)
        if turn == 1:
            codec = SUFFIXES[facts["suffix"]]
            chains.write_version(BackupSet(str(tmp_path / name)), bytes(volume), facts["block_size"], codec, original=True)
        else:
            outcome = back_up(tmp_path / name, source, suffix=facts["suffix"])
            assert (outcome.kind, outcome.warnings) == ("incremental", [])
            assert outcome.version == theirs + turn + 1
        histories.append(bytes(volume))
    for turn, expected in enumerate(histories):
        assert restored(tmp_path / name, theirs + turn + 1, tmp_path / "out") == expected
    for version in facts["versions"]:
        data = restored(tmp_path / name, version["version"], tmp_path / "out")
        assert hashlib.sha256(data).hexdigest() == version["sha256"]
    if facts["suffix"] != ".lzop" and name != "shrink":  # the original's merge cannot shrink
        assert merge_as_the_original(tmp_path, name, theirs + 3) == histories[-1]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_our_files_are_the_originals_byte_for_byte(name, tmp_path):
    facts = EXPECTED[name]
    if facts["suffix"] == ".lzop" and shutil.which("lzop") is None:
        pytest.skip("lzop is not installed")
    source = tmp_path / "source"
    for version in facts["versions"]:
        number = version["version"]
        source.write_bytes(restored(GOLDEN / name / name, number, tmp_path / "out"))
        back_up(tmp_path / name, source, suffix=facts["suffix"], block_size=facts["block_size"])
        for suffix in (".md5", facts["suffix"]):
            ours = (tmp_path / f"{name}.{number}{suffix}").read_bytes()
            theirs = (GOLDEN / name / f"{name}.{number}{suffix}").read_bytes()
            if suffix == ".gz":
                ours, theirs = gzip.decompress(ours), gzip.decompress(theirs)
            elif suffix == ".lzop":
                ours, theirs = (
                    subprocess.run(["lzop", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
                    for data in (ours, theirs)
                )
            assert ours == theirs


@pytest.mark.parametrize("theirs", [".gz", ""])
@pytest.mark.parametrize("same_content", [False, True])
def test_a_run_of_ours_that_the_original_overwrote_leads_nobody_astray(theirs, same_content, tmp_path):
    """Ours dies after its renames to N+1 and before .ver; the original writes N+1; ours writes N+2."""
    name, source = tmp_path / "db", tmp_path / "source"
    volumes = [bytes([n]) * 4096 * 5 for n in range(4)]
    volumes[2] = volumes[1] if same_content else volumes[2]
    source.write_bytes(volumes[0])
    back_up(name, source, block_size=4096)
    source.write_bytes(volumes[1])
    back_up(name, source)
    (tmp_path / "db.ver").write_bytes(b"1\n")  # where ours died
    chains.write_version(BackupSet(str(name)), volumes[2], 4096, SUFFIXES[theirs], original=True)

    source.write_bytes(volumes[3])
    outcome = back_up(name, source)

    assert outcome.version == 3
    if not same_content:
        assert (outcome.kind, outcome.exit_code) == ("incremental", 3), "the stale manifest is said"
    for number, expected in ((1, volumes[0]), (2, volumes[2]), (3, volumes[3])):
        assert restored(name, number, tmp_path / "out") == expected
    report = verify.verify(BackupSet(str(name)))
    assert [v.number for v in report.versions if v.restores] == [1, 2, 3]
