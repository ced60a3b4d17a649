"""The segment that is being written: where it ends, its chain, and its watermark.

It knows bytes and offsets. What the records mean, and when the segment is full, is decided by wal.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from time import perf_counter
from typing import TypeAlias

from kvstore.storage.errors import DiskFailed
from kvstore.storage.files import File, Files
from kvstore.storage.layout import FORMATS, RECORDS_AT, TEMPORARY, Birth, Identity, Point, SegmentName, Watermark
from kvstore.storage.records import NEXT_BYTES, frame, frame_parts, framed_bytes
from kvstore.storage.scan import Scan
from kvstore.wire import Packed, packed_bytes

ZERO_AHEAD = 1 << 20
"""Bytes that are written as zeros before the records reach them. The file's space is reserved at its birth, but an
fdatasync over blocks that were never written also has to commit the file system's journal; over written ones it is a
third faster. In steps, because zeroing a whole segment at once would stop the log for tens of milliseconds."""

Batch: TypeAlias = list[tuple[int, Packed]]  # kind and payload of each record


class Staged:
    """What one batch writes: `pieces`, each with its offset, and then an fdatasync. Made by Segment.stage."""

    __slots__ = ("_path", "after", "failure", "file", "pieces")

    def __init__(
        self, file: File, path: str, pieces: list[tuple[bytes, int]], after: tuple[int, int, Watermark, Point]
    ) -> None:
        """`after` is where the segment ends then, its chain, its watermark, and how far it is durable."""
        self.file = file
        self.pieces = pieces
        self._path = path
        self.after = after
        self.failure: DiskFailed | None = None

    def write(self) -> float:
        """Durable on return; the seconds that the sync took. Raises DiskFailed."""
        is_written = False
        try:
            for piece, offset in self.pieces:
                self.file.pwrite(piece, offset)
            is_written = True
            began = perf_counter()
            self.file.datasync()
            return perf_counter() - began
        except OSError as error:
            raise self.failed(is_written, error) from error

    def failed(self, is_written: bool, error: OSError) -> DiskFailed:
        """It did not become durable; `is_written`: it was the sync that failed."""
        self.failure = DiskFailed(self._path, "fdatasync" if is_written else "write", error)
        return self.failure


class Segment:
    """One open segment. Every method that writes raises DiskFailed; then the object must not be used again."""

    def __init__(self, file: File, path: str, birth: Birth, end: int, chain: int, watermark: Watermark) -> None:
        self.path = path
        self.name = birth.name
        self.format = birth.format
        self._file = file
        self._capacity = birth.capacity
        self._end = end
        self._chain = chain
        self._watermark = watermark  # the last one that was written
        self._zeroed = end
        self.durable = watermark.durable  # how far the log is on the disk now

    @classmethod
    def create(
        cls,
        files: Files,
        folder: str,
        identity: Identity,
        name: SegmentName,
        born: tuple[Batch, int],
        capacity: int,
        before: Point,
        owed: tuple[int, int] = (0, 0),
        version: int = FORMATS[0],
    ) -> Segment:
        """A new segment that holds the records `born[0]`, chained to `born[1]`. Durable under its name on return.

        `before` is how far the log goes (its offset does not matter), `owed` what it lost (see layout.Watermark).
        """
        parts, chain = _framed(*born)
        records = b"".join(parts)
        end = RECORDS_AT + len(records)
        birth = Birth(identity, name, before.last_term, max(capacity, end + NEXT_BYTES), born[1], end, version)
        point = before._replace(offset=end)
        path = f"{folder}/{name}"
        try:
            file = files.create(path + TEMPORARY)
            try:
                file.allocate(birth.capacity)
                file.pwrite(birth.pack(), 0)
                for serial in (0, 1):
                    watermark = Watermark(serial, point, point, *owed)
                    file.pwrite(watermark.pack(), watermark.offset)
                if records:
                    file.pwrite(records, RECORDS_AT)
                file.datasync()
                files.rename(path + TEMPORARY, path)
                files.sync_folder(folder)
            except OSError:
                file.close()
                raise
        except OSError as error:
            raise DiskFailed(path, "creating a segment", error) from error
        return cls(file, path, birth, end, chain, watermark)

    @classmethod
    def reopen(cls, files: Files, found: Scan, point: Point, owed: tuple[int, int]) -> Segment:
        """Goes on behind the last valid record. What follows it becomes zero again, and all of it durable.

        `point` is how far the log goes, whatever its offset.
        """
        point = point._replace(offset=found.end)
        try:
            file = files.open(found.path, write=True)
            try:
                serial = found.watermark.serial
                if owed > (found.watermark.owed_term, found.watermark.owed_index):
                    serial += 1  # the debt first: the repairs below remove the traces that tell of it
                    watermark = found.watermark._replace(serial=serial, owed_term=owed[0], owed_index=owed[1])
                    file.pwrite(watermark.pack(), watermark.offset)
                    file.datasync()
                file.allocate(found.birth.capacity)
                rewrite(file, found)
                for following in (serial + 1, serial + 2):  # both slots: none may speak of what was cut
                    watermark = Watermark(following, point, point, *owed)
                    file.pwrite(watermark.pack(), watermark.offset)
                file.datasync()
            except OSError:
                file.close()
                raise
        except OSError as error:
            raise DiskFailed(found.path, "reopening the segment", error) from error
        return cls(file, found.path, found.birth, found.end, found.chain, watermark)

    def has_room(self, record_bytes: int) -> bool:
        """For records of so many bytes, and the one that names the next segment."""
        return self._end + record_bytes + NEXT_BYTES <= self._capacity

    def chain_behind(self, batch: Batch) -> int:
        """What the chain will be once `batch` is written."""
        return _framed(batch, self._chain)[1]

    def write(self, batch: Batch, reached: Point, owed: tuple[int, int]) -> float:
        """Writes the records with the watermark and one fdatasync, and gives the seconds which that took.

        `reached`, but for its offset, is the log then.
        """
        staged = self.stage(batch, reached, owed)
        seconds = staged.write()
        self.finish(staged)
        return seconds

    def stage(self, batch: Batch, reached: Point, owed: tuple[int, int]) -> Staged:
        """What `write` writes. Somebody else may do it, and then says so by `finish`."""
        parts, chain = _framed(batch, self._chain)
        *offsets, end = accumulate(map(len, parts), initial=self._end)
        intended = reached._replace(offset=end)
        watermark = Watermark(self._watermark.serial + 1, self.durable, intended, *owed)
        pieces = [*zip(parts, offsets, strict=True), (watermark.pack(), watermark.offset)]
        if end > self._zeroed:
            start = end
            self._zeroed = min(end + ZERO_AHEAD, self._capacity)
            pieces.insert(0, (bytes(self._zeroed - start), start))
        return Staged(self._file, self.path, pieces, (end, chain, watermark, intended))

    def finish(self, staged: Staged) -> None:
        """All of it is durable."""
        self._end, self._chain, self._watermark, self.durable = staged.after

    def settle(self, owed: tuple[int, int]) -> None:
        """Writes the watermark alone, unless the last one says all already."""
        before = self._watermark
        watermark = Watermark(before.serial + 1, self.durable, self.durable, *owed)
        if watermark[1:] == before[1:]:
            return
        operation = "write"
        try:
            self._file.pwrite(watermark.pack(), watermark.offset)
            operation = "fdatasync"
            self._file.datasync()
        except OSError as error:
            raise DiskFailed(self.path, operation, error) from error
        self._watermark = watermark

    def close(self) -> None:
        with suppress(OSError):  # all that counts was synced before
            self._file.close()


def rewrite(file: File, found: Scan) -> None:
    """Makes durable what was read behind the watermark, and zero what follows the last record. OSError.

    If only the process died, it may be in the page cache alone; after a failed fsync that cache even calls it clean,
    so that another fsync would do nothing. Hence it is written again, before any watermark calls it durable.
    """
    start = min(found.watermark.durable.offset, found.end)
    chunk = bytes(found.buffer[start : found.end]) + bytes(found.filled - found.end)
    if chunk:
        file.pwrite(chunk, start)
    file.datasync()


def _framed(batch: Iterable[tuple[int, Packed]], chain: int) -> tuple[list[bytes], int]:
    """The records in one piece, or in several if a payload is in parts; and the chain after them."""
    pieces: list[bytes] = []
    is_whole = True
    for kind, payload in batch:
        if isinstance(payload, bytes):
            record, chain = frame(kind, payload, chain)
            pieces.append(record)
        else:
            parts, chain = frame_parts(kind, payload, chain)
            pieces += parts
            is_whole = False
    if is_whole and len(pieces) != 1:
        pieces = [b"".join(pieces)]
    return pieces, chain


def batch_bytes(batch: Batch) -> int:
    return sum(framed_bytes(packed_bytes(payload)) for _, payload in batch)
