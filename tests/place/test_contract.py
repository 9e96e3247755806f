"""What every place can do: one suite over a folder and a real object store."""

import hashlib
import os
import random
from dataclasses import replace

import pytest

from blockdiff.errors import BlockdiffError, StoreFailed
from blockdiff.formats import manifest, names
from blockdiff.formats.manifest import StoredFile
from blockdiff.place import base, choose
from blockdiff.place.base import Access
from blockdiff.sealing.keys import Identity, Recipient
from blockdiff.sets import publishing
from blockdiff.sets.backupset import BackupSet

RUN = names.run_name(b"\x11" * 8)
DATA = random.Random(1).randbytes(3000)
VALUE = manifest.NewManifest(
    blockdiff="0", set="db", version=1, parent=None, parent_md5_sha256=None, begun="2026-01-01T01:00:00Z",
    ended="2026-01-01T01:00:01Z", source=manifest.Source("localhost", "/vol", "file", 0, None), block_size=512,
    blocks=manifest.Blocks(0, 0, 0), bytes=manifest.Transfer(0, 4, None),
)  # fmt: skip


PLACES = ["folder", "sealed folder", *(pytest.param(f"{kind}store", marks=pytest.mark.store) for kind in ("", "sealed "))]


def keys():
    key = Identity(bytes(range(32)))
    return Access(identities=(key,), recipients=(Recipient(key.public),))


@pytest.fixture(params=PLACES)
def access(request):
    return keys() if request.param.startswith("sealed") else Access()


@pytest.fixture
def place(request, tmp_path, access):
    if request.node.callspec.params["access"].endswith("folder"):
        return choose.at(str(tmp_path), access)
    request.getfixturevalue("store_environment")
    return choose.at(f"s3://{request.getfixturevalue('bucket')}/pre/fix", access)


def written(place, name, data=DATA):
    part = place.part(name, RUN)
    for at in range(0, len(data), 700):
        part.write(data[at : at + 700])
    part.close()
    return part


def put(place, name, data=DATA):
    part = written(place, name, data)
    part.publish()
    part.release()
    return place.path(name)


def content(place, path):
    blob = place.open(path)
    try:
        return blob.pread(1 << 20, 0)
    finally:
        blob.close()


@pytest.mark.parametrize("name", ["db.1.gz", "db.1.md5"])
def test_a_file_has_its_name_only_once_it_is_published(place, name):
    part = written(place, name)
    assert [each for each in place.names() if not each.endswith(".part")] == [] and not part.has_its_name()
    part.publish()
    part.check()
    assert part.has_its_name()
    part.release()
    place.sync()
    assert place.names() == [name] and content(place, place.path(name)) == DATA
    assert part.stored() == base.hash_of(place.open(place.path(name)))
    assert (part.size, part.sha256()) == (3000, hashlib.sha256(DATA).hexdigest())


@pytest.mark.store
@pytest.mark.parametrize("name", ["db.1.gz", "db.1.md5"])
def test_a_store_that_has_other_bytes_than_were_sent(store_environment, bucket, objectstore, name):
    part = written(choose.at(f"s3://{bucket}"), name)
    part.publish()
    part.check()
    objectstore.client.put_object(Bucket=bucket, Key=name, Body=DATA[:-1] + b"?")
    with pytest.raises(StoreFailed):
        part.check()
    part.discard()


@pytest.mark.store
def test_a_version_gets_no_manifest_while_the_store_lacks_one_of_its_files(
    store_environment, bucket, objectstore, tmp_path
):
    backup_set = BackupSet(f"s3://{bucket}/db", Access(locks=str(tmp_path), alone=True))
    parts = {suffix: backup_set.part(1, suffix) for suffix in (".gz", ".md5", ".idx")}
    for part in parts.values():
        part.write(b"bytes")
        part.close()
    real = parts[".idx"].publish

    def publish():
        real()
        objectstore.client.delete_object(Bucket=bucket, Key="db.1.md5")

    parts[".idx"].publish = publish
    with pytest.raises(StoreFailed, match="does not have"):
        publishing.publish(backup_set, 1, parts, VALUE)
    for part in parts.values():
        part.discard()
    assert backup_set.place.names() == []


@pytest.mark.parametrize("name", ["db.1.gz", "db.1.md5"])
def test_a_file_that_is_discarded_leaves_nothing(place, name):
    part = written(place, name)
    part.discard()
    part.discard()
    assert place.names() == []
    part = place.part(name, RUN)
    part.write(b"x")
    part.discard()
    assert place.names() == []


def test_a_name_that_is_taken_is_not_given_again(place):
    path = put(place, "db.1.md5")
    part = written(place, "db.1.md5", b"other")
    with pytest.raises(BlockdiffError) as caught:
        part.publish()
    assert caught.value.exit_code in (12, 14) and path in str(caught.value)
    assert not part.has_its_name() and part.withdraw()
    part.discard()
    assert content(place, path) == DATA


@pytest.mark.parametrize("name", ["db.1.gz", "db.1.md5"])
def test_what_was_published_can_be_withdrawn(place, name):
    part = written(place, name)
    part.publish()
    assert part.withdraw() and place.names() == [] and not part.has_its_name()
    part.discard()


def test_a_file_is_replaced(place):
    for data in (b"1\n", b"2\n"):
        part = written(place, "db.ver", data)
        part.replace()
        part.discard()
        assert content(place, place.path("db.ver")) == data
    assert place.names() == ["db.ver"]


def test_any_bytes_of_a_file(place):
    blob_path = put(place, "db.1.gz")
    blob = place.open(blob_path)
    assert blob.size == 3000 == place.size(blob_path)
    chance = random.Random(2)
    for _ in range(30):
        offset, length = chance.randrange(3100), chance.randrange(700)
        assert blob.pread(length, offset) == DATA[offset : offset + length]
    other = blob.again()
    other.in_order()
    assert base.Sequence(other).read(5000) == DATA == base.Sequence(blob).read(5000)
    rows = base.Sequence(blob, 100, 2000)
    assert [rows.read(1500), rows.read(1500), rows.read(1500)] == [DATA[100:1600], DATA[1600:2000], b""]
    for each in (blob, other):
        each.close()


def test_an_empty_file(place):
    path = put(place, "db.1.md5", b"")
    assert content(place, path) == b"" and place.size(path) == 0


def test_a_file_that_is_not_there(place):
    path = place.path("db.1.gz")
    for listed in (False, True):
        if listed:
            place.names()
        with pytest.raises(FileNotFoundError) as caught:
            place.open(path).pread(1, 0)
        assert caught.value.filename.removesuffix(".age") == path
        for ask in (place.look, place.size):
            with pytest.raises(FileNotFoundError):
                ask(path)
        assert place.looks([path]) == {path: None}


def test_looks_tell_one_file_from_another(place):
    path = put(place, "db.ver", b"1\n")
    before = place.look(path)
    assert place.looks([path, place.path("db.1.gz")]) == {path: before, place.path("db.1.gz"): None}
    assert place.open(path).look() == before
    part = written(place, "db.ver", b"2\n")
    part.replace()
    part.discard()
    assert place.looks([path])[path] not in (None, before)


def test_names_are_those_of_one_level(place, access):
    put(place, "db.1.gz")
    put(place, "db2.1.gz")
    assert sorted(place.names()) == ["db.1.gz", "db2.1.gz"]
    assert set(place.names("db.")) - {"db2.1.gz"} == {"db.1.gz"}
    assert choose.is_place(place.at) and not choose.is_place(place.path("db"))
    below = choose.at(place.path("db"), access)
    if not below.exists():
        os.mkdir(below.at)
    put(below, "in.1.gz")
    assert sorted(place.names()) in (["db.1.gz", "db2.1.gz"], ["db", "db.1.gz", "db2.1.gz"])
    assert choose.is_place(place.path("db"))


def test_names_with_strange_bytes(place):
    name = "d\u00fc b'\"%41+&?#\u20ac.1.gz"
    path = put(place, name)
    assert place.names() == [name] and content(place, path) == DATA


def test_a_lock(place, tmp_path, access):
    access = replace(access, locks=str(tmp_path))
    one, other = choose.at(place.at, access), choose.at(place.at, access)
    with one.locked("db.lock", 0), other.locked("db2.lock", 0):
        with pytest.raises(BlockdiffError) as caught, other.locked("db.lock", 0):
            pass
        assert caught.value.exit_code == 12 and place.path("db") in str(caught.value)
    with other.locked("db.lock", 0):
        pass


def test_what_is_not_sealed_does_not_count_in_a_sealed_place(tmp_path):
    plain, sealed = choose.at(str(tmp_path)), choose.at(str(tmp_path), keys())
    put(plain, "db.1.gz")
    put(plain, "db.ver", b"1\n")
    assert sealed.names() == ["db.ver"] and content(sealed, sealed.path("db.ver")) == b"1\n"
    with pytest.raises(FileNotFoundError):
        sealed.open(sealed.path("db.1.gz"))
    put(sealed, "db.1.gz", b"sealed")
    assert content(sealed, sealed.path("db.1.gz")) == b"sealed" and content(plain, plain.path("db.1.gz")) == DATA


def test_the_first_bytes_as_they_are_now(place):
    path = put(place, "db.ver", b"1\n")
    place.names()
    part = written(place, "db.ver", b"22\n")
    part.replace()
    part.discard()
    assert place.first(path, 64) == b"22\n" and place.first(path, 2) == b"22"
    assert place.first(put(place, "empty.ver", b""), 64) == b""
    with pytest.raises(FileNotFoundError) as caught:
        place.first(place.path("other.ver"), 64)
    assert caught.value.filename == place.path("other.ver")


def test_a_hash_and_what_is_expected(place):
    paths = [put(place, name) for name in ("db.1.md5", "db.1.json")]
    place.names()
    place.soon(iter(paths), 3000)
    place.soon(paths, 10, 4)
    whole = StoredFile(3000, hashlib.sha256(DATA).hexdigest())
    assert [place.hash(path) for path in paths] == [whole, whole] == [place.hash(path) for path in paths]
    blob = place.open(paths[0])
    blob.expect(iter([(10, 20), (1000, 500)]))
    assert [blob.pread(20, 10), blob.pread(500, 1000), blob.pread(9, 7)] == [DATA[10:30], DATA[1000:1500], DATA[7:16]]
    with pytest.raises(FileNotFoundError):
        place.hash(place.path("other"))
