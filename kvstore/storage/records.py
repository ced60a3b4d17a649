"""The records of a segment: how one is framed, read back, and what its payload holds.

A record is
    length of the payload   u32 little-endian
    kind                    u8, then three zero bytes
    chain                   u32: CRC32 of length, kind and payload, continued from the record before
    check                   u32: CRC32 of the twelve bytes above
    payload
    seal                    one to eight bytes 0xA5, so that the record ends on a multiple of eight
Segments are zero beyond their last record. The chain makes a record valid only behind the very records that it was
written after. The check tells a damaged length from a damaged payload. The seal is never zero: a record whose last
byte is there was written to its end, so if it is invalid it was damaged, not cut away.

Payloads are msgpack. Nothing here knows about files.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import repeat
from typing import NamedTuple
from zlib import crc32

import msgpack

from kvstore.raft.types import Configuration, Entry, HardState, SnapshotMeta
from kvstore.wire import WireError, unpack

_new = tuple.__new__  # a NamedTuple made this way costs a third

HEADER_BYTES = 16
ALIGNMENT = 8
SECTOR = 512  # the unit that a disk writes whole or not at all

_HEAD = struct.Struct("<IB3x")
_CHAIN = struct.Struct("<I")
_HEADER = struct.Struct("<IB3xII")
_SEALS = [b"\xa5" * count for count in range(ALIGNMENT + 1)]
_MAX_ID = (1 << 64) - 1


class Kind(IntEnum):
    ENTRIES = 1  # one batch of consecutive entries; from its first index on it replaces what came before
    HARD_STATE = 2
    SNAPSHOT = 3  # a mark: a snapshot at this point exists as a file
    NEXT = 4  # the last record of a full segment: the sequence number of the next one, which exists already


class Record(NamedTuple):
    """A valid record: `payload` lies in the buffer it was read from; `end` is the offset behind its seal."""

    kind: int
    payload: memoryview
    offset: int
    end: int
    chain: int


class UnreadablePayload(Exception):
    """A record that passes its checks and still makes no sense; the message says what is wrong."""


def framed_bytes(payload_bytes: int) -> int:
    """How long a record is on the disk."""
    return (HEADER_BYTES + payload_bytes) // ALIGNMENT * ALIGNMENT + ALIGNMENT


NEXT_BYTES = framed_bytes(8)


def frame(kind: int, payload: bytes, chain: int) -> tuple[bytes, int]:
    """A record's bytes and the chain behind it."""
    head = _HEAD.pack(len(payload), kind)
    chain = crc32(payload, crc32(head, chain))
    head += _CHAIN.pack(chain)
    seal = _SEALS[ALIGNMENT - len(payload) % ALIGNMENT]
    return b"".join((head, _CHAIN.pack(crc32(head)), payload, seal)), chain


def frame_parts(kind: int, parts: Sequence[bytes], chain: int) -> tuple[list[bytes], int]:
    """As `frame`, of a payload in parts: none of them is copied."""
    size = sum(map(len, parts))
    head = _HEAD.pack(size, kind)
    chain = crc32(head, chain)
    for part in parts:
        chain = crc32(part, chain)
    head += _CHAIN.pack(chain)
    return [head + _CHAIN.pack(crc32(head)), *parts, _SEALS[ALIGNMENT - size % ALIGNMENT]], chain


def read_length(buffer: memoryview, offset: int) -> int | None:
    """The payload length that a sound header at `offset` gives; None if there is no sound header."""
    if offset + HEADER_BYTES > len(buffer):
        return None
    length, _, _, check = _HEADER.unpack_from(buffer, offset)
    if crc32(buffer[offset : offset + 12]) != check:
        return None
    return int(length)


def read_record(buffer: memoryview, offset: int, chain: int) -> Record | None:
    """The record at `offset`, where `chain` is that of the record before it; None if none is valid there."""
    length = read_length(buffer, offset)
    if length is None:
        return None
    end = offset + framed_bytes(length)
    body = offset + HEADER_BYTES
    if end > len(buffer):
        return None
    payload = buffer[body : body + length]
    found = crc32(payload, crc32(buffer[offset : offset + 8], chain))
    if found != _CHAIN.unpack_from(buffer, offset + 8)[0]:
        return None
    if buffer[body + length : end] != _SEALS[end - body - length]:
        return None
    return Record(buffer[offset + 4], payload, offset, end, found)


def torn(buffer: memoryview, offset: int) -> bool:
    """Whether the invalid record at `offset` can be a write that a crash interrupted.

    Such a write has at least one sector that never reached the disk, where the segment's zeros still stand. A record
    with something in each of its sectors did reach the disk, and was damaged later.
    """
    length = read_length(buffer, offset)
    if length is None:
        end = -(-(offset + HEADER_BYTES) // SECTOR) * SECTOR  # the sectors of its header
    else:
        end = offset + framed_bytes(length)
    while offset < end:
        boundary = min((offset // SECTOR + 1) * SECTOR, end)
        if not any(buffer[offset:boundary]):  # also where the file is too short
            return True
        offset = boundary
    return False


# --- payloads -------------------------------------------------------------------------------------------------


def _unpack(payload: bytes | memoryview, what: str) -> tuple[object, ...]:
    try:
        value = unpack(payload)
    except WireError as error:
        raise UnreadablePayload(f"{what} cannot be read ({error})") from None
    if not isinstance(value, tuple):
        raise UnreadablePayload(f"{what} cannot be read (not a list)")
    return value


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_ID


def unpack_entries(payload: bytes | memoryview) -> list[Entry]:
    """A batch: at least one entry, indices consecutive from 1 up, terms never falling. UnreadablePayload if not.

    A restart reads every entry of every segment, so the checks run over whole columns, in C.
    """
    rows = _unpack(payload, "a batch of entries")
    if not rows:
        raise UnreadablePayload("a batch of entries is empty")
    if set(map(type, rows)) != {tuple} or set(map(len, rows)) != {4}:  # type: ignore[arg-type]
        raise UnreadablePayload("a batch of entries holds something that is no entry")
    indices, terms, kinds, payloads = zip(*rows, strict=True)
    if {*map(type, indices), *map(type, terms), *map(type, kinds)} != {int} or set(map(type, payloads)) != {bytes}:
        raise UnreadablePayload("a batch of entries holds something that is no entry")
    first = indices[0]
    if first < 1 or min(terms) < 0 or min(kinds) < 0 or max(*indices, *terms, *kinds) > _MAX_ID:
        raise UnreadablePayload("a batch of entries holds a number that is out of range")
    if indices != tuple(range(first, first + len(indices))):
        raise UnreadablePayload(f"the entries {first} to {indices[-1]} of one batch are not consecutive")
    if terms[0] != terms[-1] or len(set(terms)) > 1:
        for index, before, after in zip(indices[1:], terms, terms[1:], strict=False):
            if after < before:
                raise UnreadablePayload(f"entry {index} has term {after}, the one before it {before}")
    return list(map(_new, repeat(Entry), rows))  # type: ignore[arg-type]


def pack_hard_state(state: HardState) -> bytes:
    packed: bytes = msgpack.packb(state)
    return packed


def unpack_hard_state(payload: bytes | memoryview) -> HardState:
    fields = _unpack(payload, "a hard state")
    if len(fields) != 3 or not all(map(_is_number, fields)):
        raise UnreadablePayload("a hard state does not hold its three numbers")
    return HardState._make(fields)


def pack_meta(meta: SnapshotMeta) -> bytes:
    members: Sequence[frozenset[int]] = meta.configuration
    packed: bytes = msgpack.packb((meta.index, meta.term, [sorted(group) for group in members]))
    return packed


def unpack_meta(payload: bytes | memoryview) -> SnapshotMeta:
    match _unpack(payload, "a snapshot mark"):
        case (int(index), int(term), (tuple(), tuple(), tuple(), tuple()) as groups) if (
            _is_number(index) and _is_number(term) and all(_is_number(one) for group in groups for one in group)
        ):
            return SnapshotMeta(index, term, Configuration(*map(frozenset, groups)))
    raise UnreadablePayload("a snapshot mark does not hold what it should")


def pack_next(sequence: int) -> bytes:
    return sequence.to_bytes(8, "little")


def unpack_next(payload: bytes | memoryview) -> int:
    if len(payload) != 8:
        raise UnreadablePayload("the record that names the next segment has the wrong length")
    return int.from_bytes(payload, "little")
