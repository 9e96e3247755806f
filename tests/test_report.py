"""The page of a fleet: complete, small, and made of what is read once."""

import datetime
import functools
import os
import re
import subprocess
import sys
import textwrap

import chains
import places
import pytest

from blockdiff import check, report
from blockdiff.formats import manifest
from blockdiff.sets import verified
from blockdiff.sets.backupset import BackupSet
from blockdiff.sets.health import Limits

NOW = datetime.datetime(2026, 3, 1, 6, tzinfo=datetime.UTC)
MOST_A_SET = 5 * 1024 * 1024 // 200  # bytes, of 400 versions


def look(found, noted):
    return check.one(found, noted, Limits(), NOW, os.devnull)


def page(*operands, known=None, damage=None, maps=30):
    looks = functools.partial(look, noted=verified.Notes(known or {}, damage or {}))
    judge = functools.partial(check.judge, room_s=1.0)
    return report.report(map(str, operands), looks, judge, title="Backups", now=NOW, maps=maps, jobs=1)


def set_of(folder, base, count):
    """A set of so many nights, with all that a manifest can have."""
    made = chains.new_set(folder, base)
    for number in range(1, count + 1):
        begun = (NOW - datetime.timedelta(days=count - number, minutes=7 * number % 40)).strftime("%Y-%m-%dT%H:%M:%SZ")
        chains.write_version(made, os.urandom(64 * 300), 64, full=number % 90 == 0, begun=begun, with_index=False)
        value = made.read_manifest(number).value
        value["source"] = {"host": "db00.example.org", "path": "/dev/vg0/a-volume", "size": 64 * 300}
        value["quiesce"] = {"method": "mysqllock", "held_s": number % 97 / 50}
        value["snapshot"] = {"name": "s", "fill_at_end": number % 89 / 3}
        with open(made.path(number, ".json"), "wb") as file:
            file.write(manifest.encode(value))
    return made


def test_a_page_grows_by_little_for_each_set_and_version(tmp_path):
    """By which 200 sets of 400 versions are at most 5 MiB; of random volumes, whose change maps are the largest."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    made = set_of(folders[0], "set0", 400)
    for number in range(1, 401):
        value = made.read_manifest(number).value
        for name in ("set0", "set1"):
            for suffix in (".gz", ".md5"):
                os.link(made.path(number, suffix), folders[1] / f"{name}.{number}{suffix}")
            (folders[1] / f"{name}.{number}.json").write_bytes(manifest.encode(value | {"set": name}))
            (folders[1] / f"{name}.ver").write_text("400\n")
    known = {n: verified.Proof("", int(NOW.timestamp()) - n * 86400, *_stat(made, n)) for n in range(1, 401)}
    one, two = (len(page(folder, known=known).encode()) for folder in folders)
    assert two - one < MOST_A_SET
    assert two - 2 * (two - one) < 12_000  # what every page has


def _stat(made, number):
    found = os.stat(made.path(number, ".gz"))
    return found.st_size, found.st_mtime_ns, found.st_ino


def test_each_set_once_the_worst_first_and_everywhere_under_the_same_number(tmp_path):
    for name in ("b", "a", "c"):
        set_of(tmp_path, name, 3)
    os.unlink(tmp_path / "c.2.gz")
    found = page(tmp_path, tmp_path / "none")
    rows = re.findall(r'href="#(s\d+)">([^<]*)<', found)
    names = [os.path.basename(name) for _, name in rows]
    assert names == ["c", "none", "a", "b"]
    heads = re.findall(r'<section class="set" id="(s\d+)".*?</span> ([^<]*)</h2>', found, re.DOTALL)
    assert heads == rows
    sections = found.split('<section class="set"')[1:]
    assert [section.count("<figure>") for section in sections] == [4, 0, 4, 4]
    assert [section.count("<tr><td>") for section in sections] == [3, 0, 3, 3]


def test_no_diff_file_is_opened_and_without_maps_no_digest_is_read(tmp_path, monkeypatch):
    set_of(tmp_path, "a", 3)
    opened, read, real_os, real_pread = [], [], os.open, os.pread
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(str(path)) or real_os(path, *a, **k))

    def pread(fd, size, place):
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".md5"):
            read.append(size)
        return real_pread(fd, size, place)

    monkeypatch.setattr(os, "pread", pread)
    assert "What changed where" in page(tmp_path)
    assert not [path for path in opened if path.endswith((".gz", ".idx", ".xxh128"))] and max(read) > 4
    read.clear()
    assert "What changed where" not in page(tmp_path, maps=0) and max(read) == 4


def test_the_zone_of_the_page_has_a_name(tmp_path):
    set_of(tmp_path, "a", 1)
    looks = functools.partial(look, noted=verified.Notes())
    east = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=45), "+0545"))
    found = report.report([str(tmp_path)], looks, functools.partial(check.judge, room_s=None), title="x", now=east, maps=0, jobs=1)
    assert "All times are +0545 (UTC+05:45);" in found and "As of <strong>Sun 1 Mar 2026, 11:45</strong>" in found
    assert "All times are UTC;" in page(tmp_path)


def test_a_version_is_proved_if_its_diff_file_is_the_one_that_was(tmp_path):
    made = set_of(tmp_path, "a", 2)
    proof = verified.of(BackupSet(made.name), _version(made, 2), int(NOW.timestamp()) - 3 * 86400)
    found = page(tmp_path, known={2: proof, 1: proof})
    cells = re.findall(r"<tr><td>(\d)(?: <b>full</b>)?<td>[^<]*<td>[^<]*<td>([^<\n]*)", found)
    assert cells == [("2", "3 d"), ("1", "never")]
    assert '<td data-label="proved">1/2<small>1 not proved</small>' in found


def test_what_a_verify_found_damaged_is_shown_until_it_is_whole(tmp_path):
    set_of(tmp_path, "a", 3)
    assert "does not restore" not in page(tmp_path)
    found = page(tmp_path, damage={2: verified.Damage(int(NOW.timestamp()) - 7200, "blocks <lost>")})
    assert '<span class="badge critical">' in found and "<td>failed, 2 h<td>" in found
    assert "does not restore; a verify found blocks &lt;lost&gt;" in found
    assert "does not restore; version 2, which it needs, is damaged" in found
    assert found.count('class="sign broken"') == 1


def _version(made, number):
    from blockdiff.sets import versions

    return versions.version(made, number, made.listing())


def spread(work, count, **options):
    """Start `_spread` in a process of its own, with one thread; it prints whether every result is there, in order."""
    script = f"""
import os, sys, time
from blockdiff import report
parent = os.getpid()
def work(number, found):
    {work}
    return number, found.name * 100_000
print(report._spread(work, [report.Found("x")] * {count}, 2) == [(number, "x" * 100_000) for number in range({count})])
"""
    words = [sys.executable, "-c", textwrap.dedent(script)]
    environment = dict(os.environ, PYTHONPATH=str(places.ROOT))
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, **options)


@pytest.mark.parametrize("work", ["pass", "if number == 3 and os.getpid() != parent: os._exit(9)"], ids=["all", "one dies"])
def test_every_set_is_on_the_page_whatever_becomes_of_a_process(work):
    with spread(work, 7) as process:
        assert process.communicate(timeout=60)[0] == "True\n"


def test_no_process_remains_if_the_program_is_killed():
    with spread("os.write(1, b'%d\\n' % os.getpid()); time.sleep(0.05)", 10_000) as process:
        workers = set()
        while len(workers) < 2:
            workers.add(int(process.stdout.readline()))
        process.kill()
        for line in process.stdout:  # until both have closed it
            assert int(line) in workers


def test_a_folder_without_sets(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "No sets" in page(tmp_path)
