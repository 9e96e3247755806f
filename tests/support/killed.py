"""What a run asks of the kernel, and a run that is killed at any of these calls."""

import os
import signal

import pytest

from blockdiff.commands import exits
from blockdiff.errors import Interrupted

CALLS = ("write", "pwritev", "ftruncate", "fsync", "link", "rename", "unlink")


def path_of(target):
    """The path of a descriptor, or of a path."""
    return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.path.abspath(target)


def watch(monkeypatch, seen):
    """Have `seen` told of each call of CALLS: before it, with its name and paths, and after it."""
    for name in CALLS:
        real = getattr(os, name)

        def called(*args, real=real, name=name, **kwargs):
            paths = [path_of(args[0])] if name not in ("link", "rename") else [path_of(args[0]), path_of(args[1])]
            seen(name, paths, False)
            try:
                return real(*args, **kwargs)
            finally:
                seen(name, paths, True)

        monkeypatch.setattr(os, name, called)


def child(folder, work, count, number, after):
    """Run work in a child that gets a signal before or after its count-th call in a folder that is none to write.

    Returns its exit code, and whether that call came.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(reader)
            signal.signal(signal.SIGTERM, exits._interrupt)
            calls, write = 0, os.write

            def seen(name, paths, is_after):
                nonlocal calls
                if name == "write" or not all(path.startswith(folder) for path in paths):
                    return
                calls += not is_after
                if calls == count and is_after == after:
                    write(writer, b"!")
                    os.kill(os.getpid(), number)

            watch(pytest.MonkeyPatch(), seen)
            try:
                work()
            except Interrupted as error:
                os._exit(error.exit_code)
            os._exit(0)
        finally:
            os._exit(98)
    os.close(writer)
    hit = os.read(reader, 1) == b"!"
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), hit
