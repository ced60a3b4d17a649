"""The log in good days: what was appended comes back, segments follow each other and go; and a disk that fails."""

from __future__ import annotations

import errno

import pytest

from kvstore.raft.types import HardState, SnapshotMeta
from kvstore.storage import wal as wal_module
from kvstore.storage.errors import DamagedWAL, DiskFailed, EmptyWAL, StorageError
from kvstore.storage.layout import SegmentName
from kvstore.storage.records import Kind
from kvstore.storage.scan import scan
from kvstore.storage.wal import WAL
from tests.storage.logs import FOLDER, IDENTITY, entries, last_segment, mark, new_log, reopen


def test_an_empty_log_comes_back_empty() -> None:
    files, _ = new_log()
    wal, recovered = reopen(files)
    assert recovered.identity == wal.identity == IDENTITY
    assert recovered.hard_state == HardState()
    assert (recovered.entries, recovered.snapshots, recovered.promised, recovered.notes) == ([], [], None, [])


def test_what_was_appended_comes_back_without_a_close() -> None:
    files, wal = new_log()
    wal.append(HardState(3, 7, 0), entries(1, 2, term=3))
    wal.append(None, entries(3, 1, term=3))
    wal.append(HardState(3, 7, 2), [])
    wal.append(None, [])
    assert wal.last_index == 3
    files.crash()
    _, recovered = reopen(files)
    assert recovered.entries == entries(1, 3, term=3)
    assert recovered.hard_state == HardState(3, 7, 2)
    assert recovered.notes == []


def test_a_later_batch_replaces_from_its_first_index_on() -> None:
    files, wal = new_log()
    wal.append(HardState(1, 1, 0), entries(1, 10))
    wal.append(HardState(2, 0, 0), entries(4, 2, term=2))
    _, recovered = reopen(files)
    assert recovered.entries == entries(1, 3) + entries(4, 2, term=2)


def test_entries_behind_the_snapshot_alone_come_back() -> None:
    files, wal = new_log()
    wal.append(None, entries(1, 10))
    wal.mark_snapshot(mark(6))
    _, recovered = reopen(files, mark(6))
    assert recovered.entries == entries(7, 4)
    assert recovered.snapshots == [mark(6)]
    assert recovered.hard_state.commit == 6
    _, recovered = reopen(files, mark(10))
    assert recovered.entries == []


def test_a_snapshot_ahead_of_the_log_restarts_it() -> None:
    files, wal = new_log()
    wal.append(HardState(1, 1, 3), entries(1, 3))
    wal.mark_snapshot(mark(20, term=2))
    wal.append(HardState(2, 1, 20), entries(21, 2, term=2))
    assert wal.last_index == 22
    _, recovered = reopen(files, mark(20, term=2))
    assert recovered.entries == entries(21, 2, term=2)
    with pytest.raises(
        DamagedWAL, match=r"goes on from entry 20, the snapshot in use ends at entry 0.*newest snapshot"
    ):
        reopen(files)


def test_a_snapshot_that_contradicts_the_log_restarts_it_even_before_its_mark_is_written() -> None:
    """A received snapshot is committed state; an own entry of another term in its place never was."""
    files, wal = new_log()
    wal.append(HardState(2, 0, 3), entries(1, 9))
    _, recovered = reopen(files, mark(5, term=2))
    assert recovered.entries == []
    wal, recovered = reopen(files, mark(5, term=2))
    assert recovered.snapshots == [mark(5, term=2)]
    wal.append(None, entries(6, 1, term=2))
    _, recovered = reopen(files, mark(5, term=2))
    assert recovered.entries == entries(6, 1, term=2)


def test_a_snapshot_received_before_its_term_was_written_raises_the_term() -> None:
    files, _ = new_log()
    _, recovered = reopen(files, mark(5, term=4))
    assert recovered.hard_state == HardState(4, 0, 5)


def test_the_commit_stays_between_the_snapshot_and_the_last_entry() -> None:
    files, wal = new_log()
    wal.append(HardState(1, 1, 9), entries(1, 4))
    _, recovered = reopen(files)
    assert recovered.hard_state.commit == 4


def test_a_full_segment_is_followed_by_another() -> None:
    files, wal = new_log()
    for first in range(1, 201, 10):
        wal.append(HardState(1, 2, first), entries(first, 10))
    assert len(wal.segments) > 2
    assert wal.segments == files.list(FOLDER)
    assert wal.segments[0] == "0000000000000001-0000000000000001.wal"
    assert wal.segments[1].startswith("0000000000000002-")
    files.crash()
    wal, recovered = reopen(files)
    assert recovered.entries == entries(1, 200)
    assert recovered.hard_state == HardState(1, 2, 191)
    assert recovered.notes == []


def test_a_batch_larger_than_a_segment_gets_a_segment_of_its_size() -> None:
    files, wal = new_log()
    wal.append(None, entries(1, 3, size=50_000))
    wal.append(None, entries(4, 1))
    _, recovered = reopen(files)
    assert recovered.entries == entries(1, 3, size=50_000) + entries(4, 1)


def test_a_large_batch_is_several_records_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_module, "RECORD_BYTES", 1_000)
    files, wal = new_log(segment_bytes=1 << 20)
    batch = [*entries(1, 9, size=200), *entries(10, 1, size=5_000), *entries(11, 3, size=10)]
    before = files.steps
    wal.append(HardState(1, 0, 0), batch)
    assert files.steps == before + 4, "the records, zeros ahead of them, the watermark, one fdatasync"
    _, recovered = reopen(files, segment_bytes=1 << 20)
    assert recovered.entries == batch
    records = scan(files, FOLDER, SegmentName(1, 1)).records
    lengths = sorted(len(record.payload) for record in records if record.kind == Kind.ENTRIES)
    assert len(lengths) > 3
    assert lengths[-2] < 1_200, "and the one entry that is larger stands alone"
    assert lengths[-1] > 5_000


def test_purge_takes_only_segments_that_nothing_needs() -> None:
    files, wal = new_log()
    for first in range(1, 301, 10):
        wal.append(HardState(1, 2, first), entries(first, 10))
    before = wal.segments
    second_first = int(before[1].split("-")[1].removesuffix(".wal"), 16)
    assert wal.purge(second_first - 2, keep=1) == []
    assert wal.purge(second_first - 1, keep=len(before)) == []
    assert wal.purge(second_first - 1, keep=1) == before[:1]
    wal.mark_snapshot(mark(300))
    assert wal.purge(300, keep=2) == before[1:-2]
    assert wal.segments == files.list(FOLDER) == before[-2:]
    files.crash()
    wal, recovered = reopen(files, mark(300))
    assert recovered.hard_state == HardState(1, 2, 300)
    assert recovered.snapshots == [mark(300)]
    wal.append(None, entries(301, 1))
    with pytest.raises(DamagedWAL, match="the snapshot in use ends at entry 0"):
        reopen(files)


def test_a_new_segment_carries_what_purged_ones_said() -> None:
    files, wal = new_log()
    wal.append(HardState(9, 4, 1), entries(1, 1, term=9))
    wal.mark_snapshot(mark(1, term=9))
    first = 2
    while len(wal.segments) < 3:
        wal.append(None, entries(first, 10, term=9))
        first += 10
    wal.purge(first, keep=1)
    files.crash()
    _, recovered = reopen(files, SnapshotMeta(first - 1, 9, mark(1).configuration))
    assert recovered.hard_state[:2] == (9, 4)
    assert recovered.snapshots == [mark(1, term=9)]


def test_settle_writes_once() -> None:
    files, wal = new_log()
    wal.append(None, entries(1, 1))
    wal.settle()
    steps = files.steps
    wal.settle()
    assert files.steps == steps


def test_an_append_is_one_fdatasync() -> None:
    files, wal = new_log()
    wal.append(None, entries(1, 1))
    before = files.steps
    wal.append(HardState(1, 1, 1), entries(2, 64))
    assert files.steps - before == 3, "records, watermark, fdatasync"


@pytest.mark.parametrize("operation", ["pwrite", "datasync"])
def test_a_disk_that_fails_poisons_the_log(operation: str) -> None:
    files, wal = new_log()
    wal.append(None, entries(1, 1))
    files.fail(operation)
    with pytest.raises(DiskFailed, match="EIO") as failed:
        wal.append(None, entries(2, 1))
    assert failed.value.file == last_segment(files)
    assert isinstance(failed.value.cause, OSError)
    for attempt in (
        lambda: wal.append(None, entries(2, 1)),
        lambda: wal.mark_snapshot(mark(1)),
        lambda: wal.settle(),
        lambda: wal.purge(1, 1),
    ):
        steps = files.steps
        with pytest.raises(DiskFailed):
            attempt()
        assert files.steps == steps, "the disk is left alone"
    wal.close()


@pytest.mark.parametrize("operation", ["create", "allocate", "pwrite", "datasync", "rename", "sync_folder"])
def test_a_disk_that_fails_while_a_segment_is_cut(operation: str) -> None:
    files, wal = new_log()
    first = 1
    with pytest.raises(DiskFailed):  # noqa: PT012 (the failure is put where the cut begins)
        while True:
            if not wal._segment.has_room(800):
                files.fail(operation)
            wal.append(None, entries(first, 10))
            first += 10
    with pytest.raises(DiskFailed):
        wal.settle()
    files.crash()
    _, recovered = reopen(files)
    assert recovered.entries == entries(1, first - 1)
    assert recovered.promised is None


def test_a_full_disk_stops_the_cut_and_loses_nothing() -> None:
    files, wal = new_log()
    files.room = 0
    first = 1
    with pytest.raises(DiskFailed) as failed:  # noqa: PT012
        while True:
            wal.append(None, entries(first, 10))
            first += 10
    assert failed.value.cause.errno == errno.ENOSPC
    assert first > 20, "what is allocated already can be used"
    files.room = None
    _, recovered = reopen(files)
    assert recovered.entries == entries(1, first - 1)


def test_settle_purge_and_opening_report_a_failing_disk() -> None:
    files, wal = new_log()
    for first in range(1, 201, 10):
        wal.append(None, entries(first, 10))
    files.fail("unlink")
    with pytest.raises(DiskFailed, match="removing a segment"):
        wal.purge(100, keep=1)
    for operation in ("pread", "list", "pwrite", "datasync", "sync_folder"):
        files.stop()
        files.fail(operation)
        with pytest.raises(DiskFailed):
            WAL.open(files, FOLDER, snapshot=None)
    wal, _ = reopen(files)
    wal.append(None, entries(201, 1))
    files.fail("datasync")
    with pytest.raises(DiskFailed):
        wal.settle()


def test_creation_refuses_a_folder_with_a_log_and_opening_one_without() -> None:
    files, _ = new_log()
    with pytest.raises(StorageError, match="a log here already"):
        WAL.create(files, FOLDER, IDENTITY)
    files.make_folder("/empty")
    with pytest.raises(EmptyWAL, match=r"/empty at offset 0: there is no log here\. Nothing was changed"):
        WAL.open(files, "/empty", snapshot=None)


def test_a_closed_log_is_settled() -> None:
    files, wal = new_log()
    wal.append(None, entries(1, 1))
    wal.close()
    content = files.content(last_segment(files))
    del content[wal._segment.durable.offset - 1 :]
    _, recovered = reopen(files)
    assert recovered.promised == (1, 1)


def test_a_gap_in_the_indices_is_our_own_bug() -> None:
    _, wal = new_log()
    with pytest.raises(AssertionError, match="gap"):
        wal.append(None, entries(2, 1))
