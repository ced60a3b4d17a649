"""The driver's disk: the log and the snapshots behind jobs that run beside the driver.

Everything that touches the log runs in the log lane, in order, but for the usual write: that is staged on the loop
while the lane has nothing to do, and committed without Python (lanes.py). A snapshot is written, read and received in
the bulk lane, so that no write of a client waits for it. What a snapshot makes superfluous is purged only after its
mark in the log is durable. Knows no raft and no waiting client.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any, TypeVar

from kvstore import logs
from kvstore.apply import FrozenMachine, StateMachine
from kvstore.lanes import Lanes
from kvstore.levels import FIRST_LEVEL, HIGHEST_LEVEL, highest_of
from kvstore.raft.types import SnapshotMeta, Write
from kvstore.statistics import DISK_BUCKETS, SAVE_BUCKETS, Histogram
from kvstore.storage.segment import Staged
from kvstore.storage.snapshots import Receiver, Snapshots
from kvstore.storage.wal import WAL
from kvstore.store.history import HISTORY_BYTES
from kvstore.wire import SnapshotChunk

#: Behind each chunk of a snapshot, so that its making never has the interpreter for long: about a fifth of a
#: millisecond. A million keys take some seconds longer, and no request notices.
PAUSE_SECONDS = 0.001

#: A write of more is made in the log's thread, for to pack it would hold up the loop.
STAGED_ENTRIES = 1000
STAGED_BYTES = 256 << 10

T = TypeVar("T")

log = logs.get("disk")


class NodeDisk:
    """Satisfies the driver's `Disk`. `max_wals` and `max_snapshots` are the files to keep, 0: all."""

    def __init__(
        self,
        wal: WAL,
        snapshots: Snapshots,
        lanes: Lanes,
        event_history: int,
        max_wals: int,
        max_snapshots: int,
        history_bytes: int = HISTORY_BYTES,
        pause: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        """`pause` sleeps on the thread of the bulk lane."""
        self.sync_seconds = wal.sync_seconds
        self.commit_seconds = Histogram(DISK_BUCKETS)  # of a whole batch: made, written and synced
        self.save_seconds = Histogram(SAVE_BUCKETS)  # of a snapshot
        self._wal = wal
        self._snapshots = snapshots
        self._lanes = lanes
        self._event_history = event_history
        self._history_bytes = history_bytes
        self._max_wals = max_wals
        self._max_snapshots = max_snapshots
        self._pause = pause
        self._log_jobs = 0  # that have the log, or wait for it in its thread
        self._is_committing = False
        self._deferred: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []  # until the commit has ended
        self._receiver: Receiver | None = None
        self._streamed: set[int] = set()  # snapshots that a follower was sent a piece of since the last one was saved
        # Snapshots from the leader that may still have to be installed. Added to in the bulk lane, where files are
        # purged too, so that none goes between its arrival and its install.
        self._received: set[int] = set()

    def write(self, write: Write, done: Callable[[], None]) -> None:
        level = self._level_of(write)
        if level == FIRST_LEVEL and not self._log_jobs and write.snapshot is None and _is_small(write):
            began = perf_counter()
            staged = self._wal.stage(write.hard_state, write.entries)
            if staged is not None:
                self._commit(staged, began, done)
                return

        def job() -> None:
            began = perf_counter()
            if write.snapshot is not None:
                self._wal.raise_format(self._snapshots.layout(write.snapshot))
                self._wal.mark_snapshot(write.snapshot)
            self._wal.raise_format(level)
            if write.hard_state is not None or write.entries:
                self._wal.append(write.hard_state, write.entries)
            self.commit_seconds.observe(perf_counter() - began)

        self._log(job, lambda _: done())

    def _level_of(self, write: Write) -> int:
        """The level of the entries, where it is not sure that the log has the format for it."""
        return FIRST_LEVEL if self._wal.format == HIGHEST_LEVEL else highest_of(write.entries)

    def _commit(self, staged: Staged, began: float, done: Callable[[], None]) -> None:
        """The usual write: made here, and nobody but the system has something to do with it until it is durable."""
        self._log_jobs += 1

        def durable(sync_seconds: float) -> None:
            self._wal.finish(sync_seconds)
            self._is_committing = False
            self.commit_seconds.observe(perf_counter() - began)
            self._log_jobs -= 1
            done()
            deferred, self._deferred = self._deferred, []
            for job, then in deferred:
                self._log(job, then)

        self._is_committing = True
        self._lanes.commit(staged, durable)

    def _log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """A job of the log's thread, which has the log to itself."""
        if self._is_committing:
            self._deferred.append((job, done))
            return
        self._log_jobs += 1

        def then(outcome: T) -> None:
            self._log_jobs -= 1
            done(outcome)

        self._lanes.log(job, then)

    def settle(self) -> None:
        self._log(self._wal.settle, lambda _: None)

    def save_snapshot(
        self, meta: SnapshotMeta, frozen: FrozenMachine, done: Callable[[int], None], failed: Callable[[str], None]
    ) -> None:
        streamed, self._streamed = self._streamed, set()
        self._forget_received(meta.index)  # the state is past them

        def save() -> int:
            began = perf_counter()
            size = self._snapshots.save(meta, self._paced(frozen.chunks()))
            self.save_seconds.observe(perf_counter() - began)
            return size

        def saved(size: int) -> None:
            def marked(_: None) -> None:
                done(size)
                if self._max_snapshots:
                    self._purge(streamed)

            self._log(lambda: self._wal.mark_snapshot(meta), marked)

        self._lanes.bulk(
            save,
            saved,
            lambda problem: failed(str(problem)),
        )

    def _purge(self, streamed: set[int]) -> None:
        """Removes what the last mark made superfluous: first old snapshots, in the bulk lane since a large file takes
        its time to go, then the segments that only those needed."""

        def purge_log(oldest: int) -> None:
            for name in self._wal.purge(oldest, self._max_wals):
                log.debug("removed a segment of the log that nothing needs", segment=name)

        def purged(oldest: int) -> None:
            if self._max_wals:
                self._log(lambda: purge_log(oldest), lambda _: None)

        self._lanes.bulk(
            lambda: self._snapshots.purge(self._max_snapshots, streamed | self._received),
            purged,
            lambda problem: log.error("cannot remove old snapshots", why=str(problem)),
        )

    def _paced(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            self._pause(PAUSE_SECONDS)

    def load_snapshot(self, meta: SnapshotMeta, done: Callable[[StateMachine], None]) -> None:
        """Unlike the others this one must not fail: the file was checked when it arrived."""

        def job() -> StateMachine:
            machine = StateMachine.restore(self._snapshots.load(meta), self._event_history, self._history_bytes)
            gc.freeze()  # as at the start: no collection is to walk over all keys
            return machine

        def loaded(machine: StateMachine) -> None:
            self._forget_received(meta.index)
            done(machine)

        self._log(job, loaded)

    def _forget_received(self, index: int) -> None:
        held = tuple(self._received)  # one step of the interpreter, as the next line is: the bulk lane adds meanwhile
        self._received.difference_update([one for one in held if one <= index])

    def read_piece(
        self,
        meta: SnapshotMeta,
        offset: int,
        limit: int,
        done: Callable[[bytes, int], None],
        failed: Callable[[str], None],
    ) -> None:
        self._streamed.add(meta.index)

        def job() -> tuple[bytes, int]:
            return self._snapshots.read(meta, offset, limit), self._snapshots.size(meta)

        self._lanes.bulk(job, lambda piece: done(*piece), lambda problem: failed(str(problem)))

    def verify_snapshot(self, meta: SnapshotMeta, done: Callable[[str], None]) -> None:
        self._lanes.bulk(lambda: self._snapshots.examine(meta), done, lambda problem: done(str(problem)))

    def write_piece(self, chunk: SnapshotChunk, done: Callable[[], None], failed: Callable[[str], None]) -> None:
        def job() -> None:
            if chunk.offset == 0:
                if self._receiver is not None:
                    self._receiver.abort()
                self._receiver = self._snapshots.receive(chunk.meta)
            assert self._receiver is not None, "the first piece opens the file"
            self._receiver.write(chunk.offset, chunk.data)
            if chunk.offset + len(chunk.data) == chunk.total:
                self._received.add(chunk.meta.index)
                self._receiver.finish()
                self._receiver = None

        def broke(problem: Exception) -> None:
            failed(str(problem))

        self._lanes.bulk(job, lambda _: done(), broke)


def _is_small(write: Write) -> bool:
    entries = write.entries
    return len(entries) <= STAGED_ENTRIES and sum([len(entry[3]) for entry in entries]) <= STAGED_BYTES
