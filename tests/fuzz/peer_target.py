"""The stream between members: preamble, hello, frames, cut anywhere; and HTTP on the same port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from kvstore.hello import LOWEST_VERSION, PEER_VERSION, PREAMBLE, Hello, Verdict, frame, pack_hello
from kvstore.transport import Acceptor, PeerTransport
from kvstore.wire import PeerMessage
from tests.fuzz.target import Broken, Target
from tests.fuzz.transport import Pipe, cut
from tests.fuzz.wire_targets import FRAMES, TOKENS

CLUSTER = 77

#: The loop of all targets that need one.
LOOP = asyncio.new_event_loop()


async def _nobody(*_arguments: Any, **_more: Any) -> Any:
    """What a hello says where its sender is, may be anywhere: nobody is dialled."""
    raise ConnectionRefusedError


class _Receiver:
    leader = 0

    def examine(self, hello: Hello, done: Callable[[Verdict], None]) -> None:
        done(Verdict.WELCOME if hello.sender == 2 else Verdict.STRANGER)

    def received(self, message: PeerMessage) -> None:
        if (message.sender, message.to) != (2, 1):
            raise Broken(f"in another's name: {message!r}")

    def connection_made(self, member: int) -> None:
        pass

    def connected(self, member: int) -> None:
        raise Broken("nobody was dialled")

    def connection_lost(self, member: int) -> None:
        pass

    def refused(self, member: int, verdict: Verdict) -> None:
        raise Broken("nobody was dialled")


class _Http(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.close()


def take_stream(octets: bytes) -> None:
    with patch.object(LOOP, "create_connection", _nobody):
        LOOP.run_until_complete(_take(octets))


async def _take(octets: bytes) -> None:
    peers = PeerTransport((CLUSTER, 1, b"1" * 16), _Receiver())
    acceptor = Acceptor(peers, _Http)
    pipe = Pipe(acceptor)
    acceptor.connection_made(pipe)
    for piece in cut(octets):
        pipe.feed(piece)
    acceptor.connection_lost(None)
    if peers.active or peers._knocking or peers._streams:
        raise Broken("a connection is gone and not forgotten")
    await peers.close()


HELLO = pack_hello(Hello(PEER_VERSION, CLUSTER, 2, 1, b"2" * 16))
TARGETS = (
    Target(
        "peer",
        (
            HELLO + b"".join(map(frame, FRAMES)),
            *(HELLO + frame(packed) for packed in FRAMES),
            pack_hello(Hello(LOWEST_VERSION, CLUSTER, 2, 1, b"2" * 16)) + b"".join(map(frame, FRAMES)),
            pack_hello(Hello(PEER_VERSION, CLUSTER, 2, 1, b"2" * 16, ("http://a:1", "http://b:2"))),
            b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        (*TOKENS, PREAMBLE, HELLO, b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x04\x00\x00\x00"),
        take_stream,
    ),
)
