"""The largest request that the flags allow fits into all that carries it: an entry, a frame, a record, a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.apply import StateMachine
from kvstore.limits import Limits
from kvstore.membership import Membership
from kvstore.raft.config import Config
from kvstore.raft.types import AppendRequest, Configuration, Entry, ProposeRequest, SnapshotMeta
from kvstore.settings import MAX_REQUEST_BYTES, Settings, SettingsError
from kvstore.storage.files import OSFiles
from kvstore.storage.layout import Identity
from kvstore.storage.snapshots import Snapshots
from kvstore.storage.wal import WAL
from kvstore.store.operations import CompareAndSwap, Set
from kvstore.store.store import Store
from kvstore.streams import CHUNK_BYTES
from kvstore.wire import (
    MAX_FRAME_BYTES,
    TIME_BYTES,
    Guarded,
    MessagePacker,
    SnapshotChunk,
    pack_command,
    stamp,
    unpack_message,
)

META = SnapshotMeta(9, 3, Configuration(voters=frozenset(range(1 << 63, (1 << 63) + 7))))
IDENTITY = Identity(1, 2, bytes(16))
KEY = b"/" + b"k" * (1 << 20)  # longer than requests may have: old logs hold such keys


def largest_command(limits: Limits) -> bytes:
    """As long as `Node` lets through."""
    empty = len(pack_command(1 << 62, Guarded(1 << 62, False, Set(KEY, b"", False, 1 << 63, False))))
    room = limits.command_bytes - empty - 4  # a longer length takes more bytes
    packed = pack_command(1 << 62, Guarded(1 << 62, False, Set(KEY, bytes(room), False, 1 << 63, False)))
    assert limits.command_bytes - 8 <= len(packed) <= limits.command_bytes
    return packed


@pytest.mark.parametrize("request_bytes", [1, 10 << 20, MAX_REQUEST_BYTES])
def test_the_largest_command_fits_into_an_entry_a_frame_and_a_record(request_bytes: int, tmp_path: Path) -> None:
    limits = Settings(limits=Limits(request_bytes=request_bytes)).limits
    command = largest_command(limits)
    Config(max_entry_bytes=limits.command_bytes + TIME_BYTES)  # with its limit of a leader's tail
    (payload,) = stamp(1, [command])
    entry = Entry(1, 1, 0, payload)
    for message in (
        AppendRequest(1, 2, 3, 0, 0, (entry,), 0),
        ProposeRequest(1, 2, 3, 1 << 61, 1 << 61, 0, (command,)),
    ):
        frame = MessagePacker().pack(message)
        assert len(frame) <= MAX_FRAME_BYTES
        if request_bytes == MAX_REQUEST_BYTES and isinstance(message, AppendRequest):
            assert unpack_message(frame) == message
    files = OSFiles()
    wal = WAL.create(files, str(tmp_path), IDENTITY)
    wal.append(None, [entry])
    wal.close()
    _, recovered = WAL.open(files, str(tmp_path), snapshot=None)
    assert recovered.entries == [entry]


def test_two_of_the_largest_values_and_longest_keys_fit_into_one_row_of_a_snapshot(tmp_path: Path) -> None:
    machine = StateMachine(Store(10, 1 << 30), Membership([]))
    value = bytes(Limits(request_bytes=MAX_REQUEST_BYTES).command_bytes)
    machine.apply(Set(KEY, value, False, None, False), 1)
    machine.apply(CompareAndSwap(KEY, value[1:], None, 1, None, False), 2)
    snapshots = Snapshots(OSFiles(), str(tmp_path), IDENTITY)
    snapshots.save(META, machine.freeze().chunks())
    restored = StateMachine.restore(snapshots.load(META), 10, 1 << 30)
    assert restored.store.get(KEY, False, False, 2).value == value[1:]
    previous = restored.store._history.find(KEY, False, 2).previous  # type: ignore[union-attr]
    assert previous is not None
    assert previous.value == value


def test_a_piece_of_a_snapshot_fits_into_a_frame() -> None:
    packed = MessagePacker().pack(SnapshotChunk(1, 2, 1 << 62, META, 1 << 62, 1 << 62, bytes(CHUNK_BYTES)))
    assert len(packed) <= MAX_FRAME_BYTES


def test_settings_refuse_a_request_that_would_not_fit() -> None:
    with pytest.raises(SettingsError, match="--max-request-bytes must not exceed 33554432"):
        Settings(limits=Limits(request_bytes=MAX_REQUEST_BYTES + 1))


def test_settings_refuse_a_log_that_has_no_room_for_several_requests() -> None:
    with pytest.raises(SettingsError, match="--max-log-bytes must be at least 8 times --max-request-bytes"):
        Settings(limits=Limits(log_bytes=(80 << 20) - 1))
    assert Settings(limits=Limits(log_bytes=80 << 20))


@pytest.mark.parametrize("count", [1, 250])
def test_a_history_and_values_of_any_size_are_saved_and_restored(count: int, tmp_path: Path) -> None:
    """The small form; `make sizes` has the full one."""
    machine = StateMachine(Store(10_000, 30 << 20), Membership([]))
    for number in range(count):
        machine.apply(Set(b"/value/%d" % number, bytes(100 << 10), False, None, False), 1)
    for number in range(50):
        machine.apply(Set(b"/name/%d" % number + b"/n" * 100 + b"x" * 30_000, b"", False, None, False), 1)
    for number in range(200):
        machine.apply(Set(b"/one", b"%d" % number * 25_000, False, None, False), 1)
    snapshots = Snapshots(OSFiles(), str(tmp_path), IDENTITY)
    size = snapshots.save(META, machine.freeze().chunks())
    assert size > 10 << 20
    restored = StateMachine.restore(snapshots.load(META), 10_000, 30 << 20)
    assert list(restored.freeze().chunks()) == list(machine.freeze().chunks())
