"""The fixed head of a segment: who it belongs to, and two slots for the durable watermark.

    page 0   the birth: magic, format version, identity, place in the log, chain so far   written once, before use
    page 1   watermark, even serials
    page 2   watermark, odd serials
    page 3   the first record
Each lives in one sector of a page of its own, so that no write of one can tear another. A page is 4096 bytes.

A watermark is written together with each batch and covered by the same fdatasync. It says two things: what was durable
before that batch (`durable`, certain), and what will be durable with it (`intended`, an upper bound). Nothing here
reads or writes files.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple
from zlib import crc32

from kvstore.storage.errors import DamagedWAL, UnknownFormat
from kvstore.storage.records import SECTOR

PAGE = 4096
RECORDS_AT = 3 * PAGE
#: A segment has the format of the highest level that its entries may be of. That of level 2 differs in this number
#: alone, so that a release which knows level 1 refuses it.
FORMATS = (1, 2)
FORMAT = FORMATS[-1]
MAGIC = b"kvst-wal"
INCARNATION_BYTES = 16
SUFFIX = ".wal"
TEMPORARY = ".tmp"

_BIRTH = struct.Struct("<8sIIQQ16sQQQQQ")
_WATERMARK = struct.Struct("<Q5Q5Q2Q")
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


class Identity(NamedTuple):
    """Whose log it is. `incarnation` is 16 random bytes, new for each life with an empty disk."""

    cluster_id: int
    member_id: int
    incarnation: bytes


class SegmentName(NamedTuple):
    sequence: int  # counts segments from 1
    first_index: int  # the first index that may stand in it; lower ones follow only if they replace

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        match = _NAME.fullmatch(name)
        return cls(int(match[1], 16), int(match[2], 16)) if match else None

    def __str__(self) -> str:
        return f"{self.sequence:016x}-{self.first_index:016x}{SUFFIX}"


class Birth(NamedTuple):
    """What a segment was created with."""

    identity: Identity
    name: SegmentName
    base_term: int  # the term of the entry before the first index
    capacity: int  # bytes of the file
    chain: int  # the chain behind the last record of the segment before
    records_end: int  # offset behind the records it was born with
    format: int = FORMATS[0]  # a number of FORMATS

    def pack(self) -> bytes:
        block = _BIRTH.pack(
            MAGIC,
            self.format,
            self.chain,
            *self.identity,
            *self.name,
            self.base_term,
            self.capacity,
            self.records_end,
        )
        return _checked(block.ljust(SECTOR - 4, b"\0"))

    @classmethod
    def unpack(cls, file: str, block: bytes) -> Birth:
        """From the first sector of `file`, whose name is only for the errors: DamagedWAL, UnknownFormat."""
        if not block.startswith(MAGIC):
            raise DamagedWAL(file, 0, "this is not a segment of a kvstored log, or its first bytes are damaged")
        if len(block) != SECTOR or not _is_checked(block):
            raise DamagedWAL(file, 0, "the head of the segment fails its checksum")
        _, version, chain, cluster, member, incarnation, *place = _BIRTH.unpack_from(block)
        if version not in FORMATS:
            raise UnknownFormat(file, 8, version, FORMAT)
        sequence, first_index, base_term, capacity, end = place
        identity = Identity(cluster, member, incarnation)
        return cls(identity, SegmentName(sequence, first_index), base_term, capacity, chain, end, version)


class Point(NamedTuple):
    """How far the log goes: an offset in this segment, the last entry, the hard state's promise."""

    offset: int
    last_index: int
    last_term: int
    term: int
    vote: int


class Watermark(NamedTuple):
    serial: int  # the higher one counts
    durable: Point
    intended: Point
    owed_term: int = 0  # (term, index) of what was promised once and lost since; 0, 0: nothing
    owed_index: int = 0

    @property
    def offset(self) -> int:
        """Where its slot lies in the file."""
        return PAGE * (1 + self.serial % 2)

    def pack(self) -> bytes:
        block = _WATERMARK.pack(self.serial, *self.durable, *self.intended, self.owed_term, self.owed_index)
        return _checked(block)

    @classmethod
    def unpack(cls, block: bytes) -> Watermark | None:
        """None if the slot fails its checksum."""
        block = block[: _WATERMARK.size + 4]
        if len(block) < _WATERMARK.size + 4 or not _is_checked(block):
            return None
        fields = _WATERMARK.unpack_from(block)
        return cls(fields[0], Point(*fields[1:6]), Point(*fields[6:11]), *fields[11:13])


def _checked(block: bytes) -> bytes:
    return block + crc32(block).to_bytes(4, "little")


def _is_checked(block: bytes) -> bool:
    return len(block) > 4 and crc32(block[:-4]) == int.from_bytes(block[-4:], "little")
