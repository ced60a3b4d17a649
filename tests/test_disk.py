"""The driver's disk: a snapshot is made in small bites, and what it makes superfluous goes behind its mark."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from kvstore.apply import StateMachine
from kvstore.disk import PAUSE_SECONDS, STAGED_ENTRIES, NodeDisk
from kvstore.membership import Membership
from kvstore.raft.types import Configuration, Entry, HardState, SnapshotMeta, Write
from kvstore.storage.errors import DiskFailed
from kvstore.storage.files import File, OSFiles
from kvstore.storage.layout import Identity
from kvstore.storage.segment import Staged
from kvstore.storage.snapshots import Snapshots
from kvstore.storage.wal import WAL
from kvstore.store.frozen import CHUNK_ROWS
from kvstore.store.operations import Set
from kvstore.store.store import Store
from kvstore.wire import SnapshotChunk

T = TypeVar("T")


class Lanes:
    """Runs each job at once, and notes in which lane."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self.jobs.append("log")
        done(job())

    def commit(self, staged: Staged, done: Callable[[float], None]) -> None:
        self.jobs.append("commit")
        done(staged.write())

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self.jobs.append("bulk")
        done(job())


def test_a_snapshot_pauses_behind_each_bite_and_old_ones_go_after_its_mark(tmp_path: Path) -> None:
    files, lanes = OSFiles(), Lanes()
    identity = Identity(1, 2, bytes(16))
    wal = WAL.create(files, str(tmp_path / "wal"), identity)
    snapshots = Snapshots(files, str(tmp_path / "snap"), identity)
    pauses: list[float] = []
    disk = NodeDisk(wal, snapshots, lanes, 100, 1, 1, pause=pauses.append)
    machine = StateMachine(Store(100), Membership([]))
    for number in range(3 * CHUNK_ROWS):
        machine.apply(Set(b"/%d" % number, b"v", False, None, False), 5)
    configuration = Configuration(voters=frozenset((2,)))
    events: list[str] = []
    for index in (1, 2):
        wal.append(None, [Entry(index, 1, 0, b"")])
        meta = SnapshotMeta(index, 1, configuration)
        disk.save_snapshot(meta, machine.freeze(), lambda _: events.append("done"), events.append)
    assert events == ["done", "done"]
    assert lanes.jobs == 2 * ["bulk", "log", "bulk", "log"], "the file, its mark, old files, old segments"
    chunks = len(list(machine.freeze().chunks()))
    assert chunks > 4
    assert pauses == 2 * chunks * [PAUSE_SECONDS]
    assert len(list((tmp_path / "snap").iterdir())) == 1
    wal.close()


class HeldLanes(Lanes):
    """Commits end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[Staged, Callable[[float], None]]] = []

    def commit(self, staged: Staged, done: Callable[[float], None]) -> None:
        self.jobs.append("commit")
        self.held.append((staged, done))

    def end(self) -> None:
        staged, done = self.held.pop()
        done(staged.write())


def test_what_else_the_log_has_to_do_waits_for_the_end_of_a_commit(tmp_path: Path) -> None:
    files, lanes = OSFiles(), HeldLanes()
    identity = Identity(1, 2, bytes(16))
    wal = WAL.create(files, str(tmp_path / "wal"), identity)
    disk = NodeDisk(wal, Snapshots(files, str(tmp_path / "snap"), identity), lanes, 100, 1, 1)
    entries = tuple(Entry(index, 1, 0, b"x") for index in range(1, 2 * STAGED_ENTRIES))
    written: list[int] = []

    def write(first: int, last: int) -> None:
        batch = entries[first - 1 : last]
        disk.write(Write(HardState(1, 2, 0), batch, None, ()), lambda: written.append(last))

    write(1, 3)
    disk.settle()
    assert lanes.jobs == ["commit"], "the watermark would speak of what is not durable yet"
    lanes.end()
    assert lanes.jobs == ["commit", "log"]
    assert written == [3]
    write(4, 4)
    assert lanes.jobs == ["commit", "log", "commit"]
    lanes.end()
    write(5, 5 + STAGED_ENTRIES)
    assert lanes.jobs == ["commit", "log", "commit", "log"], "what is large is made in the log's thread"
    assert written == [3, 4, 5 + STAGED_ENTRIES]
    wal.close()
    _, recovered = WAL.open(files, str(tmp_path / "wal"), snapshot=None)
    assert tuple(recovered.entries) == entries[: 5 + STAGED_ENTRIES]


def test_a_full_segment_is_left_to_the_thread(tmp_path: Path) -> None:
    files, lanes = OSFiles(), Lanes()
    identity = Identity(1, 2, bytes(16))
    wal = WAL.create(files, str(tmp_path / "wal"), identity, segment_bytes=4096)
    disk = NodeDisk(wal, Snapshots(files, str(tmp_path / "snap"), identity), lanes, 100, 1, 1)
    for index in range(1, 21):
        disk.write(Write(None, (Entry(index, 1, 0, bytes(500)),), None, ()), lambda: None)
    assert len(wal.segments) > 2
    assert lanes.jobs.count("log") == len(wal.segments) - 1
    assert lanes.jobs.count("commit") == 20 - lanes.jobs.count("log")
    wal.close()
    _, recovered = WAL.open(files, str(tmp_path / "wal"), snapshot=None)
    assert len(recovered.entries) == 20


class TwoLanes(Lanes):
    """Each job is done when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, list[Callable[[], None]]] = {"log": [], "bulk": []}

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self.waiting["log"].append(lambda: done(job()))

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self.waiting["bulk"].append(lambda: done(job()))

    def do(self, lane: str) -> None:
        self.waiting[lane].pop(0)()


def test_a_purge_spares_the_snapshot_that_waits_to_be_installed(tmp_path: Path) -> None:
    files, lanes = OSFiles(), TwoLanes()
    identity, configuration = Identity(1, 2, bytes(16)), Configuration(voters=frozenset((2,)))
    wal = WAL.create(files, str(tmp_path / "wal"), identity)
    snapshots = Snapshots(files, str(tmp_path / "snap"), identity)
    leaders = Snapshots(files, str(tmp_path / "leader"), identity._replace(member_id=3))
    disk = NodeDisk(wal, snapshots, lanes, 100, 1, 1)
    machine = StateMachine(Store(100), Membership([]))
    own, first, second = (SnapshotMeta(index, index // 10, configuration) for index in (10, 100, 200))
    installed: list[StateMachine] = []

    def arrive(meta: SnapshotMeta) -> None:
        leaders.save(meta, machine.freeze().chunks())
        data = leaders.read(meta, 0, 1 << 20)
        disk.write_piece(SnapshotChunk(2, 3, meta.term, meta, 0, len(data), data), lambda: None, pytest.fail)

    wal.append(None, [Entry(index, 1, 0, b"") for index in range(1, 11)])
    disk.save_snapshot(own, machine.freeze(), lambda _: None, pytest.fail)
    arrive(first)
    lanes.do("bulk")
    lanes.do("bulk")
    disk.write(Write(None, (), first, ()), lambda: disk.load_snapshot(first, installed.append))
    arrive(second)  # the next leader's, before the log has come to the first
    lanes.do("bulk")
    lanes.do("log")  # the mark of our own, so the purge is due
    lanes.do("log")  # the mark of the first one
    lanes.do("bulk")
    lanes.do("log")
    assert len(installed) == 1
    lanes.waiting["log"].clear()
    disk.save_snapshot(second._replace(index=300), machine.freeze(), lambda _: None, pytest.fail)
    lanes.do("bulk")
    lanes.do("log")
    lanes.do("bulk")
    assert [int(file.name[17:33], 16) for file in (tmp_path / "snap").iterdir()] == [300], "and later it goes"
    wal.close()


class BrokenFile:
    """Cannot be synced."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def datasync(self) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_commit_that_fails_poisons_the_log(tmp_path: Path) -> None:
    files, lanes = OSFiles(), HeldLanes()
    identity = Identity(1, 2, bytes(16))
    wal = WAL.create(files, str(tmp_path / "wal"), identity)
    disk = NodeDisk(wal, Snapshots(files, str(tmp_path / "snap"), identity), lanes, 100, 1, 1)
    disk.write(Write(None, (Entry(1, 1, 0, b""),), None, ()), lambda: None)
    ((staged, _),) = lanes.held
    staged.file = cast(File, BrokenFile(staged.file))
    with pytest.raises(DiskFailed, match="fdatasync failed"):
        staged.write()
    for use in (wal.settle, lambda: wal.append(None, [Entry(2, 1, 0, b"")]), lambda: wal.purge(1, 1)):
        with pytest.raises(DiskFailed, match="fdatasync failed"):
            use()
    wal.close()
