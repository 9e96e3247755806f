"""thin_delta's output: the program's own is understood, and nothing that is not exactly such output is used."""

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.snapshots.thindelta import CHANGED, MOST, SAME, Doubt, Ranges, parse

CHUNK = 64 * 1024
KINDS = ("same", "different", "left_only", "right_only")
HEAD = ['<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="1000">',
        '  <diff left="1" right="2">']  # fmt: skip
TAIL = ["  </diff>", "</superblock>"]
WHOLE = [*HEAD, '    <same begin="0" length="2"/>', '    <different begin="2" length="1"/>',
         '    <left_only begin="9" length="1"/>', '    <right_only begin="12" length="3"/>', *TAIL]  # fmt: skip


def written(ranges):
    return [*HEAD, *(f'    <{kind} begin="{begin}" length="{length}"/>' for kind, begin, length in ranges), *TAIL]


@st.composite
def outputs(draw):
    """Ranges (kind, begin, length) as thin_delta has them: in order, with gaps or without."""
    at, out = 0, []
    for kind, gap, length in draw(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(1, 4)))):
        out.append((kind, at + gap, length))
        at += gap + length
    return out


@given(outputs(), st.sampled_from([SAME, CHANGED]), st.integers(1, 6))
def test_every_chunk_that_is_asked_for_is_in_the_ranges(ranges, kinds, most):
    exact = parse(written(ranges), 1, 2, kinds)
    chunks = {chunk for kind, begin, length in ranges if kind in kinds for chunk in range(begin, begin + length)}
    assert {chunk for begin, end in exact.ranges for chunk in range(begin, end)} == chunks
    assert exact.chunk == CHUNK
    assert exact.left == sum(length for kind, _, length in ranges if kind != "right_only")
    assert exact.right == sum(length for kind, _, length in ranges if kind != "left_only")

    rough = list(parse(written(ranges), 1, 2, kinds, most=most).ranges)
    assert len(rough) <= most
    assert chunks <= {chunk for begin, end in rough for chunk in range(begin, end)}
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(rough))


def test_a_scattered_volume_takes_little_memory():
    ranges = Ranges()
    for chunk in range(0, 4 * MOST, 2):
        ranges.add(chunk, chunk + 1)
    assert 0 < len(list(ranges)) <= MOST


@pytest.mark.skipif(shutil.which("thin_delta", path="/usr/sbin:/usr/bin:/sbin:/bin") is None, reason="no thin_delta here")
def test_the_programs_own_output_is_understood(tmp_path):
    (tmp_path / "xml").write_text("""\
<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="1000">
  <device dev_id="1" mapped_blocks="5" transaction="0" creation_time="0" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="3" time="0"/>
    <single_mapping origin_block="7" data_block="10" time="0"/>
    <single_mapping origin_block="9" data_block="11" time="0"/>
  </device>
  <device dev_id="2" mapped_blocks="6" transaction="1" creation_time="1" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="2" time="0"/>
    <single_mapping origin_block="2" data_block="20" time="1"/>
    <single_mapping origin_block="7" data_block="10" time="0"/>
    <range_mapping origin_begin="12" data_begin="21" length="2" time="1"/>
  </device>
</superblock>
""")
    metadata = tmp_path / "metadata"
    metadata.write_bytes(bytes(4 << 20))
    subprocess.run(["/usr/sbin/thin_restore", "-i", tmp_path / "xml", "-o", metadata], check=True, capture_output=True)

    def delta(*ids):
        words = ["/usr/sbin/thin_delta", "--snap1", str(ids[0]), "--snap2", str(ids[1]), metadata]
        out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        return parse(out.splitlines(), *ids, SAME if ids[0] == ids[1] else CHANGED)

    found = delta(1, 2)
    assert (found.chunk, found.left, found.right) == (CHUNK, 5, 6)
    assert list(found.ranges) == [(2, 3), (9, 10), (12, 14)]
    assert list(delta(2, 2).ranges) == [(0, 3), (7, 8), (12, 14)]


@given(st.data())
def test_no_part_of_the_output_is_used(data):
    """Lines that are missing, twice, in another order, cut, or have one byte changed."""
    lines = list(WHOLE)
    place = data.draw(st.integers(0, len(lines) - 1))
    what = data.draw(st.sampled_from(["cut", "drop", "byte", "twice", "swap", "more"]))
    if what == "cut":
        del lines[place:]
    elif what == "drop":
        if lines[place] not in HEAD + TAIL:
            return  # fewer ranges are found by the pool's own counts
        del lines[place]
    elif what == "byte":
        at = data.draw(st.integers(0, len(lines[place]) - 1))
        lines[place] = lines[place][:at] + data.draw(st.sampled_from('<>"=/ x')) + lines[place][at + 1 :]
    elif what == "twice":
        lines.insert(place, lines[place])
    elif what == "swap":
        other = data.draw(st.integers(0, len(lines) - 1))
        lines[place], lines[other] = lines[other], lines[place]
    else:
        lines.insert(place, data.draw(st.sampled_from(["<other/>", "oops", '    <same begin="5" length="0"/>'])))
    if [line.split() for line in lines] == [line.split() for line in WHOLE]:
        return
    try:
        found = parse(lines, 1, 2, CHANGED)
    except Doubt:
        return
    # what is left over are bytes that mean nothing here
    assert (list(found.ranges), found.left, found.right) == ([(2, 3), (9, 10), (12, 15)], 4, 6)


@pytest.mark.parametrize("lines", [
    [], ["thin_delta: no such device"], [HEAD[0].replace("128", "0"), *WHOLE[1:]], [HEAD[0].replace("128", "x"), *WHOLE[1:]],
    [HEAD[0], '  <diff left="1" right="3">', *WHOLE[2:]],
    [*HEAD, '    <same begin="7" length="2"/>', '    <different begin="8" length="1"/>', *TAIL],
    [*HEAD, f'    <same begin="{10**19}" length="2"/>', *TAIL], [*WHOLE, "x"],
])  # fmt: skip
def test_what_is_wrong_is_a_doubt(lines):
    with pytest.raises(Doubt):
        parse(lines, 1, 2, CHANGED)
