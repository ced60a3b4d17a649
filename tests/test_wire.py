"""What travels comes back equal; what was bent on the way is a WireError and nothing else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import wire
from kvstore.raft.types import (
    AppendRequest,
    Change,
    Configuration,
    Entry,
    EntryKind,
    HeartbeatRequest,
    ProposeRequest,
    SnapshotMeta,
)
from kvstore.store.operations import OPERATIONS, Delete, Set
from kvstore.wire import (
    Announce,
    Guarded,
    MembershipChange,
    MessagePacker,
    PeerMessage,
    Publish,
    SetLevel,
    UpdateMember,
    WireError,
)

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


COMMANDS = st.one_of([values_of(kind) for kind in (*OPERATIONS, Publish, UpdateMember)])


def packed(commands: st.SearchStrategy[object]) -> st.SearchStrategy[bytes]:
    return st.builds(lambda request, command: wire.pack_command(request, command), NUMBERS, commands)


KEYS = st.lists(st.binary(min_size=1, max_size=5).filter(lambda name: b"/" not in name), max_size=3).map(
    lambda names: b"/" + b"/".join(names)
)
#: What a member may forward: with keys as the HTTP floor makes them.
FORWARDED = st.builds(Set, KEYS, st.binary(max_size=20), st.booleans(), st.none() | NUMBERS, st.booleans())
PROPOSALS = st.builds(
    ProposeRequest,
    *[NUMBERS] * 5,
    st.just(int(EntryKind.COMMAND)),
    st.lists(packed(FORWARDED), max_size=3).map(tuple),
)


def append(prev_index: int, terms: list[int], payload: bytes) -> AppendRequest:
    """As a leader makes it."""
    terms = sorted(terms)
    entries = tuple(Entry(prev_index + at, term, 0, payload) for at, term in enumerate(terms[1:-1], 1))
    return AppendRequest(2, 1, terms[-1], prev_index, terms[0], entries, prev_index)


APPENDS = st.builds(
    append, st.integers(0, 2**63), st.lists(st.integers(0, 2**63), min_size=2, max_size=6), st.binary(max_size=20)
)
MESSAGE_KINDS = [kind for part in get_args(PeerMessage) for kind in (get_args(part) or (part,))]
MADE = {ProposeRequest: PROPOSALS, AppendRequest: APPENDS}
MESSAGES = st.one_of([MADE[kind] if kind in MADE else values_of(kind) for kind in MESSAGE_KINDS])


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


# --- the compiled shortcuts ---------------------------------------------------------------------------------------

compiled = pytest.mark.skipif(
    not wire.has_shortcuts, reason="not in use: KVSTORE_PURE is set, or there was no compiler (Debian: gcc python3-dev)"
)


def outcome(read: Callable[[], object]) -> object:
    try:
        value = read()
    except WireError:
        return WireError
    return value, type(value), [type(item) for item in value] if isinstance(value, tuple) else None


def without_shortcuts(read: Callable[[], object]) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_unpack_append", lambda frame: None)
        patch.setattr(wire, "_unpack_set", lambda payload, at: None)
        return outcome(read)


def bent(octets: bytes, data: st.DataObject) -> bytes:
    """As it is, cut, longer, or with a byte that is another."""
    at = data.draw(st.integers(0, len(octets)))
    other = data.draw(st.sampled_from([b"", b"\x00", b"\x90", b"\xc0", b"\xc3", b"\xc4", b"\xcf", b"\xdd", b"\xff"]))
    return data.draw(st.sampled_from([octets, octets[:at], octets + other, octets[:at] + other + octets[at + 1 :]]))


@compiled
@given(APPENDS | st.builds(AppendRequest, *[NUMBERS] * 5, st.lists(ENTRIES, max_size=3).map(tuple), NUMBERS), st.data())
def test_an_append_is_read_as_without_the_shortcut(message: AppendRequest, data: st.DataObject) -> None:
    kind = data.draw(st.integers(0, 3))
    odd = message._replace(entries=tuple([entry._replace(kind=kind) for entry in message.entries]))
    frame = bent(MessagePacker().pack(odd), data)
    assert outcome(lambda: wire.unpack_message(frame)) == without_shortcuts(lambda: wire.unpack_message(frame))


@compiled
@given(packed(COMMANDS), st.data())
def test_a_command_is_read_as_without_the_shortcut(command: bytes, data: st.DataObject) -> None:
    payload = bent(bytes(wire.TIME_BYTES) + command, data)
    assert outcome(lambda: wire.unpack_command(payload)) == without_shortcuts(lambda: wire.unpack_command(payload))


@compiled
@given(APPENDS, packed(values_of(Set)))
def test_what_is_usual_takes_the_shortcut(message: AppendRequest, command: bytes) -> None:
    assert wire._unpack_append(MessagePacker().pack(message)) == message
    assert wire._unpack_set(command, 0) == without_time(command)


def without_time(command: bytes) -> tuple[int, wire.Command]:
    _, request, unpacked = wire.unpack_command(bytes(wire.TIME_BYTES) + command)
    return request, unpacked


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
    assert wire.pack_command(5, SetLevel(2)) == bytes.fromhex("93420502")
    assert wire.pack_command(5, Announce(1, "n", (), b"i", "v", 2))[1:2] == b"\x43"


def peak(read: Callable[[bytes], object], encoded: bytes) -> int:
    """Bytes that it takes to refuse what is `encoded`."""
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            read(encoded)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("head", [b"\xdd\x00\x00\xff\xff", b"\xdc\xff\xff"])
@pytest.mark.parametrize("read", [wire.unpack, wire.unpack_message])
def test_what_is_announced_and_not_sent_takes_no_memory(read: Callable[[bytes], object], head: bytes) -> None:
    """Arrays within arrays, each said to be as long as all of it."""
    bomb = (head * 900).ljust(100_000, b"\x00")
    assert peak(read, bomb) < 10 * len(bomb)


@pytest.mark.parametrize("read", [wire.unpack, wire.unpack_message])
def test_empty_maps_take_no_memory(read: Callable[[bytes], object]) -> None:
    """Each is one byte there, and 64 here."""
    assert peak(read, b"\xdc\xff\xff" + b"\x80" * 0xFFFF) < 15 * 0xFFFF


@pytest.mark.parametrize("read", [wire.unpack, wire.unpack_message])
def test_an_array_of_four_thousand_million_is_refused(read: Callable[[bytes], object]) -> None:
    for head in (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"):
        assert peak(read, head + b"\xff\xff\xff\xff") < 100_000


@pytest.mark.parametrize(
    "odd",
    [
        b"\x80",  # a map
        b"\x81\xa1a\x01",
        b"\xc7\x01\x05a",  # an extension
        b"\xd6\xff\x00\x00\x00\x00",  # a time
        b"\xcb" + b"\x00" * 8,  # a float
        b"\xa2\xff\xfe",  # not UTF-8
        b"\xd3" + b"\xff" * 8,  # below zero
        b"\xc1",  # never used
    ],
)
def test_what_nobody_here_packs_is_refused(odd: bytes) -> None:
    heartbeat = MessagePacker().pack(HeartbeatRequest(2, 1, 1, 0, 0))
    assert heartbeat[-1:] == b"\x00"
    with pytest.raises(WireError):
        wire.unpack_message(heartbeat[:-1] + odd)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (EntryKind.COMMAND, b""),
        (EntryKind.COMMAND, b"nonsense"),
        (EntryKind.COMMAND, wire.pack((0, 1))),
        (EntryKind.COMMAND, wire.pack_command(1, Delete(b"", False, False))),
        (EntryKind.COMMAND, wire.pack_command(1, Delete(b"/a//b", False, False))),
        (EntryKind.COMMAND, wire.pack_command(1, Guarded(1, False, Delete(b"/a/", False, False)))),
        (EntryKind.CONFIGURATION, b""),
        (EntryKind.CONFIGURATION, b"nonsense"),
        (EntryKind.COMMAND, wire.pack_command(1, SetLevel(2))),  # a leader alone knows when that is safe
    ],
)
def test_what_nobody_could_apply_is_refused_before_it_is_in_any_log(kind: int, payload: bytes) -> None:
    good = wire.pack_command(1, Delete(b"/a", False, False))
    wire.unpack_message(MessagePacker().pack(ProposeRequest(2, 1, 1, 1, 1, EntryKind.COMMAND, (good,))))
    with pytest.raises(WireError):
        wire.unpack_message(MessagePacker().pack(ProposeRequest(2, 1, 1, 1, 1, kind, (good, payload))))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (EntryKind.COMMAND, wire.pack((99, 1))),
        (EntryKind.COMMAND, wire.pack((wire.GUARDED, 1, 5, False, 99, (b"/a",)))),
        (EntryKind.CONFIGURATION, wire.pack((1, ((0, 1),), 1, "n", (), "more"))),
        (EntryKind.CONFIGURATION, wire.pack((1, ((9, 1),), 1, "n", ()))),
        (7, wire.pack_command(1, Delete(b"/a", False, False))),
    ],
)
def test_a_proposal_of_a_later_version_does_not_break_the_connection(kind: int, payload: bytes) -> None:
    proposal = ProposeRequest(2, 1, 1, 1, 1, kind, (payload,))
    assert wire.unpack_message(MessagePacker().pack(proposal)) == proposal._replace(kind=wire.UNKNOWN_KIND)


@pytest.mark.parametrize(
    "entries",
    [
        (Entry(7, 2, 0, b""),),  # a gap behind prev_index
        (Entry(6, 2, 0, b""), Entry(8, 2, 0, b"")),
        (Entry(6, 2, 0, b""), Entry(6, 2, 0, b"")),
        (Entry(6, 1, 0, b""),),  # a term below prev_term
        (Entry(6, 4, 0, b""),),  # and one beyond the leader's
        (Entry(6, 3, 0, b""), Entry(7, 2, 0, b"")),
    ],
)
def test_entries_that_no_leader_has_are_refused(entries: tuple[Entry, ...]) -> None:
    good = AppendRequest(2, 1, 3, 5, 2, (Entry(6, 2, 0, b""), Entry(7, 3, 0, b"")), 5)
    assert wire.unpack_message(MessagePacker().pack(good)) == good
    with pytest.raises(WireError):
        wire.unpack_message(MessagePacker().pack(good._replace(entries=entries)))
