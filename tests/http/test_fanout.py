"""One piece to many connections: every way that it may go, and that each gets it whole and once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator

import pytest
import uvloop

from kvstore.http import fanout, sockets
from kvstore.http.app import Http
from kvstore.http.fanout import MANY, THREADS, Fanout
from kvstore.http.intake import NEVER
from kvstore.store.operations import Set
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, request
from tests.http.conftest import Connect

PIECE = b"5\r\nevent\r\n0\r\n\r\n"

needs_compiled = pytest.mark.skipif(
    not sockets.is_compiled,
    reason="nothing helps to send: KVSTORE_PURE is set, or there was no compiler (Debian: gcc python3-dev)",
)


class Pair:
    """A connection: the server's transport, and the client's socket."""

    def __init__(self, transport: asyncio.Transport, client: socket.socket) -> None:
        self.transport = transport
        self.client = client

    @property
    def file(self) -> int:
        return sockets.file_of(self.transport)

    def write(self, octets: bytes) -> None:
        self.transport.write(octets)

    async def read(self, size: int) -> bytes:
        got = b""
        async with asyncio.timeout(DEADLINE):
            while len(got) < size:
                piece = await asyncio.get_running_loop().sock_recv(self.client, 1 << 20)
                if not piece:
                    break
                got += piece
        return got


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[list[Pair]]:
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(MANY):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        made.append(Pair(transport, theirs))
    yield made
    for pair in made:
        pair.transport.abort()
        pair.client.close()
    await asyncio.sleep(0)


@pytest.fixture
async def pairs() -> AsyncIterator[list[Pair]]:
    async with connected() as made:
        yield made


@pytest.fixture(params=[1, 2, THREADS + 1], ids=lambda cores: f"{cores} cores")
def out(request: pytest.FixtureRequest) -> Fanout:
    return Fanout(request.param)


@pytest.mark.parametrize("count", [1, MANY])
async def test_each_gets_the_piece_once(out: Fanout, pairs: list[Pair], count: int) -> None:
    for piece in (PIECE, PIECE[::-1]):
        out.send(piece, pairs[:count])
        for pair in pairs[:count]:
            assert await pair.read(len(piece)) == piece
    out.close()


async def test_who_does_not_read_gets_the_rest_from_the_transport(out: Fanout, pairs: list[Pair]) -> None:
    large = bytes(range(256)) * 4096  # more than a socket holds
    out.send(large, pairs)
    assert pairs[0].transport.get_write_buffer_size() > 0
    begins = [pair.client.recv(len(large)) for pair in pairs]  # there is room again, before the loop can know
    out.send(PIECE, pairs)  # behind it, not into the midst of it
    for pair, begin in zip(pairs, begins, strict=True):
        assert begin + await pair.read(len(large) + len(PIECE) - len(begin)) == large + PIECE
    out.close()


async def test_who_is_gone_harms_nobody(out: Fanout, pairs: list[Pair]) -> None:
    await _send_where_two_are_gone(out, pairs)


def test_the_servers_own_loop_lets_us_send() -> None:
    async def send() -> None:
        async with connected() as pairs:
            await _send_where_two_are_gone(Fanout(2), pairs)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())


async def _send_where_two_are_gone(out: Fanout, pairs: list[Pair]) -> None:
    pairs[0].client.close()
    pairs[1].transport.abort()
    out.send(PIECE, pairs)
    for pair in pairs[2:]:
        assert await pair.read(len(PIECE)) == PIECE
    assert await pairs[1].read(1) == b""
    out.close()


@needs_compiled
async def test_where_no_thread_can_be_started_the_loop_sends_alone(
    pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    out = Fanout(THREADS)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        out.send(PIECE, pairs)
    out.send(PIECE[::-1], pairs)  # helped, also by whoever finds nothing of the first left to send
    out.close()
    for pair in pairs:
        assert await pair.read(2 * len(PIECE)) == PIECE + PIECE[::-1]


async def test_who_cannot_be_sent_to_at_once_is_written_to(out: Fanout, pairs: list[Pair]) -> None:
    class Encrypting:
        file = NEVER
        written = b""

        def write(self, octets: bytes) -> None:
            self.written += octets

    encrypting = Encrypting()
    out.send(PIECE, [pairs[0], encrypting, *pairs[1:]])
    assert encrypting.written == PIECE
    for pair in pairs:
        assert await pair.read(len(PIECE)) == PIECE
    out.close()


@needs_compiled
async def test_many_polls_end_with_help(
    connect: Connect, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    helped = []
    original = Fanout._send

    def send(self: Fanout, piece: bytes, files: list[int]) -> list[tuple[int, int]]:
        helped.append(sum(file >= 0 for file in files))
        return original(self, piece, files)

    monkeypatch.setattr(fanout, "MANY", 5)
    monkeypatch.setattr(Fanout, "_send", send)
    clients = [await connect() for _ in range(20)]
    for client in clients:
        client.send(request("GET /v2/keys/a?wait=true"))
        await client.head()
    backend.apply(Set(b"/a", b"1", False, None, False))
    for client in clients:
        assert b'"value":"1"' in await client.chunk()
        assert await client.chunk() == b""
        assert (await client.ask(request("GET /v2/keys/a"))).status == 200
    assert helped == ([20] if len(os.sched_getaffinity(0)) > 1 else [])


async def test_who_is_gone_before_the_turn_is_over_harms_nobody(
    http: Http, connect: Connect, backend: LocalBackend
) -> None:
    clients = [await connect() for _ in range(3)]
    for client in clients:
        client.send(request("GET /v2/keys/a?wait=true"))
        await client.head()
    backend.apply(Set(b"/a", b"1", False, None, False))
    gone = next(iter(http._lane.connections))
    assert gone._transport is not None
    gone._transport.abort()
    gone.connection_lost(None)
    async with asyncio.timeout(DEADLINE):
        bodies = await asyncio.gather(*(client.reader.read(1 << 16) for client in clients))
    assert sorted(len(body) > 0 for body in bodies) == [False, True, True]
