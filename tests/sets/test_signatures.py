"""Signed sets: what a reader with allowed signers believes, and that it writes nothing of what it does not."""

import hashlib
import os
import pathlib
import shutil

import chains
import pytest
import signed
from signed import BLOCK, signed_set, trusting

from blockdiff import copy, restore, scrub, verify
from blockdiff.errors import CannotSign, NotSigned, SignatureLost
from blockdiff.formats import signature
from blockdiff.place import choose
from blockdiff.rewriting.draft import draft
from blockdiff.sets import catalogue, drop, recover, signatures, verified
from blockdiff.sets.backupset import BackupSet
from blockdiff.signing.allowed import AllowedSigners
from blockdiff.signing.signer import Signer

__all__ = ["signed_set"]


def path_of(backup_set, number, suffix):
    return pathlib.Path(backup_set.path(number, suffix))


def refused(backup_set, tmp_path, *lines, number=3):
    """Return the error of a restore that writes nothing; verify has the same one."""
    reader, target = trusting(backup_set, *lines), tmp_path / "target"
    target.write_bytes(b"kept")
    for force in (False, True):
        with pytest.raises(NotSigned) as caught:
            restore.restore(reader, number, str(target), force=force)
        assert (target.read_bytes(), caught.value.exit_code) == (b"kept", 54)
    target.unlink()
    with pytest.raises(NotSigned):
        restore.restore(reader, number, str(target))
    with pytest.raises(NotSigned):
        restore.stream(reader, number, lambda data: pytest.fail("something was written"))
    assert not target.exists()
    result = verify.verify(trusting(backup_set, *lines))
    assert result.exit_code == 54
    assert not {v.number for v in result.versions if v.restores} & {number}
    assert all(version.restores or version.unknown for version in result.versions)  # so no damage is noted
    return caught.value


def test_what_is_signed_is_believed(signed_set, tmp_path):
    reader = trusting(signed_set)
    for number, volume in signed_set.volumes.items():
        target = tmp_path / str(number)
        assert restore.restore(reader, number, str(target)).exit_code == 0
        assert target.read_bytes() == volume
    result = verify.verify(reader)
    assert (result.exit_code, [v.restores for v in result.versions]) == (0, [True] * 3)
    assert [entry.signed for entry in catalogue.describe(signed_set).versions] == [True] * 3


def test_each_manifest_is_checked_once(signed_set, tmp_path):
    """However often it is looked at: each check is a process."""
    checks = []

    class Counting(AllowedSigners):
        def fault(self, principal, data, beside):
            checks.append(principal)
            return super().fault(principal, data, beside)

    reader = BackupSet(signed_set.name, signers=Counting(signed.line(signed.key()).encode(), os.environ))
    assert verify.verify(reader, 3).exit_code == 0
    assert restore.restore(reader, 3, str(tmp_path / "out")).exit_code == 0
    assert checks == ["vol"] * 3


def test_the_stock_program_agrees(signed_set, tmp_path):
    lines = tmp_path / "allowed"
    lines.write_text(signed.line(signed.key(), "vol"))
    for number in (1, 2, 3):
        sheet, beside = path_of(signed_set, number, ".json"), path_of(signed_set, number, ".sig")
        assert signed.stock_verifies(lines, "vol", beside, sheet)
        assert not signed.stock_verifies(lines, "other", beside, sheet)
        assert beside.read_bytes() == signed.stock_sign(signed.key(), shutil.copy(sheet, tmp_path / "m"))
    path_of(signed_set, 2, ".sig").write_bytes(signed.stock_sign(signed.key(), tmp_path / "m"))  # that of 3
    assert "version 2" not in refused(signed_set, tmp_path).message


def test_a_forged_version_verifies_unless_signatures_are_asked_for(signed_set, tmp_path):
    """It has a canonical manifest, digests and a diff file: nothing shows that it is forged but its signature."""
    old = path_of(signed_set, 3, ".sig").read_bytes()
    volume = signed.forge(signed_set, 3)
    assert path_of(signed_set, 3, ".sig").read_bytes() == old

    assert verify.verify(signed_set).exit_code == 0
    assert restore.restore(signed_set, 3, str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out").read_bytes() == volume

    assert "incorrect signature" in refused(signed_set, tmp_path).message
    assert restore.restore(trusting(signed_set), 2, str(tmp_path / "two")).exit_code == 0


@pytest.mark.parametrize("number", [1, 2])
def test_every_version_of_the_chain_must_be_signed(number, signed_set, tmp_path):
    path_of(signed_set, number, ".sig").unlink()

    error = refused(signed_set, tmp_path)

    assert error.args == (signed_set.path(number, ".json"), "there is no .sig beside it")
    found = {v.number: [fault.exit_code for fault in v.faults] for v in verify.verify(trusting(signed_set)).versions}
    assert found == {n: [54] if n == number else [52] if n > number else [] for n in (1, 2, 3)}


def test_a_version_without_a_manifest_is_not_believed(tmp_path):
    backup_set = chains.new_set(tmp_path)
    for _ in range(3):
        chains.write_version(backup_set, os.urandom(5 * BLOCK), BLOCK, original=True)

    assert "no manifest lists it" in refused(backup_set, tmp_path).message


def test_a_version_of_another_number_or_set_is_not_believed(signed_set, tmp_path):
    """Its signature is good, and so are all of its files."""
    other = BackupSet(str(tmp_path / "other"))
    for suffix in (".json", ".sig", ".md5", ".gz", ".idx", ".xxh128"):
        for number in (1, 2, 3):
            shutil.copy(path_of(signed_set, number, suffix), path_of(other, number, suffix))
    shutil.copy(tmp_path / "vol.ver", tmp_path / "other.ver")
    assert verify.verify(other, 1).exit_code == 0
    assert "it is of version 3 of 'vol'" in refused(other, tmp_path).message

    for suffix in (".json", ".sig", ".md5", ".gz", ".idx", ".xxh128"):
        shutil.copy(path_of(signed_set, 2, suffix), path_of(signed_set, 3, suffix))
    assert "it is of version 2 of 'vol'" in refused(signed_set, tmp_path).message


@pytest.mark.parametrize(
    "what", ["unlisted key", "namespace", "truncated", "empty", "huge", "link", "fifo", "folder", "other principal"]
)
def test_a_signature_that_is_not_good_is_refused(what, signed_set, tmp_path):
    beside, sheet = path_of(signed_set, 2, ".sig"), path_of(signed_set, 2, ".json")
    good = beside.read_bytes()
    lines = [signed.line(signed.key())]
    beside.unlink()
    if what == "unlisted key":
        beside.write_bytes(signed.stock_sign(signed.key("ed25519", "other"), sheet))
    elif what == "namespace":
        beside.write_bytes(signed.stock_sign(signed.key(), sheet, "file"))
    elif what == "truncated":
        beside.write_bytes(good[:-40])
    elif what == "empty":
        beside.touch()
    elif what == "huge":
        with open(beside, "wb") as file:
            file.write(good)
            file.truncate(1 << 40)  # a hole: who reads it runs out of memory
    elif what == "link":
        (tmp_path / "elsewhere").write_bytes(good)
        beside.symlink_to(tmp_path / "elsewhere")
    elif what == "fifo":
        os.mkfifo(beside)
    elif what == "folder":
        beside.mkdir()
    else:
        beside.write_bytes(good)
        lines = [signed.line(signed.key(), "vol2")]

    assert refused(signed_set, tmp_path, *lines).args[0].startswith(signed_set.path(3 if what == "other principal" else 2, "."))


@pytest.mark.parametrize("suffix", [".md5", ".gz"])
def test_other_files_of_a_version_that_is_signed_cannot_be_exchanged(suffix, signed_set, tmp_path):
    """Those of a forged version, under the manifest that is signed."""
    kept = {each: path_of(signed_set, 3, each).read_bytes() for each in (".json", ".sig", ".idx", ".md5", ".gz")}
    volume = signed.forge(signed_set, 3)
    forged = path_of(signed_set, 3, suffix).read_bytes()
    for each, data in kept.items():
        path_of(signed_set, 3, each).write_bytes(data)
    path_of(signed_set, 3, suffix).write_bytes(forged)
    reader = trusting(signed_set)

    if suffix == ".md5":
        assert "no manifest lists it" in refused(signed_set, tmp_path).message
        return
    done = restore.restore(reader, 3, str(tmp_path / "out"), force=True)
    assert done.failure is not None
    assert not (tmp_path / "out").exists()
    assert {v.number for v in verify.verify(reader).versions if v.restores} == {1, 2}
    assert volume


def test_the_bytes_that_were_verified_are_those_that_count(signed_set, monkeypatch):
    """Somebody exchanges the manifest right after its signature was found good."""
    reader, sheet = trusting(signed_set), path_of(signed_set, 3, ".json")
    real = reader.believed._fault

    def fault(data, beside):
        why = real(data, beside)
        signed.edited(sheet, ended="1999-01-01T00:00:00Z")
        return why

    monkeypatch.setattr(reader.believed, "_fault", fault)
    assert reader.read_manifest(3).value["ended"] != "1999-01-01T00:00:00Z"
    with pytest.raises(NotSigned):
        reader.read_manifest(3)


def test_a_scrub_believes_no_more_than_a_verify(signed_set, tmp_path):
    signed.forge(signed_set, 3)
    listed = catalogue.every([signed_set.name])
    units = scrub.units(listed, lambda name: verified.Notes())
    found = []
    scrub.scrub(units, lambda read: False, found.append, signers=signed.allowed(signed.line(signed.key())))
    assert {each.unit.number: [f.exit_code for f in each.found.faults] for each in found} == {1: [], 2: [], 3: [54]}


# what writes to a signed set


def test_a_signature_goes_with_its_version(signed_set):
    signer = Signer(str(signed.key()), os.environ)
    with signed_set.locked():
        made = draft(signed_set, 3, None, threads=1, signing=signer)
        made.swap()
        made.discard()
        drop.drop(signed_set, [1, 2])
    left = {name for name in os.listdir(signed_set.folder) if name.startswith("vol.")}
    assert left == {"vol.ver", "vol.lock", *(f"vol.3{s}" for s in (".gz", ".idx", ".json", ".md5", ".sig", ".xxh128"))}
    assert verify.verify(trusting(signed_set)).exit_code == 0


def test_a_key_that_cannot_sign_any_more_publishes_nothing(signed_set, tmp_path):
    path = shutil.copy(signed.key(), tmp_path / "gone")
    signer = Signer(str(path), os.environ)
    path.unlink()
    before = sorted(os.listdir(signed_set.folder))

    with pytest.raises(CannotSign):
        chains.write_version(signed_set, os.urandom(20 * BLOCK), BLOCK, signing=signer)
    with pytest.raises(CannotSign):
        draft(signed_set, 3, None, threads=1, signing=signer)

    assert sorted(os.listdir(signed_set.folder)) == before


def test_a_copy_is_signed_as_what_it_is_of(signed_set, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    dest = BackupSet(str(folder / "vol"))
    assert copy.copy(signed_set, dest).exit_code == 0
    assert verify.verify(trusting(dest)).exit_code == 0
    assert path_of(dest, 3, ".sig").read_bytes() == path_of(signed_set, 3, ".sig").read_bytes()
    path_of(signed_set, 3, ".sig").unlink()
    path_of(signed_set, 3, ".sig").mkdir()
    (folder / "vol.ver").write_text("2\n")
    for path in folder.glob("vol.3.*"):
        path.unlink()
    assert (copy.copy(signed_set, dest).exit_code, dest.newest()) == (54, 2)


def test_a_signed_version_is_not_rewritten_without_a_key(signed_set):
    before = {path.name: path.read_bytes() for path in pathlib.Path(signed_set.folder).iterdir() if path.is_file()}
    with pytest.raises(SignatureLost, match=r"version 3 of .* is signed, and would no longer be") as caught:
        draft(signed_set, 3, None, threads=1)
    assert (caught.value.exit_code, "--sign" in caught.value.hint) == (54, True)
    assert before == {path.name: path.read_bytes() for path in pathlib.Path(signed_set.folder).iterdir() if path.is_file()}


def test_a_version_that_was_forged_does_not_get_a_good_signature(signed_set):
    signer = Signer(str(signed.key()), os.environ)
    signed.forge(signed_set, 3)
    with pytest.raises(NotSigned, match="incorrect signature"):
        draft(signed_set, 3, None, threads=1, signing=signer)
    path_of(signed_set, 3, ".sig").unlink()
    made = draft(signed_set, 3, None, threads=1, signing=signer)
    made.swap()
    assert not path_of(signed_set, 3, ".sig").exists()


def test_a_signature_without_a_manifest_is_what_a_killed_run_left(signed_set, tmp_path):
    good = path_of(signed_set, 3, ".sig").read_bytes()
    first = BackupSet(str(tmp_path / "new"))
    for backup_set, number in ((signed_set, 4), (first, 1)):
        path_of(backup_set, number, ".sig").write_bytes(good)
        with backup_set.locked():
            assert recover.settle(backup_set, lambda line: None) == number - 1
        assert not path_of(backup_set, number, ".sig").exists()


def test_what_has_the_name_of_a_signature_and_is_none_is_left(signed_set):
    path_of(signed_set, 4, ".sig").write_bytes(b"-----BEGIN PGP SIGNATURE-----\n")
    with signed_set.locked(), pytest.raises(Exception, match="no manifest of ours names it") as caught:
        recover.settle(signed_set, lambda line: None)
    assert caught.value.exit_code == 14
    assert path_of(signed_set, 4, ".sig").exists()


def test_the_length_of_a_signature_is_checked_before_it_is_read(tmp_path):
    path, place = tmp_path / "x.1.sig", choose.at(str(tmp_path))
    path.write_bytes(bytes(signature.MAX_SIZE))
    assert len(signatures.read(place, str(path))) == signature.MAX_SIZE
    path.write_bytes(bytes(signature.MAX_SIZE + 1))
    with pytest.raises(NotSigned, match="a signature of 65537 bytes"):
        signatures.read(place, str(path))


def test_a_manifest_has_one_form(signed_set):
    """So what a rewrite has read is what was signed: it need not read the file again."""
    from blockdiff.formats import manifest

    data = path_of(signed_set, 2, ".json").read_bytes()
    again = manifest.encode(manifest.decode(data).value)
    assert hashlib.sha256(again).digest() == hashlib.sha256(data).digest()
