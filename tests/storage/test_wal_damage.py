"""Bytes that change, vanish or come from elsewhere are refused with a message that helps, or owed; never just lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.raft.types import HardState
from kvstore.storage.errors import (
    RESTORE,
    DamagedWAL,
    DiskFailed,
    MissingSegment,
    Refused,
    UnknownFormat,
    WrongIdentity,
)
from kvstore.storage.layout import PAGE, RECORDS_AT, Birth, Point, Watermark
from kvstore.storage.records import SECTOR, Kind
from kvstore.storage.replay import Recovered
from kvstore.storage.wal import WAL
from tests.sim.disk import SimCrash, SimFiles
from tests.storage.logs import FOLDER, IDENTITY, SMALL, entries, last_segment, mark, new_log, reopen


def paths(files: SimFiles) -> list[str]:
    return [f"{FOLDER}/{name}" for name in files.list(FOLDER)]


def three_segments(settled: bool = True) -> tuple[SimFiles, WAL]:
    files, wal = new_log()
    first = 1
    while len(wal.segments) < 3 or not first % 3:
        wal.append(HardState(2, 7, first - 1), entries(first, 4, term=2, size=first % 50))
        first += 4
    wal.mark_snapshot(mark(3, term=2))
    wal.append(None, entries(first, 2, term=2))
    if settled:
        wal.settle()
    return files, wal


def contents(files: SimFiles) -> dict[str, bytes]:
    return {path: bytes(files.content(path)) for path in paths(files)}


@contextmanager
def undone(files: SimFiles) -> Iterator[dict[str, bytes]]:
    """Whatever happens inside, the folder is as before."""
    before = contents(files)
    yield before
    files.stop()
    for path in paths(files):
        if path not in before:
            files.remove(path)
    for path, content in before.items():
        if not files.exists(path):
            files.create(path)
        files.content(path)[:] = content


def open_or_refuse(files: SimFiles) -> Recovered | None:
    """None if it was refused, which must leave all as it was and say what is wrong."""
    before = contents(files)
    try:
        return reopen(files)[1]
    except Refused as refusal:
        refused = refusal
    assert contents(files) == before
    assert refused.file.startswith(FOLDER)
    assert f" at offset {refused.offset}: " in str(refused)
    assert "Nothing was changed" in str(refused)
    return None


def test_a_flipped_bit_anywhere_is_refused_or_harmless() -> None:
    files, _ = three_segments()
    with undone(files):
        sound = reopen(files)[1]
    random = Random(1)
    refused = 0
    for path in paths(files):
        content = bytes(files.content(path))
        used = [offset for offset in range(len(content)) if any(content[max(0, offset - 20) : offset + 20])]
        for offset in used:
            with undone(files):
                files.content(path)[offset] ^= 1 << random.randrange(8)
                found = open_or_refuse(files)
            if found is None:
                refused += 1
            else:
                assert found._replace(notes=[]) == sound._replace(notes=[]), f"{path} at {offset}"
    assert refused > 1000


def test_a_flipped_bit_in_the_last_batch_is_refused_even_before_the_watermark_covers_it() -> None:
    """It was written whole, so it may have been acknowledged; a crash leaves a sector of zeros instead."""
    files, wal = new_log()
    wal.append(None, entries(1, 3))
    wal.append(None, entries(4, 3))
    start = wal._segment._watermark.durable.offset
    for offset in range(start, wal._segment.durable.offset):
        with undone(files):
            files.content(last_segment(files))[offset] ^= 4
            with pytest.raises(DamagedWAL, match="written whole is damaged") as damage:
                reopen(files)
        assert damage.value.offset == start


@pytest.mark.parametrize("how", ["zeros", "shorter"])
@pytest.mark.parametrize("settled", [True, False])
def test_a_tail_that_was_cut_away_is_owed(how: str, settled: bool) -> None:
    files, wal = three_segments(settled)
    last = (2, wal.last_index)
    path = last_segment(files)
    durable = wal._segment._watermark.durable.offset
    with undone(files):
        sound = reopen(files)[1]
    for offset in range(RECORDS_AT, wal._segment.durable.offset):
        with undone(files):
            content = files.content(path)
            if how == "zeros":
                if offset >= durable:
                    continue  # not yet covered: looks like a torn write, see scan.py
                content[offset:] = bytes(len(content) - offset)
            else:
                del content[offset:]
            wal, found = reopen(files)
            assert found.hard_state[:2] == (2, 7)
            assert found.entries == sound.entries[: len(found.entries)]
            if found.promised is None:
                assert found.entries == sound.entries  # only records behind the last entry were cut
            else:
                assert found.promised == last
                assert any("cut away" in note and path in note for note in found.notes)


def indebted() -> SimFiles:
    """A log of which eleven acknowledged entries were cut away, not opened since."""
    files, wal = new_log()
    wal.append(HardState(3, 1, 0), entries(1, 9, term=3))
    wal.append(None, entries(10, 2, term=3))
    wal.settle()
    content = files.content(last_segment(files))
    content[RECORDS_AT + 100 :] = bytes(len(content) - RECORDS_AT - 100)
    files.stop()
    return files


def test_a_debt_is_seen_though_what_was_replaced_comes_back_and_looks_further() -> None:
    """The leader of term 9 replaced entries of term 6 by an older one of term 5, and that was cut away."""
    files, wal = new_log()
    wal.append(HardState(6, 0, 0), [*entries(1, 3, term=4), *entries(4, 4, term=6)])
    end = wal._segment.durable.offset
    wal.append(HardState(9, 0, 0), entries(4, 1, term=5))
    wal.settle()
    content = files.content(last_segment(files))
    content[end:] = bytes(len(content) - end)
    wal, found = reopen(files)
    assert (found.entries[-1].index, found.entries[-1].term) == (7, 6)
    assert found.promised == (9, 0)
    wal.append(None, entries(4, 1, term=5))
    wal, found = reopen(files)
    assert found.promised == (9, 0), "what the leader did not write itself proves nothing"
    wal.append(None, entries(5, 1, term=9))
    wal.settle()
    assert reopen(files)[1].promised is None


def test_a_debt_outlives_a_crash_of_the_repair() -> None:
    for seed in range(20):
        for crash_at in range(1, 7):
            for shorter in (True, False):
                files = indebted()
                files.random = Random(seed)
                if shorter:
                    del files.content(last_segment(files))[RECORDS_AT + 100 :]
                files.crash_in(crash_at)
                with pytest.raises(SimCrash):
                    WAL.open(files, FOLDER, snapshot=None, segment_bytes=SMALL)
                files.crash()
                assert reopen(files)[1].promised == (3, 11)


def test_a_debt_of_the_batch_in_flight_outlives_a_crash_of_the_repair() -> None:
    """Only the shorter file tells that the last batch was cut away, and the repair makes it longer again."""
    for seed in range(20):
        for crash_at in range(1, 7):
            files, wal = new_log(seed)
            wal.append(HardState(3, 1, 0), entries(1, 9, term=3))
            del files.content(last_segment(files))[RECORDS_AT:]
            files.stop()
            files.crash_in(crash_at)
            with pytest.raises(SimCrash):
                WAL.open(files, FOLDER, snapshot=None, segment_bytes=SMALL)
            files.crash()
            assert reopen(files)[1].promised == (3, 9)


def test_a_debt_lasts_until_it_is_paid() -> None:
    files = indebted()
    wal, found = reopen(files)
    assert (found.promised, found.entries, found.hard_state) == ((3, 11), [], HardState(3, 1, 0))
    wal.append(HardState(4, 0, 0), entries(1, 10, term=3))
    while len(wal.segments) < 3:
        wal.append(None, entries(1, 10, term=3))
    wal.settle()
    files.crash()
    wal, found = reopen(files)
    assert (found.promised, found.notes) == ((3, 11), [])
    wal.append(None, entries(11, 1, term=3))
    files.crash()
    wal, found = reopen(files)
    assert found.promised is None
    wal.append(None, entries(2, 1, term=3))
    assert reopen(files)[1].promised is None, "it was paid once; what a later leader replaces is no debt"


def test_a_debt_is_not_struck_out_by_the_batch_that_would_pay_it() -> None:
    """The watermark goes to the disk together with that batch, and may be the only one of the two to arrive."""
    for seed in range(40):
        files, wal = new_log(seed, segment_bytes=4 * SMALL)
        wal.append(HardState(3, 1, 0), entries(1, 9, term=3))
        wal.settle()
        del files.content(last_segment(files))[RECORDS_AT + 40 :]
        wal, _ = reopen(files)
        files.crash_in(4)  # zeros, records, watermark, and no fdatasync
        with pytest.raises(SimCrash):
            wal.append(None, entries(1, 9, term=3, size=400))
        files.crash()
        found = reopen(files)[1]
        assert found.promised == (None if len(found.entries) == 9 else (3, 9))


def test_a_snapshot_as_far_as_the_debt_pays_it() -> None:
    files, wal = new_log()
    wal.append(HardState(3, 1, 0), entries(1, 9, term=3))
    wal.settle()
    del files.content(last_segment(files))[RECORDS_AT:]
    assert reopen(files, mark(8, term=3))[1].promised == (3, 9)
    assert reopen(files, mark(9, term=3))[1].promised is None


def test_one_damaged_watermark_is_passed_over_and_two_are_refused() -> None:
    files, _ = three_segments()
    path = last_segment(files)
    with undone(files):
        files.content(path)[PAGE + 3] ^= 1
        assert any("one copy of the durable watermark" in note for note in reopen(files)[1].notes)
    files.content(path)[PAGE + 3] ^= 1
    files.content(path)[2 * PAGE + 3] ^= 1
    with pytest.raises(DamagedWAL, match="both copies"):
        reopen(files)


def test_a_missing_segment_is_named() -> None:
    files, _ = three_segments()
    first, second, third = paths(files)
    for gone, message in (
        (second, "0000000000000002-*.wal at offset 0: the segment before"),
        (third, "0000000000000003-*.wal at offset 0: the segment that .* names as its next is missing"),
    ):
        with undone(files):
            files.remove(gone)
            with pytest.raises(MissingSegment, match=message.replace("*", r"\*", 1)) as missing:
                reopen(files)
            assert RESTORE in str(missing.value)
    files.remove(first)
    with pytest.raises(DamagedWAL, match="the snapshot in use ends at entry 0"):
        reopen(files)


def test_a_middle_segment_that_ends_early_is_refused() -> None:
    files, _ = three_segments()
    content = files.content(paths(files)[1])
    content[RECORDS_AT + 800 :] = bytes(len(content) - RECORDS_AT - 800)
    with pytest.raises(DamagedWAL, match=r"0000000000000002-.*: records are missing here, .* goes on from later ones"):
        reopen(files)


def test_segments_of_another_log_another_name_and_another_order_are_refused() -> None:
    files, _ = three_segments()
    _, second, third = paths(files)
    with undone(files):
        files.content(second)[:] = files.content(third)
        with pytest.raises(DamagedWAL, match="created under the name"):
            reopen(files)
    with undone(files):
        files.rename(third, f"{FOLDER}/junk.wal")
        with pytest.raises(DamagedWAL, match=r"junk\.wal.*no name of a segment"):
            reopen(files)
    other = SimFiles(Random(0))
    foreign = WAL.create(other, FOLDER, IDENTITY._replace(member_id=0xB), segment_bytes=SMALL)
    while len(foreign.segments) < 3:
        foreign.append(HardState(2, 7, 0), entries(foreign.last_index + 1, 4, term=2))
    strange = other.content(f"{FOLDER}/{foreign.segments[2]}")
    with undone(files):
        files.remove(third)
        files.create(f"{FOLDER}/{foreign.segments[2]}").pwrite(bytes(strange), 0)
        with pytest.raises(WrongIdentity, match="belongs to another log"):
            reopen(files)


def test_a_segment_of_the_same_member_that_does_not_follow_is_refused() -> None:
    files, wal = three_segments()
    other, twin = new_log()
    while len(twin.segments) < 2:
        twin.append(None, entries(twin.last_index + 1, 4))
    twin.append(None, entries(twin.last_index + 1, 4))
    for path in paths(files)[1:]:
        files.remove(path)
    name = f"{FOLDER}/{twin.segments[1]}"
    files.create(name).pwrite(bytes(other.content(name)), 0)
    with pytest.raises(DamagedWAL, match="does not go on from the end of"):
        reopen(files)
    assert wal.segments


def test_another_format_is_refused_by_its_number() -> None:
    files, _ = new_log()
    content = files.content(last_segment(files))
    content[:SECTOR] = Birth.unpack("", bytes(content[:SECTOR]))._replace(format=9).pack()
    with pytest.raises(UnknownFormat, match=r"format version 9 is not known.*reads version 2"):
        reopen(files)


def test_a_foreign_file_is_refused() -> None:
    files, _ = new_log()
    path = last_segment(files)
    files.content(path)[:] = b"\0" * 100
    with pytest.raises(DamagedWAL, match="not a segment of a kvstored log"):
        reopen(files)


@pytest.mark.parametrize(
    ("kind", "payload", "message"),
    [
        (Kind.ENTRIES, b"\xc1", "cannot be read"),
        (Kind.ENTRIES, msgpack.packb(7), "cannot be read"),
        (Kind.ENTRIES, msgpack.packb([]), "is empty"),
        (Kind.ENTRIES, msgpack.packb([(2, 1, 0, b"")]), "a gap: entry 2 follows entry 0"),
        (
            Kind.ENTRIES,
            msgpack.packb([(1, 1, 0, b""), (3, 1, 0, b"")]),
            "entries 1 to 3 of one batch are not consecutive",
        ),
        (Kind.ENTRIES, msgpack.packb([(1, 2, 0, b""), (2, 1, 0, b"")]), "entry 2 has term 1"),
        (Kind.ENTRIES, msgpack.packb([(1, 1, 0)]), "no entry"),
        (Kind.ENTRIES, msgpack.packb([(1, 1, 0, b""), 7]), "no entry"),
        (Kind.ENTRIES, msgpack.packb([(0, 1, 0, b"")]), "out of range"),
        (Kind.ENTRIES, msgpack.packb([(1, -1, 0, b"")]), "out of range"),
        (Kind.ENTRIES, msgpack.packb([(1, 1, 0, "text")]), "no entry"),
        (Kind.HARD_STATE, msgpack.packb((1, 2)), "three numbers"),
        (Kind.HARD_STATE, msgpack.packb((1, 2, -3)), "three numbers"),
        (Kind.SNAPSHOT, msgpack.packb((1, 2, [[], []])), "snapshot mark"),
        (Kind.NEXT, b"123", "wrong length"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(kind: int, payload: bytes, message: str) -> None:
    files, wal = new_log()
    wal._segment.write([(kind, payload)], Point(0, 0, 0, 0, 0), (0, 0))
    with pytest.raises(DamagedWAL, match=message) as damage:
        reopen(files)
    assert damage.value.offset == RECORDS_AT


def test_what_only_the_page_cache_held_is_made_durable_before_it_is_believed() -> None:
    """The process dies between write and fdatasync; the next one reads the batch; then the power goes."""
    for seed in range(10):
        files, wal = new_log(seed)
        files.crash_in(4)  # zeros, records, watermark, and no fdatasync
        with pytest.raises(SimCrash):
            wal.append(None, entries(1, 3))
        wal, found = reopen(files)
        assert found.entries == entries(1, 3)
        files.crash()
        assert reopen(files)[1].entries == entries(1, 3)


def test_what_a_failed_fsync_left_in_the_page_cache_alone_is_written_again() -> None:
    """The cache calls those pages clean: an fsync by the next process would do nothing and report success."""
    for seed in range(10):
        files, wal = new_log(seed)
        while wal._segment.has_room(800):
            wal.append(None, entries(wal.last_index + 1, 10))
        last = wal.last_index
        files.fail("datasync", f"{FOLDER}/{wal.segments[-1]}")
        with pytest.raises(DiskFailed):
            wal.append(None, entries(last + 1, 1 if seed % 3 else 10, size=80))  # ten do not fit any more
        found = reopen(files)[1]
        files.crash()
        assert reopen(files)[1].entries == found.entries
        wal, found = reopen(files)
        assert (found.promised, found.entries[:last]) == (None, entries(1, last))


def test_a_crash_of_such_a_start_makes_no_debt_of_what_was_never_acknowledged() -> None:
    for seed in range(20):
        for at in range(1, 7):
            files, wal = new_log(seed)
            files.crash_in(4)
            with pytest.raises(SimCrash):
                wal.append(None, entries(1, 3))
            files.stop()
            files.crash_in(at)
            with pytest.raises(SimCrash):
                WAL.open(files, FOLDER, snapshot=None, segment_bytes=SMALL)
            files.crash()
            found = reopen(files)[1]
            assert found.promised is None
            assert found.entries in ([], entries(1, 3))


def test_a_full_segment_that_only_the_page_cache_held_is_made_durable_before_the_next_is_used() -> None:
    for seed in range(10):
        for at in range(8, 18):
            files, wal = new_log(seed)
            while wal._segment.has_room(800):
                wal.append(None, entries(wal.last_index + 1, 10))
            last = wal.last_index
            files.crash_in(at)
            with suppress(SimCrash):
                wal.append(None, entries(last + 1, 10, size=80))
            wal, found = reopen(files)
            assert found.entries[:last] == entries(1, last)
            wal.append(None, entries(last + 1, 11))
            files.crash()
            assert reopen(files)[1].entries == entries(1, last + 11)


def test_a_torn_batch_is_cut_noted_and_zeroed() -> None:
    cut = 0
    for seed in range(20):
        files, wal = new_log(seed, segment_bytes=SMALL * 2)
        wal.append(None, entries(1, 3))
        end = wal._segment.durable.offset
        files.crash_in(3)
        with pytest.raises(SimCrash):
            wal.append(None, entries(4, 4, size=900))
        files.crash()
        wal, found = reopen(files)
        if found.notes:
            cut += 1
            assert found.entries == entries(1, 3)
            assert f"{last_segment(files)} at offset {end}: cut a torn write of" in found.notes[0]
            assert not any(files.content(last_segment(files))[end:])
        assert reopen(files)[1].notes == []
    assert cut > 3


def test_a_purge_of_many_segments_never_leaves_a_gap() -> None:
    for seed in range(30):
        for at in range(1, 8):
            files, wal = new_log(seed)
            while len(wal.segments) < 5:
                wal.append(None, entries(wal.last_index + 1, 20))
            wal.mark_snapshot(mark(wal.last_index))
            files.crash_in(at)
            with pytest.raises(SimCrash):
                wal.purge(wal.last_index, keep=1)
            files.crash()
            assert reopen(files, mark(wal.last_index))[1].entries == []


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_mutated_files_raise_nothing_but_refusals(random: Random, changes: int) -> None:
    files, _ = three_segments()
    for _ in range(changes):
        content = files.content(random.choice(paths(files)))
        start = random.choice((0, PAGE, 2 * PAGE, RECORDS_AT, RECORDS_AT, RECORDS_AT))
        offset = min(len(content), start + random.randrange(600))
        match random.randrange(3):
            case 0:
                content[offset : offset + 8] = random.randbytes(8)
            case 1:
                del content[offset:]
            case _:
                content[offset:offset] = random.randbytes(random.randrange(20))
    open_or_refuse(files)


def test_a_vote_in_the_batch_that_was_cut_away_is_kept() -> None:
    """The watermark says what its own batch promised, too: the vote may have been sent."""
    files, wal = new_log()
    wal.append(HardState(1, 1, 0), entries(1, 3))
    wal.append(HardState(2, 5, 0), [])
    del files.content(last_segment(files))[RECORDS_AT:]
    assert reopen(files)[1].hard_state == HardState(2, 5, 0)
    assert reopen(files)[1].hard_state == HardState(2, 5, 0), "what the first start learned is there for the second"


def test_the_two_slots_of_the_watermark_lie_in_pages_of_their_own() -> None:
    slots = {Watermark(serial, Point(0, 0, 0, 0, 0), Point(0, 0, 0, 0, 0)).offset for serial in range(4)}
    assert slots == {PAGE, 2 * PAGE}
