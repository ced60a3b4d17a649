"""The driver's disk: a snapshot is made in small bites, and what it makes superfluous goes behind its mark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvstore.apply import StateMachine
from kvstore.disk import PAUSE_SECONDS, NodeDisk
from kvstore.membership import Membership
from kvstore.raft.types import Configuration, Entry, SnapshotMeta
from kvstore.storage.files import OSFiles
from kvstore.storage.layout import Identity
from kvstore.storage.snapshots import Snapshots
from kvstore.storage.wal import WAL
from kvstore.store.frozen import CHUNK_ROWS
from kvstore.store.operations import Set
from kvstore.store.store import Store

T = TypeVar("T")


class Lanes:
    """Runs each job at once, and notes in which lane."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self.jobs.append("log")
        done(job())

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
        disk.save_snapshot(meta, machine.freeze(), lambda: events.append("done"), events.append)
    assert events == ["done", "done"]
    assert lanes.jobs == 2 * ["bulk", "log", "bulk", "log"], "the file, its mark, old files, old segments"
    chunks = len(list(machine.freeze().chunks()))
    assert chunks > 4
    assert pauses == 2 * chunks * [PAUSE_SECONDS]
    assert len(list((tmp_path / "snap").iterdir())) == 1
    wal.close()
