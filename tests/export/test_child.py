import os
import pathlib
import signal
import subprocess
import sys

from programs import until

from blockdiff.export import child
from blockdiff.export.child import Child


def test_its_end_is_seen_and_its_last_words_are_kept():
    work = Child(["/bin/sh", "-c", "echo one >&2; echo two >&2; exit 3"], os.environ)
    assert child.wait([work], 30) is work
    assert work.text() == "one; two"
    work.close()
    silent = Child(["/bin/sh", "-c", "exit 3"], os.environ)
    assert silent.text() == "it ended with exit code 3"
    silent.close()


def test_it_is_ended():
    work = Child(["/bin/sleep", "100"], os.environ)
    assert not work.ended()
    assert child.wait([work], 0.05) is None
    work.close()
    assert work.process.returncode == -signal.SIGTERM


def test_one_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(child, "_PATIENCE_S", 0.1)
    work = Child(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"], os.environ)
    until(lambda: work.process.poll() is None and b"trap" in pathlib.Path(f"/proc/{work.process.pid}/cmdline").read_bytes())
    work.close()
    assert work.process.returncode in (-signal.SIGKILL, -signal.SIGTERM)


def test_it_ends_with_us_even_if_we_are_killed():
    code = (
        "import os, sys\nfrom blockdiff.export.child import Child\n"
        "print(Child(['/bin/sleep', '100'], os.environ).process.pid, flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    until(lambda: not os.path.exists(f"/proc/{pid}") or pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")


def test_it_gets_only_the_descriptors_that_it_is_given(tmp_path):
    with open(tmp_path / "kept", "w") as kept, open(tmp_path / "other", "w") as other:
        os.set_inheritable(other.fileno(), True)
        work = Child(["/bin/sh", "-c", f"echo yes >/proc/self/fd/{kept.fileno()}; echo no >/proc/self/fd/{other.fileno()}"], os.environ, (kept.fileno(),))
        work.process.wait()
        work.close()
    assert (tmp_path / "kept").read_text() == "yes\n"
    assert (tmp_path / "other").read_text() == ""
