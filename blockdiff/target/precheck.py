"""Whether a restore's target may be written, by its state before that.

A device or file in use and a name of a set's files are always refused.  A file that is not
empty and a device with a signature are refused unless forced.
"""

import contextlib
import os
import time
from collections.abc import Callable

from blockdiff.errors import TargetRefused
from blockdiff.formats import names
from blockdiff.target import signatures, state
from blockdiff.target.state import DEVICE, FILE, TargetState


def look(
    path: str,
    own: tuple[str, str] | None = None,
    run: signatures.Program = signatures.run_program,
    pause: Callable[[float], object] = time.sleep,
) -> TargetState:
    """Return the state of path; `own` is the set that is restored: its folder and its name there.

    `run` and `pause`: see state.look.  Raises TargetRefused for what can never be a target.
    """
    _refuse_set_files(path, own)
    return state.look(path, run, pause)


def _refuse_set_files(path: str, own: tuple[str, str] | None) -> None:
    """Raise TargetRefused if path is, or would be, a file of a set, by whatever path or link."""
    places = {(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))}
    places.add(os.path.split(os.path.realpath(path)))
    for folder, name in places:
        base = _set_with(name, folder, own)
        if base is not None:
            hint = "that set's next backup would take it for one of its own; choose another name or folder"
            raise TargetRefused(path, f"its name is one of the set {os.path.join(folder, base)}", hint=hint)
    with contextlib.suppress(OSError):
        found = os.stat(path)
        for folder in {folder for folder, _ in places}:
            with os.scandir(folder) as entries:
                same = [entry.name for entry in entries if entry.inode() == found.st_ino]
            _refuse_same(path, found, folder, [name for name in same if _set_with(name, folder, None)])
        if own is not None:  # its files may be symbolic links themselves
            _refuse_same(path, found, own[0], [name for name in os.listdir(own[0]) if names.owner(name, own[1:])])


def _refuse_same(path: str, found: os.stat_result, folder: str, names: list[str]) -> None:
    for name in names:
        other = os.path.join(folder, name)
        if os.path.samestat(os.stat(other), found):
            raise TargetRefused(path, f"it is {other}, a file of a set")


def _set_with(name: str, folder: str, own: tuple[str, str] | None) -> str | None:
    """Return which set in a folder has, or would have, a file of this name."""
    with contextlib.suppress(OSError):
        bases = names.set_names(os.listdir(folder))
        if own is not None and os.path.samefile(folder, own[0]):
            bases.append(own[1])
        return names.owner(name, bases)
    return None


def check(seen: TargetState, least: int, force: bool = False, patch: bool = False) -> None:
    """Raise TargetRefused if a volume of `least` bytes or more must not be written there.

    `force` accepts content, never a user.  `patch`: content is expected.
    """
    there = ""
    if not patch and (seen.content or (seen.kind == FILE and seen.size)):
        there = f"it is a {seen.description}"
    if seen.used:
        hint = "--force does not write over a target in use"
        raise TargetRefused(seen.path, "; ".join((*seen.used, *([there] if there else []))), hint=hint)
    if there and not force:
        raise TargetRefused(seen.path, there, hint="--force writes over it")
    if seen.kind == DEVICE and seen.size < least:
        raise TargetRefused(seen.path, f"it is too small: it has {seen.size} bytes, the volume {least}")
