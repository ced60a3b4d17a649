"""The express lane: what it takes, that it answers as aiohttp's does, and that the two never disagree on an end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.auth import AuthChanged
from kvstore.http import express, lane
from kvstore.http.app import Http, Settings, serve
from kvstore.http.backend import Unavailable
from kvstore.http.express import PIPELINE_BYTES
from kvstore.http.heads import HEADS, Head, Heads, judge
from kvstore.http.lane import EXPRESS_BYTES
from kvstore.http.reply import Answer
from kvstore.http.v2.keys import answer_failure
from kvstore.limits import Limits
from kvstore.store.operations import Set
from kvstore.wire import Guarded, SwitchAuth
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, FORM, RawClient, Response, put, request
from tests.http.conftest import Connect
from tests.http.scene import furnish
from tests.http.waiting import until

HOST = b"\r\nHost: x"
NOT_EXPRESS = "X-Unknown: 1"  # a header line that moves its connection to aiohttp
CHANGING = re.compile(rb"Date: [^\r]+\r\n|X-Raft-Index: \d+\r\n|\r\nDate: [^\r]+$")


@pytest.mark.parametrize(
    ("lines", "head"),
    [
        (HOST, Head(0, False)),
        (b"\r\nhost:x:2379\r\nAccept: */*\r\nUser-Agent: curl/8 (a; b)", Head(0, False)),
        (HOST + b"\r\nConnection: Keep-Alive\r\nCache-Control: no-cache", Head(0, False)),
        (HOST + b"\r\nContent-Length: 12\r\nContent-Type: application/x-www-form-urlencoded", Head(12, True)),
        (HOST + b"\r\nContent-Type: application/json", None),
        (HOST + b"\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8", None),
        (b"", None),
        (b"\r\nAccept: */*", None),
        (HOST + HOST, None),
        (b"\r\nHost: a b", None),
        (b"\r\nHost: a/b", None),
        (HOST + b"\r\nContent-Length: 1\r\nContent-Length: 1", None),
        (HOST + b"\r\ncontent-length: 1\r\nContent-Length: 2", None),
        (HOST + b"\r\nContent-Length: +1", None),
        (HOST + b"\r\nContent-Length: 1, 1", None),
        (HOST + b"\r\nContent-Length: 0x1", None),
        (HOST + b"\r\nContent-Length: ", None),
        (HOST + b"\r\nContent-Length : 1", None),
        (HOST + b"\r\n Content-Length: 1", None),
        (HOST + b"\r\nAccept: a\r\n b", None),
        (HOST + b"\r\nAccept: a\nContent-Length: 1", None),
        (HOST + b"\r\nAccept: a\rb", None),
        (HOST + b"\r\nAccept: a\x00b", None),
        (HOST + b"\r\nAccept: \xff", None),
        (HOST + b"\r\nAccept", None),
        (HOST + b"\r\nTransfer-Encoding: chunked", None),
        (HOST + b"\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", None),
        (HOST + b"\r\nExpect: 100-continue", None),
        (HOST + b"\r\nConnection: close", None),
        (HOST + b"\r\nConnection: keep-alive, upgrade", None),
        (HOST + b"\r\nUpgrade: h2c", None),
        (HOST + b"\r\nAuthorization: Basic cm9vdDpyb290", None),
        (HOST + b"\r\nOrigin: http://a", None),
    ],
)
def test_only_heads_that_leave_no_doubt_are_taken(lines: bytes, head: Head | None) -> None:
    assert judge(lines) == head


def test_no_more_than_so_many_heads_are_remembered() -> None:
    heads = Heads()
    for number in range(HEADS + 10):
        assert heads.judge(b"%s\r\nAccept: %d" % (HOST, number)) == Head(0, False)
    assert len(heads) == 10


READ_BYTES = 256 << 10  # that a transport reads at a time


async def make_busy(client: RawClient) -> None:
    """From the second request on its socket is read past its transport, where that is compiled."""
    for _ in range(2):
        assert (await client.ask(request("GET /v2/keys/none"))).status == 404


@pytest.fixture(params=["new", "busy"])
async def client(connect: Connect, request: pytest.FixtureRequest) -> RawClient:
    made = await connect()
    if request.param == "busy":
        await make_busy(made)
    return made


class Watched:
    """A server that says whether a connection has left the lane."""

    def __init__(self, http: Http) -> None:
        self.http = http

    @property
    def express(self) -> int:
        return len(self.http._lane.connections)


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("GET /v2/keys", True),
        ("GET /v2/keys/", True),
        ("GET /v2/keys/a/b-c_d~e.f:g@h,i;j=k!l$m'n(o)p*q+r", True),
        ("GET /v2/keys/?recursive=true&sorted=true", True),
        ("GET /v2/keys/a?quorum=true", True),
        ("DELETE /v2/keys/a?prevValue=%31", True),
        ("POST /v2/keys/a?value=1", True),
        ("GET /v2/keys/a?recursive=perhaps", True),  # answered with 400
        ("GET /v2/keys/a%20b", False),
        ("GET /v2/keys//a", False),
        ("GET /v2/keys/../a", False),
        ("GET /v2/keys/.a", False),
        ("GET /v2/keysa", False),
        ("GET /v2/keys?wait=true&recursive=true&waitIndex=1", True),
        ("GET /version", False),
        ("GET /health", True),
        ("GET /health?a=b", False),
        ("GET /health/", False),
        ("PUT /health", False),
        ("HEAD /v2/keys/a", False),
        ("get /v2/keys/a", False),
        ("OPTIONS /v2/keys/a", False),
        ("GET /v2/keys/a HTTP/1.0", False),
        ("GET http://x/v2/keys/a", False),
    ],
)
async def test_the_first_unknown_thing_moves_the_connection_on(
    http: Http, client: RawClient, backend: LocalBackend, line: str, stays: bool
) -> None:
    backend.apply(Set(b"/a/k", b"1", False, None, False))
    await client.ask(request(line))
    assert Watched(http).express == int(stays)
    if stays or "HTTP/1.0" not in line:
        assert (await client.ask(request("GET /v2/keys/a/k"))).status == 200
        assert Watched(http).express == int(stays), "there is no way back"


async def test_a_large_request_is_not_for_the_lane(http: Http, client: RawClient) -> None:
    client.send(put("/a", "value=" + "x" * 2 * EXPRESS_BYTES)[:-1])
    client.send(b"x")
    assert (await client.response()).status == 201
    assert Watched(http).express == 0


# --- the same answers ---------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["", "/", "/a", "/a/", "/a/b", "/a/b/c", "/_h", "/d", "/q%41", "//a", "/a/../d", "/d/e"])
VALUES = st.sampled_from(["1", "2", "", "a+b", "%3C%3E", "%zz", "x;y", "\u00fc"])
FIELDS = st.lists(
    st.one_of(
        st.builds("value={}".format, VALUES),
        st.builds("prevValue={}".format, VALUES),
        st.builds("prevIndex={}".format, st.sampled_from(["0", "1", "3", "x"])),
        st.builds("prevExist={}".format, st.sampled_from(["true", "false", "?"])),
        st.sampled_from(["dir=true", "recursive=true", "sorted=true", "quorum=true", "noValueOnSuccess=true"]),
        st.sampled_from(["ttl=", "ttl=x", "refresh=true", "wait=x", "&", "unknown"]),
    ),
    max_size=3,
).map("&".join)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    method = draw(st.sampled_from(["GET", "PUT", "POST", "DELETE"]))
    query, body = draw(FIELDS.filter(str.isascii)), b""  # behind another request aiohttp's lane refuses other bytes
    if method in ("PUT", "POST") and draw(st.booleans()):
        body = draw(FIELDS).encode()
    return f"{method} /v2/keys{draw(KEYS)}{'?' + query if query else ''}", body


@asynccontextmanager
async def one_connection(is_busy: bool) -> AsyncIterator[RawClient]:
    http = await serve(LocalBackend(), "127.0.0.1", 0, settings=Settings())
    client = await RawClient.connect(http.port)
    if is_busy:
        await make_busy(client)
    yield client
    await client.close()
    await http.close(grace=0.0)


def plain(response: Response) -> tuple[int, bytes, bytes]:
    return response.status, CHANGING.sub(b"", response.head + b"\r\n"), response.body


async def answers(
    asked: list[tuple[str, bytes]], *headers: str, pieces: list[int] | None = None, is_busy: bool = False
) -> list[object]:
    """What a fresh server answers to all of them on one connection; `pieces`: sent in pieces that end there."""
    sent = b"".join(request(line, FORM, *headers, body=body) for line, body in asked)
    async with one_connection(is_busy) as client:
        start = 0
        for end in sorted({piece % len(sent) for piece in pieces or ()}):
            client.send(sent[start:end])
            await client.writer.drain()
            await asyncio.sleep(0)  # the server, in the same loop, may take them one by one
            start = end
        client.send(sent[start:])
        return [plain(await client.response()) for _ in asked]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(requests(), min_size=1, max_size=8), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_both_lanes_give_the_same_answers_however_the_bytes_arrive(
    asked: list[tuple[str, bytes]], pieces: list[int]
) -> None:
    async def compare() -> None:
        expected = await answers(asked, NOT_EXPRESS)
        assert await answers(asked) == expected
        assert await answers(asked, pieces=pieces) == expected
        assert await answers(asked, pieces=pieces, is_busy=True) == expected

    asyncio.run(compare())


async def test_every_cut_of_two_requests_gives_the_same_answers() -> None:
    asked = [("PUT /v2/keys/a", b"value=GET /v2/keys/b HTTP/1.1"), ("GET /v2/keys/a?quorum=true", b"")]
    expected = await answers(asked, NOT_EXPRESS)
    length = sum(len(request(line, FORM, body=body)) for line, body in asked)
    for cut in range(1, length, 3):
        for is_busy in (False, True):
            assert await answers(asked, pieces=[cut], is_busy=is_busy) == expected, cut


async def test_health_is_answered_alike_between_other_requests() -> None:
    asked = [("PUT /v2/keys/a", b"value=1"), ("GET /health", b""), ("GET /v2/keys/a", b""), ("GET /health", b"")]

    async def ask(*headers: str, pieces: list[int] | None = None) -> list[object]:
        sent = b"".join(request(line, *(FORM,) * bool(body), *headers, body=body) for line, body in asked)
        async with one_connection(is_busy=False) as client:
            for octets in (sent[: pieces[0]], sent[pieces[0] :]) if pieces else (sent,):
                client.send(octets)
                await client.writer.drain()
                await asyncio.sleep(0)
            return [plain(await client.response()) for _ in asked]

    expected = await ask(NOT_EXPRESS)
    assert [answer[0] for answer in expected] == [201, 200, 200, 200]  # type: ignore[index]
    for cut in range(0, 250, 7):
        assert await ask(pieces=[cut]) == expected, cut


async def test_health_needs_nothing_of_aiohttp_with_auth_off_or_on(
    http: Http, client: RawClient, backend: LocalBackend
) -> None:
    for is_on in (False, True):
        if is_on:
            furnish(backend)
        assert backend.auth.enabled == is_on
        assert (await client.ask(request("GET /health", "User-Agent: kube-probe/1.30", "Accept: */*"))).status == 200
    assert http._general is None


async def test_a_bug_in_the_probe_is_a_bare_500(
    client: RawClient, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(backend, "numbers", broken)
    assert (await client.ask(request("GET /health"))).status == 500
    assert await client.is_closed()


async def test_a_body_is_never_taken_for_a_request(client: RawClient, backend: LocalBackend) -> None:
    inner = request("PUT /v2/keys/smuggled?value=1").decode()
    raw = put("/a", "value=" + inner) + request("GET /v2/keys/smuggled")
    client.send(raw)
    assert (await client.response()).status == 201
    assert (await client.response()).status == 404
    assert backend.store.index == 1


async def test_a_second_request_that_is_ambiguous_is_refused_with_nothing_of_it_done(
    client: RawClient, backend: LocalBackend
) -> None:
    ambiguous = request("PUT /v2/keys/b", FORM, "Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n"
    client.send(put("/a", "value=1") + ambiguous + request("PUT /v2/keys/c?value=1"))
    assert (await client.response()).status == 201
    assert (await client.response()).status == 400
    assert await client.is_closed()
    assert backend.store.index == 1


# --- order, and waiting -------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(client: RawClient) -> None:
    lines = []
    for number in range(100):
        lines.append(put("/n", f"value={number}"))
        lines.append(request("GET /v2/keys/n"))
    client.send(b"".join(lines))
    for number in range(100):
        assert (await client.response()).status == (200 if number else 201)
        assert f'"value":"{number}"'.encode() in (await client.response()).body


async def test_no_more_is_read_while_one_is_served(http: Http, client: RawClient, backend: LocalBackend) -> None:
    backend.is_stuck = True
    client.send(put("/a", "value=1"))
    await backend.called.wait()
    (connection,) = http._lane.connections
    many = 20 * PIPELINE_BYTES // len(request("GET /v2/keys"))
    client.send(request("GET /v2/keys") * many)
    await until(lambda: connection._is_full)
    for _ in range(100):  # what the client's transport could still send in
        await asyncio.sleep(0)
    assert connection._held == len(connection._rest) == http.load.arriving_bytes
    assert len(connection._rest) < PIPELINE_BYTES + READ_BYTES
    backend.is_stuck = False
    event = backend.apply(Set(b"/a", b"1", False, None, False))
    backend.pending[0].set_result(event)
    assert (await client.response()).status == 201
    for _ in range(many):
        assert (await client.response()).status == 200
    assert http.load.arriving_bytes == 0


async def test_no_more_is_read_of_a_client_that_does_not_read(http: Http, client: RawClient) -> None:
    await client.ask(put("/a", "value=" + "x" * 60_000))
    (connection,) = http._lane.connections
    transport = client.writer.transport
    transport.pause_reading()  # type: ignore[attr-defined]
    many = 20 * PIPELINE_BYTES // len(request("GET /v2/keys/a?noValueOnSuccess=true"))
    client.send(request("GET /v2/keys/a") * 200 + request("GET /v2/keys/none") * many)
    await until(lambda: connection._is_blocked and connection._is_full)
    for _ in range(100):
        await asyncio.sleep(0)
    assert 0 < len(connection._rest) < PIPELINE_BYTES + READ_BYTES
    assert connection._held == http.load.arriving_bytes
    transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(200):
        assert len((await client.response()).body) > 60_000
    for _ in range(many):
        assert (await client.response()).status == 404
    assert http.load.arriving_bytes == 0


async def test_so_many_requests_of_a_client_are_served_in_a_go_and_then_it_is_the_others_turn(
    client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: list[str] = []
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon

    def counted(error: Any, backend: Any) -> Answer:
        moments.append("request")
        return answer_failure(error, backend)

    def noted(callback: Callable[..., object], *arguments: Any, **more: Any) -> asyncio.Handle:
        if getattr(callback, "__name__", "") == "_take_turn":
            moments.append("turn")
        return call_soon(callback, *arguments, **more)

    monkeypatch.setattr(express, "answer_failure", counted)
    monkeypatch.setattr(loop, "call_soon", noted)
    many = 5 * express.TURN_REQUESTS
    client.send(request("GET /v2/keys/none") * many)
    for _ in range(many):
        assert (await client.response()).status == 404
    goes = "".join(moment[0] for moment in moments).split("t")
    assert max(map(len, goes)) == express.TURN_REQUESTS
    assert sum(map(len, goes)) == many


@pytest.mark.parametrize("is_waiting", [True, False])
async def test_what_all_clients_together_have_us_hold_is_bounded(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, is_waiting: bool
) -> None:
    """Half requests beyond it are answered 503, and connections that want more than a waiting write are dropped."""
    http = await serve(backend, "127.0.0.1", 0, settings=Settings(limits=Limits(buffered_bytes=100_000)))
    backend.is_stuck = True
    first = put("/a", "value=1") if is_waiting else b""
    clients = [await RawClient.connect(http.port) for _ in range(4)]
    for client in clients:
        client.send(first + put("/b", "value=" + "x" * 60_000)[:40_000])
    if is_waiting:
        await until(lambda: http.connections == 2)
    else:
        dropped = [await client.response() for client in clients[2:]]
        assert [response.status for response in dropped] == [503, 503]
    assert 40_000 <= http.load.arriving_bytes <= 100_000
    for client in clients:
        await client.close()
    for pending in backend.pending:
        pending.set_exception(Unavailable("etcdserver: request timed out"))
    await until(lambda: http.connections == 0)
    assert http.load.arriving_bytes == 0
    await http.close(grace=0.0)


async def test_an_idle_connection_keeps_nothing_of_its_requests(http: Http, client: RawClient) -> None:
    for line in ("GET /v2/keys", "GET /v2/keys?quorum=true"):
        assert (await client.ask(request(line))).status == 200
    await client.ask(put("/a", "value=" + "x" * 50_000))
    (connection,) = http._lane.connections
    assert (connection._request, connection._rest) == (b"", b"")


async def test_a_half_closed_client_gets_its_answers(client: RawClient, backend: LocalBackend) -> None:
    backend.is_stuck = True
    client.send(put("/a", "value=1") + request("GET /v2/keys/a"))
    await backend.called.wait()
    client.writer.write_eof()
    await asyncio.sleep(0)
    backend.pending[0].set_result(backend.apply(Set(b"/a", b"1", False, None, False)))
    assert (await client.response()).header("Connection") is None
    last = await client.response()
    assert (last.status, last.header("Connection")) == (200, "close")
    assert await client.is_closed()


async def test_a_half_request_ends_with_its_client(http: Http, client: RawClient) -> None:
    client.send(b"GET /v2/keys")
    client.writer.write_eof()
    assert await client.is_closed()
    assert http.connections == 0


@pytest.mark.parametrize("header", ["Accept: */*", NOT_EXPRESS])
async def test_a_watch_of_a_half_closed_client_ends_at_once_and_what_follows_is_done(
    client: RawClient, backend: LocalBackend, header: str
) -> None:
    """As etcd has it."""
    backend.is_stuck = True
    lines = ("PUT /v2/keys/z?value=1", "GET /v2/keys/a?wait=true", "PUT /v2/keys/b?value=1")
    client.send(b"".join(request(line, header) for line in lines))
    await backend.called.wait()
    client.writer.write_eof()
    for _ in range(20):
        await asyncio.sleep(0)
    backend.is_stuck = False
    backend.pending[0].set_result(backend.apply(Set(b"/z", b"1", False, None, False)))
    assert (await client.response()).status == 201
    watched = await client.response()
    assert (watched.status, watched.body) == (200, b"")
    assert (await client.response()).status == 201
    assert await client.is_closed()
    assert backend.store.watcher_count == 0


async def test_whoever_is_still_answered_is_not_idle(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "SWEEP_SECONDS", 0.005)
    http = await serve(backend, "127.0.0.1", 0, settings=Settings(limits=Limits(idle_seconds=0.02)))
    client = await RawClient.connect(http.port)
    await client.ask(put("/a", "value=" + "x" * 60_000))
    (connection,) = http._lane.connections
    looks: list[float] = []  # at all connections, and at the load
    original = http.load.look

    def counted() -> None:
        looks.append(monotonic())
        original()

    monkeypatch.setattr(http.load, "look", counted)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(request("GET /v2/keys/a") * 200)
    await until(lambda: connection._is_blocked)
    looks.clear()
    await until(lambda: bool(looks) and looks[-1] - looks[0] > 0.1)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(200):
        assert (await client.response()).status == 200
    assert await client.is_closed()
    await client.close()
    await http.close(grace=0.0)


async def test_what_does_not_go_on_arriving_is_aiohttps(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "SWEEP_SECONDS", 0.005)
    http = await serve(backend, "127.0.0.1", 0, settings=Settings())
    client = await RawClient.connect(http.port)
    whole = put("/a", "value=1")
    client.send(whole[:-3])
    async with asyncio.timeout(DEADLINE):
        while http.connections == 0 or Watched(http).express:  # noqa: ASYNC110
            await asyncio.sleep(0)
    client.send(whole[-3:])
    assert (await client.response()).status == 201
    await client.close()
    await http.close(grace=0.0)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_an_idle_connection_is_closed(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, is_busy: bool
) -> None:
    monkeypatch.setattr(lane, "SWEEP_SECONDS", 0.005)
    http = await serve(backend, "127.0.0.1", 0, settings=Settings(limits=Limits(idle_seconds=0.1)))
    client = await RawClient.connect(http.port)
    if is_busy:
        await make_busy(client)
    assert (await client.ask(request("GET /v2/keys"))).status == 200
    assert await client.is_closed()
    await client.close()
    await http.close(grace=0.0)


# --- watches ------------------------------------------------------------------------------------------------------


async def test_what_is_asked_behind_a_watch_waits_for_its_end(client: RawClient, backend: LocalBackend) -> None:
    client.send(request("GET /v2/keys/a?wait=true") + request("GET /v2/keys/a"))
    head = await client.head()
    assert head.header("Transfer-Encoding") == "chunked"
    backend.apply(Set(b"/a", b"1", False, None, False))
    event = await client.chunk()
    assert event.startswith(b'{"action":"set"')
    assert await client.chunk() == b""
    assert (await client.response()).body.startswith(b'{"action":"get"')


async def test_many_polls_follow_each_other_on_one_connection(
    http: Http, client: RawClient, backend: LocalBackend
) -> None:
    for index in range(1, 20):
        client.send(request(f"GET /v2/keys/a?wait=true&waitIndex={index}"))
        if index % 2:  # sometimes it is there already
            await client.head()
        backend.apply(Set(b"/a", b"%d" % index, False, None, False))
        if index % 2 == 0:
            await client.head()
        assert f'"value":"{index}"'.encode() in await client.chunk()
        assert await client.chunk() == b""
    assert Watched(http).express == 1
    assert backend.store.watcher_count == 0


# --- auth ---------------------------------------------------------------------------------------------------------


async def test_with_auth_nothing_is_taken(http: Http, connect: Connect, backend: LocalBackend) -> None:
    before, busy = await connect(), await connect()
    await before.ask(request("GET /v2/keys"))
    await make_busy(busy)
    furnish(backend)
    for client in (before, busy, await connect()):
        await client.ask(request("GET /v2/keys"))
    assert Watched(http).express == 0


@pytest.mark.parametrize("line", ["PUT /v2/keys/a?value=1", "GET /v2/keys/a?quorum=true"])
async def test_auth_that_is_switched_on_meanwhile_holds_for_what_waits(
    client: RawClient, backend: LocalBackend, line: str
) -> None:
    """The write is refused at its place in the log, the read finds it on: both are asked again, as a guest's."""
    backend.is_stuck = True
    barriers: list[asyncio.Future[None]] = []
    original = backend.read_barrier
    backend.read_barrier = lambda: barriers.append(original()) or barriers[-1]  # type: ignore[func-returns-value,method-assign]
    client.send(request(line))
    async with asyncio.timeout(DEADLINE):
        while not backend.pending and not barriers:  # noqa: ASYNC110
            await asyncio.sleep(0)
    furnish(backend)
    index = backend.store.index
    backend.is_stuck = False
    if backend.pending:
        backend.pending[0].set_exception(AuthChanged("switched on"))
    else:
        barriers[0].set_result(None)
    assert (await client.response()).status == 401
    assert backend.store.index == index


async def test_auth_that_came_and_went_meanwhile_has_the_write_done_after_all(
    client: RawClient, backend: LocalBackend
) -> None:
    backend.is_stuck = True
    client.send(request("PUT /v2/keys/app/a?value=new"))
    await backend.called.wait()
    furnish(backend)
    backend.apply(Guarded(backend.auth.revision, False, SwitchAuth(False)))
    backend.is_stuck = False
    backend.pending[0].set_exception(AuthChanged("auth was switched on"))
    response = await client.response()
    assert response.status == 200
    assert b'"value":"new"' in response.body


async def test_a_guests_watch_ends_with_the_right_to_it(client: RawClient, backend: LocalBackend) -> None:
    client.send(request("GET /v2/keys/app/a?wait=true&stream=true"))
    await client.head()
    furnish(backend)  # no guest may read there, once auth is on
    while piece := await client.chunk():
        assert b"/app/a" in piece
    assert (await client.ask(request("GET /v2/keys/app/a"))).status == 401
    assert backend.store.watcher_count == 0
