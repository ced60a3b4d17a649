"""The level of a cluster: which commands, layouts and formats its members may write, so that all of them can read.

The level is replicated (`SetLevel`) and never falls. A member writes what a level added only once that level is
applied there; a leader raises it only when every member takes part (raising.py). Tags, layouts and formats carry the
level that they came with, so what a later version wrote is recognized before anything is made of it.

    level 1   kvstored 0.1: peer version 1, formats and snapshot layout 1
    level 2   peer version 2, `SetLevel`, `Announce`, snapshot layout 2, format 2 of the folder and of segments

Pure functions of bytes and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvstore.limits import HIGHEST_LEVEL as HIGHEST_LEVEL
from kvstore.raft.types import AppendRequest, Entry, EntryKind, ProposeRequest
from kvstore.wire import (
    COMMAND_TAGS,
    GUARDED,
    TIME_BYTES,
    Announce,
    LaterVersion,
    PeerMessage,
    SetLevel,
    WireError,
    unpack,
    unpack_change,
    unpack_command,
)

FIRST_LEVEL = 1
#: Stands for the level of what is unknown.
LATER_LEVEL = HIGHEST_LEVEL + 1

_ANNOUNCE = bytes((COMMAND_TAGS[Announce],))  # the second byte of the command, after the length of its array
#: The level that a tag came with, for those that are not of the first one.
_LEVELS = {COMMAND_TAGS[SetLevel]: 2, COMMAND_TAGS[Announce]: 2}
_TAGS = {tag: _LEVELS.get(tag, FIRST_LEVEL) for tag in (*COMMAND_TAGS.values(), GUARDED)}
_SET_LEVEL = COMMAND_TAGS[SetLevel]
_SHORT_ARRAY = range(0x90, 0xA0)  # msgpack: an array of up to 15 items, and its length


def level_of(payload: bytes, at: int = TIME_BYTES) -> int:
    """The level of a command that begins at `at`; LATER_LEVEL or more if this version does not know it.

    It looks at two bytes of most commands. Raises WireError for bytes that are no command.
    """
    if len(payload) < at + 2:
        raise WireError("a command that breaks off")
    tag = payload[at + 1]
    if payload[at] not in _SHORT_ARRAY or tag >= 0x80 or tag in (GUARDED, _SET_LEVEL):
        return _level_inside(payload[at:])
    return _TAGS.get(tag, LATER_LEVEL)


def _level_inside(command: bytes) -> int:
    """Of a command whose first bytes do not tell."""
    fields = unpack(command)
    if type(fields) is not tuple or len(fields) < 3 or type(fields[0]) is not int:
        raise WireError("no command")
    tag = fields[0]
    if tag == _SET_LEVEL and type(fields[2]) is int:
        return max(fields[2], _LEVELS[tag])
    if tag == GUARDED and len(fields) > 4:
        return _TAGS.get(fields[4], LATER_LEVEL)
    return _TAGS.get(tag, LATER_LEVEL)


def level_of_entry(entry: Entry) -> int:
    """As `level_of`; of any entry. Raises WireError."""
    if not entry.payload:
        return FIRST_LEVEL
    if entry.kind == EntryKind.COMMAND:
        return level_of(entry.payload)
    if entry.kind != EntryKind.CONFIGURATION:
        return LATER_LEVEL
    try:
        unpack_change(entry.payload)
    except LaterVersion:
        return LATER_LEVEL
    return FIRST_LEVEL


def is_above(entries: Iterable[Entry], level: int) -> bool:
    """Whether one of the entries is of a higher level. Bytes that make no sense are of none: a start finds those."""
    return highest_of(entries) > level


def highest_of(entries: Iterable[Entry]) -> int:
    """The highest level of the entries; FIRST_LEVEL if there are none."""
    return max(map(_level_or_first, entries), default=FIRST_LEVEL)


def _level_or_first(entry: Entry) -> int:
    try:
        return level_of_entry(entry)
    except WireError:
        return FIRST_LEVEL


def check_known(entries: Iterable[Entry], known: int = HIGHEST_LEVEL) -> None:
    """Raises LaterVersion for the first entry that a version which knows the levels up to `known` cannot apply."""
    for entry in entries:
        if _level_or_first(entry) > known:
            raise LaterVersion(f"entry {entry.index} of the log")


def announced_disks(entries: Iterable[Entry]) -> dict[int, bytes]:
    """The incarnation that each member announced first in these entries, applied or not. Raises WireError."""
    found: dict[int, bytes] = {}
    for entry in entries:
        if entry.kind == EntryKind.COMMAND and entry.payload[TIME_BYTES + 1 : TIME_BYTES + 2] == _ANNOUNCE:
            command = unpack_command(entry.payload).command
            if isinstance(command, Announce):
                found.setdefault(command.member, command.incarnation)
    return found


def layout_of(head: bytes) -> int:
    """The layout of a snapshot, by its first chunk: `[layout, ...]`; a layout has the number of its level.

    Raises LaterVersion for one that this version does not know, WireError for what is none.
    """
    fields = unpack(head)
    if type(fields) is not tuple or not fields or type(fields[0]) is not int or fields[0] < FIRST_LEVEL:
        raise WireError("a snapshot does not begin with its layout")
    if fields[0] > HIGHEST_LEVEL:
        raise LaterVersion(f"a snapshot of layout {fields[0]}")
    return fields[0]


def is_understood(message: PeerMessage, version: int) -> bool:
    """Whether a member that speaks `version` can read the message.

    A leader raises the level only while every member speaks the version for it. A member that comes back with an
    earlier one meanwhile must not be sent, and so cannot acknowledge, what it could not apply.
    """
    if version >= HIGHEST_LEVEL:
        return True
    if type(message) is AppendRequest:
        return not is_above(message.entries, version)
    if type(message) is ProposeRequest and message.kind == EntryKind.COMMAND:
        return all(level_of(payload, 0) <= version for payload in message.payloads)
    return True
