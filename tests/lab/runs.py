"""Programs under test, run against the guest, and questions about what they did."""

import contextlib
import json
import os
import subprocess

from .agents import eventually, snapshots
from .guest import CHECKOUT

BIN = CHECKOUT / "bin"
OURS = ("BLOCKSIZE", "SNAPSHOT_SIZE", "LVCREATE_PREFIX", "SSH_BLOCKDIFF_PREFIX", "BLOCKDIFF_RSH", "VERBOSE")
SSH = ("--rsh", "ssh")  # the other transport
SLOW = ("--bwlimit", "1M")  # of random bytes: eight seconds for a volume as `volume` makes it


def _environment(more):
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**kept, "BLOCKDIFF_SSH_CONFIG": "", **more}


def run(guest, name, *args, code=0, pass_fds=(), **environment):
    """Run a program of ours beside the guest to its end, which must be this exit code."""
    done = subprocess.run(
        [*guest.netns, BIN / name, *args],
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        pass_fds=pass_fds,
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


@contextlib.contextmanager
def started(guest, *args, program="blockdiff-backup", **environment):
    """Yield a running program of ours, which does not outlive the test."""
    process = subprocess.Popen(
        [*guest.netns, BIN / program, *args],
        env=_environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def reading(guest, *args, **options):
    """Yield a running program of ours whose snapshot stands and is being read, for as long as SLOW makes it."""
    with started(guest, *SLOW, *args, **options) as process:
        eventually(lambda: process.poll() is not None or snapshots(guest) != [])
        assert process.poll() is None, process.communicate()
        yield process


@contextlib.contextmanager
def held(guest, *args, **options):
    """Yield a running `blockdiff-backup` whose snapshot stands and whose agent does not go on before `go`."""
    # the device's name is there while lvcreate is still at work, so the agent has not begun to read
    stop = guest.popen(
        "until ls /dev/mapper/*-blockdiff_* >/dev/null 2>&1; do sleep 0.02; done;"
        " kill -STOP $(pgrep -o -f '[p]ushed:assembler')"
    )
    with started(guest, *args, **options) as process:
        eventually(lambda: process.poll() is not None or stop.poll() is not None)
        if process.poll() is not None:
            stop.kill()
            raise AssertionError(process.communicate())
        eventually(lambda: snapshots(guest) != [])
        try:
            yield process
        finally:
            stop.wait()
            go(guest)


def go(guest):
    """Let an agent that was held go on."""
    guest.run("kill -CONT $(pgrep -o -f '[p]ushed:assembler')", check=False)


def finished(process, code, timeout_s=60):
    """Wait for an exit code; return what the program said."""
    said = process.communicate(timeout=timeout_s)[1]
    assert process.returncode == code, (process.returncode, said)
    return said


def fill(guest, path, mebibytes=None, at=0):
    """Write random bytes, which nothing compresses, to a volume of the guest; all of it by default."""
    size = f"{mebibytes}M" if mebibytes else f"$(blockdev --getsize64 {path})"
    guest.run(
        f"head -c {size} /dev/urandom | dd of={path} bs=1M seek={at} iflag=fullblock oflag=direct conv=notrunc"
        " status=none"
    )


def volume(guest, name="lv0", vg="vg0", size="8M"):
    """Make a thick volume of random bytes; return its path."""
    guest.run(f"lvcreate -y -Zn -Wn -L {size} -n {name} {vg}")
    fill(guest, f"/dev/{vg}/{name}")
    return f"/dev/{vg}/{name}"


def owners(guest):
    """Return the pids of (the agent that reads, the supervisor) of the one snapshot of ours."""
    tags = guest.run("lvs --noheadings -o lv_tags @blockdiff").strip().split(",")
    (supervisor,) = [tag.rpartition(".")[2] for tag in tags if tag.startswith("blockdiff.pid.")]
    return guest.run(f"sed 's/.*) //' /proc/{supervisor}/stat").split()[1], supervisor


def manifest(name, version=1):
    return json.loads((name.parent / f"{name.name}.{version}.json").read_text())


def restored(name, target, version=None):
    """Restore a version; return its MD5."""
    options = [] if version is None else ["--to", str(version)]
    target.unlink(missing_ok=True)
    subprocess.run([BIN / "blockdiff-merge", *options, name, target], check=True, capture_output=True)
    return subprocess.run(["md5sum", target], check=True, capture_output=True, text=True).stdout.split()[0]


def unpublished(name):
    """Tell whether a set has nothing but its lock file."""
    names = {path.name for path in name.parent.iterdir()}
    return not {found for found in names if found.startswith((f"{name.name}.", "."))} - {f"{name.name}.lock"}


def bare(guest):
    """Tell whether nothing of ours is left in the guest: no snapshot, no process."""
    # an agent's command line holds the stub that it began as; its supervisor was forked from it
    return snapshots(guest) == [] and not guest.run("pgrep -f '[p]ushed:assembler'", check=False)
