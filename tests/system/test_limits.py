"""The limits on clients on a whole server, under uvloop and with its flags; each on its own is tests/http's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from tests.http.client import FORM, RawClient, put, request
from tests.system.load import healthy
from tests.system.members import Member, running

FLAGS = (
    *("--client-read-timeout=1", "--client-write-timeout=1", "--client-idle-timeout=1", "--max-watchers=2"),
    *("--max-connections=12", "--max-header-bytes=4000", "--max-headers=20", "--max-concurrent-proposals=1"),
)
SECONDS = 40.0
ESTABLISHED = 1  # Linux' number for a connection that is there


async def connect(member: Member) -> RawClient:
    return await RawClient.connect(member.client_port, member.address)


async def test_what_clients_may_do_at_most(tmp_path: Path) -> None:
    async with running(1, tmp_path, FLAGS) as cluster:
        member = cluster.members[0]
        await healthy(member)
        client = await connect(member)
        assert (await client.ask(put("/big", "value=" + "x" * 9_000_000))).status == 201
        await client.close()
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(
                *(slow_head(member), slow_body(member), idle(member), large_head(member)),
                *(unread(member), unread(member, "X-Odd: 1")),
            )
            await watchers(member)
            await proposals(member)
            await connections(member)
        await healthy(member)
        assert "Traceback" not in member.log


async def slow_head(member: Member) -> None:
    client = await connect(member)
    client.send(b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n")
    assert (await client.response()).status == 408
    await client.close()


async def slow_body(member: Member) -> None:
    client = await connect(member)
    client.send(request("PUT /v2/keys/a", FORM, "Content-Length: 9") + b"value")
    assert (await client.response()).status == 408
    await client.close()


async def idle(member: Member) -> None:
    """One that has asked, and one that never did."""
    asked, silent = await connect(member), await connect(member)
    assert (await asked.ask(request("GET /v2/keys/none"))).status == 404
    for client in (asked, silent):
        assert await client.is_closed()
        await client.close()


async def large_head(member: Member) -> None:
    for lines in ([f"X: {'y' * 4000}"], [f"X{number}: y" for number in range(20)]):
        client = await connect(member)
        assert (await client.ask(request("GET /version", *lines))).status == 431
        await client.close()


async def unread(member: Member, *lines: str) -> None:
    slow = await connect(member)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a full transport
    slow.send(request("GET /v2/keys/big", *lines))
    end = slow.writer.get_extra_info("socket")
    while end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED:
        await asyncio.sleep(0.01)
    await slow.close()


async def watchers(member: Member) -> None:
    clients = [await connect(member) for _ in range(3)]
    for client in clients[:2]:
        client.send(request("GET /v2/keys/a?wait=true"))
        assert (await client.head()).status == 200
    response = await clients[2].ask(request("GET /v2/keys/a?wait=true"))
    assert (response.status, response.header("Retry-After")) == (503, "1")
    for client in clients:
        await client.close()


async def proposals(member: Member) -> None:
    """All at once: one of them is taken, at least, and the others are told to come again."""
    clients = [await connect(member) for _ in range(10)]
    for client in clients:
        client.send(put("/p", "value=" + "x" * 10_000))
    answers = [await client.response() for client in clients]
    assert {answer.status for answer in answers} >= {201, 503}
    for answer in answers:
        if answer.status == 503:
            assert answer.header("Retry-After") == "1"
            assert b'"errorCode":300,' in answer.body
    for client in clients:
        await client.close()


async def connections(member: Member) -> None:
    clients = [await connect(member) for _ in range(20)]
    for client in clients:
        client.send(request("GET /v2/keys/none"))
    served = 0
    for client in clients:
        with contextlib.suppress(ConnectionError, EOFError):
            served += (await client.response()).status == 404
    assert served <= 12
    for client in clients:
        await client.close()
