"""Stage 1 in a real `python3 -c`: whole modules become an agent, anything else ends without one."""

import os
import re
import subprocess

import bundles
import interpreters
import pytest
from engine import back_up

from blockdiff.errors import AgentDied, NoPython
from blockdiff.source import push
from blockdiff.wire import messages


@pytest.mark.parametrize("python", interpreters.too_old() or [pytest.param("none", marks=pytest.mark.skip("none here"))])
def test_an_old_interpreter_says_so(python, tmp_path):
    (tmp_path / "vol").write_bytes(b"x")
    done = subprocess.run(push.local_command(python), input=push.bundle(), capture_output=True, check=False)
    # before 3.4 it is python itself that refuses, as it does not know -I
    assert (done.returncode, done.stdout) == (96 if interpreters.found()[python] >= (3, 4) else 2, b"")
    assert push.no_python(done.returncode, done.stderr.decode())
    # and stage 1 itself, had it come so far
    stage_1 = b"stdin = None\n" + push.source("agent/assembler.py")
    assert subprocess.run([python, "-c", stage_1], capture_output=True, check=False).returncode == 96
    with pytest.raises(NoPython):
        back_up(tmp_path / "set", tmp_path / "vol", python=python)


@pytest.mark.parametrize("python", interpreters.usable())
def test_the_agent_takes_no_module_from_where_it_starts(python, tmp_path):
    """A file os.py in the current folder, PYTHONPATH and PYTHONSTARTUP have no part in it."""
    for name in ("os", "struct", "hashlib", "agent", "blockdiff", "sitecustomize", "usercustomize", "linecache"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(55)\n")
    environment = dict(os.environ, PYTHONPATH=str(tmp_path), PYTHONSTARTUP=str(tmp_path / "os.py"), HOME=str(tmp_path))
    done = subprocess.run(
        push.local_command(python), input=push.bundle(), cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 95, done.stderr
    assert done.stdout.startswith(messages.SYNC_MARK)
    assert {path.suffix for path in tmp_path.rglob("*")} == {".py"}  # nothing compiled either


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999])
def test_a_bundle_that_is_cut_never_becomes_an_agent(share):
    whole = push.bundle()
    done = subprocess.run(push.local_command(), input=whole[: int(share * len(whole))], capture_output=True, check=False)
    assert done.returncode in (1, 98, 99)
    assert done.stdout == b""


def test_a_damaged_bundle_never_becomes_an_agent():
    whole = push.bundle()
    stage_1 = len(push.source("agent/assembler.py"))
    for place in range(stage_1, len(whole) - 1, len(whole) // 12):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        done = subprocess.run(push.local_command(), input=bytes(damaged), capture_output=True, check=False)
        assert done.returncode == 99, place
        assert done.stdout == b""


@pytest.mark.parametrize("python", interpreters.some())
def test_a_traceback_of_pushed_code_shows_its_lines(python, tmp_path):
    (tmp_path / "vol").write_bytes(b"x" * 9)
    lines = []
    old = "        runs, changed_digests, places = _Runs(), [], []\n"
    with (
        bundles.changed("agent/scan.py", old, "        raise RuntimeError('a bug' + ' of ours')  # here\n" + old),
        pytest.raises(AgentDied) as error,
    ):
        back_up(tmp_path / "set", tmp_path / "vol", python=python, note=lines.append)
    assert "exit status 99" in str(error.value) and "RuntimeError: a bug of ours" in str(error.value)
    text = "\n".join(lines)
    assert "raise RuntimeError('a bug' + ' of ours')  # here" in text
    assert re.search(r'File "<pushed:agent\.scan>", line \d+, in _data', text)
    assert not (tmp_path / "set.ver").exists()


def test_a_traceback_while_loading_shows_its_lines(tmp_path):
    (tmp_path / "vol").write_bytes(b"x" * 9)
    lines = []
    with (
        bundles.changed("agent/sender.py", "class Sender:\n", "nonsense = undefined_name  # here\n\n\nclass Sender:\n"),
        pytest.raises(AgentDied) as error,
    ):
        back_up(tmp_path / "set", tmp_path / "vol", note=lines.append)
    assert "exit status 99" in str(error.value)
    assert "nonsense = undefined_name  # here" in "\n".join(lines)
