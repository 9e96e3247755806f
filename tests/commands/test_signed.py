"""Signatures on command lines: --sign and --allowed-signers of whole programs, and their exit codes."""

import hashlib
import json
import os
import pathlib

import chains
import places
import pytest
import signed
from signed import signed_set

__all__ = ["signed_set"]


@pytest.fixture
def lines(tmp_path):
    """A folder with the files of allowed signers: `good` and `other`."""
    folder = tmp_path / "signers"
    folder.mkdir()
    (folder / "good").write_text(signed.line(signed.key(), "vol"))
    (folder / "other").write_text(signed.line(signed.key("ed25519", "other")))
    return folder


def files(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).glob("vol.*")}


def test_a_backup_that_is_signed_restores_for_who_asks_for_signatures(run_verb, tmp_path, lines):
    source, folder = tmp_path / "source", tmp_path / "set"
    folder.mkdir()
    source.write_bytes(os.urandom(300_000))
    for _ in range(2):
        done = run_verb("backup", "--sign", signed.key(), folder / "vol", source)
        assert (done.returncode, "MD5 of every block" in done.err) == (0, False)
        source.write_bytes(os.urandom(100_000) + source.read_bytes()[100_000:])
    listed = json.loads(run_verb("list", "--json", folder / "vol").out)
    assert [version["signed"] for version in listed["sets"][0]["versions"]] == [True, True]

    for name, code in (("good", 0), ("other", 54)):
        target = tmp_path / name
        assert run_verb("verify", "--allowed-signers", lines / name, folder / "vol").returncode == code
        assert run_verb("verify", "--oldest-first", "--allowed-signers", lines / name, folder / "vol").returncode == code
        done = run_verb("merge", "--allowed-signers", lines / name, folder / "vol", target)
        assert (done.returncode, target.exists()) == (code, code == 0)


def test_a_key_that_cannot_sign_ends_a_run_before_it_begins(run_verb, tmp_path):
    """Nothing is looked at, made or published: not even the lock."""
    secret = signed.key("ed25519", "secret", "secret")
    for key, code, why in ((secret, 54, "incorrect passphrase"), (tmp_path / "none", 54, "none")):
        done = run_verb("backup", "--sign", key, tmp_path / "vol", tmp_path / "source", env={"SSH_AUTH_SOCK": ""})
        assert (done.returncode, len(done.err.splitlines())) == (code, 1)
        assert f"cannot sign with {key}" in done.err and why in done.err
    done = run_verb("prune", "--keep-last", "1", "--allowed-signers", "/dev/null", tmp_path / "vol")
    assert (done.returncode, "--allowed-signers is for --sign" in done.err) == (2, True)
    assert os.listdir(tmp_path) == []


def test_a_program_that_is_not_ours_has_its_version_signed(run_verb, tmp_path, signed_set):
    """It is found by its name, and its output is of our own dump."""
    script, source = tmp_path / "dumper", tmp_path / "source"
    source.write_bytes(os.urandom(5000))
    script.write_text(f"#!/bin/sh\nexec {places.ROOT}/bin/blockdiff-dump {source}\n")
    script.chmod(0o755)
    done = run_verb("backup", "--sign", signed.key(), tmp_path / "own", script, "x", env={"BLOCKSIZE": "512"})
    assert done.returncode == 0, done.err
    assert run_verb("verify", "--allowed-signers", _file(tmp_path), tmp_path / "own").returncode == 0


def _file(folder):
    path = folder / "allowed"
    path.write_text(signed.line(signed.key()))
    return path


@pytest.mark.parametrize("words", [("consolidate",), ("consolidate", "--onto", "1"), ("prune", "--keep-last", "1", "--exact"),
                                   ("prune", "--keep-last", "1", "--exact", "--dry-run")], ids=" ".join)  # fmt: skip
def test_what_rewrites_a_signed_version_needs_a_key(words, run_verb, signed_set, lines):
    before = files(signed_set.folder)

    for options in ([], ["--sign", signed.key("ed25519", "other")]):
        done = run_verb(*words, *options, signed_set.name)
        if options and "--dry-run" in words:
            continue  # it looks at no signature
        lock = {} if "--dry-run" in words else {"vol.lock": b""}
        assert (done.returncode, files(signed_set.folder)) == (54, before | lock), done.err
        assert "--allowed-signers" in done.err if options else "--sign" in done.err

    done = run_verb(*words, "--sign", signed.key("ed25519", "other"), "--allowed-signers", lines / "good", signed_set.name)
    assert done.returncode == 0, done.err
    after = files(signed_set.folder)
    if "--dry-run" in words:
        assert after == before
    else:
        numbers = {name.split(".")[1] for name in after if name.endswith(".json")}
        assert {name for name in after if name.endswith(".sig")} == {f"vol.{number}.sig" for number in numbers}
        assert after["vol.3.sig"] != before["vol.3.sig"]
    both = lines / "both"
    both.write_text((lines / "good").read_text() + (lines / "other").read_text())
    assert run_verb("verify", "--allowed-signers", both, signed_set.name).returncode == 0


def test_an_export_is_refused_before_a_client_can_connect(nbdkit, run_verb, signed_set, lines, tmp_path):
    target = tmp_path / "target"
    for name, code in (("good", 0), ("other", 54)):
        words = ["--allowed-signers", lines / name, signed_set.name, "--", "sh", "-c", f'nbdcopy "$BLOCKDIFF_URI" {target}']
        target.unlink(missing_ok=True)
        done = run_verb("nbd", *words)
        assert (done.returncode, target.exists()) == (code, code == 0), done.err
    assert "is not signed as it must be" in done.err
    done = run_verb("look", "--allowed-signers", lines / "other", signed_set.name)
    assert done.returncode == 54
    done = run_verb("drill", "--fsck", "--allowed-signers", lines / "other", signed_set.name)
    assert (done.returncode, done.out) == (54, "")
    assert not (tmp_path / "vol.drills").exists()


def test_a_file_of_signers_that_cannot_be_read_is_wrong_usage(run_verb, signed_set, tmp_path):
    done = run_verb("merge", "--allowed-signers", tmp_path / "none", signed_set.name, tmp_path / "out")
    assert (done.returncode, "cannot read" in done.err) == (2, True)
    done = run_verb("merge", "--allowed-signers", "/dev/null", tmp_path / "out", stdin=b"")
    assert done.returncode == 2


def test_the_list_of_a_run_can_sign(run_verb, tmp_path):
    """As a line of blockdiff-run's list."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)
    (tmp_path / "list").write_text(f"--sign {signed.key()} {tmp_path}/vol {source}\n")
    done = run_verb("run", tmp_path / "list")
    assert (done.returncode, (tmp_path / "vol.1.sig").exists()) == (0, True), done.err


def test_what_a_forged_parent_says_of_a_block_does_not_get_into_a_signed_version(run_verb, tmp_path):
    """Its MD5 is that of another block, which it stores; its XXH3-128 is that of the source's."""
    source, forged = tmp_path / "source", os.urandom(512)
    source.write_bytes(os.urandom(20 * 512))
    options = ["--block-size", "512", "--no-snapshot", "--compress", "none", "--sign", signed.key()]
    assert run_verb("backup", *options, tmp_path / "vol", source).returncode == 0
    digests, diff = tmp_path / "vol.1.md5", tmp_path / "vol.1"
    digests.write_bytes(digests.read_bytes()[:4] + chains.md5(forged) + digests.read_bytes()[20:])
    diff.write_bytes(diff.read_bytes()[:12] + forged + diff.read_bytes()[524:])
    entries = json.loads((tmp_path / "vol.1.json").read_bytes())["files"]
    for suffix, path in ((".md5", digests), ("", diff)):
        entries[suffix]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    signed.edited(tmp_path / "vol.1.json", files=entries)
    assert run_verb("verify", tmp_path / "vol").returncode == 0

    done = run_verb("backup", *options, tmp_path / "vol", source)

    assert (done.returncode, "not signed with this key" in done.err) == (3, True)
    target = tmp_path / "out"
    assert run_verb("merge", tmp_path / "vol", target).returncode == 0
    assert target.read_bytes() == source.read_bytes()


def test_a_first_signed_version_after_others_compares_md5(run_verb, tmp_path):
    """A parent that nobody signed may have the XXH3-128 of another block than its MD5 is of."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(200_000))
    assert run_verb("backup", tmp_path / "vol", source).returncode == 0
    done = run_verb("backup", "--sign", signed.key(), tmp_path / "vol", source)
    assert (done.returncode, "comparing the MD5 of every block" in done.err) == (0, True)
    done = run_verb("backup", "--sign", signed.key("ed25519", "other"), tmp_path / "vol", source)
    assert (done.returncode, "warning: version 2 is not signed with this key" in done.err) == (3, True)
