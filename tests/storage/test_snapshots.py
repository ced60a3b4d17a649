"""Snapshots: written whole or not at all, checked to the last bit, streamed to another member, purged with care."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from random import Random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.storage import snapshot_file
from kvstore.storage.errors import (
    DamagedSnapshot,
    DiskFailed,
    Refused,
    SnapshotFailed,
    SnapshotGone,
    SnapshotTooLarge,
    UnknownFormat,
    WrongIdentity,
)
from kvstore.storage.files import File
from kvstore.storage.snapshot_file import SYNC_EVERY, read_chunks, read_meta
from kvstore.storage.snapshots import Snapshots, snapshot_name, snapshot_names
from tests.sim.disk import SimCrash, SimFiles
from tests.storage.logs import IDENTITY, mark

FOLDER = "/snap"
CHUNKS = [b"one", b"two" * 100, b"\0" * 700]


def new(seed: int = 0, cluster_id: int = IDENTITY.cluster_id) -> tuple[SimFiles, Snapshots]:
    files = SimFiles(Random(seed))
    return files, Snapshots(files, FOLDER, IDENTITY._replace(cluster_id=cluster_id))


def path_of(index: int, term: int = 1) -> str:
    return f"{FOLDER}/{snapshot_name(mark(index, term))}"


def test_a_snapshot_comes_back_after_a_crash() -> None:
    files, snapshots = new()
    assert snapshots.newest() is None
    snapshots.save(mark(5), CHUNKS)
    snapshots.save(mark(9, 2), [])
    files.crash()
    snapshots = Snapshots(files, FOLDER, IDENTITY)
    assert snapshots.newest() == (mark(9, 2), path_of(9, 2))
    assert list(snapshots.load(mark(5))) == CHUNKS
    assert list(snapshots.load(mark(9, 2))) == []
    assert snapshots.notes == []


def test_a_crash_at_every_step_leaves_all_of_it_or_none() -> None:
    for seed in range(20):
        for at in range(1, 12):
            files, snapshots = new(seed)
            snapshots.save(mark(5), CHUNKS)
            files.crash_in(at)
            done = True
            try:
                snapshots.save(mark(9), CHUNKS)
            except SimCrash:
                done = False
            files.crash()
            snapshots = Snapshots(files, FOLDER, IDENTITY)
            newest = snapshots.newest()
            assert newest is not None
            assert newest[0] == mark(9) or (not done and newest[0] == mark(5))
            assert list(snapshots.load(newest[0])) == CHUNKS
            assert not any("passed over" in note for note in snapshots.notes)
            assert [name for name in files.list(FOLDER) if name.endswith(".tmp")] == []


def test_a_flipped_bit_or_a_lost_end_is_refused_and_the_older_one_used() -> None:
    files, snapshots = new()
    snapshots.save(mark(5), [b"old"])
    snapshots.save(mark(9), CHUNKS)
    content = files.content(path_of(9))
    sound = bytes(content)
    random = Random(2)
    for offset in range(len(sound)):
        content[:] = sound
        content[offset] ^= 1 << random.randrange(8)
        snapshots = Snapshots(files, FOLDER, IDENTITY)
        assert snapshots.newest() == (mark(5), path_of(5))
        assert path_of(9) in snapshots.notes[0]
        assert "at offset" in snapshots.notes[0]
        with pytest.raises(Refused):
            list(snapshots.load(mark(9)))
    for offset in range(0, len(sound), 7):
        content[:] = sound[:offset]
        with pytest.raises(Refused):
            list(snapshots.load(mark(9)))
    content[:] = sound + b"\0"
    with pytest.raises(DamagedSnapshot, match="the end of the snapshot"):
        list(snapshots.load(mark(9)))


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_mutated_files_raise_nothing_but_refusals(random: Random) -> None:
    files, snapshots = new()
    snapshots.save(mark(9), CHUNKS)
    content = files.content(path_of(9))
    for _ in range(random.randrange(1, 5)):
        offset = random.randrange(min(len(content), 120))
        content[offset : offset + random.randrange(6)] = random.randbytes(random.randrange(6))
    try:
        found = list(snapshots.load(mark(9)))
    except Refused:
        return
    assert found == CHUNKS


@pytest.mark.parametrize("operation", ["create", "pwrite", "datasync", "rename", "sync_folder"])
def test_a_disk_that_refuses_leaves_nothing_behind(operation: str) -> None:
    files, snapshots = new()
    snapshots.save(mark(5), CHUNKS)
    files.fail(operation, number=errno.ENOSPC)
    with pytest.raises(SnapshotFailed, match=r"was not written.*Free some space"):
        snapshots.save(mark(9), CHUNKS)
    assert not any(name.endswith(".tmp") for name in files.list(FOLDER))
    newest = snapshots.newest()
    assert newest is not None
    assert list(snapshots.load(newest[0])) == CHUNKS
    snapshots.save(mark(9), CHUNKS)


def test_a_source_that_breaks_leaves_nothing_behind() -> None:
    files, snapshots = new()

    def broken() -> Iterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        snapshots.save(mark(5), broken())
    assert files.list(FOLDER) == []


def test_a_piece_that_no_reader_would_take_is_refused_by_name_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_file, "MAX_CHUNK", 1_000)
    files, snapshots = new()
    snapshots.save(mark(4), [bytes(1_000)])
    with pytest.raises(SnapshotTooLarge, match="takes 1001 bytes, and a snapshot holds at most 1000"):
        snapshots.save(mark(5), [b"one", bytes(1_001)])
    assert files.list(FOLDER) == [snapshot_name(mark(4))]


def test_a_damaged_length_makes_nobody_read_more_than_the_file_has() -> None:
    files, snapshots = new()
    snapshots.save(mark(5), [bytes(100)])
    file = files.open(path_of(5), write=True)
    _, offset, _ = read_meta(file, path_of(5), None)
    file.pwrite((200 << 20).to_bytes(4, "little"), offset)
    file.close()
    asked: list[int] = []

    class Watched:
        def __init__(self, path: str) -> None:
            self._file = files.open(path)

        def pread(self, size: int, offset: int) -> bytes:
            asked.append(size)
            return self._file.pread(size, offset)

        def size(self) -> int:
            return self._file.size()

    watched = cast(File, Watched(path_of(5)))
    _, offset, chain = read_meta(watched, path_of(5), None)
    with pytest.raises(DamagedSnapshot):
        list(read_chunks(watched, path_of(5), offset, chain))
    assert max(asked) < 1_000


def test_a_large_snapshot_is_synced_on_the_way() -> None:
    files, snapshots = new()
    steps = files.steps
    snapshots.save(mark(5), [bytes(SYNC_EVERY // 3)] * 7)
    few = files.steps - steps
    assert few == 1 + 9 + 2 + 1 + 2, "create, writes, syncs on the way, the last sync, rename and folder"


def test_a_raw_file_travels_to_another_member_of_the_cluster() -> None:
    _, source = new()
    source.save(mark(9), CHUNKS)
    files, target = new(1)
    receiver = target.receive(mark(9))
    size, offset = source.size(mark(9)), 0
    while offset < size:
        piece = source.read(mark(9), offset, 100)
        assert receiver.write(offset + 1, piece) == offset, "not the one that is wanted"
        assert receiver.write(offset, piece) == offset + len(piece)
        offset = receiver.write(offset, piece)
    assert target.newest() is None
    receiver.finish()
    files.crash()
    target = Snapshots(files, FOLDER, IDENTITY)
    assert target.newest() == (mark(9), path_of(9))
    assert list(target.load(mark(9))) == CHUNKS


def test_a_received_file_is_checked_before_it_counts() -> None:
    _, source = new()
    source.save(mark(9), CHUNKS)
    raw = source.read(mark(9), 0, 1 << 20)
    _, foreign = new(cluster_id=0xC2)
    foreign.save(mark(9), CHUNKS)
    for wrong, meta, error in (
        (raw[:-1], mark(9), DamagedSnapshot),
        (raw[:100] + b"?" + raw[101:], mark(9), DamagedSnapshot),
        (raw, mark(8), DamagedSnapshot),
        (foreign.read(mark(9), 0, 1 << 20), mark(9), WrongIdentity),
    ):
        files, target = new()
        receiver = target.receive(meta)
        receiver.write(0, wrong)
        with pytest.raises(error):
            receiver.finish()
        assert files.list(FOLDER) == []


def test_a_receiver_that_ends_early_or_meets_a_full_disk_leaves_nothing() -> None:
    files, target = new()
    receiver = target.receive(mark(9))
    receiver.write(0, b"abc")
    assert files.list(FOLDER) != []
    receiver.abort()
    assert files.list(FOLDER) == []
    receiver = target.receive(mark(9))
    files.room = 2
    with pytest.raises(SnapshotFailed, match="No space"):
        receiver.write(0, b"abc")
    assert files.list(FOLDER) == []
    files.fail("create")
    with pytest.raises(SnapshotFailed):
        target.receive(mark(9))
    files.room = None
    receiver = target.receive(mark(9))
    files.fail("datasync")
    with pytest.raises(SnapshotFailed):
        receiver.finish()


def test_purge_keeps_the_newest_readable_and_what_is_needed() -> None:
    files, snapshots = new()
    assert snapshots.purge(2) == 0
    for index in (5, 9, 12, 20):
        snapshots.save(mark(index), CHUNKS)
    assert snapshots.purge(9) == 5
    assert snapshots.purge(1, needed=[9]) == 9
    assert [name[17:33] for name in files.list(FOLDER)] == [f"{index:016x}" for index in (9, 12, 20)]
    files.content(path_of(20))[60] ^= 1
    snapshots.newest()
    assert snapshots.purge(1) == 12, "the unreadable one does not count"
    snapshots.save(mark(20), CHUNKS)
    assert snapshots.purge(1) == 20
    with pytest.raises(SnapshotGone, match="not there any more"):
        snapshots.size(mark(12))
    with pytest.raises(SnapshotGone):
        list(snapshots.load(mark(12)))


def test_other_formats_clusters_names_and_strangers() -> None:
    files, snapshots = new()
    snapshots.save(mark(9), CHUNKS)
    with pytest.raises(WrongIdentity, match="belongs to cluster c1, this is cluster c2"):
        list(Snapshots(files, FOLDER, IDENTITY._replace(cluster_id=0xC2)).load(mark(9)))
    files.rename(path_of(9), path_of(10))
    assert snapshots.newest() is None
    assert "created under the name" in snapshots.notes[0]
    with pytest.raises(DamagedSnapshot, match="another snapshot than its name says"):
        list(snapshots.load(mark(10)))
    files.content(path_of(10))[8] = 7
    with pytest.raises(UnknownFormat, match="format version 7"):
        list(snapshots.load(mark(10)))


def test_a_disk_that_cannot_be_read_is_no_missing_snapshot() -> None:
    files, snapshots = new()
    snapshots.save(mark(9), CHUNKS)
    for operation in ("pread", "open", "list"):
        files.fail(operation)
        with pytest.raises(DiskFailed):
            snapshots.newest()
    files.fail("pread")
    with pytest.raises(DiskFailed):
        list(snapshots.load(mark(9)))
    files.fail("size")
    with pytest.raises(DiskFailed):
        snapshots.size(mark(9))
    snapshots.save(mark(10), CHUNKS)
    files.fail("unlink")
    with pytest.raises(DiskFailed):
        snapshots.purge(1)
    files.fail("make_folder")
    with pytest.raises(DiskFailed):
        Snapshots(files, "/other", IDENTITY)


@pytest.mark.parametrize(("spare_bytes", "kept"), [(0, [5]), (2_000, [5]), (2_200, [4, 5]), (1 << 20, [2, 3, 4, 5])])
def test_older_snapshots_stay_within_their_number_and_their_bytes(spare_bytes: int, kept: list[int]) -> None:
    files, snapshots = new()
    for index in range(1, 6):
        snapshots.save(mark(index), [bytes(2_000)])
    assert snapshots.purge(4, spare_bytes=spare_bytes) == kept[0]
    assert [index for index, _ in snapshot_names(files, FOLDER)] == kept


def test_a_file_that_rotted_is_noticed_and_counts_no_more() -> None:
    files, snapshots = new()
    for index in (4, 5):
        snapshots.save(mark(index), CHUNKS)
    assert snapshots.examine(mark(5)) == ""
    assert snapshots.examine(mark(6)) == "", "gone: a newer one took its place"
    file = files.open(path_of(5), write=True)
    file.pwrite(b"X", file.size() - 100)
    file.close()
    assert "fails its checksum" in snapshots.examine(mark(5))
    assert snapshots.purge(1) == 4, "the one that can be read stays"
    snapshots.save(mark(5), CHUNKS)
    assert snapshots.examine(mark(5)) == ""
    assert snapshots.purge(1) == 5
