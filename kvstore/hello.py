"""How a connection between two members begins: the dialler's hello, the other side's verdict, and the version of both.

A hello is one frame of six fields that never change, so that members of all versions can read it and answer. From
version 2 on a second frame follows it, with facts that count for nothing safety rests on: an array of pairs
`[number, value]`. A number that is unknown is passed over, so a fact can be added without another version.

A member dials with its highest version; one that does not know it answers `version`, and is dialled again with the
next lower one. The version is the connection's: what is sent over it is packed for it. It knows no sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from kvstore.storage.layout import INCARNATION_BYTES
from kvstore.wire import LONG_BYTES, MAX_FRAME_BYTES, WireError, pack, unpack

#: The versions of everything that a member says to another one. 1 is that of kvstored 0.1.
LOWEST_VERSION = 1
PEER_VERSION = 2

PREAMBLE = b"\x00kvraft\n"  # a byte that no method begins with, so that it cannot be HTTP
MAX_HELLO_BYTES = 4096
#: From this version on a hello has its second frame.
FACTS_SINCE = 2

_LENGTH = struct.Struct(">I")
_MAX_FACTS = 64


class Verdict(StrEnum):
    """What the accepting side says to a hello."""

    WELCOME = "welcome"
    VERSION = "version"  # a version of this protocol that is unknown, or below the level of the cluster
    CLUSTER = "cluster"  # another cluster
    MEMBER = "member"  # meant for another member
    REMOVED = "removed"  # was removed from the cluster
    DISK = "disk"  # known with another data folder
    STRANGER = "stranger"  # no member that is known, and too many of those were met already


class Facts(NamedTuple):
    """What a member says of itself beside who it is. The defaults stand for what was not said."""

    clock: int = 0  # its wall clock when it dialled, nanoseconds since the epoch
    heartbeat_ms: int = 0
    election_ms: int = 0
    level: int = 1  # the highest level that it takes part in, see levels.py
    program: str = ""  # the version of its program


class Hello(NamedTuple):
    version: int
    cluster: int
    sender: int
    to: int
    incarnation: bytes
    urls: tuple[str, ...] = ()  # where the sender can be answered, by a member that does not know it yet
    facts: Facts = Facts()


#: Numbers are for ever, like the tags in wire.py: append, never reuse.
_FACTS: Mapping[int, tuple[str, type]] = {
    1: ("clock", int),
    2: ("heartbeat_ms", int),
    3: ("election_ms", int),
    4: ("level", int),
    5: ("program", str),
}
_SIX = [int, int, int, int, bytes, tuple]


class FrameSplitter:
    """Turns a stream of bytes into frames. Raises WireError on a frame that is too long, before it is held.

    A long frame is not copied: it is handed over in the buffer that it was gathered in.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> Generator[bytes | memoryview, None, None]:
        buffer = self._buffer
        buffer += octets
        start = 0
        try:
            while len(buffer) - start >= 4:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > self.limit:
                    raise WireError(f"a frame of {length} bytes; the limit is {self.limit}")
                end = start + 4 + length
                if len(buffer) < end:
                    break
                if length > LONG_BYTES:
                    whole, buffer = buffer, bytearray(memoryview(buffer)[end:])
                    self._buffer = buffer
                    frame: bytes | memoryview = memoryview(whole)[start + 4 : end]
                    del whole
                    start = 0
                else:
                    frame = bytes(memoryview(buffer)[start + 4 : end])
                    start = end
                yield frame
                del frame
        finally:
            del buffer[:start]


def frame(payload: bytes | memoryview) -> bytes:
    """Four bytes of length, and the payload."""
    return _LENGTH.pack(len(payload)) + payload


def pack_hello(hello: Hello) -> bytes:
    """The preamble and all frames of the hello, as its version has them."""
    packed = PREAMBLE + frame(pack(hello[:6]))
    if hello.version >= FACTS_SINCE:
        packed += frame(pack([(number, getattr(hello.facts, name)) for number, (name, _) in _FACTS.items()]))
    return packed


class HelloReader:
    """Puts a hello together from its frames."""

    def __init__(self) -> None:
        self._first: Hello | None = None

    def take(self, payload: bytes | memoryview) -> Hello | None:
        """The hello once it is whole, None while a frame of it is missing. Raises WireError.

        A hello of an unknown version is whole with its first frame, since nothing is known of the others.
        """
        if self._first is not None:
            return self._first._replace(facts=_facts(unpack(payload)))
        hello = _hello(unpack(payload))
        if hello.version < FACTS_SINCE or hello.version > PEER_VERSION:
            return hello
        self._first = hello
        return None


def _hello(fields: Any) -> Hello:
    if type(fields) is not tuple or len(fields) != len(_SIX):
        raise WireError("not a hello")
    if [*map(type, fields)] != _SIX or {*map(type, fields[-1])} - {str}:
        raise WireError("not a hello")
    hello = Hello(*fields)  # now its annotations are true, and compiled modules rely on them
    if min(hello[:4]) < 0 or len(hello.incarnation) != INCARNATION_BYTES:
        raise WireError("a hello with an id or an incarnation that is none")
    return hello


def _facts(pairs: Any) -> Facts:
    if type(pairs) is not tuple or len(pairs) > _MAX_FACTS:
        raise WireError("a hello whose facts are no array")
    known: dict[str, Any] = {}
    for pair in pairs:
        if type(pair) is not tuple or len(pair) != 2 or type(pair[0]) is not int:
            raise WireError("a hello with a fact that is no pair")
        number, value = pair
        if number not in _FACTS:
            continue
        name, kind = _FACTS[number]
        if type(value) is not kind or (type(value) is int and value < 0):
            raise WireError(f"a hello with a wrong {name}")
        known[name] = value
    return Facts(**known)


Speaker = Callable[[int], Hello]
"""Makes the hello of a version: what a link says when it dials."""
