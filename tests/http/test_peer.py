"""HTTP on the peer port: what it answers, and that nobody can fill it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from kvstore.http.peer import peer_http
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, request


@pytest.fixture
async def port(backend: LocalBackend) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(peer_http(backend), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.http.peer.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("kvstore.http.peer.LINGERING_SECONDS", 0.1)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /members", 200),
        ("GET /members/removed", 200),
        ("GET /version", 200),
        ("GET /x", 404),
        ("POST /members", 405),
    ],
)
async def test_answers(port: int, line: str, status: int) -> None:
    client = await RawClient.connect(port)
    assert (await client.ask(request(line))).status == status
    await client.close()


async def test_a_joiner_is_told_how_far_the_answer_goes_and_who_was_removed(port: int, backend: LocalBackend) -> None:
    backend.membership.removed.update((0xA, 0xB1))
    client = await RawClient.connect(port)
    answer = await client.ask(request("GET /members"))
    assert answer.header("X-Raft-Index") == str(backend.raft_index)
    removed = await client.ask(request("GET /members/removed"))
    assert json.loads(removed.body) == ["a", "b1"]
    await client.close()


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /members HTTP/1.1\r\nHost: x\r\n",
        request("GET /version"),
        b"POST /members HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
    ],
)
async def test_nobody_stays_who_asks_nothing(port: int, sent: bytes) -> None:
    client = await RawClient.connect(port)
    client.send(sent)
    async with asyncio.timeout(5.0):
        await client.reader.read()  # until it is closed
    await client.close()


async def test_one_connection_too_many_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.http.peer.MAX_CONNECTIONS", 2)
    clients = [await RawClient.connect(port) for _ in range(3)]
    for client in clients[:2]:
        assert (await client.ask(request("GET /version"))).status == 200
    assert await clients[2].is_closed()
    for client in clients:
        await client.close()
