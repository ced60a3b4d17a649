"""A long value on its way from one member to the next: how often it is copied, and that nothing else changes.

Counted are bytes that are held at a time, so the figures are the same on every machine.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given

from kvstore import wire
from kvstore.hello import FrameSplitter, frame
from kvstore.proposals import Outcome
from kvstore.raft.types import AppendRequest, Entry, EntryKind, HardState, ProposeRequest
from kvstore.storage.files import OSFiles
from kvstore.storage.layout import Identity
from kvstore.storage.wal import WAL
from kvstore.store.operations import CompareAndSwap, Create, CreateInOrder, Set, Update
from kvstore.wire import Command, Guarded, LaterVersion, MessagePacker, PeerMessage, WireError
from tests.node_bench import ME, SECOND, THIRD, Bench
from tests.test_wire import COMMANDS, MESSAGES, NUMBERS

VALUE_BYTES = 4 << 20
#: Of the value, beside whole copies of it: buffers of sockets, and what a growing buffer has in reserve.
SLACK = 0.3
READ_BYTES = 256_000  # at a time, as uvloop does it

T = TypeVar("T")


@pytest.fixture(scope="module")
def value() -> bytes:
    return Random(1).randbytes(VALUE_BYTES)


def copies(make: Callable[[], T]) -> tuple[T, float]:
    """What `make` returns, and how many copies of the value there are at most meanwhile."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = make()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return made, (peak - before) / VALUE_BYTES


def entry_of(command: Command) -> Entry:
    (payload,) = wire.stamp(5, [wire.pack_command(7, command)])
    return Entry(9, 2, int(EntryKind.COMMAND), payload)


def append_to(member: int, entries: tuple[Entry, ...]) -> AppendRequest:
    return AppendRequest(member, ME, 2, entries[0].index - 1, 2, entries, 8)


def received(octets: bytes) -> Iterator[PeerMessage]:
    """The messages in a stream, read a buffer at a time."""
    splitter = FrameSplitter()
    for at in range(0, len(octets), READ_BYTES):
        yield from map(wire.unpack_message, splitter.feed(octets[at : at + READ_BYTES]))


def long_commands(value: bytes) -> list[Command]:
    return [
        Set(b"/a", value, False, None, False),
        Create(b"/a", value, False, 1 << 40),
        CreateInOrder(b"/a", value, False, None),
        Update(b"/a", value, 5, False),
        CompareAndSwap(b"/a", value, value[:-1], 0, None, True),
        Guarded(3, True, Set(b"/a", value, False, None, False)),
    ]


# --- how often it is copied ---------------------------------------------------------------------------------------


def test_a_leader_copies_a_long_value_once_for_its_log_its_disk_and_all_followers(value: bytes, tmp_path: Path) -> None:
    wal = WAL.create(OSFiles(), str(tmp_path), Identity(1, 2, bytes(16)))
    packer = MessagePacker()

    def lead() -> list[wire.Packed]:
        encoded = wire.pack_long_command(7, Set(b"/a", value, False, None, False))
        entries = (Entry(1, 2, 0, wire.stamp(5, [encoded])[0]),)
        packed = [packer.pack_parts(append_to(member, entries)) for member in (SECOND, THIRD)]
        wal.append(HardState(2, 1, 0), entries)
        return packed

    packed, times = copies(lead)
    assert 1 <= times < 1 + SLACK + (1 << 20) / VALUE_BYTES, "the log writes a mebibyte of zeros ahead"
    wal.close()
    reopened, recovered = WAL.open(OSFiles(), str(tmp_path), snapshot=None)
    reopened.close()
    entries = tuple(recovered.entries)
    for member, parts in zip((SECOND, THIRD), packed, strict=True):
        assert wire.joined(parts) == MessagePacker().pack(append_to(member, entries))
    assert wire.unpack_command(entries[0].payload).command == Set(b"/a", value, False, None, False)


def test_a_driver_holds_one_copy_of_a_long_value_while_it_is_replicated(value: bytes) -> None:
    bench = Bench()
    bench.lead()
    outcomes: list[Outcome] = []

    def propose() -> None:
        bench.node.propose(Set(b"/a", value, False, None, False), outcomes.append)
        bench.node.flush()

    _, times = copies(propose)
    assert times < 1 + SLACK


@pytest.mark.parametrize("at", range(6))
def test_a_follower_reads_a_long_value_where_it_was_received(value: bytes, at: int) -> None:
    command = long_commands(value)[at]
    entry = entry_of(command)
    stream = frame(MessagePacker().pack(append_to(SECOND, (entry,))))
    values = round(len(stream) / VALUE_BYTES)  # a comparison has two
    (append,), times = copies(lambda: list(received(stream)))
    assert append == append_to(SECOND, (entry,))
    assert times < 2 * (1 + SLACK / 2) * values, "the buffer, and the entry"
    logged, times = copies(lambda: wire.unpack_command(entry.payload))
    assert logged == (5, 7, command)
    assert times < values + SLACK


def test_a_forwarded_command_is_judged_without_a_copy_of_its_value(value: bytes) -> None:
    for command in long_commands(value):
        encoded = wire.joined(wire.pack_long_command(7, command))
        assert encoded == wire.pack_command(7, command)
        judged, times = copies(lambda encoded=encoded: wire.unpack_forwarded(encoded))  # type: ignore[misc]
        assert times < SLACK
        assert type(judged) is type(command)
        packed = MessagePacker().pack(ProposeRequest(ME, SECOND, 2, 1, 1, 0, (encoded,)))
        message, times = copies(lambda packed=packed: wire.unpack_message(packed))  # type: ignore[misc]
        assert isinstance(message, ProposeRequest)
        assert message.payloads == (encoded,)
        assert times < len(packed) / VALUE_BYTES + SLACK


def test_a_follower_forwards_a_long_value_as_one_copy(value: bytes) -> None:
    encoded = wire.pack_command(7, Set(b"/a", value, False, None, False))
    forwarded = ProposeRequest(ME, SECOND, 2, 1, 1, 0, (encoded,))
    packed, times = copies(lambda: MessagePacker().pack_parts(forwarded))
    assert times < SLACK
    assert wire.unpack_message(wire.joined(packed)) == forwarded


def test_a_record_in_parts_has_the_bytes_of_one_in_a_piece(value: bytes, tmp_path: Path) -> None:
    entries = [entry_of(Set(b"/a", value[: wire.LONG_BYTES + 1], False, None, False))._replace(index=1)]
    logs = []
    for name, length in (("parts", wire.LONG_BYTES), ("whole", VALUE_BYTES)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kvstore.wire.LONG_BYTES", length)
            wal = WAL.create(OSFiles(), str(tmp_path / name), Identity(1, 2, bytes(16)))
            wal.append(None, entries)
            wal.append(HardState(2, 1, 0), [entry._replace(index=2, payload=b"") for entry in entries])
            (segment,) = wal.segments
            wal.close()
        logs.append((tmp_path / name / segment).read_bytes())
    assert logs[0] == logs[1]


# --- and nothing is changed by it -----------------------------------------------------------------------------------


@given(MESSAGES)
def test_a_message_in_parts_is_the_same_message(message: PeerMessage) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "LONG_BYTES", 2)
        packed = MessagePacker().pack(message)
        back = wire.unpack_message(memoryview(packed))
    assert wire.unpack_message(packed) == message
    assert back == message
    assert type(back) is type(message)


@given(COMMANDS, NUMBERS)
def test_a_command_in_parts_is_the_same_command(command: Command, request: int) -> None:
    whole = wire.pack_command(request, command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "LONG_BYTES", 2)
        parts = wire.pack_long_command(request, command)
        assert wire.packed_bytes(parts) == len(wire.joined(parts))
        for encoded in (parts, whole):
            (payload,) = wire.stamp(5, [encoded])
            assert wire.unpack_command(payload) == (5, request, command)


@pytest.mark.parametrize(
    "fields",
    [
        (0, 1, b"/a", b"v" * 300_000, False, None, False, 1),  # one too many
        (0, 1, b"/a", b"v" * 300_000, False, -1, False),
        (0, 1, "/a", b"v" * 300_000, False, None, False),
        (0, 1, b"/a//", b"v" * 300_000, False, None, False),
        (1.5, 1, b"v" * 300_000),
        (*range(100), b"v" * 300_000),
        b"v" * 300_000,
    ],
)
def test_long_nonsense_is_refused_as_short_nonsense_is(fields: object) -> None:
    packed = wire.pack(fields)
    for octets in (packed, packed[:-1], packed + b"\0", packed + packed):
        with pytest.raises(WireError):
            wire.unpack_message(MessagePacker().pack(ProposeRequest(ME, SECOND, 2, 1, 1, 0, (octets,))))
    with pytest.raises(WireError):
        wire.unpack_message(packed)


def test_what_a_later_version_forwards_is_recognized_if_it_is_long() -> None:
    later = wire.pack((99, 1, b"/a", b"v" * 300_000))
    message = wire.unpack_message(MessagePacker().pack(ProposeRequest(ME, SECOND, 2, 1, 1, 0, (later,))))
    assert isinstance(message, ProposeRequest)
    assert message.kind == wire.UNKNOWN_KIND
    with pytest.raises(LaterVersion):
        wire.unpack_forwarded(later)


def test_a_long_frame_of_many_short_entries_is_read_like_any_other() -> None:
    entries = tuple(Entry(index, 2, 0, b"\0" * 8 + b"x" * 100) for index in range(9, 5_000))
    assert wire.unpack_message(MessagePacker().pack(append_to(SECOND, entries))) == append_to(SECOND, entries)


def test_long_frames_come_out_whole_between_short_ones() -> None:
    payloads = [b"a", b"b" * 300_000, b"", b"c" * 300_001, b"d"]
    stream = b"".join(map(frame, payloads))
    for size in (1, 7, 299_999, len(stream)):
        splitter = FrameSplitter()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [bytes(whole) for piece in pieces for whole in splitter.feed(piece)] == payloads
