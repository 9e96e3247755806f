"""What a run may leave on a source host: the agent's report of it, and a clean-up after a lost connection."""

from collections.abc import Callable

from blockdiff.errors import AgentDied, BlockdiffError, HostSilent, HostUnreachable, ProtocolBroken
from blockdiff.source.session import Session
from blockdiff.transport.base import Transport
from blockdiff.wire.request import Request

LOST = (HostSilent, AgentDied, HostUnreachable, ProtocolBroken)  # no report that its snapshot is removed
_TIMEOUT_S = 30.0
_PROGRESS_S = 300.0  # for LVM
_WORDS = (" looks like ", "left alone", "could not be removed")


def concerns(line: str) -> bool:
    """Return whether a line of the agent's, "HOST: ...", needs attention, and is not only for the log."""
    text = line.partition(": ")[2]
    return text.startswith("cannot ") or any(words in text for words in _WORDS)


def clear(connect: Callable[[], Transport], request: Request, note: Callable[[str], None]) -> None:
    """Connect once more to have the snapshot removed that a run asked for with this request; never raises."""
    assert request.snapshot is not None
    timeout_s = min(request.timeout_s, _TIMEOUT_S)
    try:
        with Session(connect(), timeout_s, progress_s=_PROGRESS_S, snapshots=True, note=note) as session:
            session.clear(request._replace(ended=request.snapshot.run))
    except (BlockdiffError, OSError) as error:
        note(f"cannot look for the snapshot of this run: {error}; its own supervisor removes it")
