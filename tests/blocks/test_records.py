from blockdiff.blocks.records import Records

BLOCK = 4


def payload(*rows, last=BLOCK):
    parts = [b"head"]
    for place, block in enumerate(rows):
        size = last if place == len(rows) - 1 else BLOCK
        parts += [(block * BLOCK).to_bytes(8, "little"), bytes([block + 1]) * size]
    return b"".join(parts)


def test_records_are_found_by_their_blocks():
    found = Records(payload(1, 2, 3, 7, last=2), BLOCK, 4)
    assert found.count == 4
    assert [found.block(record) for record in range(4)] == [1, 2, 3, 7]
    assert found.run(1, 2) == (0, 2)
    assert found.run(2, 9) == (1, 3)
    assert found.run(7, 1) == (3, 4)
    for absent in (0, 5, 8):
        first, after = found.run(absent, 3)
        assert first == after
    start, end = found.span(3)
    assert found.payload[start:end] == bytes([8, 8])
    assert (found.first_from(0), found.first_from(4), found.first_from(8)) == (0, 3, 4)


def test_a_run_ends_where_a_record_is_not_of_the_next_block():
    found = Records(payload(1, 9, 3), BLOCK, 4)
    assert found.run(1, 3) == (0, 1)


def test_a_rest_without_a_block_is_no_record():
    whole = payload(1, 2)
    assert Records(whole[:-BLOCK], BLOCK, 4).count == 1
    assert Records(whole[: -BLOCK + 1], BLOCK, 4).count == 2
    assert Records(whole[:4], BLOCK, 4).count == 0
    assert Records(b"", BLOCK).count == 0


def test_an_offset_that_is_no_block_s():
    found = Records((BLOCK + 1).to_bytes(8, "little") + b"abcd", BLOCK)
    assert found.block(0) == -1
