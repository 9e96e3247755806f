"""Every limit made so small that a volume of some KiB crosses it, on both sides of the wire, and is seen to."""

import collections
import contextlib
import itertools
import re

from blockdiff.blocks import blockset, changes, checker, diffreader, parallel
from blockdiff.codecs import base, gzip, lzop, plain, zstd
from blockdiff.formats import index
from blockdiff.ingest import members, receiver
from blockdiff.place import base as place
from blockdiff.place import partfile
from blockdiff.sets import digests
from blockdiff.source import feeder, push, session
from blockdiff.target import writer
from blockdiff.transport import sharedmemory
from blockdiff.wire import link, messages

EXTENT = 64  # bytes that the agent reads at once, unless one block is larger
MEMBER = 200  # bytes of blocks in a member
MESSAGES = {"MAX_DATA": EXTENT, "MAX_RUNS": 8, "MAX_LISTED": 16, "MAX_COUNT": 20, "MAX_DIGESTS": 160}
SERVER = {
    base: {"MEMBER_SIZE": MEMBER, "MAX_MEMBER": 300, "MAX_STORED": 600},
    changes: {"_COMPARED": 5},
    digests: {"_WINDOW": 3},
    gzip: {"PIECE": 50, "_SAMPLED": 16, "_SAMPLE": 4},
    index: {"_ENTRIES": 2},
    receiver: {"_IN_FLIGHT": 2000, "_MAX_BLOCKS": 40, "_MAX_RUNS": 12, "_DIGESTS_AT_ONCE": 3},
    link: {"WINDOW": 2500, "_READ_SIZE": 100},
    lzop: {"PIECE": 50},
    members: {"_MOST_RECORDS": 10},
    blockset: {"_CLUSTER": 2},
    messages: MESSAGES,
    parallel: {"IN_FLIGHT": 600, "_MOST_JOBS": 3},
    plain: {"PIECE": 50},
    checker: {"_AT_ONCE": 2, "_TOGETHER": 2},
    diffreader: {"_STREAM_PIECE": 150},
    feeder: {"_DIGESTS_SIZE": 100},
    sharedmemory: {"SIZE": 4096},
    place: {"PIECE": 100},
    partfile: {"PIECE": 100},
    writer: {"_IOV": 2},
    zstd: {"PIECE": 50, "_MOST_BUFFERED": 100},
}
AGENT = {
    "agent/buffers.py": {"_WORTH": 1},
    "agent/extents.py": {"EXTENT_SIZE": EXTENT, "READ_AHEAD": 200, "_MOST_AHEAD": 2},
    "agent/scan.py": {"IN_FLIGHT": 2500},
    "agent/sender.py": {"_LOOK": 2000, "_SWALLOWED": 100},
    "agent/target/restore.py": {"_DIGESTS_SIZE": 30, "_SYNC_SIZE": 300},
    "blockdiff/wire/messages.py": MESSAGES,
    "blockdiff/wire/link.py": SERVER[link],
}
BORDERS = (
    "a piece of data that is full",
    "an extent",
    "extents joined because nothing is to be told of them",
    "a part of a hole",
    "a batch",
    "a batch that is full of blocks",
    "a batch that is full of runs",
    "a batch that is full of bytes",
    "batches that wait for each other",
    "a member that is full",
    "digests in several pieces",
    "a member of zeros",
    "a member of zeros that is full",
    "credit for one side",
    "a piece of the parent's digests",
    "more parts than are written at once",
    "a piece of an index",
    "a window of digests",
    "a piece of a diff file",
    "a part of a member that is too large",
    "records that are checked at once",
)


def pushed(source):
    """What is pushed instead of a file of the agent's: the same, with small limits."""

    def small(file):
        text = source(file).decode()
        for name, value in AGENT.get(file, {}).items():
            text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
            assert count == 1, f"{file} has no {name}"
        return text.encode()

    return small


def watch(patch, owner, name, look):
    """Call `look` with each result of a function, and what it was called with."""
    inner = getattr(owner, name)

    def outer(*arguments, **options):
        result = inner(*arguments, **options)
        look(result, *arguments)
        return result

    patch.setattr(owner, name, outer)


@contextlib.contextmanager
def small(monkeypatch):
    """Make all limits small; gives how often each border was crossed, by name."""
    crossed = collections.Counter(dict.fromkeys(BORDERS, 0))

    def heard(result, session, *_):
        kind, payload = result
        if kind == messages.DATA:
            crossed["a piece of data that is full"] += messages.decode_data(payload)[1] == messages.MAX_DATA
        if kind == messages.EXTENT:
            count, runs = int.from_bytes(payload[8:12], "little"), int.from_bytes(payload[12:14], "little")
            crossed["an extent"] += 1
            crossed["extents joined because nothing is to be told of them"] += runs == 1 and count > messages.MAX_RUNS
            crossed["a part of a hole"] += payload[15:16] == bytes([messages.ZERO]) and count == messages.MAX_RUNS

    def worked(done, maker, batch):
        crossed["a batch"] += 1
        crossed["a batch that is full of blocks"] += batch.blocks >= receiver._MAX_BLOCKS
        crossed["a batch that is full of runs"] += len(batch.runs) >= receiver._MAX_RUNS
        crossed["a batch that is full of bytes"] += batch.length > MEMBER - EXTENT
        crossed["batches that wait for each other"] += 2 * batch.weight > receiver._IN_FLIGHT
        kinds = [isinstance(member, members.MadeMember) for member in done.members]
        crossed["a member that is full"] += (True, True) in itertools.pairwise(kinds)
        crossed["digests in several pieces"] += any(
            count > receiver._DIGESTS_AT_ONCE and what != messages.CHANGED for what, _, count in batch.runs
        )

    def made(member, *_):
        crossed["a member of zeros"] += 1
        crossed["a member of zeros that is full"] += member.payload > MEMBER - EXTENT

    def sent(result, link, kind, *_):
        crossed["credit for one side"] += kind == messages.CREDIT

    def fed(result, link, kind, *_):
        crossed["a piece of the parent's digests"] += kind == messages.DIGESTS

    def written(result, target_, offset, parts):
        crossed["more parts than are written at once"] += len(parts) > writer._IOV

    def read(result, *_):
        crossed["a piece of an index"] += 1

    def proved(result, *_):
        crossed["a window of digests"] += 1

    def unpacked(result, file, piece):
        crossed["a piece of a diff file"] += 1
        crossed["a part of a member that is too large"] += piece.part

    def checked(result, checker_, payload, records, window):
        crossed["records that are checked at once"] += len(records) == checker._TOGETHER

    with monkeypatch.context() as patch:
        for module, limits in SERVER.items():
            for name, value in limits.items():
                assert hasattr(module, name)
                patch.setattr(module, name, value)
        watch(patch, session.Session, "receive", heard)
        watch(patch, receiver.BatchWorker, "work", worked)
        watch(patch, members.ZeroMembers, "run", made)
        watch(patch, members.ZeroMembers, "packed", made)
        watch(patch, link.Link, "send", sent)
        watch(patch, link.Link, "send_metered", fed)
        watch(patch, writer.Target, "write", written)
        watch(patch, index, "_exactly", read)
        watch(patch, digests.Digests, "take", proved)
        watch(patch, diffreader.DiffFile, "payload", unpacked)
        watch(patch, checker.BlockChecker, "_check_some", checked)
        patch.setattr(push, "source", pushed(push.source))
        push.bundle.cache_clear()
        gzip._Zeros.of.cache_clear()
        try:
            yield crossed
        finally:
            push.bundle.cache_clear()
            gzip._Zeros.of.cache_clear()
