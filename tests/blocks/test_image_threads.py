"""Many threads that read the same blocks at once."""

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import chains

from blockdiff import codecs
from blockdiff.blocks import image, md5many


def test_a_block_is_proved_once_however_many_ask_and_one_that_is_not_asked_for_never(tmp_path, monkeypatch):
    rng = random.Random(4)
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(rng.randbytes(40 * 64))
    chains.write_version(backup_set, bytes(volume), 64, codecs.GZIP, member=40 * 64)
    for block in range(0, 40, 3):  # their records in version 1 are of no use to version 2
        volume[block * 64 : (block + 1) * 64] = rng.randbytes(64)
    chains.write_version(backup_set, bytes(volume), 64, codecs.GZIP, member=40 * 64)
    proved, inner, second = [], md5many.md5_of, threading.Barrier(2)

    def md5_of(payload, spans, stride):
        proved.extend((id(payload), *span) for span in spans)
        with contextlib.suppress(threading.BrokenBarrierError):
            second.wait(0.1)  # nobody comes: others wait for us
        return inner(payload, spans, stride)

    monkeypatch.setattr(md5many, "md5_of", md5_of)
    with image.opened(backup_set, 2) as found, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: bytes(found.read(0, found.size)), range(8))) == {bytes(volume)}
    assert len(proved) == len(set(proved)) == 40
