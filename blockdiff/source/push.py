"""The agent as it leaves this machine: which modules, the command that starts it, the bundle.

`python3 -c` gets a stub that reads stage 1 (agent/assembler.py) from stdin and runs it;
stage 1 reads the modules.  So nothing is installed, and no file is made on the source host.
Format: blockdiff-protocol(5), "Bundle".
"""

import functools
import hashlib
import pathlib
import shlex
import sys

PUSHED = (  # all that leaves this machine, in load order: module, file
    ("blockdiff", "blockdiff/__init__.py"),
    ("blockdiff.formats", "blockdiff/formats/__init__.py"),
    ("blockdiff.formats.digestfile", "blockdiff/formats/digestfile.py"),
    ("blockdiff.wire", "blockdiff/wire/__init__.py"),
    ("blockdiff.wire.frames", "blockdiff/wire/frames.py"),
    ("blockdiff.wire.messages", "blockdiff/wire/messages.py"),
    ("blockdiff.wire.request", "blockdiff/wire/request.py"),
    ("blockdiff.wire.link", "blockdiff/wire/link.py"),
    ("agent", "agent/__init__.py"),
    ("agent.errors", "agent/errors.py"),
    ("agent.native", "agent/native.py"),
    ("agent.pagecache", "agent/pagecache.py"),
    ("agent.volume", "agent/volume.py"),
    ("agent.users", "agent/users.py"),
    ("agent.look", "agent/look.py"),
    ("agent.buffers", "agent/buffers.py"),
    ("agent.extents", "agent/extents.py"),
    ("agent.scan", "agent/scan.py"),
    ("agent.sender", "agent/sender.py"),
    ("agent.serve", "agent/serve.py"),
    ("agent.main", "agent/main.py"),
)
SNAPSHOTS = (  # and these, where a snapshot may be wanted
    ("agent.snapshots", "agent/snapshots/__init__.py"),
    ("agent.snapshots.runner", "agent/snapshots/runner.py"),
    ("agent.snapshots.holders", "agent/snapshots/holders.py"),
    ("agent.snapshots.tags", "agent/snapshots/tags.py"),
    ("agent.snapshots.lvm", "agent/snapshots/lvm.py"),
    ("agent.snapshots.mapper", "agent/snapshots/mapper.py"),
    ("agent.snapshots.sizing", "agent/snapshots/sizing.py"),
    ("agent.snapshots.thindelta", "agent/snapshots/thindelta.py"),
    ("agent.snapshots.snapshot", "agent/snapshots/snapshot.py"),
    ("agent.snapshots.pool", "agent/snapshots/pool.py"),
    ("agent.snapshots.bases", "agent/snapshots/bases.py"),
    ("agent.snapshots.sweep", "agent/snapshots/sweep.py"),
    ("agent.snapshots.supervisor", "agent/snapshots/supervisor.py"),
    ("agent.snapshots.client", "agent/snapshots/client.py"),
    ("agent.snapshots.consistency", "agent/snapshots/consistency.py"),
    ("agent.snapshots.selection", "agent/snapshots/selection.py"),
    ("agent.snapshots.hints", "agent/snapshots/hints.py"),
    ("agent.snapshots.volume", "agent/snapshots/volume.py"),
    ("agent.snapshots.prepare", "agent/snapshots/prepare.py"),
)
RESTORE = (  # and these, for a restore
    ("blockdiff.errors", "blockdiff/errors.py"),
    ("blockdiff.target", "blockdiff/target/__init__.py"),
    ("blockdiff.target.inuse", "blockdiff/target/inuse.py"),
    ("blockdiff.target.signatures", "blockdiff/target/signatures.py"),
    ("blockdiff.target.state", "blockdiff/target/state.py"),
    ("blockdiff.target.writer", "blockdiff/target/writer.py"),
    ("blockdiff.wire.placing", "blockdiff/wire/placing.py"),
    ("agent.target", "agent/target/__init__.py"),
    ("agent.target.digesting", "agent/target/digesting.py"),
    ("agent.target.restore", "agent/target/restore.py"),
)
PYTHONS = ("python3", "/usr/libexec/platform-python", "/usr/bin/python3")  # tried in this order
# -I: no modules of the current folder, the user's or the environment's; -S: no site's; -B: no .pyc files written
FLAGS = ("-I", "-S", "-B")
NO_PYTHON = frozenset((96, 97, 126, 127))  # exit codes that mean no usable python
TOO_OLD = (2, "nknown option: -I")  # exit code and last words of a python that is older than -I, such as 2.7
_PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def source(file: str) -> bytes:
    """Return one of our files; agent/ is beside the package in a checkout, inside it when installed."""
    for folder in (_PACKAGE, _PACKAGE.parent):
        path = folder / file.removeprefix("blockdiff/") if folder is _PACKAGE else folder / file
        if path.is_file():
            return path.read_bytes()
    raise FileNotFoundError(file)


def stub() -> str:
    """Return the program for `python3 -c`; any python can read it."""
    size = len(source("agent/assembler.py"))
    return (
        "import os,sys;stdin=os.fdopen(0,'rb',closefd=False);"
        f"exec(compile(stdin.read({size}),'<pushed:assembler>','exec'));sys.exit(98)"
    )


def no_python(status: int | None, last_words: str) -> bool:
    """Return whether a command that ended so, before there was an agent, found no usable python."""
    return status in NO_PYTHON or (status == TOO_OLD[0] and TOO_OLD[1] in last_words)


def shell_command(python: str | None = None, sudo: bool = False, prefix: str = "") -> str:
    """Return the command that becomes the agent under a login shell of any kind.

    `prefix` (SSH_BLOCKDIFF_PREFIX: "nice -n 19", "sudo") is the user's own shell words.
    """
    candidates = (python,) if python else PYTHONS
    before = " ".join(part for part in (prefix, "sudo -n" if sudo else "") if part)
    run = f'exec {before} "$p" {" ".join(FLAGS)} -c {shlex.quote(stub())}'
    tries = " ".join(shlex.quote(candidate) for candidate in candidates)
    loop = f'for p in {tries}; do command -v "$p" >/dev/null 2>&1 && {run}; done; exit 97'
    return "exec sh -c " + shlex.quote(loop)


def local_command(python: str | None = None, sudo: bool = False, prefix: str = "") -> list[str]:
    """Return the arguments that become the agent on this machine."""
    before = shlex.split(prefix) + (["sudo", "-n"] if sudo else [])
    return [*before, python or sys.executable, *FLAGS, "-c", stub()]


@functools.cache
def bundle(snapshots: bool = False, restore: bool = False) -> bytes:
    """Return what is sent after the command has started: stage 1, the modules, an empty line."""
    parts = [source("agent/assembler.py")]
    for name, file in PUSHED + (SNAPSHOTS if snapshots else ()) + (RESTORE if restore else ()):
        text = source(file)
        package = "p" if file.endswith("__init__.py") else "m"
        parts.append(f"{name} {len(text)} {hashlib.sha256(text).hexdigest()} {package}\n".encode())
        parts.append(text)
    parts.append(b"\n")
    return b"".join(parts)


def bundle_sha256(snapshots: bool = False) -> str:
    """Return the SHA-256 of the bundle, in hex, for the manifest."""
    return hashlib.sha256(bundle(snapshots)).hexdigest()
