"""What every transport promises: one suite for all of them."""

import hashlib
import os
import random
import shlex
import signal
import threading
import time

import pytest
from threads import in_thread

from blockdiff.transport.stderr import MAX_TAIL

SOON_S = 20.0  # more than anything here takes, less than a test's patience

MIB = 1024 * 1024


def read_all(transport):
    pieces = []
    while piece := transport.read(MIB):
        pieces.append(piece)
    return b"".join(pieces)


class Contract:
    """Subclasses say how a command, given for a shell, is started."""

    tells_signals = True

    @pytest.fixture
    def start(self, begin):
        running = []

        def start(command, **options):
            running.append(begin(command, **options))
            return running[-1]

        yield start
        for transport in running:
            transport.close()
            transport.wait(SOON_S)

    def test_bytes_pass_unchanged_both_ways_at_once(self, start):
        data = random.Random(1).randbytes(8 * MIB) + bytes(range(256))
        transport = start("cat")

        def write():
            view = memoryview(data)
            for offset in range(0, len(data), 300_000):
                transport.write(view[offset : offset + 300_000])
            transport.close_write()

        thread, outcome = in_thread(write)
        assert hashlib.md5(read_all(transport)).digest() == hashlib.md5(data).digest()
        thread.join(SOON_S)
        assert outcome == [None]
        assert transport.wait(SOON_S) == 0
        assert transport.read(1) == b""

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_takes_every_kind_of_bytes(self, start, kind):
        transport = start("cat")
        transport.write(kind(b"abc"))
        transport.write(kind(b""))
        transport.close_write()
        assert read_all(transport) == b"abc"

    def test_read_gives_what_is_there_and_not_more_than_asked(self, start):
        transport = start("printf abcde; cat")
        assert transport.read(2) == b"ab"
        rest = b""
        while len(rest) < 3:
            rest += transport.read(100)
        assert rest == b"cde"

    def test_close_write_is_the_end_of_input(self, start):
        transport = start("wc -c")
        transport.write(bytes(100_000))
        transport.close_write()
        transport.close_write()
        assert read_all(transport).split() == [b"100000"]
        with pytest.raises(OSError):
            transport.write(b"x")

    @pytest.mark.parametrize("status", [0, 1, 97, 126, 254])
    def test_wait_gives_the_status(self, start, status):
        transport = start(f"exit {status}")
        assert read_all(transport) == b""
        assert transport.wait(SOON_S) == status
        assert transport.wait(0) == status

    def test_wait_gives_none_while_it_runs(self, start):
        transport = start("cat")
        assert transport.wait(0.05) is None

    def test_wait_gives_the_signal_where_it_can(self, start):
        transport = start("kill -9 $$")
        assert read_all(transport) == b""
        expected = -signal.SIGKILL if self.tells_signals else None
        assert transport.wait(SOON_S) == expected

    def test_command_not_found(self, start):
        transport = start("exec /nonexistent/program; exit 97")
        assert read_all(transport) == b""
        assert transport.wait(SOON_S) in (126, 127)
        assert "/nonexistent/program" in transport.diagnostics()

    def test_writing_to_a_command_that_is_gone_is_an_error(self, start):
        transport = start("exec <&-; exit 3")
        transport.wait(SOON_S)
        with pytest.raises(OSError):
            for _ in range(10_000):
                transport.write(bytes(64 * 1024))

    def test_close_ends_a_read_that_waits(self, start):
        transport = start("printf x; exec sleep 600")
        assert transport.read(10) == b"x"
        thread, outcome = in_thread(lambda: transport.read(10))
        time.sleep(0.2)
        transport.close()
        thread.join(SOON_S)
        assert [type(error) for error in outcome] == [OSError]

    def test_close_ends_a_write_that_waits(self, start):
        transport = start("exec sleep 600")
        thread, outcome = in_thread(lambda: transport.write(bytes(64 * MIB)))
        time.sleep(0.3)
        assert thread.is_alive()
        transport.close()
        thread.join(SOON_S)
        assert not thread.is_alive()
        assert isinstance(outcome[0], OSError)

    def test_after_close_nothing_looks_like_the_end_of_the_stream(self, start):
        transport = start("printf x; cat")
        transport.close()
        transport.close()
        with pytest.raises(OSError):
            transport.read(1)
        with pytest.raises(OSError):
            transport.write(b"x")
        transport.close_write()

    def test_close_lets_the_command_know(self, start, tmp_path):
        mark = shlex.quote(str(tmp_path / "ended"))
        transport = start(f"trap 'touch {mark}; exit' TERM HUP; echo; cat; touch {mark}")
        assert transport.read(1) == b"\n"
        transport.close()
        deadline = time.monotonic() + SOON_S
        while not (tmp_path / "ended").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_diagnostics_are_the_last_lines_and_safe(self, start):
        transport = start("printf 'one\\ttab\\n\\033[31mred\\007\\r\\ntwo \\342\\200\\256 x\\n\\377' >&2")
        assert read_all(transport) == b""
        assert transport.wait(SOON_S) == 0
        assert transport.diagnostics() == "one tab\n[31mred\ntwo  x\n?"

    def test_log_gets_every_line(self, start):
        lines = []
        transport = start("for i in 1 2 3; do echo line $i >&2; done", log=lines.append)
        assert read_all(transport) == b""
        transport.wait(SOON_S)
        assert lines == ["line 1", "line 2", "line 3"]

    def test_much_on_stderr_neither_blocks_nor_grows(self, start):
        transport = start("head -c 5000000 /dev/zero | tr '\\0' e >&2; echo >&2; echo last >&2; echo done")
        assert read_all(transport) == b"done\n"
        assert transport.wait(SOON_S) == 0
        text = transport.diagnostics()
        assert text.endswith("\nlast")
        assert len(text.encode()) <= MAX_TAIL

    def test_a_log_that_fails_does_not_stop_the_command(self, start):
        def log(line):
            raise BrokenPipeError

        transport = start("head -c 3000000 /dev/zero | tr '\\0' '\\n' >&2; echo x >&2; echo done", log=log)
        assert read_all(transport) == b"done\n"

    def test_leaves_no_descriptor_and_no_thread(self, begin):
        def state():
            return len(os.listdir("/proc/self/fd")), threading.active_count()

        begin("true").close()  # what is only opened once
        before = settled(state)
        for _ in range(3):
            transport = begin("cat")
            transport.write(b"x")
            assert transport.read(1) == b"x"
            transport.close()
            transport.wait(SOON_S)
        assert settled(state, before) == before


def settled(state, wanted=None):
    """Return a state once it is as wanted, or has not changed for a while."""
    deadline, last, since = time.monotonic() + 5, state(), time.monotonic()
    while time.monotonic() < deadline and last != wanted:
        time.sleep(0.05)
        now = state()
        if now != last:
            last, since = now, time.monotonic()
        elif wanted is None and time.monotonic() - since > 0.5:
            break
    return last
