"""Any mutation of a conversation, and a wire that is cut after any byte, in both directions.

A named error and nothing published; or, since frames that mean the same are no attack, a
whole version of exactly the volume.
"""

import json
import zlib

import pytest
import zstandard
from engine import back_up, files_of
from hostile import HONEST, ODD, SECOND, CutTowardsAgent, Set, put_together, raw
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blockdiff.errors import BlockdiffError
from blockdiff.source import push
from blockdiff.wire import messages

MUTATION = st.one_of(
    st.tuples(st.just("drop"), st.integers(0, 20)),
    st.tuples(st.just("again"), st.integers(0, 20)),
    st.tuples(st.just("swap"), st.integers(0, 20), st.integers(0, 20)),
    st.tuples(st.just("flip"), st.integers(0, 20), st.integers(0, 3000), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 20), st.integers(0, 3000)),
    st.tuples(st.just("longer"), st.integers(0, 20), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("kind"), st.integers(0, 20), st.integers(0, 255)),
    st.tuples(st.just("lie"), st.integers(0, 20), st.integers(0, 1 << 32)),
    st.tuples(st.just("put"), st.integers(0, 20), st.integers(0, 20), st.binary(max_size=60)),
    st.tuples(st.just("field"), st.integers(0, 20), st.integers(0, 12), ODD),
    st.tuples(st.just("without"), st.integers(0, 20), st.integers(0, 12)),
    st.tuples(st.just("pack"), st.integers(0, 20), st.sampled_from([messages.ZLIB, messages.ZSTD])),
    st.tuples(st.just("stop"), st.integers(0, 20)),
)


def mutated(spoken, mutation):
    what, place, *how = mutation
    spoken = list(spoken)
    if not spoken:
        return spoken
    place %= len(spoken)
    frame = spoken[place]
    kind, payload = frame if isinstance(frame, tuple) else (0, b"")
    if what == "drop":
        del spoken[place]
    elif what == "again":
        spoken.insert(place, frame)
    elif what == "swap":
        other = how[0] % len(spoken)
        spoken[place], spoken[other] = spoken[other], spoken[place]
    elif what == "flip" and payload:
        damaged = bytearray(payload)
        damaged[how[0] % len(damaged)] ^= how[1]
        spoken[place] = kind, bytes(damaged)
    elif what == "cut" and payload:
        spoken[place] = kind, payload[: how[0] % len(payload)]
    elif what == "longer":
        spoken[place] = kind, payload + how[0]
    elif what == "kind":
        spoken[place] = how[0], payload
    elif what == "lie":
        spoken[place] = raw(kind, payload, min(how[0], 0xFFFFFFFF))
    elif what == "put":
        spoken.insert(place, (how[0], how[1]))
    elif what in ("field", "without") and payload[:1] == b"{":
        try:
            value = json.loads(payload)
        except ValueError:
            return spoken
        if value:
            key = sorted(value)[how[0] % len(value)]
            if what == "field":
                value[key] = how[1]
            else:
                del value[key]
            spoken[place] = kind, json.dumps(value).encode()
    elif what == "pack" and kind == messages.DATA and payload[:1] == b"\0":
        body = payload[5:]
        body = zlib.compress(body) if how[0] == messages.ZLIB else zstandard.ZstdCompressor().compress(body)
        spoken[place] = kind, bytes([how[0]]) + payload[1:5] + body
    elif what == "stop":
        del spoken[place:]
    return spoken


@given(number=st.sampled_from([1, 2]), mutations=st.lists(MUTATION, min_size=1, max_size=3), piece=st.sampled_from([7, 65536]))
@example(number=2, mutations=[("field", 1, 1, 1 << 62)], piece=65536)
@example(number=1, mutations=[("without", -1, 0)], piece=65536)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_any_mutation_of_a_conversation(number, mutations, piece):
    spoken = HONEST[number]
    for mutation in mutations:
        spoken = mutated(spoken, mutation)
    with Set(number) as it:
        it.survives(put_together(spoken), played={"piece": piece})


@given(noise=st.binary(max_size=400), where=st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_any_noise_in_a_conversation(noise, where):
    with Set(1) as it:
        it.survives(put_together(HONEST[1][:where]) + noise + b"".join(raw(*frame) for frame in HONEST[1][where:]))


# the wire is cut


def some(length, borders, most):
    """All of 0 to length if that is few, else a sample with all borders and their neighbours."""
    near = {place + step for place in borders for step in (-1, 0, 1) if 0 <= place + step <= length}
    return sorted(near | set(range(0, length + 1, max(1, length // most))))


@pytest.mark.parametrize("number", [1, 2])
def test_the_wire_from_the_agent_is_cut_after_any_byte(number):
    stream = put_together(HONEST[number])
    borders = [len(put_together(HONEST[number][:count])) for count in range(len(HONEST[number]) + 1)]
    proved = borders[-2]  # all of END is there
    for length in some(len(stream), borders, 60):
        with Set(number) as it:
            if length < proved:
                it.refuses(stream[:length], played={"status": None, "words": "killed"})
                continue
            outcome = it.back_up(stream[:length], played={"status": 0})
            assert (outcome.exit_code == 0) == (length == len(stream))
            it.is_whole()
    with Set(number) as it:
        it.refuses(stream[: proved - 1])
        it.back_up(stream)
        it.is_whole()


def test_the_wire_to_the_agent_is_cut_after_any_byte(tmp_path):
    """The real agent ends by itself, and says nothing that is taken for a version."""
    (tmp_path / "vol").write_bytes(SECOND)
    whole = CutTowardsAgent(1 << 40)
    with Set(2) as it:
        back_up(it.folder / "set", tmp_path / "vol", connect=lambda: whole)
    bundle = len(push.bundle(True))
    assert bundle < whole.sent < bundle + 3000
    stage_1 = len(push.source("agent/assembler.py"))
    borders = [0, stage_1, bundle - 1, bundle, bundle + 5, whole.sent]
    lengths = [*some(whole.sent, borders, 8), *range(bundle + 2, whole.sent, max(1, (whole.sent - bundle) // 12))]
    results = set()
    for length in sorted(set(lengths)):
        cut = CutTowardsAgent(length)
        with Set(2) as it:
            try:
                back_up(it.folder / "set", tmp_path / "vol", connect=lambda cut=cut: cut, timeout_s=20.0)
            except BlockdiffError as error:
                assert 20 <= error.exit_code < 30
                results.add("refused")
                assert files_of(it.folder) == it.before
                assert length <= whole.sent
            else:
                results.add("published")
                assert length >= whole.sent - 40  # all that it needed had arrived
                it.is_whole()
        assert cut.wait(20) is not None
    assert "refused" in results
