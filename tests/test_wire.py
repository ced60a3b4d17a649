"""What travels comes back equal; what was bent on the way is a WireError and nothing else."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import wire
from kvstore.raft.types import AppendRequest, Change, Configuration, Entry, SnapshotMeta
from kvstore.store.operations import OPERATIONS, Set
from kvstore.wire import MembershipChange, MessagePacker, PeerMessage, Publish, UpdateMember, WireError

NUMBERS = st.integers(0, 2**64 - 1)
MEMBERS = st.frozensets(st.integers(1, 2**64 - 1), max_size=4)
CONFIGURATIONS = st.builds(Configuration, MEMBERS, MEMBERS, MEMBERS, MEMBERS)
ENTRIES = st.builds(Entry, NUMBERS, NUMBERS, st.sampled_from([0, 1]), st.binary(max_size=20))
BY_TYPE: dict[object, st.SearchStrategy[object]] = {
    int: NUMBERS,
    bool: st.booleans(),
    bytes: st.binary(max_size=30),
    str: st.text(max_size=10),
    int | None: st.none() | NUMBERS,
    bytes | None: st.none() | st.binary(max_size=10),
    tuple[bytes, ...]: st.lists(st.binary(max_size=10), max_size=3).map(tuple),
    tuple[str, ...]: st.lists(st.text(max_size=10), max_size=3).map(tuple),
    tuple[Entry, ...]: st.lists(ENTRIES, max_size=3).map(tuple),
    SnapshotMeta: st.builds(SnapshotMeta, NUMBERS, NUMBERS, CONFIGURATIONS),
}


def values_of(kind: type) -> st.SearchStrategy[object]:
    return st.builds(kind, *[BY_TYPE[hint] for hint in get_type_hints(kind).values()])


MESSAGE_KINDS = [kind for part in get_args(PeerMessage) for kind in (get_args(part) or (part,))]
MESSAGES = st.one_of([values_of(kind) for kind in MESSAGE_KINDS])
COMMANDS = st.one_of([values_of(kind) for kind in (*OPERATIONS, Publish, UpdateMember)])


@given(MESSAGES)
def test_a_message_comes_back_equal_and_of_its_own_type(message: PeerMessage) -> None:
    back = wire.unpack_message(MessagePacker().pack(message))
    assert back == message
    assert type(back) is type(message)
    if isinstance(back, AppendRequest):
        assert all(type(entry) is Entry for entry in back.entries)


@given(COMMANDS, NUMBERS, NUMBERS)
def test_a_command_comes_back_with_its_time(command: wire.Command, request: int, now: int) -> None:
    (payload,) = wire.stamp(now, [wire.pack_command(request, command)])
    logged = wire.unpack_command(payload)
    assert logged == (now, request, command)
    assert type(logged.command) is type(command)
    assert wire.time_of(payload) == now


def test_a_change_comes_back() -> None:
    change = MembershipChange(7, (Change(0, 5), Change(2, 6)), 5, "n5", ("http://127.0.0.1:1",))
    assert wire.unpack_change(wire.pack_change(change)) == change


def test_one_batch_for_two_followers_is_packed_once() -> None:
    entries = (Entry(1, 1, 0, b"x"),)
    packer = MessagePacker()
    first = packer.pack(AppendRequest(2, 1, 1, 0, 0, entries, 0))
    second = packer.pack(AppendRequest(3, 1, 1, 0, 0, entries, 0))
    assert wire.unpack_message(first).to == 2
    assert wire.unpack_message(second) == AppendRequest(3, 1, 1, 0, 0, entries, 0)
    other = packer.pack(AppendRequest(3, 1, 1, 0, 0, (Entry(1, 1, 0, b"y"),), 0))
    assert wire.unpack_message(other) != wire.unpack_message(second)


@given(MESSAGES, st.data())
def test_a_bent_message_is_a_wire_error_or_another_message(message: PeerMessage, data: st.DataObject) -> None:
    packed = bytearray(MessagePacker().pack(message))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(packed)))
    for bent in (bytes(packed), bytes(packed[:cut])):
        try:
            back = wire.unpack_message(bent)
        except WireError:
            continue
        assert type(back) in MESSAGE_KINDS


@given(st.binary(max_size=200))
def test_noise_is_a_wire_error(noise: bytes) -> None:
    for read in (wire.unpack_command, wire.unpack_change):
        try:
            read(noise)
        except WireError:
            continue
    try:
        wire.unpack_message(noise)
    except WireError:
        return


@pytest.mark.parametrize(
    "fields",
    [
        (0, 1),  # a Set without its fields
        (0, 1, b"/a", "text", False, None, False),  # a text where bytes are due
        (0, 1, b"/a", b"v", 1, None, False),  # a number where a boolean is due
        (0, 1, b"/a", b"v", False, -1, False),  # below zero
        (99, 1),  # a tag of the future
        ({}, 1),  # no tag at all
        "text",
        b"",
    ],
)
def test_a_malformed_command_is_refused(fields: object) -> None:
    with pytest.raises(WireError):
        wire.unpack_command(b"\0" * 8 + wire.pack(fields))


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(WireError):
        wire.unpack(b"\x91" * 100_000)


def test_the_tags_of_commands_never_change() -> None:
    """A log that an earlier version wrote must mean the same to this one."""
    assert [kind.__name__ for kind in OPERATIONS] == [
        "Set",
        "Create",
        "CreateInOrder",
        "Update",
        "CompareAndSwap",
        "Delete",
        "CompareAndDelete",
        "Expire",
    ]
    assert wire.pack_command(5, Set(b"/a", b"v", False, None, False)) == bytes.fromhex("970005c4022f61c40176c2c0c2")
    assert wire.pack_command(5, Publish(1, "n", ("u",)))[1:2] == b"\x40"
    assert wire.pack_command(5, UpdateMember(1, ("u",)))[1:2] == b"\x41"
