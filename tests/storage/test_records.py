"""Records one by one: framing, the chain, the seal, what a torn one looks like, and how terms follow indices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.raft.types import Entry, HardState
from kvstore.storage.layout import Point, Watermark
from kvstore.storage.records import (
    SECTOR,
    Kind,
    UnreadablePayload,
    frame,
    framed_bytes,
    pack_hard_state,
    pack_meta,
    read_record,
    torn,
    unpack_entries,
    unpack_hard_state,
    unpack_meta,
    unpack_next,
)
from kvstore.storage.terms import Terms
from tests.storage.logs import mark


@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1))
def test_a_record_comes_back_from_behind_its_own_chain_alone(payload: bytes, chain: int) -> None:
    framed, after = frame(Kind.ENTRIES, payload, chain)
    assert len(framed) == framed_bytes(len(payload))
    assert len(framed) % 8 == 0
    assert framed[-1] != 0
    record = read_record(memoryview(b"12345678" + framed), 8, chain)
    assert record is not None
    assert (record.kind, bytes(record.payload), record.offset) == (1, payload, 8)
    assert (record.end, record.chain) == (8 + len(framed), after)
    assert read_record(memoryview(framed), 0, chain ^ 1) is None


@given(st.binary(max_size=40), st.randoms(use_true_random=False))
def test_a_record_with_any_bit_flipped_or_cut_short_is_none(payload: bytes, random: Random) -> None:
    framed, _ = frame(Kind.ENTRIES, payload, 5)
    for offset in range(len(framed)):
        flipped = bytearray(framed)
        flipped[offset] ^= 1 << random.randrange(8)
        assert read_record(memoryview(flipped), 0, 5) is None
        assert read_record(memoryview(framed[:offset]), 0, 5) is None


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 127), st.data())
def test_a_record_that_lacks_a_sector_is_torn_and_a_whole_one_is_not(
    payload: bytes, eighth: int, data: st.DataObject
) -> None:
    start = eighth * 8
    payload = payload.replace(b"\0", b"\1")
    framed, _ = frame(Kind.ENTRIES, payload, 5)
    buffer = bytearray(bytes(start) + framed + bytes(2 * SECTOR))
    changed = bytearray(buffer)
    changed[start + 16] ^= 255
    assert not torn(memoryview(changed), start)
    sectors = range(start // SECTOR, (start + len(framed) - 1) // SECTOR + 1)
    lacking = data.draw(st.sampled_from(list(sectors))) * SECTOR
    for offset in range(max(start, lacking), min(start + len(framed), lacking + SECTOR)):
        buffer[offset] = 0
    assert torn(memoryview(buffer), start)


@given(st.binary(max_size=100))
def test_payloads_of_any_bytes_raise_nothing_else(payload: bytes) -> None:
    for unpack in (unpack_entries, unpack_hard_state, unpack_meta, unpack_next):
        try:
            unpack(payload)
        except UnreadablePayload as error:
            assert str(error)  # noqa: PT017


def test_hard_states_and_marks_come_back() -> None:
    state = HardState(2**64 - 1, 2**63, 5)
    assert unpack_hard_state(pack_hard_state(state)) == state
    assert unpack_meta(pack_meta(mark(9, 4))) == mark(9, 4)


def test_a_watermark_that_fails_its_checksum_is_none() -> None:
    point = Point(1, 2, 3, 4, 2**64 - 1)
    packed = Watermark(7, point, point._replace(offset=9), 5, 6).pack()
    assert Watermark.unpack(packed.ljust(SECTOR, b"\0")) == Watermark(7, point, point._replace(offset=9), 5, 6)
    for offset in range(len(packed)):
        assert Watermark.unpack(packed[:offset] + bytes([packed[offset] ^ 8]) + packed[offset + 1 :]) is None
        assert Watermark.unpack(packed[:offset]) is None
    assert len(packed) <= SECTOR, "a slot must lie in one sector"


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5), st.integers(0, 2), st.booleans())))
def test_terms_agree_with_a_dictionary(steps: list[tuple[int, int, int, bool]]) -> None:
    terms, model, base = Terms(), {0: 0}, 0
    for back, count, rise, restart in steps:
        last = max(model)
        if restart:
            base = last + back
            terms.restart(base, model[last] + rise)
            model = {base: model[last] + rise}
            continue
        first = max(base + 1, last + 1 - back)
        batch = [Entry(first + n, model[last] + rise + n // 2, 0, b"") for n in range(count)]
        terms.append(batch)
        model = {index: term for index, term in model.items() if index < first}
        model.update((entry.index, entry.term) for entry in batch)
        for index in range(base, max(model) + 3):
            assert terms.at(index) == model.get(index)
        assert (terms.base, terms.last_index, terms.last_term) == (base, max(model), model[max(model)])
    assert terms.at(base - 1) is None


def test_terms_replaced_from_below_their_base_begin_there() -> None:
    terms = Terms(10, 3)
    terms.append([Entry(8, 4, 0, b"")])
    assert (terms.base, terms.at(8), terms.last_index) == (7, 4, 8)
    with pytest.raises(AssertionError):
        terms.append([Entry(10, 4, 0, b"")])


@pytest.mark.parametrize("read", [unpack_entries, unpack_hard_state, unpack_meta])
def test_what_a_payload_announces_and_does_not_hold_takes_no_memory(read: Callable[[bytes], object]) -> None:
    bomb = (b"\xdd\x00\x00\xff\xff" * 900).ljust(100_000, b"\x00")
    tracemalloc.start()
    try:
        with pytest.raises(UnreadablePayload):
            read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(bomb)
    finally:
        tracemalloc.stop()
