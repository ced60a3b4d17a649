"""The msgpack layer: messages between members, commands in the log, changes of members, and single objects."""

from __future__ import annotations

from kvstore import wire
from kvstore.apply import REFUSALS, StateMachine
from kvstore.membership import Member, Membership
from kvstore.raft.types import (
    AppendRequest,
    AppendResponse,
    Change,
    Configuration,
    Entry,
    EntryKind,
    HeartbeatRequest,
    ProposeRequest,
    SnapshotMeta,
    SnapshotRequest,
    VoteRequest,
)
from kvstore.store.operations import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Expire,
    Set,
    Update,
)
from kvstore.store.store import Store
from kvstore.wire import (
    Command,
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    Guarded,
    MembershipChange,
    MessagePacker,
    PeerMessage,
    Publish,
    PutUser,
    SnapshotAck,
    SnapshotChunk,
    SwitchAuth,
    UpdateMember,
    UpdateRole,
    UpdateUser,
    WireError,
)
from tests.fuzz.target import Broken, Target

NOW = 1_800_000_000 * 10**9
COMMANDS: tuple[Command, ...] = (
    Set(b"/a/b", b"value", False, None, False),
    Set(b"/d", b"", True, 100, False),
    Create(b"/a/c", b"v" * 100, False, 5),
    CreateInOrder(b"/queue", b"job", False, None),
    Update(b"/a/b", b"w", 7, True),
    CompareAndSwap(b"/a/b", b"x", b"w", 3, None, False),
    Delete(b"/a", True, True),
    CompareAndDelete(b"/a/b", b"x", 0),
    Expire(),
    Guarded(3, True, Delete(b"/a/b", False, False)),
    Publish(1, "n1", ("http://a:1",)),
    UpdateMember(2, ("http://b:2", "http://c:3")),
    CreateUser(b"root", b"$2b$04$hash", (b"root",)),
    PutUser(b"u", None),
    UpdateUser(b"u", b"$2b$04$hash", (b"r",), (b"s",)),
    DeleteUser(b"u"),
    CreateRole(b"r", (b"/a/*",), None),
    UpdateRole(b"r", (b"/a",), (), (b"/b",), ()),
    DeleteRole(b"r"),
    SwitchAuth(False),
)
CHANGES = (
    MembershipChange(7, (Change(0, 5),), 5, "", ("http://e:5",)),
    MembershipChange(8, (Change(2, 2),), 2, "", ()),
)
CONFIGURATION = Configuration(frozenset((1, 2, 3)), frozenset(), frozenset((4,)), frozenset())
PACKED = tuple(wire.pack_command(number, command) for number, command in enumerate(COMMANDS))
ENTRIES = tuple(Entry(index, 2, 0, payload) for index, payload in enumerate(wire.stamp(NOW, PACKED[:5]), 6))
MESSAGES: tuple[PeerMessage, ...] = (
    AppendRequest(1, 2, 3, 5, 2, ENTRIES, 7),
    AppendRequest(1, 2, 3, 5, 2, (), 5),
    AppendResponse(1, 2, 3, 4, False, 0, 0),
    HeartbeatRequest(1, 2, 3, 5, 0),
    VoteRequest(1, 2, 3, 4, 5, False, True),
    ProposeRequest(1, 2, 3, 4, 5, EntryKind.COMMAND, PACKED),
    ProposeRequest(1, 2, 3, 4, 6, EntryKind.CONFIGURATION, tuple(map(wire.pack_change, CHANGES))),
    SnapshotRequest(1, 2, 3, SnapshotMeta(9, 2, CONFIGURATION)),
    SnapshotChunk(1, 2, 3, SnapshotMeta(9, 2, CONFIGURATION), 0, 100, b"x" * 100),
    SnapshotAck(1, 2, 3, 9, 100, True),
)
FRAMES = tuple(MessagePacker().pack(message) for message in MESSAGES)
#: msgpack's heads: short and long arrays, maps, texts, bytes, extensions, numbers, nil, and the one that is never used.
TOKENS = (
    *(b"\x90", b"\x91", b"\x9f", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdd\x00\x00\x40\x00", b"\x91" * 2000),
    *(b"\x80", b"\x81\xc0\xc0", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xa0", b"\xa3\xff\xfe\xfd", b"\xd9\xff"),
    *(b"\xc4\x00", b"\xc4\x01/", b"\xc4\x02//", b"\xc5\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc7\x05\x01", b"\xd6\xff"),
    *(b"\xc0", b"\xc1", b"\xc2", b"\xc3", b"\xff", b"\xd3" + b"\xff" * 8, b"\xcf" + b"\xff" * 8, b"\xcb" + b"\x7f" * 8),
)


def take_message(octets: bytes) -> None:
    try:
        message = wire.unpack_message(octets)
    except WireError:
        return
    packed = MessagePacker().pack(message)
    if wire.unpack_message(packed) != message:
        raise Broken(f"{message!r} does not come back")


def take_command(octets: bytes) -> None:
    for read in (wire.unpack_command, wire.unpack_change, wire.unpack):
        try:
            read(octets)
        except WireError:
            continue


class Applying:
    """What another member forwards and the edge lets through can be applied, and what it leaves behind be shown."""

    def __init__(self) -> None:
        self._applied = 0
        self._machine = _machine()

    def __call__(self, octets: bytes) -> None:
        forwarded = ProposeRequest(1, 2, 3, 4, 5, EntryKind.COMMAND, (octets,))
        try:
            (payload,) = wire.stamp(NOW, wire.unpack_message(MessagePacker().pack(forwarded)).payloads)  # type: ignore[union-attr]
        except WireError:
            return
        self._applied += 1
        if self._applied % 100 == 0:
            self._machine = _machine()
        machine = self._machine
        logged = wire.unpack_command(payload)
        try:
            machine.apply(logged.command, logged.time)
        except REFUSALS:
            return
        machine.store.get(b"/", True, True, NOW)
        StateMachine.restore(machine.freeze().chunks(), 100)


def _machine() -> StateMachine:
    members = [Member(number, f"n{number}", (f"http://127.0.0.1:{number}",)) for number in (1, 2, 3)]
    machine = StateMachine(Store(100), Membership(members))
    for command in COMMANDS[:4]:
        machine.apply(command, NOW)
    return machine


TARGETS = (
    Target("message", FRAMES, TOKENS, take_message),
    Target("command", (*wire.stamp(NOW, PACKED), *map(wire.pack_change, CHANGES)), TOKENS, take_command),
    Target("forwarded", PACKED, TOKENS, Applying()),
)
