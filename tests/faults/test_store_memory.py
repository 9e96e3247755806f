"""Memory of who reads a set in a real object store: it does not grow with the volume, nor with what versions hold.

Only `make test-long` runs it: it takes minutes, and 3 GiB of room.
"""

import random
import subprocess

import chains
import places
import pytest
import seals
from memory import MIB, measured

from blockdiff import copy
from blockdiff.export import server
from blockdiff.place.base import Access
from blockdiff.sets.backupset import BackupSet

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("store_environment")]
READER = 256 * MIB  # bytes; the documented bound
CACHE = 64 * MIB
SIZE = 1024 * MIB
BLOCK = 65536
KEY = seals.Key()
SEALED = pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])


def program(name, *words):
    return measured(places.ROOT / "bin" / f"blockdiff-{name}", *words)


def stored(bucket, folder, key, sealed):
    """Copy a set into the store; returns the words that name it there."""
    access = Access(alone=True, locks=str(folder), recipients=(KEY.recipient,) if sealed else ())
    assert copy.copy(BackupSet(f"{folder}/vol"), BackupSet(f"s3://{bucket}/vol", access), every=True).exit_code == 0
    key.write_text(KEY.secret)
    return [*(["--identity", key] if sealed else []), f"s3://{bucket}/vol"]


@pytest.fixture
def freed(objectstore, bucket):
    """Free the memory that a set takes in the store."""
    yield
    for one in objectstore.client.list_objects_v2(Bucket=bucket)["Contents"]:
        objectstore.client.delete_object(Bucket=bucket, Key=one["Key"])
    objectstore.admin("gc", "process", "--include-all")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with the set vol, two versions of a volume that does not compress, and the volume."""
    folder, rng = tmp_path_factory.mktemp("large"), random.Random(1)
    backup = [places.ROOT / "bin" / "blockdiff-backup", "-q", "--no-snapshot", folder / "vol", folder / "volume"]
    with open(folder / "volume", "wb", buffering=0) as file:
        for _ in range(SIZE // MIB):
            file.write(rng.randbytes(MIB))
        subprocess.run(backup, check=True)
        for place in range(0, SIZE, 16 * MIB):
            file.seek(place)
            file.write(rng.randbytes(MIB))
        subprocess.run(backup, check=True)
    return folder


@pytest.mark.usefixtures("freed", "nbdkit")
@SEALED
def test_a_large_volume(sealed, large, bucket, tmp_path):
    name = stored(bucket, large, tmp_path / "key", sealed)
    for verb, *words in (["verify", "-q", *name], ["merge", "-q", *name, tmp_path / "out"]):
        peak, _ = program(verb, *words)
        print(f"{verb} had {peak / MIB:.0f} MiB")
        assert peak < READER
    subprocess.run(["cmp", large / "volume", tmp_path / "out"], check=True)
    reads = "nbdcopy --requests=64 --connections=8 $BLOCKDIFF_URI null:"
    _, peak = program("nbd", "--cache", CACHE, *name, "--", "sh", "-c", reads)
    print(f"what serves had {peak / MIB:.0f} MiB")
    assert peak < CACHE + (64 + 2 * server.THREADS * 4 + 2 * 6) * MIB


@pytest.mark.usefixtures("freed")
@SEALED
def test_a_pipe_from_a_chain_of_large_versions(sealed, bucket, tmp_path):
    """All versions are read at the same time: what is fetched ahead is not for each of them."""
    count, rng, backup_set = 20, random.Random(2), chains.new_set(tmp_path)
    volume = bytearray(rng.randbytes(64 * MIB))
    for _ in range(count):
        chains.write_version(backup_set, bytes(volume), BLOCK, member=4 * MIB)
        for place in range(0, len(volume), 2 * MIB):
            volume[place : place + MIB] = rng.randbytes(MIB)
    name = stored(bucket, tmp_path, tmp_path / "key", sealed)
    peak, _ = measured("sh", "-c", 'exec "$@" - > /dev/null', "-", places.ROOT / "bin" / "blockdiff-merge", "-q", *name)
    print(f"merge had {peak / MIB:.0f} MiB")
    assert peak < READER + count * 8 * MIB
