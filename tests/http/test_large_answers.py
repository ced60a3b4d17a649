"""Answers with large values, on both ways through the server: sent as the client reads, and not made before.

What clients leave unread is bounded for each connection and for all of them together, whatever the answer is made of.
"""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

import pytest

from kvstore.http.app import Http, Settings
from kvstore.http.connection import Connection
from kvstore.limits import Limits
from kvstore.store.operations import Set
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, FORM, RawClient, request
from tests.http.conftest import Connect
from tests.http.waiting import until

#: For either way: an odd header line has aiohttp serve the request.
WAYS = {"express": (), "aiohttp": ("X-Odd: 1",)}
MEBIBYTE = 1 << 20
LIMIT = 4 * MEBIBYTE
#: Six bytes of JSON each, so that a mebibyte of them is more than the sockets of a connection hold.
ESCAPED = [bytes((octet,)) for octet in range(0x0E, 0x20)]
#: What a transport and one slice may take of each connection.
OWN_BYTES = 700_000


class Shape(NamedTuple):
    line: str
    atom: bytes = b"\x01"  # of the value that is there
    body: bytes = b""


SHAPES = {
    "GET": Shape("GET /v2/keys/d/a"),
    "GET of plain text": Shape("GET /v2/keys/d/a", b"x"),
    "quorum GET": Shape("GET /v2/keys/d/a?quorum=true"),
    "listing": Shape("GET /v2/keys/d?recursive=true"),
    "PUT": Shape("PUT /v2/keys/d/a", body=b"value=" + b"\x01" * (MEBIBYTE // 2)),
    "small PUT": Shape("PUT /v2/keys/d/a?prevExist=true&refresh=true&ttl=100"),
    "failed comparison": Shape("PUT /v2/keys/d/a?prevValue=x&value=1"),
}


@pytest.fixture(params=WAYS)
def lines(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return WAYS[request.param]


@pytest.fixture
def settings() -> Settings:
    return Settings(Limits(buffered_bytes=LIMIT))


def put_there(backend: LocalBackend, value: bytes, key: bytes = b"/d/a") -> None:
    backend.apply(Set(key, value, False, None, False))


def unread(http: Http) -> list[int]:
    """By connection."""
    general = http._general.connections if http._general is not None else []
    return [
        *(connection.unread for connection in http._lane.connections),
        *(connection.unread for connection in general if isinstance(connection, Connection)),
    ]


def pause(client: RawClient) -> None:
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a full transport


class Watcher:
    """The most that is unread, until nothing moves any more: for as long as others get fifty answers."""

    def __init__(self, http: Http, other: RawClient) -> None:
        self._http = http
        self._other = other
        self.of_one = self.of_all = 0

    async def watch(self) -> None:
        seen: list[int] = []
        still = 0
        async with asyncio.timeout(DEADLINE * 4):
            while still < 50:
                now = unread(self._http)
                still = still + 1 if now == seen else 0
                seen = now
                self.of_one = max(self.of_one, *now, 0)
                self.of_all = max(self.of_all, sum(now))
                await self._other.ask(request("GET /v2/keys/none"))


@pytest.mark.parametrize("shape", SHAPES)
async def test_one_client_that_pipelines_and_reads_nothing(
    client: RawClient, connect: Connect, http: Http, backend: LocalBackend, lines: tuple[str, ...], shape: str
) -> None:
    line, atom, body = SHAPES[shape]
    put_there(backend, atom * MEBIBYTE)
    pause(client)
    client.send(request(line, *lines, *((FORM,) if body else ()), body=body) * 30)
    watcher = Watcher(http, await connect())
    await until(lambda: max(unread(http), default=0) > 0)
    await watcher.watch()
    client.writer.transport.abort()  # with the requests that it could not send
    assert 0 < watcher.of_one < OWN_BYTES


@pytest.mark.parametrize("shape", SHAPES)
async def test_many_clients_that_read_nothing(
    connect: Connect, http: Http, backend: LocalBackend, lines: tuple[str, ...], shape: str
) -> None:
    line, atom, body = SHAPES[shape]
    put_there(backend, atom * MEBIBYTE)
    for _ in range(20):
        client = await connect()
        pause(client)
        client.send(request(line, *lines, *((FORM,) if body else ()), body=body) * 5)
    watcher = Watcher(http, await connect())
    await until(lambda: sum(unread(http)) > 0)
    await watcher.watch()
    assert 0 < watcher.of_one < OWN_BYTES
    assert watcher.of_all < LIMIT + 20 * OWN_BYTES
    assert http.load.held_bytes < LIMIT + 2 * MEBIBYTE


async def test_values_that_are_replaced_meanwhile_count(
    connect: Connect, http: Http, backend: LocalBackend, lines: tuple[str, ...]
) -> None:
    """Else each client could have the member keep one that nobody else knows any more."""
    statuses = []
    for number in range(10):
        put_there(backend, ESCAPED[number] * MEBIBYTE)
        client = await connect()
        client.send(request("GET /v2/keys/d/a", *lines))
        statuses.append((await client.head()).status)
        pause(client)
        if statuses[-1] == 200:
            await until(lambda: http.load.held_bytes > 0)
    assert statuses == [200] * 4 + [503] * 6
    assert http.load.held_bytes == 4 * MEBIBYTE


@pytest.mark.parametrize("shape", ["PUT", "small PUT", "failed comparison"])
async def test_a_write_whose_answer_has_no_room_is_refused_before_it_takes_place(
    connect: Connect, http: Http, backend: LocalBackend, lines: tuple[str, ...], shape: str
) -> None:
    for number in range(4):
        put_there(backend, ESCAPED[number] * MEBIBYTE)
        slow = await connect()
        slow.send(request("GET /v2/keys/d/a", *lines))
        await slow.head()
        pause(slow)
    await until(lambda: not http.load.may_answer)
    line, _, body = SHAPES[shape]
    index = backend.store.index
    client = await connect()
    response = await client.ask(request(line, *lines, *((FORM,) if body else ()), body=body))
    assert (response.status, response.header("Retry-After")) == (503, "1")
    assert json.loads(response.body)["cause"] == "etcdserver: too many requests"
    assert backend.store.index == index
    assert (await client.ask(request("PUT /v2/keys/small?value=1", *lines))).status == 201


async def test_what_is_held_is_let_go(
    connect: Connect, http: Http, backend: LocalBackend, lines: tuple[str, ...]
) -> None:
    put_there(backend, b"\x01" * MEBIBYTE)
    first, second = await connect(), await connect()
    for client in (first, second):
        client.send(request("GET /v2/keys/d/a", *lines) * 2)
        await client.head()
        pause(client)
    await until(lambda: http.load.held_bytes == MEBIBYTE)  # of both together
    await second.close()
    await until(lambda: http.connections == 1)
    assert http.load.held_bytes == MEBIBYTE
    first.writer.transport.resume_reading()  # type: ignore[attr-defined]  # it is a full transport
    while await first.chunk():
        pass
    assert len(json.loads((await first.response()).body)["node"]["value"]) == MEBIBYTE
    assert http.load.held_bytes == 0
    assert (http.load.large_answers.running, http.load.large_answers.waiting) == (0, 0)


async def test_http_1_0_gets_it_until_the_connection_closes(client: RawClient, backend: LocalBackend) -> None:
    put_there(backend, b"\x01" * MEBIBYTE)
    response = await client.ask(request("GET /v2/keys/d/a HTTP/1.0", "Connection: keep-alive"))
    assert len(json.loads(response.body)["node"]["value"]) == MEBIBYTE
    assert response.header("Transfer-Encoding") is None


async def test_head_names_no_length_and_makes_nothing(client: RawClient, backend: LocalBackend, http: Http) -> None:
    put_there(backend, b"\x01" * MEBIBYTE)
    response = await client.ask(request("HEAD /v2/keys/d/a"))
    assert (response.status, response.header("Content-Length")) == (200, None)
    assert (await client.ask(request("GET /v2/keys/none"))).status == 404


async def test_a_connection_that_is_told_to_close_after_it(client: RawClient, backend: LocalBackend) -> None:
    put_there(backend, b"\x01" * MEBIBYTE)
    response = await client.ask(request("GET /v2/keys/d/a", "Connection: close"))
    assert len(json.loads(response.body)["node"]["value"]) == MEBIBYTE
    assert await client.is_closed()


async def test_who_sends_no_more_still_gets_it(
    client: RawClient, backend: LocalBackend, lines: tuple[str, ...]
) -> None:
    put_there(backend, b"\x01" * MEBIBYTE)
    client.send(request("GET /v2/keys/d/a", *lines))
    client.writer.write_eof()
    assert len(json.loads((await client.response()).body)["node"]["value"]) == MEBIBYTE
    assert await client.is_closed()
