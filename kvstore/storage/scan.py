"""Reads one segment and judges how its records end: whole, torn by a crash, cut away, or damaged.

The watermark decides. What a watermark calls durable must be there. Behind it may stand one batch, which a crash can
leave with any subset of its sectors written.

    records end behind the durable offset
        nothing but zeros follows                      WHOLE
        a sector of the next record is still zero      TORN: never acknowledged, may be cut
        else                                           damage: it was written whole, so it may have been acknowledged
        the file ends before the intended offset       LOST: no crash shortens a file
    records end before the durable offset
        the next record breaks off, zeros follow       LOST: acknowledged records were cut away
        else                                           damage

One doubt cannot be resolved: a tail that is turned to zeros after its batch was acknowledged and before the next
watermark was written looks exactly like a torn write. The driver settles the watermark when it is idle, so that this
gap stays short. Nothing here changes a file.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from kvstore.storage.errors import DamagedWAL
from kvstore.storage.files import File, Files
from kvstore.storage.layout import PAGE, RECORDS_AT, Birth, SegmentName, Watermark
from kvstore.storage.records import (
    HEADER_BYTES,
    SECTOR,
    Kind,
    Record,
    UnreadablePayload,
    framed_bytes,
    read_length,
    read_record,
    torn,
    unpack_next,
)

_BLOCK_BYTES = 1 << 20
_ZEROS = bytes(_BLOCK_BYTES)


class Ending(Enum):
    WHOLE = "whole"
    TORN = "torn"
    LOST = "lost"


class Scan(NamedTuple):
    """One segment as it was read. Offsets are in bytes from the start of the file."""

    path: str
    birth: Birth
    watermark: Watermark
    records: list[Record]
    end: int  # behind the last valid record
    chain: int
    next_sequence: int  # what its last record names; 0 while the segment is not full
    filled: int  # behind the last byte that is not zero
    buffer: memoryview  # the file's contents; the zeros at its end may be missing
    notes: list[str]
    size: int  # of the file

    @property
    def unused(self) -> bool:
        """Nothing was ever written since its birth."""
        fresh = self.watermark.serial <= 1 and self.watermark.intended.offset == self.birth.records_end
        return fresh and self.end == self.filled == self.birth.records_end


def scan(files: Files, folder: str, name: SegmentName) -> Scan:
    """Reads the segment. DamagedWAL or UnknownFormat if its head cannot be used; OSError."""
    path = f"{folder}/{name}"
    file = files.open(path)
    try:
        head = file.pread(RECORDS_AT, 0)
        birth = Birth.unpack(path, head[:SECTOR])
        if birth.name != name:
            raise DamagedWAL(path, 0, f"the file was created under the name {birth.name}")
        watermark, notes = _watermark(path, head)
        size = file.size()
        content = file.pread(_bytes_to_read(file, size, watermark), 0)
    finally:
        file.close()
    buffer = memoryview(content)
    records, end, chain, following = _records(path, buffer, birth.chain)
    filled = _filled_end(content, end)
    return Scan(path, birth, watermark, records, end, chain, following, filled, buffer, notes, size)


def _bytes_to_read(file: File, size: int, watermark: Watermark) -> int:
    """A segment is preallocated. What the file system knows to be zeros at its end is not read, which saves a tenth of
    a second of each start. The file system is not believed about what the watermark covers, and a further sector lets
    a header that the data ends in be read with its zeros."""
    return min(size, max(file.data_end(), watermark.durable.offset, watermark.intended.offset) + SECTOR)


def _filled_end(content: bytes, start: int) -> int:
    """Where the last byte that is not zero ends, at least `start`. A segment is preallocated, and most of it is zeros:
    comparing blocks takes a tenth of the time of a search byte by byte."""
    end = len(content)
    while end > start:
        begin = max(start, end - _BLOCK_BYTES)
        block = content[begin:end]
        if block != _ZEROS[: len(block)]:
            return begin + len(block.rstrip(b"\0"))
        end = begin
    return start


def _watermark(path: str, content: bytes) -> tuple[Watermark, list[str]]:
    slots = [Watermark.unpack(content[offset : offset + SECTOR]) for offset in (PAGE, 2 * PAGE)]
    sound = [slot for slot in slots if slot is not None]
    if not sound:
        raise DamagedWAL(path, PAGE, "both copies of the durable watermark fail their checksum")
    notes = []
    if len(sound) < len(slots):
        offset = PAGE * (1 + slots.index(None))
        notes.append(f"{path} at offset {offset}: one copy of the durable watermark is damaged, used the other")
    return max(sound), notes


def _records(path: str, buffer: memoryview, chain: int) -> tuple[list[Record], int, int, int]:
    """The valid records from the first on, where they end, the chain there, and the next segment's number."""
    records: list[Record] = []
    offset = RECORDS_AT
    while (record := read_record(buffer, offset, chain)) is not None:
        records.append(record)
        offset, chain = record.end, record.chain
        if record.kind == Kind.NEXT:
            try:
                return records, offset, chain, unpack_next(record.payload)
            except UnreadablePayload as error:
                raise DamagedWAL(path, record.offset, str(error)) from None
    return records, offset, chain, 0


def ending(found: Scan) -> Ending:
    """How the records of the last segment end (see above); DamagedWAL if nothing but damage explains it."""
    if found.next_sequence:
        return Ending.WHOLE
    watermark = found.watermark
    if found.end < watermark.durable.offset:
        if _breaks_off(found):
            return Ending.LOST
        raise DamagedWAL(found.path, found.end, "a record that was durable is damaged")
    if found.size < watermark.intended.offset:
        return Ending.LOST
    if found.filled == found.end:
        return Ending.WHOLE
    if torn(found.buffer, found.end):
        return Ending.TORN
    raise DamagedWAL(found.path, found.end, "a record that was written whole is damaged")


def _breaks_off(found: Scan) -> bool:
    """Whether the record behind the last valid one lacks its end: a sound one ends in bytes that are not zero."""
    length = read_length(found.buffer, found.end)
    whole = HEADER_BYTES + 1 if length is None else framed_bytes(length)
    return found.filled < found.end + whole
