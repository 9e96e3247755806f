"""A virtual machine that boots from a clone, until it says what is waited for; it has no network."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping

from blockdiff.drilling.steps import MOST
from blockdiff.errors import DrillFailed, ProgramUnfit
from blockdiff.printable import printable, quoted

_QEMU = "qemu-system-x86_64"
_KVM = "/dev/kvm"
_PIECE = 65536
_KEPT = 64 * 1024  # characters of its console that are looked at


def boot(uri: str, wanted: str, limit_s: float, environ: Mapping[str, str], scratch: str, memory: int) -> str:
    """Boot from an NBD export until its serial console has a match of `wanted`, and return that line.

    `memory`: MiB.  `scratch`: folder for what it writes.  Raises DrillFailed, or ProgramUnfit without qemu.
    """
    qemu = shutil.which(_QEMU, path=environ.get("PATH"))
    if qemu is None:
        raise ProgramUnfit(_QEMU, "it is not installed", hint="apt install qemu-system-x86")
    until = time.monotonic() + limit_s
    accelerators = (["kvm"] if os.access(_KVM, os.R_OK | os.W_OK) else []) + ["tcg"]
    for accelerator in accelerators:
        words = [
            "setpriv", "--pdeathsig", "KILL", qemu, "-nodefaults", "-m", str(memory), "-accel", accelerator,
            *(["-cpu", "host"] if accelerator == "kvm" else []), "-nic", "none", "-display", "none",
            "-monitor", "none", "-serial", "stdio",
            "-drive", f"file={uri.replace(',', ',,')},format=raw,if=virtio,snapshot=on",
        ]  # fmt: skip
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**environ, "TMPDIR": scratch},
        )  # fmt: skip
        with process, contextlib.ExitStack() as end:
            end.callback(process.kill)
            line, told = _watch(process, wanted, until)
            if line is not None:
                return line
            ended = process.poll() if time.monotonic() >= until else process.wait()
            if ended == -signal.SIGABRT and accelerator != accelerators[-1]:
                continue  # KVM is there and cannot be used
            assert process.stderr is not None
            process.kill()
            said = quoted(" ".join(process.stderr.read(_PIECE).decode("utf-8", "replace").split())[:MOST])
        last = next((each for each in reversed(told.splitlines()) if each.strip()), "nothing")
        if ended is None:
            why = f"{quoted(wanted)} was not on the serial console in time; its last line is: {printable(last)}"
        else:
            why = f"qemu ended with exit code {ended}: {said or printable(last)}"
        raise DrillFailed("boot", why)
    raise AssertionError


def _watch(process: "subprocess.Popen[bytes]", wanted: str, until: float) -> tuple[str | None, str]:
    """Read the console; return the line with a match, None if there is none, and what was read last."""
    assert process.stdout is not None
    told = ""
    while select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(process.stdout.fileno(), _PIECE)
        if not piece:
            break
        told = (told + piece.decode("utf-8", "replace"))[-_KEPT:]
        for line in told.splitlines():
            if re.search(wanted, line):
                return printable(line.strip())[:MOST], told
    return None, told
