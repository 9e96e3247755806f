"""One end of the wire: credit, heartbeats, silence, and an end that frees everybody.

Two real links over a real socket pair, or one link against a scripted peer.  Timeouts are
short here; that something happens in time is the contract, how fast is not.
"""

import socket
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memory import peak_below
from programs import until

from blockdiff.formats import FormatError, TornError
from blockdiff.wire import frames, messages
from blockdiff.wire.link import FRAME_COST, GATHERED, MAX_WAITING, WINDOW, Link, LinkClosed, LinkSilent, cost

DATA, NOTE, PING, CREDIT = messages.DATA, messages.NOTE, messages.PING, messages.CREDIT
OURS = ("link reader", "link watch", "link beat")


def link_threads():
    return [thread for thread in threading.enumerate() if thread.name in OURS]


def over(end, timeout_s=30.0, **options):
    """A link over one end of a socket pair."""
    return Link(end.recv, end.sendall, timeout_s, **options)


@pytest.fixture
def wire():
    """Two ends of a wire; afterwards no thread of a link is left."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        end.close()
    until(lambda: not link_threads(), 10)


def in_thread(function, *arguments):
    """Start function in a thread; returns the thread and a list that gets its result or exception."""
    outcome = []

    def run():
        try:
            outcome.append(function(*arguments))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


class Peer:
    """The other side, by hand: what it reads is taken apart by a thread, what it says are bytes."""

    def __init__(self, end, listening=True):
        self.end = end
        self.heard = []
        if listening:
            threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        decoder = frames.Decoder()
        try:
            while data := self.end.recv(65536):
                decoder.feed(data)
                while (frame := decoder.next()) is not None:
                    self.heard.append((frame[0], bytes(frame[1])))
        except OSError:
            pass

    def say(self, kind, payload=b""):
        self.end.sendall(frames.encode(kind, payload))

    def count(self, kind):
        return sum(1 for heard, _ in list(self.heard) if heard == kind)


# what arrives


def test_frames_pass_in_order_both_ways(wire):
    with over(wire[0]) as a, over(wire[1]) as b:
        sent = [(NOTE, b"one"), (DATA, bytes(100_000)), (NOTE, b""), (DATA, b"x"), (messages.END, b"{}")]
        for here, there in ((a, b), (b, a)):
            for kind, payload in sent:
                if kind == DATA:
                    here.send_metered(kind, (payload[:10], payload[10:]))
                else:
                    here.send(kind, payload)
            assert [(kind, bytes(payload)) for kind, payload in (there.receive() for _ in sent)] == sent
        assert a.received == b.received == sum(5 + len(payload) for _, payload in sent)


@given(
    st.lists(st.tuples(st.sampled_from(["at once", "metered", "later"]), st.binary(max_size=3000)), max_size=40),
    st.integers(1, 4000), st.integers(5000, 9000),  # a quarter of the window may be kept back
)  # fmt: skip
@example([("later", bytes(9)), ("later", bytes(3000)), ("later", b"")] * 3 + [("at once", b"")], 20, 5000)
@settings(max_examples=15, deadline=None)
def test_any_frames_pass_however_they_are_gathered(sent, gathered, window):
    ends = socket.socketpair()
    with pytest.MonkeyPatch.context() as limits, over(ends[0], window=window) as a, over(ends[1], window=window) as b:
        limits.setattr("blockdiff.wire.link.GATHERED", gathered)

        def send():
            for how, payload in sent:
                if how == "at once":
                    a.send(NOTE, payload)
                else:
                    a.send_metered(DATA, (payload[:9], payload[9:]), how == "later")
            a.send(NOTE)

        thread, outcome = in_thread(send)
        for how, payload in sent:
            assert b.receive() == (NOTE if how == "at once" else DATA, payload)
        thread.join(10)
        assert outcome == [None]
    for end in ends:
        end.shutdown(socket.SHUT_RDWR)
        end.close()
    until(lambda: not link_threads(), 10)


def test_small_frames_are_written_together(wire):
    written = []
    with Link(wire[0].recv, lambda data: written.append(bytes(data)), 30.0) as link:
        for _ in range(3):
            link.send_metered(DATA, (b"small",), later=True)
        assert written == []
        link.send(NOTE, b"now")
        assert written == [3 * frames.encode(DATA, b"small") + frames.encode(NOTE, b"now")]
        large = bytes(GATHERED + 1)
        link.send_metered(DATA, (large,), later=True)
        assert written[1:] == [frames.encode_header(DATA, len(large)), large]


def test_what_is_gathered_does_not_wait_long(wire):
    peer = Peer(wire[1])
    with over(wire[0]) as link:
        link.send_metered(DATA, (b"alone",), later=True)
        until(lambda: peer.heard == [(DATA, b"alone")], 10)
        assert peer.count(PING) == 0


def test_what_arrived_before_the_end_is_still_received(wire):
    peer = Peer(wire[1])
    peer.say(NOTE, b"last words")
    peer.say(DATA, b"x")
    wire[1].shutdown(socket.SHUT_WR)
    with over(wire[0]) as link:
        assert link.receive() == (NOTE, b"last words")
        assert link.receive() == (DATA, b"x")
        for _ in range(2):
            with pytest.raises(LinkClosed):
                link.receive()


def test_an_end_inside_a_frame_is_torn(wire):
    wire[1].sendall(frames.encode(NOTE, b"abc")[:-1])
    wire[1].shutdown(socket.SHUT_WR)
    with over(wire[0]) as link, pytest.raises(TornError):
        link.receive()


@pytest.mark.parametrize(
    "data",
    [
        b"\x06\xff\xff\xff\xff",  # 4 GiB announced
        frames.encode(CREDIT, b"\x01\0\0"),
        frames.encode(CREDIT, b"\x01\0\0\0\0"),
        frames.encode(CREDIT, messages.encode_credit(1)),  # nothing was spent
        frames.encode(CREDIT, messages.encode_credit((1 << 32) - 1)),
    ],
)
def test_what_cannot_be_breaks_the_link(wire, data):
    wire[1].sendall(data)
    with over(wire[0]) as link, pytest.raises(FormatError):
        link.receive()


# credit


def test_a_sender_waits_for_credit_and_goes_on_with_it(wire):
    peer = Peer(wire[1])
    with over(wire[0], window=10 * cost(100)) as link:
        thread, outcome = in_thread(lambda: [link.send_metered(DATA, (bytes(100),)) for _ in range(12)])
        until(lambda: peer.count(DATA) == 10)
        thread.join(0.3)
        assert thread.is_alive() and peer.count(DATA) == 10  # the window is spent
        link.send(NOTE, b"what is not metered passes")
        until(lambda: peer.count(NOTE) == 1)

        peer.say(CREDIT, messages.encode_credit(cost(100)))
        until(lambda: peer.count(DATA) == 11)
        thread.join(0.2)
        assert thread.is_alive()
        peer.say(CREDIT, messages.encode_credit(cost(100)))
        thread.join(10)
        assert not thread.is_alive() and outcome == [[None] * 12]


def test_credit_comes_back_as_frames_are_taken(wire):
    """Far more than a window passes, while never more than a window is under way."""
    with over(wire[0], window=65536) as a, over(wire[1], window=65536) as b:
        thread, outcome = in_thread(lambda: [a.send_metered(DATA, (bytes(10_000),)) for _ in range(200)])
        for _ in range(200):
            assert b._queued <= 65536
            assert b.receive() == (DATA, bytes(10_000))
        thread.join(10)
        assert len(outcome[0]) == 200


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_more_than_the_credit_breaks_the_protocol(wire, length):
    most = WINDOW // cost(length)
    peer = Peer(wire[1])
    with over(wire[0]) as link:
        thread, _ = in_thread(lambda: wire[1].sendall(frames.encode(DATA, bytes(length)) * (most + 1)))
        thread.join(30)
        peer.say(PING)
        until(lambda: link._ended is not None)
        for _ in range(most):  # what came within the bounds is not lost
            assert link.receive()[0] == DATA
        with pytest.raises(FormatError):
            link.receive()


@pytest.mark.parametrize("kind", [DATA, NOTE, 200])
@pytest.mark.parametrize("length", [0, 10, 1_000_000])
def test_a_flood_nobody_takes_costs_bounded_memory(kind, length, wire):
    """Also of empty frames, and of frames that carry no credit."""
    ended = threading.Event()
    flood = frames.encode(kind, bytes(length)) + frames.encode(PING, b"")

    def pour():
        for _ in range(100_000):
            if ended.is_set():
                return "noticed"
            try:
                wire[1].sendall(flood * (1 if length > 1000 else 500))
            except OSError:
                return "noticed"
        return "never"

    with peak_below(3 * (WINDOW + MAX_WAITING)):
        with over(wire[0], on_dead=lambda why: ended.set()) as link:
            thread, outcome = in_thread(pour)
            assert ended.wait(60)
            wire[0].shutdown(socket.SHUT_RDWR)
            thread.join(10)
            with pytest.raises(FormatError):
                while True:
                    link.receive()
    assert outcome == ["noticed"]


def test_many_small_frames_that_wait_are_no_attack(wire):
    """A window of small extents and then the end: legitimate, however slow the taker is."""
    count = WINDOW // cost(41)
    assert count > 10_000
    with over(wire[0]) as a, over(wire[1]) as b:
        for _ in range(count):
            a.send_metered(messages.EXTENT, (bytes(41),))
        a.send(NOTE, b"n")
        a.send(messages.END, b"{}")
        until(lambda: b.received >= count * 46 + 13)
        for _ in range(count):
            assert b.receive()[0] == messages.EXTENT
        assert b.receive()[0] == NOTE and b.receive()[0] == messages.END


def test_both_sides_may_flow_at_once(wire):
    """Neither waits for the other's credit while its own reader stands still."""
    with over(wire[0], window=1 << 20) as a, over(wire[1], window=1 << 20) as b:
        work = []
        for here in (a, b):
            work.append(in_thread(lambda here=here: [here.send_metered(DATA, (bytes(50_000),)) for _ in range(150)]))
            work.append(in_thread(lambda here=here: [here.receive()[0] for _ in range(150)]))
        for thread, _ in work:
            thread.join(30)
        assert [len(outcome[0]) for _, outcome in work] == [150] * 4


def test_the_cost_of_a_frame_is_as_told():
    assert cost(0) == FRAME_COST == 512 and cost(1000) == 1512


# heartbeats and silence


def test_heartbeats_keep_two_idle_sides_alive(wire):
    with over(wire[0], timeout_s=1.0) as a, over(wire[1], timeout_s=1.0) as b:
        thread, outcome = in_thread(b.receive)
        time.sleep(2.5)  # either side waits for something slow
        assert a._ended is None and b._ended is None
        a.send(NOTE, b"at last")
        thread.join(10)
        assert outcome == [(NOTE, b"at last")]


def test_a_side_that_only_sends_hears_heartbeats(wire):
    peer = Peer(wire[1])
    with over(wire[0], timeout_s=2.0):
        until(lambda: peer.count(PING) >= 2)


@pytest.mark.parametrize("listening", [True, False], ids=["it reads", "it reads nothing"])
def test_silence_is_noticed_while_receiving(wire, listening):
    Peer(wire[1], listening)
    said = []
    with over(wire[0], timeout_s=1.0, on_dead=said.append) as link:
        began = time.monotonic()
        with pytest.raises(LinkSilent):
            link.receive()
        assert 0.9 < time.monotonic() - began < 10
        assert [type(why) for why in said] == [LinkSilent]


def test_silence_is_noticed_while_waiting_for_credit(wire):
    Peer(wire[1])
    with over(wire[0], timeout_s=1.0, window=2 * cost(10)) as link, pytest.raises(LinkSilent):
        for _ in range(3):
            link.send_metered(DATA, (bytes(10),))


def test_silence_is_noticed_while_a_write_is_blocked(wire):
    """A half-open connection: nothing is read, nothing is said.  on_dead can free the writer."""
    Peer(wire[1], listening=False)
    said = []

    def dead(why):
        said.append(why)
        wire[0].shutdown(socket.SHUT_RDWR)

    with over(wire[0], timeout_s=1.0, on_dead=dead) as link:
        with pytest.raises((LinkSilent, LinkClosed)):
            for _ in range(1000):
                link.send(NOTE, bytes(100_000))
        with pytest.raises(LinkSilent):
            link.receive()
        assert [type(why) for why in said] == [LinkSilent]


def test_silence_is_noticed_while_a_heartbeat_is_blocked(wire):
    freed = threading.Event()

    def write(data):
        freed.wait(30)
        raise OSError("gone")

    with Link(wire[0].recv, write, 1.0, on_dead=lambda why: freed.set()) as link:
        with pytest.raises(LinkSilent):
            link.receive()
        assert freed.is_set()


def test_the_timeout_may_be_changed(wire):
    with over(wire[0], timeout_s=60.0) as link:
        link.set_timeout(1.0)
        with pytest.raises(LinkSilent):
            link.receive()


def test_when_the_other_side_was_heard_is_told(wire):
    peer = Peer(wire[1])
    with over(wire[0]) as link:
        before = link.last_received()
        assert time.monotonic() - before < 5
        peer.say(PING)
        until(lambda: link.last_received() > before)


# the end


@pytest.mark.parametrize("how", ["close", "the peer closes"])
def test_an_end_frees_everybody(wire, how):
    said = []
    link = over(wire[0], window=cost(10), on_dead=said.append)
    link.send_metered(DATA, (bytes(10),))
    waiting = [
        in_thread(link.receive),
        in_thread(link.receive),
        in_thread(link.send_metered, DATA, (bytes(10),)),
    ]
    time.sleep(0.2)
    assert all(thread.is_alive() for thread, _ in waiting)
    if how == "close":
        link.close()
    else:
        wire[1].close()
    for thread, outcome in waiting:
        thread.join(10)
        assert isinstance(outcome[0], LinkClosed)
    with pytest.raises(LinkClosed):
        link.send(NOTE, b"")
    assert len(said) == (0 if how == "close" else 1)  # what we did ourselves is no news
    link.close()


def test_a_broken_stream_is_an_end(wire):
    def read(size):
        raise ConnectionResetError(104, "scripted")

    with Link(read, wire[0].sendall, 30) as link, pytest.raises(LinkClosed, match="scripted"):
        link.receive()


def test_a_write_that_fails_is_an_end(wire):
    def write(data):
        raise BrokenPipeError(32, "scripted")

    with Link(wire[0].recv, write, 30) as link:
        with pytest.raises(LinkClosed, match="scripted"):
            link.send(NOTE, b"x")
        with pytest.raises(LinkClosed, match="scripted"):
            link.send_metered(DATA, (b"x",))


def test_what_a_transport_says_of_its_end_is_handed_on(wire):
    class Odd(Exception):
        pass

    def read(size):
        raise Odd("of its own")

    with Link(read, wire[0].sendall, 30) as link, pytest.raises(Odd):
        link.receive()
