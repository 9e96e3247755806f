"""What a run may leave on a source host: what its agent says of that, and a last look after a lost connection."""

from collections.abc import Callable

from blockdiff.errors import AgentDied, BlockdiffError, HostSilent, HostUnreachable, ProtocolBroken
from blockdiff.source.session import Session
from blockdiff.transport.base import Transport
from blockdiff.wire.request import Request

LOST = (HostSilent, AgentDied, HostUnreachable, ProtocolBroken)  # nobody has said that its snapshot is gone
_TIMEOUT_S = 30.0
_PROGRESS_S = 300.0  # for LVM
_WORDS = (" looks like ", "left alone", "could not be removed")


def concerns(line: str) -> bool:
    """Tell whether a line of the agent's, "HOST: ...", is for a person to act on, and not only for the log."""
    text = line.partition(": ")[2]
    return text.startswith("cannot ") or any(words in text for words in _WORDS)


def clear(
    connect: Callable[[], Transport],
    request: Request,
    run_id: str,
    timeout_s: float,
    note: Callable[[str], None],
) -> None:
    """Connect once more to have the snapshot of a run removed, which asked with this request; never raises."""
    try:
        with Session(
            connect(), min(timeout_s, _TIMEOUT_S), progress_s=_PROGRESS_S, snapshots=True, note=note
        ) as session:
            session.ask(request._replace(ended=run_id))
    except (BlockdiffError, OSError) as error:
        note(f"cannot look for the snapshot of this run: {error}; its own supervisor removes it")
