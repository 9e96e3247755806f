"""A drill of what is in a partition, a logical volume or another file system than ext: by a kernel in user mode."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from blockdiff.errors import CommandFailed, DrillFailed, HostSilent
from blockdiff.guest import answers
from blockdiff.guest.machine import Guest
from blockdiff.printable import quoted

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
                for answer in answers.answers(guest.receive(limit_s, until)):
                    if isinstance(answer, answers.End):
                        return
                    if isinstance(answer, answers.Failed) and answer.why == "unreadable":
                        raise DrillFailed("mount", quoted(answer.text))
                    if isinstance(answer, answers.Failed):
                        raise answers.error_of(answer, version)
                    if not isinstance(answer, answers.Step):
                        raise answers.broken("what is of no drill")
                    last = quoted(answer.step)
                    yield asdict(answer)
            except HostSilent:
                raise DrillFailed(f"after {last}", f"the limit of {limit_s:g} s was reached") from None
            except CommandFailed as error:
                raise DrillFailed(f"after {last}", error.message) from None
            raise DrillFailed(f"after {last}", guest.died().message)
