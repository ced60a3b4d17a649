"""Long listings on both ways through the server: the bytes of a short one, in slices, and only as the client reads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from dataclasses import replace

import pytest

from kvstore.http.app import Http, Settings, serve
from kvstore.http.v2 import keys, long_listings
from kvstore.http.v2.answers import answer_view
from kvstore.http.v2.long_listings import KEPT_BYTES, SHORT_NODES
from kvstore.limits import Limits
from kvstore.store.operations import Delete, Set
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, RawClient, put, request
from tests.http.conftest import Connect
from tests.http.waiting import until

#: For either way: an odd header line has aiohttp serve the request.
WAYS = {"express": (), "aiohttp": ("X-Odd: 1",)}
#: The machine may be busy, so nothing is hurried in a test that is not about it.
LIMITS = Limits(long_answers=1, stall_seconds=10 * DEADLINE)
MANY = SHORT_NODES + 200
SORTED = "/v2/keys/d?recursive=true&sorted=true"


@pytest.fixture(params=WAYS)
def lines(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return WAYS[request.param]


@pytest.fixture
def settings() -> Settings:
    return Settings(LIMITS)


def limit(http: Http, **limits: float) -> None:
    """From now on."""
    http.load.long_answers._limits = replace(LIMITS, **limits)  # type: ignore[arg-type]


def fill(backend: LocalBackend, count: int = MANY, value: bytes = b"v" * 200) -> bytes:
    """What a sorted listing of /d has to be."""
    for number in range(count):
        backend.apply(Set(b"/d/%d/k%d" % (number % 7, number), value, False, None, False))
    return answer_view(backend.store.get(b"/d", True, True, backend.now()), b"").body


def fill_sockets(backend: LocalBackend) -> bytes:
    """More than the sockets of a connection hold."""
    return fill(backend, 60, b"<" + b"x" * 200_000)


def pause(client: RawClient) -> None:
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a full transport


def resume(client: RawClient) -> None:
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]


async def occupy(connect: Connect, http: Http, lines: tuple[str, ...]) -> list[RawClient]:
    """Two clients that do not read their listings, as many as may stall: a further listing waits."""
    clients = [await connect() for _ in range(2)]
    for client in clients:
        pause(client)
        client.send(request(f"GET {SORTED}", *lines))
    await until(lambda: len(http.load.long_answers._stalled) == 2)
    return clients


def is_idle(http: Http, backend: LocalBackend) -> bool:
    slices = http.load.long_answers
    return not (slices.running or slices.waiting or backend.store._tree._frozen_trees)


async def test_the_bytes_are_those_of_a_short_one(
    client: RawClient, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    body = fill(backend)
    for query in ("", "&quorum=true"):
        response = await client.ask(request(f"GET {SORTED}{query}", *lines))
        assert (response.status, response.body) == (200, body)
        assert response.header("X-Etcd-Index") == str(MANY)
        assert response.header("Content-Type") == "application/json"
        assert response.header("Transfer-Encoding") == "chunked" or response.header("Content-Length") == str(len(body))
    await until(lambda: is_idle(http, backend))
    client.send(2 * request(f"GET {SORTED}", *lines) + request("GET /v2/keys/d/0/k0", *lines))
    for expected in (body, body, None):
        response = await client.response()
        assert response.status == 200
        assert expected is None or response.body == expected
    unsorted = answer_view(backend.store.get(b"/d", True, False, 0), b"").body
    assert (await client.ask(request("GET /v2/keys/d?recursive=true", *lines))).body == unsorted


async def test_old_clients_and_those_who_want_the_head_alone(connect: Connect, backend: LocalBackend) -> None:
    body = fill(backend)
    client = await connect()
    response = await client.ask(request(f"HEAD {SORTED}"))
    assert (response.status, response.header("Content-Length"), response.header("Transfer-Encoding")) == (
        200,
        None,
        None,
    )
    assert (await client.ask(request(f"GET {SORTED}", "Connection: close"))).body == body
    assert await client.is_closed()
    client = await connect()
    response = await client.ask(request(f"GET {SORTED} HTTP/1.0", "Connection: keep-alive"))
    assert (response.header("Transfer-Encoding"), response.header("Content-Length")) == (None, None)
    assert response.body == body


async def test_what_is_written_meanwhile_does_not_show_and_no_more_than_a_slice_waits(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    body = fill_sockets(backend)
    slow, quick = await connect(), await connect()
    pause(slow)
    slow.send(request(f"GET {SORTED}", *lines))
    await until(lambda: http.load.unread_bytes > 0)
    assert http.load.unread_bytes < 600_000
    for number in range(60):
        backend.apply(Set(b"/d/0/n%d" % number, b"", False, None, False))
    assert (await quick.ask(put("/d/0/k0", "value=new"))).status == 200
    backend.apply(Delete(b"/d/1", True, True))
    resume(slow)
    assert (await slow.response()).body == body
    assert (await slow.ask(request("GET /v2/keys/d/0/k0"))).status == 200
    await until(lambda: is_idle(http, backend))


async def test_it_is_given_up_when_the_client_is_gone(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    fill_sockets(backend)
    clients = [await connect() for _ in range(3)]
    for client in clients:
        pause(client)
        client.send(request(f"GET {SORTED}", *lines))
    await until(lambda: (http.load.long_answers.running, http.load.long_answers.waiting) == (2, 1))
    for client in clients:
        client.writer.transport.abort()
    await until(lambda: is_idle(http, backend))


async def test_one_that_has_nothing_to_send_yet_is_given_up_when_its_client_left_before_its_turn(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_sockets(backend)
    slices = http.load.long_answers
    before = await occupy(connect, http, lines)
    gone = await connect()
    monkeypatch.setattr(long_listings, "pieces_of_listing", lambda *_: itertools.repeat(b""))
    gone.send(request(f"GET {SORTED}", *lines))
    await until(lambda: slices.waiting == 1)
    gone.writer.close()  # also the way of a client that sends no more and waits for its answer
    for client in before:
        client.writer.transport.abort()
    await until(lambda: slices.waiting == 0)
    await until(lambda: is_idle(http, backend))


async def drip(connect: Connect, http: Http, lines: tuple[str, ...]) -> bytes:
    """What a client gets that reads 50,000 bytes at a time, with pauses. The system buffers little for it."""
    assert http._listener is not None
    for listening in http._listener.sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    client = await connect()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.send(request(f"GET {SORTED}", "Connection: close", *lines))
    got = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(DEADLINE):
            while piece := await client.reader.read(50_000):
                got += piece
                pause(client)
                await asyncio.sleep(0.005)
                resume(client)
    return got


async def test_a_client_that_reads_too_slowly_is_dropped_and_the_next_one_served(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    """However steadily it drips: the listing may wait for it only as long as it takes enough."""
    body = fill_sockets(backend)
    limit(http, write_seconds=0.2, taken_bytes=1 << 40)
    assert len(await drip(connect, http, lines)) < len(body)
    await until(lambda: is_idle(http, backend))
    limit(http)
    assert (await (await connect()).ask(request(f"GET {SORTED}", *lines))).body == body


async def test_a_client_that_reads_slowly_but_steadily_gets_all(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    """Each read gains more time than the pause after it costs."""
    body = fill_sockets(backend)
    limit(http, write_seconds=0.5, taken_bytes=1_000)
    assert len(await drip(connect, http, lines)) > len(body)
    await until(lambda: is_idle(http, backend))


async def test_clients_that_do_not_read_give_way_to_one_that_does(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    body = fill_sockets(backend)
    stalled = await occupy(connect, http, lines)
    limit(http, stall_seconds=0.05)
    assert (await (await connect()).ask(request(f"GET {SORTED}", *lines))).body == body
    assert http.load.long_answers.running == 1
    for client in stalled:
        resume(client)
    with contextlib.suppress(ConnectionError):
        assert len(await stalled[0].reader.read()) < len(body)
    assert (await stalled[1].response()).body == body


async def test_one_too_many_waits_and_not_for_ever(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    body = fill_sockets(backend)
    first, other = await occupy(connect, http, lines)
    second = await connect()
    limit(http, turn_seconds=0.05)
    refused = await second.ask(request(f"GET {SORTED}", *lines))
    limit(http)
    assert (refused.status, refused.header("Retry-After")) == (503, "1")
    assert b'"cause":"too many long listings"' in refused.body
    second.send(request(f"GET {SORTED}", *lines))
    await until(lambda: http.load.long_answers.waiting == 1)
    resume(first)
    assert (await first.response()).body == body
    assert (await second.response()).body == body
    other.writer.transport.abort()
    await until(lambda: is_idle(http, backend))


async def test_a_directory_that_is_gone_when_its_turn_comes(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    fill_sockets(backend)
    first, _ = await occupy(connect, http, lines)
    second = await connect()
    second.send(request(f"GET {SORTED}", *lines) + request("GET /v2/keys/", *lines))
    await until(lambda: http.load.long_answers.waiting == 1)
    backend.apply(Delete(b"/d", True, True))
    resume(first)
    assert (await first.response()).status == 200
    assert (await second.response()).status == 404
    assert (await second.response()).status == 200


async def test_who_sends_no_more_still_gets_all(
    client: RawClient, backend: LocalBackend, lines: tuple[str, ...]
) -> None:
    body = fill_sockets(backend)
    client.send(request(f"GET {SORTED}", *lines))
    client.writer.write_eof()
    assert (await client.response()).body == body
    assert await client.is_closed()


async def test_a_server_that_stops_lets_it_end(backend: LocalBackend, lines: tuple[str, ...]) -> None:
    body = fill_sockets(backend)
    http = await serve(backend, "127.0.0.1", 0)
    client = await RawClient.connect(http.port)
    pause(client)
    client.send(request(f"GET {SORTED}", *lines))
    await until(lambda: http.load.unread_bytes > 0)
    closing = asyncio.ensure_future(http.close(DEADLINE))
    resume(client)
    assert (await client.response()).body == body
    await closing
    await client.close()


async def test_a_right_that_is_gone_when_its_turn_comes(
    connect: Connect, backend: LocalBackend, http: Http, lines: tuple[str, ...]
) -> None:
    fill_sockets(backend)
    first, other = await occupy(connect, http, lines)
    second = await connect()
    second.send(request(f"GET {SORTED}", *lines))
    await until(lambda: http.load.long_answers.waiting == 1)
    root = await connect()
    for path, body in (
        ("users/root", '{"user":"root","password":"root"}'),
        ("enable", ""),
        ("roles/guest", '{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}'),
    ):
        headers = "Content-Type: application/json", "Authorization: Basic cm9vdDpyb290"  # root:root
        assert (await root.ask(request(f"PUT /v2/auth/{path}", *headers, body=body.encode()))).status in (200, 201)
    resume(first)
    assert (await first.response()).status == 200
    assert (await second.response()).status == 401
    other.writer.transport.abort()
    await until(lambda: is_idle(http, backend))


async def test_one_that_is_not_very_long_is_kept(
    client: RawClient, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = fill(backend)
    assert len(body) < KEPT_BYTES
    assert (await client.ask(request(f"GET {SORTED}"))).header("Transfer-Encoding") == "chunked"
    again = await client.ask(request(f"GET {SORTED}"))
    assert (again.header("Content-Length"), again.body) == (str(len(body)), body)
    backend.apply(Set(b"/d/new", b"", False, None, False))
    assert b"/d/new" in (await client.ask(request(f"GET {SORTED}"))).body


@pytest.mark.parametrize("limit", ["SHORT_NODES", "SHORT_BYTES"])
async def test_what_is_long(
    client: RawClient, backend: LocalBackend, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.apply(Set(b"/d/a", b"x" * 96, False, None, False))
    monkeypatch.setattr(keys, limit, 1 if limit == "SHORT_NODES" else 100)
    for number, is_long in ((0, False), (1, True)):
        if number:
            backend.apply(Set(b"/d/_hidden" if limit == "SHORT_NODES" else b"/d/b", b"", False, None, False))
        response = await client.ask(request("GET /v2/keys/d"))
        assert (response.header("Transfer-Encoding") == "chunked") == is_long
        assert response.body == answer_view(backend.store.get(b"/d", False, False, 0), b"").body
