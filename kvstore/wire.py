"""msgpack <-> commands, configuration changes and messages between members; the one place that knows these encodings.

A command in the log is eight bytes of time (nanoseconds since the epoch, big-endian, set by the leader when it
appends: replicated time) followed by a msgpack array `[tag, request_id, *fields]`. A message is `[tag, *fields]`;
an AppendRequest carries its entries as a second msgpack object, so that one packed batch serves every follower.

What is decoded here came over a socket or from a disk: everything is checked for type and range, and anything
unexpected is a `WireError`. Integers are unsigned 64-bit. It knows nothing of sockets, files or meanings.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, cast, get_type_hints

import msgpack

from kvstore.raft.types import (
    AppendRequest,
    AppendResponse,
    Change,
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    ProposeRefusal,
    ProposeRequest,
    ReadRequest,
    ReadResponse,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from kvstore.store.operations import OPERATIONS, Operation, Set

try:
    from kvstore import native
except ImportError:
    native = None  # type: ignore[assignment]

#: What an operator is told of bytes that this version cannot know.
LATER = "written by a later version of kvstored; start that one"

#: Kind of a forwarded proposal with a payload that only a later version knows: the leader refuses this one.
UNKNOWN_KIND = 255

#: Limit of one frame (an append of `max_append_bytes` with one oversized entry fits well within).
MAX_FRAME_BYTES = 64 << 20

#: Longer bytes are copied as rarely as possible: they are packed as parts of their own, and read where they lie.
LONG_BYTES = 256 << 10
#: Items of a message or a command that has long bytes in it. With more of them, it is read like any other.
_FEW_ITEMS = 64

#: What is longer is walked over before anything is made of it: each array that is announced takes its memory at once,
#: also where its items never follow, and arrays within arrays multiply.
LONGEST_UNWALKED = 512


def _unpack_append(frame: bytes) -> AppendRequest | None:
    """A shortcut: the whole message, checked, or None, and then it is to be looked at closely."""
    return None


def _unpack_set(payload: bytes, at: int) -> tuple[int, Set] | None:
    """A shortcut, like `_unpack_append`: request and command that stand at `at`."""
    return None


has_shortcuts = native is not None
if native is not None:
    _unpack_append, _unpack_set = native.unpack_append, native.unpack_set

_new = tuple.__new__  # a NamedTuple made this way costs half, and each entry makes one


class WireError(Exception):
    """Bytes that are not what their kind says they should be."""


class LaterVersion(WireError):
    """Bytes that a later version of kvstored wrote: nothing is wrong with them, but they mean nothing here."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was {LATER}")


# --- messages that the drivers exchange beside raft's own ----------------------------------------------------


class SnapshotChunk(NamedTuple):
    """`data` stands at `offset` of the snapshot file `meta`, which is `total` bytes long."""

    to: int
    sender: int
    term: int
    meta: SnapshotMeta
    offset: int
    total: int
    data: bytes


class SnapshotAck(NamedTuple):
    """The receiver holds the first `offset` bytes of the snapshot at `index`; not `ok`: it gave up."""

    to: int
    sender: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    offset: int
    ok: bool


PeerMessage: TypeAlias = Message | SnapshotChunk | SnapshotAck


# --- commands: what entries carry -----------------------------------------------------------------------------


class Publish(NamedTuple):
    """A member tells the cluster its name and where clients reach it."""

    member: int
    name: str
    client_urls: tuple[str, ...]


class UpdateMember(NamedTuple):
    """A member's new peer URLs."""

    member: int
    peer_urls: tuple[str, ...]


class SetLevel(NamedTuple):
    """From here on the cluster is at this level (levels.py). Only a leader appends it; it is never forwarded."""

    level: int


class Announce(NamedTuple):
    """What `Publish` says and more: the life of the member's disk, and what its program is and can do (level 2)."""

    member: int
    name: str
    client_urls: tuple[str, ...]
    incarnation: bytes
    version: str  # of the program
    highest_level: int


class CreateUser(NamedTuple):
    """A user with roles; the hash is bcrypt's, made by the member that was asked."""

    name: bytes
    password_hash: bytes
    roles: tuple[bytes, ...] | None

    def __repr__(self) -> str:
        return f"CreateUser({self.name!r}, roles={self.roles!r})"  # never a hash, where it may be logged


class PutUser(NamedTuple):
    """A new user without roles, or another password for one that exists; None: no password was given."""

    name: bytes
    password_hash: bytes | None

    def __repr__(self) -> str:
        return f"PutUser({self.name!r})"


class UpdateUser(NamedTuple):
    """Roles to grant and to revoke, and another password unless it is None."""

    name: bytes
    password_hash: bytes | None
    grant: tuple[bytes, ...]
    revoke: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"UpdateUser({self.name!r}, grant={self.grant!r}, revoke={self.revoke!r})"


class DeleteUser(NamedTuple):
    name: bytes


class CreateRole(NamedTuple):
    """Patterns of keys to read and to write; None where none were listed."""

    name: bytes
    read: tuple[bytes, ...] | None
    write: tuple[bytes, ...] | None


class UpdateRole(NamedTuple):
    """Patterns to add and, after that, to take away."""

    name: bytes
    grant_read: tuple[bytes, ...]
    grant_write: tuple[bytes, ...]
    revoke_read: tuple[bytes, ...]
    revoke_write: tuple[bytes, ...]


class DeleteRole(NamedTuple):
    name: bytes


class SwitchAuth(NamedTuple):
    """Begin, or cease, to ask for permission."""

    enabled: bool


Checked: TypeAlias = (
    Operation | CreateUser | PutUser | UpdateUser | DeleteUser | CreateRole | UpdateRole | DeleteRole | SwitchAuth
)


class Guarded(NamedTuple):
    """A command that was allowed by the users and roles of `revision`, and counts only while they are those.

    `no_directory`: it was not allowed for what a directory holds, so its key must not be one.
    """

    revision: int
    no_directory: bool
    command: Checked


Command: TypeAlias = Checked | Guarded | Publish | UpdateMember | SetLevel | Announce


class MembershipChange(NamedTuple):
    """What a CONFIGURATION entry says: the raft changes, and what is known of the member that joins.

    `peer_urls` is empty for a removal.
    """

    request: int
    changes: tuple[Change, ...]
    member: int
    name: str
    peer_urls: tuple[str, ...]


class Logged(NamedTuple):
    """A decoded COMMAND entry."""

    time: int
    request: int
    command: Command


# Tags are for ever: a log written by one version is read by the next. Append, never reorder.
_COMMANDS: dict[int, type] = dict(enumerate(OPERATIONS)) | {
    64: Publish,
    65: UpdateMember,
    66: SetLevel,
    67: Announce,
    71: CreateUser,
    72: PutUser,
    73: UpdateUser,
    74: DeleteUser,
    75: CreateRole,
    76: UpdateRole,
    77: DeleteRole,
    78: SwitchAuth,
}
GUARDED = 70  # holds another command with its tag
_NEVER_GUARDED = frozenset((64, 65, 66, 67))  # what members themselves propose
COMMAND_TAGS = {kind: tag for tag, kind in _COMMANDS.items()}
_MESSAGES: dict[int, type] = dict(
    enumerate(
        (
            AppendRequest,
            AppendResponse,
            VoteRequest,
            VoteResponse,
            HeartbeatRequest,
            HeartbeatResponse,
            SnapshotRequest,
            ProposeRequest,
            ProposeRefusal,
            ReadRequest,
            ReadResponse,
            TimeoutNow,
            SnapshotChunk,
            SnapshotAck,
        )
    )
)
_MESSAGE_TAGS = {kind: tag for tag, kind in _MESSAGES.items()}
_APPEND = _MESSAGE_TAGS[AppendRequest]
_KEYED = frozenset(kind for kind in OPERATIONS if "key" in kind._fields)
#: The length of the time that a leader puts in front of a command.
TIME_BYTES = 8


def _default(value: object) -> list[Any]:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} does not travel")


_packer = msgpack.Packer(default=_default)
pack: Callable[[Any], bytes] = _packer.pack

#: Packed bytes: whole, or in parts if some of them are long. Joined, the parts are what `pack` makes.
Packed: TypeAlias = bytes | list[bytes]

_BIN32 = struct.Struct(">BI")
_ARRAY16 = struct.Struct(">BH")
_PAYLOAD_OF: Callable[[Any], bytes] = itemgetter(3)  # of an entry


def pack_parts(value: Any, pack: Callable[[Any], bytes] = pack) -> Packed:
    """As `pack`, without a copy of any long bytes in `value` and in the arrays within it."""
    if not has_long(value):
        return pack(value)
    parts: list[bytes] = [b""]
    _add_parts(value, parts, pack)
    return parts if parts[-1] else parts[:-1]


def _add_parts(value: Any, parts: list[bytes], pack: Callable[[Any], bytes]) -> None:
    """Short items are added to the last part."""
    if type(value) is bytes:
        parts[-1] += _BIN32.pack(0xC6, len(value))
        parts += (value, b"")
        return
    parts[-1] += bytes((0x90 | len(value),)) if len(value) < 16 else _ARRAY16.pack(0xDC, len(value))
    for item in value:
        if has_long(item):
            _add_parts(item, parts, pack)
        else:
            parts[-1] += pack(item)


def has_long(value: Any) -> bool:
    """Whether it is, or holds, bytes that are long."""
    if type(value) is bytes:
        return len(value) > LONG_BYTES
    return isinstance(value, tuple) and len(value) < 1 << 16 and any(map(has_long, value))


def packed_bytes(packed: Packed) -> int:
    """How many there are."""
    return sum(map(len, packed)) if type(packed) is list else len(packed)


def joined(packed: Packed) -> bytes:
    return packed if isinstance(packed, bytes) else b"".join(packed)


def unpack(encoded: bytes | memoryview) -> Any:
    """One msgpack object without maps, arrays as tuples; what it takes is in proportion to what there is. Raises
    WireError."""
    if len(encoded) > LONG_BYTES and (found := _unpack_few(encoded)) is not None and len(found) == 1:
        return found[0]
    try:
        if len(encoded) > LONGEST_UNWALKED:
            _walk(encoded)
        return msgpack.unpackb(encoded, use_list=False, object_hook=_refuse_map)
    except Exception as problem:  # msgpack raises half a dozen kinds, ValueError and RecursionError among them
        raise WireError(f"not msgpack: {problem}") from None


def _walk(encoded: bytes | memoryview) -> None:
    """Raises OutOfData where something was announced and is not there, in the first two objects; msgpack's own limit
    of nesting holds."""
    walker = msgpack.Unpacker(max_buffer_size=len(encoded))
    walker.feed(encoded)
    walker.skip()
    if walker.tell() < len(encoded):
        walker.skip()


class _Unusual(Exception):
    """These bytes are for msgpack to judge."""


class _FewReader:
    """Reads msgpack objects of a few items from where they lie, each of their bytes copied once; nothing is made of an
    array before its items."""

    def __init__(self, encoded: bytes | memoryview, shortens: bool) -> None:
        self._view = memoryview(encoded)
        self._at = 0
        self._left = _FEW_ITEMS
        self._shortens = shortens
        self._is_first = True  # no bytes were read yet

    def read(self) -> list[Any]:
        found = []
        while self._at < len(self._view):
            found.append(self._next())
        return found

    def _next(self) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _Unusual
        first = self._number(1)
        if first < 0x80:
            return first
        if first in range(0x90, 0xA0):
            return self._array(first & 0x0F)
        if first in range(0xA0, 0xC0):
            return str(self._octets(first & 0x1F), "utf-8")
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in range(0xC4, 0xC7):
            return self._bytes(self._number(1 << (first - 0xC4)))
        if first in range(0xCC, 0xD0):
            return self._number(1 << (first - 0xCC))
        if first == 0xDC:
            return self._array(self._number(2))
        raise _Unusual

    def _array(self, length: int) -> tuple[Any, ...]:
        return tuple([self._next() for _ in range(length)])

    def _bytes(self, length: int) -> bytes:
        octets = self._octets(length)
        if self._shortens and not self._is_first:
            octets = octets[:LONG_BYTES]
        self._is_first = False
        return bytes(octets)

    def _number(self, size: int) -> int:
        return int.from_bytes(self._octets(size), "big")

    def _octets(self, length: int) -> memoryview:
        begin, self._at = self._at, self._at + length
        if self._at > len(self._view):
            raise _Unusual
        return self._view[begin : self._at]


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def _unpack_few(encoded: bytes | memoryview, shortens: bool = False) -> list[Any] | None:
    """The objects, if they are few and of the usual types; None if msgpack has to judge. `shortens`: of long bytes only
    the beginning, but for the first ones, which are the key of a command."""
    try:
        return _FewReader(encoded, shortens).read()
    except (_Unusual, UnicodeDecodeError):
        return None


def _refuse_map(found: object) -> None:
    raise WireError("a map")


# --- checks, one for each type that a field can have ------------------------------------------------------------


def _refuse(what: str, value: object) -> WireError:
    return WireError(f"expected {what}, got {type(value).__name__}")


def check_number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise _refuse("a number", value)
    return value


def check_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _refuse("a boolean", value)
    return value


def _octets(value: Any) -> bytes:
    if type(value) is not bytes:
        raise _refuse("bytes", value)
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _refuse("a text", value)
    return value


def _array(value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise _refuse("an array", value)
    return value


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _many(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: tuple([check(item) for item in _array(value)])


def check_numbers(value: Any) -> frozenset[int]:
    return frozenset([check_number(item) for item in _array(value)])


def _entries(value: Any) -> tuple[Entry, ...]:
    """Checked by columns: a follower decodes every entry there is, and a check for each would double the price."""
    try:
        entries = tuple(map(Entry._make, _array(value)))
    except TypeError:
        raise _refuse("entries", value) from None
    if entries:
        indices, terms, kinds, payloads = zip(*entries, strict=True)
        numbers = {type(number) for column in (indices, terms, kinds) for number in column}
        if numbers != {int} or not {0, 1}.issuperset(kinds) or set(map(type, payloads)) != {bytes}:
            raise _refuse("entries", value)
    return entries


def checker_of(kind: type) -> Callable[[Any], Any]:
    """A check for a NamedTuple, made from the types of its fields."""
    hints = get_type_hints(kind).values()
    if _PLAIN.keys() >= set(hints):
        return _plain_record(kind, [_PLAIN[hint] for hint in hints])
    checks = [_CHECKS[hint] for hint in hints]

    def check(value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(checks):
            raise _refuse(kind.__name__, value)
        return kind(*[check(item) for check, item in zip(checks, value, strict=True)])

    return check


def _plain_record(kind: type, fields: Sequence[tuple[type, ...]]) -> Callable[[Any], Any]:
    """The same where no field has parts: the types of all are looked up at once, since this is done for each write."""
    signatures = frozenset(product(*fields))
    numbers = [at for at, types in enumerate(fields) if int in types]
    make: Callable[[Any], Any] = kind._make  # type: ignore[attr-defined]  # it is a NamedTuple

    def check(value: Any) -> Any:
        if type(value) is not tuple or tuple(map(type, value)) not in signatures:
            raise _refuse(kind.__name__, value)
        for at in numbers:
            number = value[at]
            if number is not None and number < 0:
                raise _refuse(kind.__name__, value)
        return make(value)

    return check


def _by_tag(checks: dict[int, Callable[[Any], Any]], tag: Any, what: str) -> Callable[[Any], Any]:
    if type(tag) is not int or tag < 0:
        raise _refuse("a known tag", tag)
    check = checks.get(tag)
    if check is None:
        raise LaterVersion(f"{what} with the tag {tag}")
    return check


#: The types of fields without parts.
_PLAIN: dict[Any, tuple[type, ...]] = {
    int: (int,),
    bool: (bool,),
    bytes: (bytes,),
    str: (str,),
    int | None: (int, type(None)),
    bytes | None: (bytes, type(None)),
}
_CHECKS: dict[Any, Callable[[Any], Any]] = {
    int: check_number,
    bool: check_flag,
    bytes: _octets,
    str: _text,
    int | None: _optional(check_number),
    bytes | None: _optional(_octets),
    frozenset[int]: check_numbers,
    tuple[bytes, ...]: _many(_octets),
    tuple[bytes, ...] | None: _optional(_many(_octets)),
    tuple[str, ...]: _many(_text),
    tuple[Entry, ...]: _entries,
}
_CHECKS[Configuration] = checker_of(Configuration)
_CHECKS[SnapshotMeta] = checker_of(SnapshotMeta)
_CHECKS[Change] = checker_of(Change)
_CHECKS[tuple[Change, ...]] = _many(_CHECKS[Change])
_COMMAND_CHECKS = {tag: checker_of(kind) for tag, kind in _COMMANDS.items()}
_GUARDABLE = {tag: check for tag, check in _COMMAND_CHECKS.items() if tag not in _NEVER_GUARDED}


def _guarded(value: Any) -> Guarded:
    if len(value) != 4:
        raise _refuse("a guarded command", value)
    revision, no_directory, tag, fields = value
    return Guarded(
        check_number(revision), check_flag(no_directory), _by_tag(_GUARDABLE, tag, "a guarded command")(fields)
    )


_COMMAND_CHECKS[GUARDED] = _guarded
_MESSAGE_CHECKS = {tag: checker_of(kind) for tag, kind in _MESSAGES.items()}
_CHANGE_CHECK = checker_of(MembershipChange)


# --- commands ---------------------------------------------------------------------------------------------------


def pack_command(request: int, command: Command) -> bytes:
    """`[tag, request, *fields]`; the leader puts the time in front, see `stamp`."""
    if type(command) is Guarded:
        revision, no_directory, inner = command
        return pack((GUARDED, request, revision, no_directory, COMMAND_TAGS[type(inner)], inner))
    return pack((COMMAND_TAGS[type(command)], request, *command))


def pack_long_command(request: int, command: Command) -> Packed:
    """As `pack_command`, for a command with a long value: in parts, and the value is a part of its own."""
    if type(command) is Guarded:
        revision, no_directory, inner = command
        return pack_parts((GUARDED, request, revision, no_directory, COMMAND_TAGS[type(inner)], inner))
    return pack_parts((COMMAND_TAGS[type(command)], request, *command))


def stamp(now: int, commands: Iterable[Packed]) -> tuple[bytes, ...]:
    """The payloads of entries that a leader appends at `now` (nanoseconds since the epoch)."""
    prefix = now.to_bytes(TIME_BYTES, "big")
    return tuple(
        [b"".join((prefix, *command)) if type(command) is list else prefix + command for command in commands]  # type: ignore[operator]
    )


def time_of(payload: bytes) -> int:
    """The replicated time of a COMMAND payload."""
    return int.from_bytes(payload[:TIME_BYTES], "big")


def unpack_command(payload: bytes) -> Logged:
    """A COMMAND payload as `stamp` made it. Raises WireError."""
    return _new(Logged, (time_of(payload), *_unpack_command(payload, TIME_BYTES)))


def _unpack_command(payload: bytes, at: int) -> tuple[int, Command]:
    """Request and command, as `pack_command` made it."""
    usual = _unpack_set(payload, at)
    if usual is not None:
        return usual
    return _command_of(unpack(memoryview(payload)[at:]))


def unpack_forwarded(payload: bytes) -> Command:
    """A command without a time, to be checked; a long value may be cut short. Raises WireError."""
    if len(payload) > LONG_BYTES and (found := _unpack_few(payload, shortens=True)) is not None and len(found) == 1:
        return _command_of(found[0])[1]
    return _unpack_command(payload, 0)[1]


def _command_of(fields: Any) -> tuple[int, Command]:
    if type(fields) is not tuple or len(fields) < 2:
        raise _refuse("a command", fields)
    return check_number(fields[1]), _by_tag(_COMMAND_CHECKS, fields[0], "a command")(fields[2:])


def _check_proposal(kind: int, payload: bytes) -> None:
    """Raises WireError for what another member wants appended and nobody could apply: it would stop every member
    that has it in its log. LaterVersion: it may be sound, but not for this member."""
    if kind == EntryKind.CONFIGURATION:
        unpack_change(payload)
        return
    if kind != EntryKind.COMMAND:
        raise LaterVersion(f"a proposal of the kind {kind}")
    command = unpack_forwarded(payload)
    if type(command) is SetLevel:
        raise _refuse("a command that may be forwarded", command)
    if type(command) is Guarded:
        command = command.command
    if type(command) in _KEYED:
        key: bytes = command.key  # type: ignore[union-attr]  # `_KEYED` says it
        if key != b"/" and (key[:1] != b"/" or key[-1:] == b"/" or b"//" in key):
            raise _refuse("a canonical key", key)


def pack_change(change: MembershipChange) -> bytes:
    return pack(change)


def unpack_change(payload: bytes) -> MembershipChange:
    """A CONFIGURATION payload that is not empty. Raises WireError; LaterVersion for a shape or a step that is unknown:
    a new shape has another length."""
    fields = unpack(payload)
    if type(fields) is tuple and len(fields) != len(MembershipChange._fields):
        raise LaterVersion("a change of the members")
    change = cast(MembershipChange, _CHANGE_CHECK(fields))
    if any(step.kind > max(ChangeKind) for step in change.changes):
        raise LaterVersion("a change of the members")
    return change


# --- messages ---------------------------------------------------------------------------------------------------


class MessagePacker:
    """Packs messages, each batch of entries once although it goes to several followers.

    The core hands every follower that is equally far the same tuple of entries; the last one packed is kept.
    """

    def __init__(self) -> None:
        self._entries: Sequence[Entry] = ()
        self._packed: Packed = pack(())

    def pack(self, message: PeerMessage) -> bytes:
        return joined(self.pack_parts(message))

    def pack_parts(self, message: PeerMessage) -> Packed:
        """In parts if the message has long bytes, which are not copied, however many followers there are."""
        if type(message) is AppendRequest:
            to, sender, term, prev_index, prev_term, entries, commit = message
            if entries is not self._entries:
                is_long = max(map(len, map(_PAYLOAD_OF, entries)), default=0) > LONG_BYTES
                self._entries, self._packed = entries, pack_parts(entries) if is_long else pack(entries)
            head = pack((_APPEND, to, sender, term, prev_index, prev_term, commit))
            return [head, *self._packed] if type(self._packed) is list else head + self._packed  # type: ignore[operator]
        if type(message) is ProposeRequest:
            return pack_parts((_MESSAGE_TAGS[ProposeRequest], *message))
        return pack((_MESSAGE_TAGS[type(message)], *message))


def unpack_message(frame: bytes | memoryview) -> PeerMessage:
    """The inverse of `MessagePacker.pack`. Raises WireError."""
    objects = _unpack_few(frame) if len(frame) > LONG_BYTES else None
    if objects is None:
        frame = bytes(frame)
        usual = _unpack_append(frame)
        if usual is not None:
            return usual
        objects = _unpack_objects(frame)
    fields, *more = objects
    if type(fields) is not tuple or not fields or len(more) != (fields[0] == _APPEND):
        raise _refuse("a message", fields)
    tag = fields[0]
    if more:
        if len(fields) != 7:
            raise _refuse("an AppendRequest", fields)
        fields = (*fields[:6], *more, fields[6])
    message = cast(PeerMessage, _by_tag(_MESSAGE_CHECKS, tag, "a message")(fields[1:]))
    if type(message) is ProposeRequest:
        try:
            for payload in message.payloads:
                _check_proposal(message.kind, payload)
        except LaterVersion:  # the connection and everything else on it are sound
            return message._replace(kind=UNKNOWN_KIND)
    elif type(message) is AppendRequest and message.entries:
        _check_order(message)
    return message


def _unpack_objects(frame: bytes) -> list[Any]:
    """The one or two objects of a message."""
    unpacker = msgpack.Unpacker(use_list=False, object_hook=_refuse_map, max_buffer_size=len(frame) or 1)
    try:
        if len(frame) > LONGEST_UNWALKED:
            _walk(frame)
        unpacker.feed(frame)
        objects = [unpacker.unpack()]
        if objects[0][0] == _APPEND:
            objects.append(unpacker.unpack())
    except Exception as problem:  # as in unpack()
        raise WireError(f"not a message: {problem}") from None
    if unpacker.tell() != len(frame):
        raise _refuse("a message", objects[0])
    return objects


def _check_order(append: AppendRequest) -> None:
    """Raises WireError for entries that cannot stand in any log as they are: no leader has such ones."""
    entries = append.entries
    first = append.prev_index + 1
    terms = [entry.term for entry in entries]
    if [entry.index for entry in entries] != list(range(first, first + len(entries))):
        raise _refuse("consecutive entries", entries)
    if not append.prev_term <= terms[0] or terms[-1] > append.term or (len(set(terms)) > 1 and terms != sorted(terms)):
        raise _refuse("terms that never fall", entries)
