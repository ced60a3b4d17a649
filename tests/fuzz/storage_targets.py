"""The readers of the log and of snapshots: files with bent bytes, and files whose checksums fit and contents do not.

The first is what a disk does; the second is deeper than any disk gets, and what another member may send.
"""

from __future__ import annotations

from random import Random

from kvstore.apply import StateMachine
from kvstore.raft.types import HardState
from kvstore.storage.errors import StorageError
from kvstore.storage.layout import PAGE, RECORDS_AT, Point, SegmentName
from kvstore.storage.records import SECTOR, Kind, pack_hard_state, pack_meta, pack_next
from kvstore.storage.segment import Batch, Segment
from kvstore.storage.snapshot_file import SnapshotWriter
from kvstore.storage.snapshots import Snapshots, snapshot_name
from kvstore.storage.wal import WAL
from kvstore.wire import WireError, pack
from tests.fuzz.target import Target
from tests.fuzz.wire_targets import TOKENS, _machine
from tests.sim.disk import SimFiles
from tests.storage.logs import FOLDER, IDENTITY, SMALL, entries, last_segment, mark, new_log

SNAPSHOTS = "/snap"
ROOM = RECORDS_AT + (32 << 10)  # more than the longest input
#: Where a segment holds something: its birth, two watermarks, its records. The rest of the first pages is zero.
_PARTS = ((0, SECTOR), (PAGE, SECTOR), (2 * PAGE, SECTOR))


# --- the log --------------------------------------------------------------------------------------------------


def _squeeze(segment: bytes) -> bytes:
    return b"".join(segment[at : at + size] for at, size in _PARTS) + segment[RECORDS_AT:].rstrip(b"\0")


def _stretch(squeezed: bytes) -> bytes:
    segment = bytearray(RECORDS_AT)
    for at, size in _PARTS:
        segment[at : at + size] = squeezed[:size].ljust(size, b"\0")
        squeezed = squeezed[size:]
    return bytes(segment) + squeezed + bytes(max(0, SMALL - RECORDS_AT - len(squeezed)))


def _logs() -> tuple[bytes, ...]:
    files, wal = new_log()
    wal.append(HardState(1, 2, 0), entries(1, 4))
    wal.append(None, entries(5, 2, term=2))
    wal.mark_snapshot(mark(3))
    whole = bytes(files.content(last_segment(files)))
    return (_squeeze(whole), _squeeze(whole[:-1500]))


def take_segment(octets: bytes) -> None:
    files, _ = new_log()
    path = last_segment(files)
    files.content(path)[:] = _stretch(octets)
    _open(files)


def take_records(octets: bytes) -> None:
    """Each record is its kind, two bytes of length, and its payload."""
    batch: Batch = [(octet, payload) for octet, payload in _pieces(octets)]
    files = SimFiles(Random(0))
    files.make_folder(FOLDER)
    Segment.create(files, FOLDER, IDENTITY, SegmentName(1, 1), (batch, 0), ROOM, Point(0, 0, 0, 0, 0)).close()
    _open(files)


def _open(files: SimFiles) -> None:
    files.stop()
    try:
        wal, recovered = WAL.open(files, FOLDER, snapshot=None, segment_bytes=SMALL)
    except StorageError:
        return
    following = entries(wal.last_index + 1, 1, term=max(recovered.hard_state.term, 1))
    wal.append(None, following)  # whatever was read, it can be gone on from


def _pieces(octets: bytes) -> list[tuple[int, bytes]]:
    pieces = []
    while len(octets) >= 3:
        length = int.from_bytes(octets[1:3], "little")
        pieces.append((octets[0], octets[3 : 3 + length]))
        octets = octets[3 + length :]
    return pieces


def _piece(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + len(payload).to_bytes(2, "little") + payload


def _packed_entries(first: int, count: int, term: int) -> bytes:
    return pack(entries(first, count, term))


# --- snapshots --------------------------------------------------------------------------------------------------


META = mark(9, 2)


def _save(chunks: list[bytes]) -> SimFiles:
    files = SimFiles(Random(0))
    Snapshots(files, SNAPSHOTS, IDENTITY)
    file = files.create(f"{SNAPSHOTS}/{snapshot_name(META)}")
    writer = SnapshotWriter(file, IDENTITY.cluster_id, META)
    for chunk in chunks:
        if chunk:
            writer.add(chunk)
    writer.finish()
    return files


def take_snapshot(octets: bytes) -> None:
    """A file as it is."""
    files = _save([])
    files.content(f"{SNAPSHOTS}/{snapshot_name(META)}")[:] = octets
    _restore(files)


def take_chunks(octets: bytes) -> None:
    """Chunks whose checksums fit."""
    _restore(_save([chunk for _, chunk in _pieces(octets)]))


def _restore(files: SimFiles) -> None:
    snapshots = Snapshots(files, SNAPSHOTS, IDENTITY)
    if snapshots.newest() is None:
        return
    try:
        machine = StateMachine.restore(snapshots.load(META), 100)
    except (WireError, StorageError):
        return
    for chunk in machine.freeze().chunks():
        assert chunk


_CHUNKS = list(_machine().freeze().chunks())
_RECORDS = (
    (Kind.ENTRIES, _packed_entries(1, 5, 1)),
    (Kind.HARD_STATE, pack_hard_state(HardState(3, 2, 4))),
    (Kind.SNAPSHOT, pack_meta(mark(3))),
    (Kind.ENTRIES, _packed_entries(4, 3, 2)),
)
TARGETS = (
    Target("wal", _logs(), (b"\0" * 8, b"\0" * 512, b"\xa5", b"kvst-wal"), take_segment),
    Target(
        "wal records",
        (b"".join(_piece(*record) for record in _RECORDS), _piece(Kind.NEXT, pack_next(2)), _piece(*_RECORDS[0])),
        TOKENS,
        take_records,
    ),
    Target(
        "snapshot",
        tuple(bytes(_save(chunks).content(f"{SNAPSHOTS}/{snapshot_name(META)}")) for chunks in (_CHUNKS, [b"x"], [])),
        (*TOKENS, b"kvst-snp", b"\0" * 8),
        take_snapshot,
    ),
    Target("snapshot chunks", (b"".join(_piece(0, chunk) for chunk in _CHUNKS),), TOKENS, take_chunks),
)
