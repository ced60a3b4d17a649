"""The write-ahead log: the only place where an entry, a term or a vote becomes durable.

Theory of operation. The log is a row of segments of a fixed size, zero-filled, each written from front to back. One
`append` is one write of records, one write of the watermark and one fdatasync over both; when it returns, the batch
is durable. Records are chained by checksum through all segments (records.py), a watermark in the segment's head says
how far the log was durable before the batch (layout.py). On `open`:

- A batch that a crash interrupted is cut: it stands behind the watermark, in the last segment, and lacks a sector.
- What the watermark calls durable and is gone, with nothing but zeros in its place, was acknowledged once. The member
  may start, but `Recovered.promised` forbids it to vote or campaign until it holds that much again. The debt is kept in
  the watermark itself, so that it outlives further restarts.
- Everything else that does not fit is damage, and nothing is changed (scan.py, replay.py).

Each step of cutting to a new segment is durable before the next one, so a crash between any two of them leaves
either the old state or the new one (replay.py). Purging removes the oldest segment first and syncs the folder after
each, so that the names never show a gap.

A write or fsync that fails poisons the log: the page cache may call pages clean that never reached the disk, so no
retry can be believed. Nothing here knows Raft, threads or dates; there is one caller at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import msgpack

from kvstore.raft.types import Entry, HardState, SnapshotMeta
from kvstore.statistics import DISK_BUCKETS, Histogram
from kvstore.storage.errors import DiskFailed, StorageError
from kvstore.storage.files import Files
from kvstore.storage.layout import FORMATS, RECORDS_AT, SUFFIX, TEMPORARY, Identity, Point, SegmentName
from kvstore.storage.records import NEXT_BYTES, Kind, pack_hard_state, pack_meta, pack_next
from kvstore.storage.replay import Recovered, Replayed, replay, restarts
from kvstore.storage.segment import Batch, Segment, Staged, batch_bytes, rewrite
from kvstore.storage.terms import Terms
from kvstore.wire import LONG_BYTES, pack_parts

SEGMENT_BYTES = 64 << 20
RECORD_BYTES = 4 << 20
"""Of payloads in one record; a larger batch of several entries becomes several records, in one write all the same. So
neither the writer's buffer nor a reader's copy is larger than that, or than the largest entry."""


class WAL:
    """An open log. Every method that writes raises DiskFailed, and again on every later call."""

    def __init__(
        self,
        files: Files,
        folder: str,
        identity: Identity,
        names: list[SegmentName],
        segment: Segment,
        segment_bytes: int,
    ) -> None:
        """Use `create` or `open`."""
        self.identity = identity
        self._files = files
        self._folder = folder
        self._names = names  # oldest first; the last one is being written
        self._segment = segment
        self._segment_bytes = segment_bytes
        self._terms = Terms()
        self._hard_state = HardState()
        self._mark: SnapshotMeta | None = None
        self._owed = (0, 0)  # (term, index); see layout.Watermark
        self._failure: DiskFailed | None = None
        self._staged: Staged | None = None  # what somebody else is writing
        self.before_format: Callable[[int], None] = lambda version: None  # what must be durable before; DiskFailed
        self.sync_seconds = Histogram(DISK_BUCKETS)  # of the fdatasync in each batch
        self._pack = msgpack.Packer().pack  # one buffer for all batches

    @classmethod
    def create(
        cls,
        files: Files,
        folder: str,
        identity: Identity,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        version: int = FORMATS[0],
    ) -> WAL:
        """An empty log, durable on return. The folder holds no log yet (StorageError if it does)."""
        try:
            files.make_folder(folder)
            listed = files.list(folder)
        except OSError as error:
            raise DiskFailed(folder, "creating the log", error) from error
        if any(name.endswith(SUFFIX) for name in listed):
            raise StorageError(f"{folder}: there is a log here already")
        name = SegmentName(1, 1)
        chain = crc32(repr(tuple(identity)).encode())  # no other log's records can follow
        segment = Segment.create(
            files, folder, identity, name, ([], chain), segment_bytes, Point(0, 0, 0, 0, 0), version=version
        )
        return cls(files, folder, identity, [name], segment, segment_bytes)

    @classmethod
    def open(
        cls, files: Files, folder: str, *, snapshot: SnapshotMeta | None, segment_bytes: int = SEGMENT_BYTES
    ) -> tuple[WAL, Recovered]:
        """Reads the log back, repairs what a crash left, and goes on from there.

        `snapshot` is the one in use (None: none); the entries behind it come back. Where the log does not hold the
        snapshot's last entry, it begins anew behind it. Raises Refused (damage, missing segments, another format)
        with the disk unchanged, or DiskFailed.
        """
        try:
            found = replay(files, folder, snapshot)
        except OSError as error:
            raise DiskFailed(folder, "reading the log", error) from error
        wal = cls(files, folder, found.recovered.identity, found.names, _repaired(files, folder, found), segment_bytes)
        wal._terms = found.terms
        wal._hard_state = found.recovered.hard_state
        wal._owed = found.recovered.promised or (0, 0)
        wal._mark = found.recovered.snapshots[-1] if found.recovered.snapshots else None
        if found.restarted and snapshot is not None:
            wal.mark_snapshot(snapshot)
        return wal, found.recovered

    @property
    def format(self) -> int:
        """Of the segment that is written: entries of a higher level must wait for `raise_format`."""
        return self._segment.format

    def raise_format(self, version: int) -> None:
        """The next entries go to a segment of at least this format, which an earlier release refuses to read; durable
        on return. `before_format` is called first."""
        self._require_sound()
        if version <= self._segment.format:
            return
        try:
            self.before_format(version)
            self._cut(0, version)
        except DiskFailed as failure:
            self._failure = failure
            raise

    @property
    def last_index(self) -> int:
        return self._terms.last_index

    @property
    def segments(self) -> list[str]:
        """The names of the segments, oldest first."""
        return [str(name) for name in self._names]

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Durable on return. Entries are consecutive; they go on from the last one or replace from their first on."""
        batch = self._batch(hard_state, entries)
        if not batch:
            return
        segment = self._ready(batch_bytes(batch))
        self._note(hard_state, entries)
        self._write(segment, batch)

    def stage(self, hard_state: HardState | None, entries: Sequence[Entry]) -> Staged | None:
        """The first half of `append`, which does not wait for the disk: the caller has it written, and then calls
        `finish`, before anything else. None: there is nothing to write, or only `append` can, for the segment is full.
        """
        batch = self._batch(hard_state, entries)
        self._require_sound()
        if not batch or not self._segment.has_room(batch_bytes(batch)):
            return None
        self._note(hard_state, entries)
        self._staged = self._segment.stage(batch, self._point(), self._still_owed())
        return self._staged

    def finish(self, sync_seconds: float) -> None:
        """What was staged is durable; the sync took so long."""
        assert self._staged is not None, "nothing is staged"
        self._segment.finish(self._staged)
        self._staged = None
        self.sync_seconds.observe(sync_seconds)

    def _batch(self, hard_state: HardState | None, entries: Sequence[Entry]) -> Batch:
        batch: Batch = []
        if entries:
            size = sum([len(entry[3]) for entry in entries])
            if size <= LONG_BYTES and size <= RECORD_BYTES:
                batch.append((Kind.ENTRIES, self._pack(entries)))
            else:
                batch += [(Kind.ENTRIES, pack_parts(few, self._pack)) for few in _cut(entries)]
        # Last, for a crash may leave the first record alone: a commit must not speak of entries that are missing, or
        # that these should have replaced.
        if hard_state is not None:
            batch.append((Kind.HARD_STATE, pack_hard_state(hard_state)))
        return batch

    def _note(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        if hard_state is not None:
            self._hard_state = hard_state
        if entries:
            self._terms.append(entries)

    def mark_snapshot(self, meta: SnapshotMeta) -> None:
        """The snapshot file at this point is durable. If the log does not hold its last entry, it begins anew there."""
        batch: Batch = [(Kind.SNAPSHOT, pack_meta(meta))]
        segment = self._ready(batch_bytes(batch))
        self._mark = meta
        if restarts(self._terms, meta):
            self._terms.restart(meta.index, meta.term)
        self._write(segment, batch)

    def settle(self) -> None:
        """Writes the watermark once more, so that it covers the last batch; call it when there is nothing to write."""
        self._require_sound()
        try:
            self._segment.settle(self._still_owed())
        except DiskFailed as failure:
            self._failure = failure
            raise

    def purge(self, below_index: int, keep: int) -> list[str]:
        """Removes the oldest segments whose entries are all at or below `below_index`; the names that went.

        At least `keep` segments stay, and always the one that is written.
        """
        self._require_sound()
        gone = []
        try:
            while len(self._names) > max(keep, 1) and self._names[1].first_index - 1 <= below_index:
                name = str(self._names[0])
                self._files.unlink(f"{self._folder}/{name}")
                self._files.sync_folder(self._folder)
                del self._names[0]
                gone.append(name)
        except OSError as error:
            self._failure = DiskFailed(self._folder, "removing a segment", error)
            raise self._failure from error
        return gone

    def close(self) -> None:
        """Settles and closes; of a log that failed, or whose last write has no end, only closes."""
        try:
            if self._failure is None and self._staged is None:
                self.settle()
        finally:
            self._segment.close()

    def _require_sound(self) -> None:
        if self._staged is not None:
            self._failure = self._staged.failure
            assert self._failure is not None, "what is staged comes first"
        if self._failure is not None:
            raise self._failure

    def _ready(self, record_bytes: int) -> Segment:
        """The segment that takes so many bytes of records; the next one if this one is full."""
        self._require_sound()
        if not self._segment.has_room(record_bytes):
            try:
                self._cut(record_bytes)
            except DiskFailed as failure:
                self._failure = failure
                raise
        return self._segment

    def _write(self, segment: Segment, batch: Batch) -> None:
        owed = self._still_owed()
        try:
            self.sync_seconds.observe(segment.write(batch, self._point(), owed))
        except DiskFailed as failure:
            self._failure = failure
            raise

    def _point(self) -> Point:
        return Point(0, self._terms.last_index, self._terms.last_term, self._hard_state.term, self._hard_state.vote)

    def _still_owed(self) -> tuple[int, int]:
        """What was lost, until the log is durable as far again."""
        durable = self._segment.durable
        if self._owed <= (durable.last_term, durable.last_index):
            self._owed = (0, 0)
        return self._owed

    def _cut(self, record_bytes: int, version: int = FORMATS[0]) -> None:
        """Goes on to a new segment with room for so many bytes; see replay.py for the order of the steps."""
        full = self._segment
        name = SegmentName(full.name.sequence + 1, self._terms.last_index + 1)
        farewell: Batch = [(Kind.NEXT, pack_next(name.sequence))]
        born: Batch = [(Kind.HARD_STATE, pack_hard_state(self._hard_state))]
        if self._mark is not None:
            born.append((Kind.SNAPSHOT, pack_meta(self._mark)))
        chain = full.chain_behind(farewell)
        owed = self._still_owed()
        capacity = max(self._segment_bytes, RECORDS_AT + batch_bytes(born) + record_bytes + NEXT_BYTES)
        following = Segment.create(
            self._files,
            self._folder,
            self.identity,
            name,
            (born, chain),
            capacity,
            self._point(),
            owed,
            max(version, full.format),
        )
        full.write(farewell, self._point(), owed)
        full.close()
        self._segment = following
        self._names.append(name)


def _cut(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Pieces of at most RECORD_BYTES of payload, or a single entry."""
    pieces: list[Sequence[Entry]] = []
    first = size = 0
    for at, entry in enumerate(entries):
        if at > first and size + len(entry.payload) > RECORD_BYTES:
            pieces.append(entries[first:at])
            first, size = at, 0
        size += len(entry.payload)
    return [*pieces, entries[first:]]


def _repaired(files: Files, folder: str, found: Replayed) -> Segment:
    """Carries out what the replay found to be needed. DiskFailed."""
    try:
        for name in files.list(folder):
            if name.endswith(SUFFIX + TEMPORARY) or name == str(found.leftover):
                files.unlink(f"{folder}/{name}")
        files.sync_folder(folder)
        if found.before is not None:  # the record that names the tail may not be on the disk yet
            file = files.open(found.before.path, write=True)
            try:
                rewrite(file, found.before)
            finally:
                file.close()
    except OSError as error:
        raise DiskFailed(folder, "repairing the log", error) from error
    hard_state = found.recovered.hard_state
    point = Point(0, found.terms.last_index, found.terms.last_term, hard_state.term, hard_state.vote)
    return Segment.reopen(files, found.tail, point, found.recovered.promised or (0, 0))
