"""What the server asks of an agent: one message per connection, in answer to HELLO.

The server builds a Request and encodes it; the agent decodes and checks it.  The name of a
field is its key in the message.  Format: blockdiff-protocol(5), "Messages".
"""

from typing import Any, Dict, NamedTuple, Optional, Union

from blockdiff.formats import Buffer, FormatError, check_block_size
from blockdiff.wire import messages

DIGESTS = ("md5", "xxh128")  # kinds of digest
MAX_OLD = 1 << 56  # blocks
MAX_SIZE = 1 << 63  # bytes


class SnapshotRequest(NamedTuple):
    """The snapshot that is wanted of a logical volume."""

    size: Optional[str]  # as the user gave it; None: the agent decides
    set: str  # tag that names the backup set
    run: str  # tag that names the run
    must: bool  # refuse a volume that is not a logical volume
    verbose: bool  # send all output of LVM as NOTE


class HintRequest(NamedTuple):
    """Read only what the pool of a thin volume knows to have changed, and keep a base for the next version."""

    version: int  # number of the version that is made
    base: Optional[int]  # number of its parent; None: it is a full
    sha256: Optional[str]  # of the parent's digest file, in hex
    whole: bool  # read all of it, and only keep a base


class SharedMemory(NamedTuple):
    """Memory of the server that the agent has inherited; the last three must match what the agent finds."""

    fd: int
    device: int
    inode: int
    size: int  # bytes


class RestoreRequest(NamedTuple):
    """What is to become of the path: a restore's target."""

    size: int  # bytes of the volume
    dry_run: bool  # write nothing


class Request(NamedTuple):
    """What to do: back up a volume, or with `look` only describe it, or with `ended` only clean up.

    Or with `restore` make it what a version has.
    """

    path: str  # of the volume
    block_size: int  # bytes
    digest: str  # kind by which blocks are compared: one of DIGESTS
    timeout_s: Union[int, float]  # longest silence of the server from now on
    old: Optional[int] = None  # number of blocks of the parent; None: full version
    others: bool = False  # send the other kind of digest too, of every block
    compress: bool = False  # the wire may be compressed
    jobs: int = 0  # threads; 0: by the cores
    bwlimit: int = 0  # bytes per second; 0: no limit
    shared: Optional[SharedMemory] = None  # for DATA
    snapshot: Optional[SnapshotRequest] = None  # None: read the volume itself
    users: bool = False  # report who may write to a volume that is read without a snapshot
    known: Optional[str] = None  # path by which the set knows its volume
    look: bool = False  # only describe what would be read
    ended: Optional[str] = None  # a run that is over: only remove the snapshots that it left
    restore: Optional[RestoreRequest] = None  # the path is a target
    hints: Optional[HintRequest] = None  # None: no hints; then the message does not have it either


_NESTED: Dict[str, Any] = {
    "shared": SharedMemory, "snapshot": SnapshotRequest, "restore": RestoreRequest, "hints": HintRequest,
}  # fmt: skip


def encode(request: Request) -> bytes:
    """Return the bytes of a request."""
    value = request._asdict()
    for name in _NESTED:
        if value[name] is not None:
            value[name] = value[name]._asdict()
    if value["hints"] is None:
        del value["hints"]
    return messages.encode_talk(value)


def decode(payload: Buffer) -> Request:
    """Return the request in payload.  Raises FormatError."""
    value = messages.decode_talk(payload)
    value.setdefault("hints", None)
    messages.check(value, **_types(Request))
    for name, kind in _NESTED.items():
        if value[name] is not None:
            value[name] = _build(kind, messages.check(value[name], **_types(kind)))
    request: Request = _build(Request, value)
    check_block_size(request.block_size)
    if request.digest not in DIGESTS:
        raise FormatError("unknown digest %r" % request.digest)
    if request.old is not None and not 0 <= request.old < MAX_OLD:
        raise FormatError("parent of %d blocks" % request.old)
    if request.restore is not None and not 0 <= request.restore.size < MAX_SIZE:
        raise FormatError("volume of %d bytes" % request.restore.size)
    if request.hints is not None and not 0 < request.hints.version < MAX_OLD:
        raise FormatError("hints for version %d" % request.hints.version)
    for path in (request.path, request.known or ""):
        encode_path(path)
    return request


def encode_path(path: str) -> bytes:
    """Return a path of a request as the source host's kernel takes it.  Raises FormatError."""
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FormatError("path cannot be a file's: %s" % error) from None


def _types(kind: Any) -> Dict[str, Any]:
    """Return the type(s) of each field as JSON has them: a nested value is an object."""
    found = {}
    for name, annotation in kind.__annotations__.items():
        types = getattr(annotation, "__args__", (annotation,))  # of Optional and Union
        found[name] = tuple(dict if issubclass(each, tuple) else each for each in types)
    return found


def _build(kind: Any, value: Dict[str, Any]) -> Any:
    """Return a `kind` of a JSON object; other keys are ignored."""
    return kind(**{name: value[name] for name in kind._fields})
