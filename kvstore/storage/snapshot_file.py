"""The format of one snapshot file, written and read as a stream.

    magic, format version, cluster id, length of the meta     fixed head
    meta                                                      msgpack: index, term, configuration
    CRC32 of all before                                       u32
    for each chunk: length u32, chain u32, the chunk          the chain is a CRC32 continued from the one before
    end: length 0, chain u32, chunks u64, bytes u64, CRC32    of these, and the file ends here

The file names the cluster but no member, so that one member's file serves another as it is. Nothing here knows names
or folders.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from zlib import crc32

from kvstore.raft.types import SnapshotMeta
from kvstore.storage.errors import DamagedSnapshot, SnapshotTooLarge, UnknownFormat, WrongIdentity
from kvstore.storage.files import File
from kvstore.storage.records import UnreadablePayload, pack_meta, unpack_meta

FORMAT = 1
MAGIC = b"kvst-snp"
MAX_CHUNK = 256 << 20
"""Bytes. Writers aim at one MiB; a row that is larger makes a chunk alone, and the largest row is an event with the
values before and after it, each of the largest request (`settings.py` checks that they fit). A reader never holds more
than this, nor more than the file has, whatever a damaged length says."""
MAX_META = 1 << 20
SYNC_EVERY = 1 << 20
"""Bytes between two syncs of a file that is being written, so that no single one holds the log's own up for long."""

_HEAD = struct.Struct("<8sIQI")
_CHUNK = struct.Struct("<II")
_END = struct.Struct("<QQ")
_CRC = struct.Struct("<I")
_ADVICE = (
    "Nothing was changed. An older snapshot is used if there is one and the log still reaches it; otherwise restore "
    "this member's data folder, or remove the member and add it again with an empty one"
)


class SnapshotWriter:
    """Writes one file from front to back. OSErrors pass through."""

    def __init__(self, file: File, cluster_id: int, meta: SnapshotMeta) -> None:
        self._file = file
        packed = pack_meta(meta)
        assert len(packed) <= MAX_META
        head = _HEAD.pack(MAGIC, FORMAT, cluster_id, len(packed)) + packed
        self._chain = crc32(head)
        self._offset = self._synced = self._chunks = self._bytes = 0
        self._put(head + _CRC.pack(self._chain))

    def add(self, chunk: bytes) -> None:
        """One to MAX_CHUNK bytes. SnapshotTooLarge for more: no reader would accept it."""
        assert chunk, "an empty chunk would be read as the end"
        if len(chunk) > MAX_CHUNK:
            raise SnapshotTooLarge(len(chunk), MAX_CHUNK)
        self._chain = crc32(chunk, self._chain)
        self._chunks += 1
        self._bytes += len(chunk)
        self._put(_CHUNK.pack(len(chunk), self._chain) + chunk)

    def finish(self) -> int:
        """Writes the end; the file is durable when this returns its size in bytes."""
        totals = _END.pack(self._chunks, self._bytes)
        self._put(_CHUNK.pack(0, self._chain) + totals + _CRC.pack(crc32(totals, self._chain)))
        self._file.datasync()
        return self._offset

    def _put(self, block: bytes) -> None:
        self._file.pwrite(block, self._offset)
        self._offset += len(block)
        if self._offset - self._synced >= SYNC_EVERY:
            self._file.datasync()
            self._synced = self._offset


def read_meta(file: File, path: str, cluster_id: int | None) -> tuple[SnapshotMeta, int, int]:
    """The meta, the offset of the first chunk and the chain there.

    DamagedSnapshot, UnknownFormat, or WrongIdentity for another cluster's. `path` is for the errors.
    """
    head = file.pread(_HEAD.size, 0)
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise DamagedSnapshot(path, 0, "this is not a snapshot of kvstored", _ADVICE)
    _, version, cluster, length = _HEAD.unpack(head)
    if version != FORMAT:
        raise UnknownFormat(path, len(MAGIC), version, FORMAT)
    packed = file.pread(min(length, MAX_META), _HEAD.size)
    stored = file.pread(_CRC.size, _HEAD.size + length)
    chain = crc32(packed, crc32(head))
    if len(packed) < length or stored != _CRC.pack(chain):
        raise DamagedSnapshot(path, 0, "the head of the snapshot fails its checksum", _ADVICE)
    if cluster_id is not None and cluster != cluster_id:
        raise WrongIdentity(path, 0, f"the snapshot belongs to cluster {cluster:x}, this is cluster {cluster_id:x}")
    try:
        meta = unpack_meta(packed)
    except UnreadablePayload as error:
        raise DamagedSnapshot(path, _HEAD.size, str(error), _ADVICE) from None
    return meta, _HEAD.size + length + _CRC.size, chain


def read_chunks(file: File, path: str, offset: int, chain: int) -> Iterator[bytes]:
    """The chunks from `offset` on, each checked before it is given out; DamagedSnapshot at the first that fails."""
    chunks = total = 0
    size = file.size()
    while True:
        head = file.pread(_CHUNK.size, offset)
        if len(head) < _CHUNK.size:
            raise DamagedSnapshot(path, offset, "the snapshot breaks off", _ADVICE)
        length, stored = _CHUNK.unpack(head)
        if length == 0:
            break
        is_possible = length <= MAX_CHUNK and offset + length <= size
        chunk = file.pread(length, offset + _CHUNK.size) if is_possible else b""
        chain = crc32(chunk, chain)
        if len(chunk) < length or chain != stored:
            raise DamagedSnapshot(path, offset, "a chunk of the snapshot fails its checksum", _ADVICE)
        yield chunk
        offset += _CHUNK.size + length
        chunks += 1
        total += length
    totals = _END.pack(chunks, total)
    rest = file.pread(_END.size + _CRC.size + 1, offset + _CHUNK.size)
    if stored != chain or rest != totals + _CRC.pack(crc32(totals, chain)):
        raise DamagedSnapshot(path, offset, "the end of the snapshot fails its checksum", _ADVICE)
