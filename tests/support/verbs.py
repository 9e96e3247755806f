"""Programs that read a set, launched in a process of their own; and a set for them."""

import os
import pathlib
import subprocess
import sys

import chains
import places
import pytest

from blockdiff import codecs

BLOCK = 512
LAUNCH = "import sys; from blockdiff.commands import programs; sys.argv[0] = 'blockdiff-{0}'; programs.main()"


def words(verb, *operands):
    return [sys.executable, "-c", LAUNCH.format(verb), *map(str, operands)]


def environment(folder):
    return dict(os.environ, PYTHONPATH=str(places.ROOT), XDG_STATE_HOME=str(folder / "state"), LC_ALL="C.UTF-8")


@pytest.fixture
def run_verb(tmp_path):
    """Return a function that runs a verb's program to its end and returns it with its output, `out` and `err`."""

    def call(verb, *operands, stdin=b"", cwd=None, env=None):
        done = subprocess.run(
            words(verb, *operands), input=stdin, capture_output=True, env={**environment(tmp_path), **(env or {})}, cwd=cwd, timeout=60
        )
        done.out, done.err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in done.err, done.err
        return done

    return call


@pytest.fixture
def plain_set(tmp_path):
    """A set of three versions, not compressed; `volume` is the content of the last one."""
    backup_set = chains.new_set(tmp_path)
    volume = bytearray(os.urandom(30 * BLOCK))
    for number in range(3):
        volume[number * BLOCK : (number + 1) * BLOCK] = os.urandom(BLOCK)
        chains.write_version(backup_set, bytes(volume), BLOCK, codecs.PLAIN)
    backup_set.volume = bytes(volume)
    return backup_set


def damage(backup_set, number, place):
    path = pathlib.Path(backup_set.path(number, ""))
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
