"""A drill of what is in a partition, a logical volume or another file system than ext: by a kernel in user mode."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from blockdiff.drilling.steps import MOST
from blockdiff.errors import BlockdiffError, CommandFailed, DrillFailed, HostSilent, NothingThere, ProtocolBroken
from blockdiff.guest import messages
from blockdiff.guest.machine import Guest
from blockdiff.printable import printable, quoted

_MEMORY = 768  # MiB; of the machine it takes what it touches
_SETTINGS = {  # a server in it can neither reserve terabytes of addresses nor use the kernel's asynchronous reads
    "mariadb": ("loose-innodb-buffer-pool-size-max=64M", "innodb-use-native-aio=0"),
}


def run(
    request: Mapping[str, Any], version: tuple[int, str], environ: Mapping[str, str], scratch: str, limit_s: float
) -> Iterator[dict[str, Any]]:
    """Run the steps of a request in a guest, and yield what each told; see steps.py.

    `version`: its number, and its set.  Raises DrillFailed, NothingThere or ProgramUnfit.
    """
    settings = [*_SETTINGS.get(request["server"], ()), *request["settings"]]
    wanted = {**request, "settings": settings, "paths": sys.path[1:]}
    until = time.monotonic() + limit_s
    last = "start of its kernel"
    with open(request["image"], "rb") as image:
        guest = Guest(image.fileno(), wanted, environ, scratch, "blockdiff.drilling.inguest", _MEMORY)
        with contextlib.closing(guest):
            try:
                for kind, content in guest.receive(limit_s, until):
                    event = _event(kind, content)
                    if event["kind"] == "end":
                        return
                    if event["kind"] == "failed":
                        raise _failure(event, version)
                    last = event["step"]
                    yield event
            except HostSilent:
                raise DrillFailed(f"after {last}", f"the limit of {limit_s:g} s was reached") from None
            except CommandFailed as error:
                raise DrillFailed(f"after {last}", error.message) from None
            raise DrillFailed(f"after {last}", guest.died().message)


def _event(kind: bytes, content: bytes) -> dict[str, Any]:
    """Return a message of the guest, which reads what anybody may have made.  Raises ProtocolBroken."""
    try:
        value: Any = json.loads(content) if kind == messages.JSON else None
        if value["kind"] == "end":
            return {"kind": "end"}
        if value["kind"] == "failed":
            return {"kind": "failed", "why": str(value["why"]), "text": quoted(str(value["text"])[:MOST])}
        if value["kind"] == "step":
            text, step = printable(str(value["text"])[:MOST]), quoted(str(value["step"])[:20])
            seconds, failed = float(value["seconds"]), bool(value["failed"])
            return {"kind": "step", "step": step, "seconds": seconds, "text": text, "failed": failed}
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise ProtocolBroken("the guest", "that is no message")


def _failure(event: dict[str, Any], version: tuple[int, str]) -> BlockdiffError:
    hint = "blockdiff-look NAME shows what is there; --part and --lv choose"
    if event["why"] == "nothing":
        return NothingThere(event["text"], *version, hint=hint)
    if event["why"] == "several":
        return NothingThere(f"single file system (there are {event['text']})", *version, hint=hint)
    return DrillFailed("mount", event["text"])
