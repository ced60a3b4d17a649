"""What a client cannot make a member hold, or do without an end: one test for each limit, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kvstore.http.app import Http, Settings, serve
from kvstore.http.connection import BODY_BUFFER_BYTES
from kvstore.http.load import Load
from kvstore.http.v2.parameters import KeyRequest, parse_key_request
from kvstore.limits import Limits
from kvstore.store.operations import Set
from kvstore.wire import CreateRole, CreateUser, SwitchAuth
from tests.fuzz.transport import Pipe
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, FORM, RawClient, put, request
from tests.http.conftest import Connect
from tests.http.scene import HASH
from tests.http.waiting import until

BIG = b"x" * 8_000_000  # more than the sockets of one connection hold


def pause(client: RawClient) -> None:
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a full transport


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.http.lane.SWEEP_SECONDS", 0.01)


class TestHead:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(line_bytes=200, head_bytes=600, headers=16))

    async def test_a_request_line_of_the_limit_passes_and_one_byte_more_does_not(self, connect: Connect) -> None:
        line = "GET /v2/keys/{} HTTP/1.1"
        longest = "a" * (200 - len(line.format("")))
        for header in ("Accept: */*", "X-Odd: 1"):  # for either lane
            client = await connect()
            assert (await client.ask(request(line.format(longest), header))).status == 404
            assert (await client.ask(request(line.format(longest + "a"), header))).status == 431
            assert await client.is_closed()

    async def test_a_head_beyond_its_limit_in_one_piece(self, connect: Connect) -> None:
        for name in ("Accept", "X-Odd"):
            client = await connect()
            assert (await client.ask(request("GET /version", f"{name}: {'x' * 500}"))).status == 200
            assert (await client.ask(request("GET /version", f"{name}: {'x' * 600}"))).status == 431
            assert await client.is_closed()

    async def test_a_head_beyond_its_limit_in_many_pieces(self, client: RawClient) -> None:
        for octet in request("GET /version", *(f"X-{n}: {'x' * 60}" for n in range(10))):
            if client.writer.transport.is_closing():
                break
            client.send(bytes([octet]))
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError, EOFError):  # it may be closed before its last words are read
            assert (await client.response()).status == 431
        assert await client.is_closed()

    async def test_one_header_line_too_many(self, client: RawClient) -> None:
        assert (await client.ask(request("GET /version", *(f"X{n}: y" for n in range(15))))).status == 200
        assert (await client.ask(request("GET /version", *(f"X{n}: y" for n in range(16))))).status == 431

    async def test_trailers_count_as_header_lines(self, client: RawClient, backend: LocalBackend) -> None:
        client.send(request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked"))
        client.send(b"7\r\nvalue=1\r\n0\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(40)) + b"\r\n")
        assert (await client.response()).status == 431
        assert backend.store.index == 0

    async def test_long_trailers_and_extensions_are_not_kept(self, connect: Connect, http: Http) -> None:
        for flood in (b"0\r\n" + b"X: " + b"y" * 500 + b"\r\nY: " + b"z" * 500, b"1;" + b"e" * 1000):
            client = await connect()
            client.send(request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked", "Expect: 100-continue"))
            assert (await client.response()).status == 100
            client.send(b"7\r\nvalue=1\r\n")
            for octet in flood:
                if client.writer.transport.is_closing():
                    break
                client.send(bytes([octet]))
                await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError, EOFError):  # it may be closed before its last words are read
                assert (await client.response()).status == 400
        await until(lambda: http.load.connections == 0)
        assert http.load.arriving_bytes == 0

    async def test_a_body_in_the_smallest_chunks_passes(self, client: RawClient, http: Http) -> None:
        form = b"value=" + b"x" * 2_000
        client.send(request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked"))
        for octet in form:
            client.send(b"1\r\n%c\r\n" % octet)
            await asyncio.sleep(0)
        client.send(b"0\r\n\r\n")
        assert (await client.response()).status == 201
        assert http.load.arriving_bytes == 0


@pytest.mark.parametrize("is_refused", [False, True])
async def test_others_have_their_turn_while_a_body_comes_in_small_chunks(
    client: RawClient, backend: LocalBackend, is_refused: bool
) -> None:
    """One that is read, and one that is passed over."""
    if is_refused:
        backend.apply(CreateRole(b"guest", (), ()))
        backend.apply(CreateUser(b"root", HASH, None))
        backend.apply(SwitchAuth(True))
    turns = 0
    chunks = 60_000
    client.send(request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked"))
    client.send(b"6\r\nvalue=\r\n" + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n" + request("GET /version"))
    answers = asyncio.ensure_future(asyncio.wait_for(two_answers(client), DEADLINE * 2))
    while not answers.done():
        await asyncio.sleep(0)
        turns += 1
    assert await answers == [401 if is_refused else 201, 200]
    assert turns > chunks // (BODY_BUFFER_BYTES // 16)


async def two_answers(client: RawClient) -> list[int]:
    return [(await client.response()).status for _ in range(2)]


class TestTimeToSend:
    @pytest.fixture(params=[600.0, 0.1], ids=["", "idle sooner"])  # who has begun to ask is not idle
    def settings(self, request: pytest.FixtureRequest) -> Settings:
        return Settings(Limits(read_seconds=0.4, idle_seconds=request.param))

    async def test_half_a_head_is_not_waited_for(self, client: RawClient) -> None:
        client.send(b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n")
        assert (await client.response()).status == 408
        assert await client.is_closed()

    async def test_a_head_that_never_stops_to_come(self, client: RawClient) -> None:
        """A slow loris: some bytes now and then, so that no silence is long."""
        client.send(b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n")
        response = asyncio.ensure_future(client.response())
        async with asyncio.timeout(DEADLINE):
            while not response.done():
                client.send(b"X: y\r\n")
                await asyncio.sleep(0.01)
        assert (await response).status == 408

    async def test_half_a_body_is_not_waited_for(self, client: RawClient, backend: LocalBackend) -> None:
        for head in ("Content-Length: 1000", "Transfer-Encoding: chunked", "Content-Length: 1000000"):
            slow = await RawClient.connect(client.writer.get_extra_info("peername")[1])
            slow.send(request("PUT /v2/keys/a", FORM, head, "Expect: 100-continue"))
            assert (await slow.response()).status == 100
            response = asyncio.ensure_future(slow.response())
            async with asyncio.timeout(DEADLINE):
                while not response.done():
                    slow.send(b"1\r\nx\r\n")
                    await asyncio.sleep(0.01)
            assert (await response).status == 408
            await slow.close()
        assert backend.store.index == 0

    async def test_chunk_extensions_without_end(self, client: RawClient) -> None:
        client.send(request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked"))
        response = asyncio.ensure_future(client.response())
        async with asyncio.timeout(DEADLINE):
            while not response.done():
                client.send(b"1;" + b"e" * 10_000 + b"\r\nx\r\n")
                await asyncio.sleep(0.01)
        assert (await response).status in (400, 408)

    async def test_who_connects_and_says_nothing_is_closed(self, client: RawClient) -> None:
        assert await client.is_closed()


class TestIdle:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(idle_seconds=0.2))

    @pytest.mark.parametrize("lines", [(), ("X-Odd: 1",)])
    async def test_who_asks_no_more_is_closed(self, lines: tuple[str, ...], client: RawClient) -> None:
        assert (await client.ask(request("GET /v2/keys/none", *lines))).status == 404
        assert await client.is_closed()


class Clock:
    """A loop's, as far as the load asks it."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


class SlowPipe(Pipe):
    """Its other end reads as much as the test says."""

    unread = 0

    def get_write_buffer_size(self) -> int:
        return self.unread


class TestTimes:
    """One connection of aiohttp's lane, by a clock that the test holds."""

    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(read_seconds=10.0, write_seconds=10.0))

    @pytest.fixture
    def clock(self, http: Http, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr(http.load, "_loop", clock)
        return clock

    @pytest.fixture
    async def pipe(self, http: Http) -> AsyncIterator[SlowPipe]:
        connection = http._server().connection()
        pipe = SlowPipe(connection)
        connection.connection_made(pipe)
        yield pipe
        connection.connection_lost(None)
        await settle()

    async def test_head_and_body_have_a_time_each(self, http: Http, clock: Clock, pipe: SlowPipe) -> None:
        head = request("PUT /v2/keys/a", FORM, "Content-Length: 7")
        for piece in (head[:5], head[5:10], head[10:], b"val"):
            pipe.feed(piece)
            clock.now += 4
            await settle()
            http.load.look()
        assert clock.now == 16.0
        assert not pipe.is_closing()
        clock.now += 6
        http.load.look()
        assert pipe.is_closing()
        assert pipe.sent.startswith(b"HTTP/1.1 408 ")

    async def test_the_time_does_not_run_while_we_do_not_read(
        self, http: Http, clock: Clock, pipe: SlowPipe, backend: LocalBackend
    ) -> None:
        """A body waits behind a write that takes the cluster a while."""
        backend.is_stuck = True
        pipe.feed(request("PUT /v2/keys/a?value=1") + request("PUT /v2/keys/b", FORM, "Content-Length: 1000000"))
        pipe.feed(b"value=" + b"x" * 700_000)
        await settle()
        assert pipe.is_paused
        for _ in range(5):
            clock.now += 8
            http.load.look()
        assert not pipe.is_closing()

    async def test_whole_requests_may_come_for_ever(self, http: Http, clock: Clock, pipe: SlowPipe) -> None:
        """Cut so that at no moment everything that arrived is whole."""
        one = request("GET /version")
        pipe.feed(one[:10])
        for _ in range(10):
            pipe.feed(one[10:] + one[:10])
            clock.now += 6
            await settle()
            http.load.look()
        assert not pipe.is_closing()
        assert pipe.sent.count(b"HTTP/1.1 200 OK") == 10

    async def test_a_slow_cluster_is_not_the_clients_fault(
        self, http: Http, clock: Clock, pipe: SlowPipe, backend: LocalBackend
    ) -> None:
        backend.is_stuck = True
        pipe.feed(request("PUT /v2/keys/a?value=1") + request("PUT /v2/keys/b?value=2"))
        await settle()
        clock.now += 100
        http.load.look()
        assert len(backend.pending) == 1
        assert not pipe.is_closing()

    async def test_who_reads_a_little_goes_on(self, http: Http, clock: Clock, pipe: SlowPipe) -> None:
        pipe.unread = 100
        pipe.protocol.pause_writing()
        assert http.load.unread_bytes == 100
        for _ in range(10):
            clock.now += 9
            pipe.unread -= 1
            http.load.look()
        assert http.load.unread_bytes == pipe.unread == 90
        clock.now += 9
        http.load.look()
        assert not pipe.is_aborted
        clock.now += 1
        http.load.look()
        assert pipe.is_aborted
        assert http.load.unread_bytes == 0

    async def test_last_words_are_not_waited_with_for_ever(self, http: Http, clock: Clock, pipe: SlowPipe) -> None:
        """Too few to make the transport say that it is full."""
        pipe.unread = 5
        pipe.feed(request("GET /version", "Connection: close"))
        await settle()
        assert pipe.is_closing()
        clock.now += 9
        http.load.look()
        assert not pipe.is_aborted
        clock.now += 1
        http.load.look()
        assert pipe.is_aborted


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class TestAnswersNotRead:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(write_seconds=0.2, buffered_bytes=1_000_000))

    @pytest.mark.parametrize("lines", [(), ("X-Odd: 1",), ("Connection: close",)])
    async def test_who_does_not_read_at_all_is_closed(
        self, lines: tuple[str, ...], connect: Connect, backend: LocalBackend, http: Http
    ) -> None:
        backend.apply(Set(b"/big", BIG, False, None, False))
        slow = await connect()
        pause(slow)
        slow.send(request("GET /v2/keys/big", *lines))
        await until(lambda: http.connections == 1)
        await until(lambda: http.connections == 0)

    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
    async def test_the_system_ends_what_only_it_can_see(self, client: RawClient, http: Http) -> None:
        assert (await client.ask(request("GET /v2/keys/none"))).status == 404
        (connection,) = http._lane.connections
        assert connection._transport is not None
        end = connection._transport.get_extra_info("socket")
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5_200

    async def test_a_watcher_that_stalls_is_closed_although_nothing_more_happens(
        self, connect: Connect, backend: LocalBackend
    ) -> None:
        slow = await connect()
        slow.send(request("GET /v2/keys/big?wait=true&stream=true"))
        await slow.head()
        pause(slow)
        backend.apply(Set(b"/big", BIG, False, None, False))
        assert backend.store.watcher_count == 1
        await until(lambda: backend.store.watcher_count == 0)


class TestUnreadBytes:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(buffered_bytes=1_000_000))

    async def test_no_more_large_answers_are_made_until_some_are_read(
        self, connect: Connect, backend: LocalBackend
    ) -> None:
        backend.apply(Set(b"/big", BIG, False, None, False))
        slow, quick = await connect(), await connect()
        pause(slow)
        slow.send(request("GET /v2/keys/big"))
        for lines in ((), ("X-Odd: 1",)):
            async with asyncio.timeout(DEADLINE):
                while (response := await quick.ask(request("GET /v2/keys/none", *lines))).status != 503:
                    pass  # until the large one was made
            assert response.header("Retry-After") == "1"
            assert b'"cause":"etcdserver: too many requests"' in response.body
        assert (await quick.ask(put("/a", "value=1"))).status == 201  # its answer is small
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len((await slow.response()).body) > len(BIG)
        assert (await quick.ask(request("GET /v2/keys/a"))).status == 200


class TestArrivingBytes:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(buffered_bytes=300_000))

    async def test_bodies_beyond_it_are_refused_and_others_go_on(self, connect: Connect, http: Http) -> None:
        first, second = await connect(), await connect()
        first.send(request("PUT /v2/keys/a", FORM, "Content-Length: 200000") + b"value=" + b"x" * 180_000)
        await until(lambda: http.load.arriving_bytes >= 100_000)
        response = await second.ask(put("/b", "value=" + "x" * 250_000))
        assert (response.status, response.header("Retry-After")) == (503, "1")
        first.send(b"x" * (200_000 - 180_006))
        assert (await first.response()).status == 201
        assert (await second.ask(put("/b", "value=" + "x" * 200_000))).status == 201
        assert http.load.arriving_bytes == 0

    async def test_a_body_counts_while_it_is_parsed_beside_the_loop(
        self, connect: Connect, http: Http, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def parse(*arguments: Any) -> KeyRequest:
            begun.set()
            may_end.wait()
            return parse_key_request(*arguments)

        monkeypatch.setattr("kvstore.http.v2.keys.parse_key_request", parse)
        body = "value=" + "x" * 280_000
        client, other = await connect(), await connect()
        try:
            client.send(put("/b", body))
            await until(begun.is_set)
            assert (await other.ask(request("GET /v2/keys/none"))).status == 404
            assert http.load.arriving_bytes == len(body), "also after the turn that handed it over"
        finally:
            may_end.set()
        assert (await client.response()).status == 201
        assert http.load.arriving_bytes == 0

    async def test_heads_count_too_and_are_given_back(self, connect: Connect, http: Http) -> None:
        head = request("GET /version", "X: " + "x" * 100_000)
        first, second, third = [await connect() for _ in range(3)]
        for client in (first, second):
            client.send(head[:-2])
        await until(lambda: http.load.arriving_bytes >= 200_000)
        response = await third.ask(head[:-2])
        assert (response.status, response.header("Retry-After")) == (503, "1")
        first.send(head[-2:])
        assert (await first.response()).status == 200
        await second.close()
        await until(lambda: http.load.arriving_bytes == 0)


class TestCounts:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(watchers=2, connections=4))

    async def test_one_watcher_too_many_is_refused_and_one_that_ends_makes_room(
        self, connect: Connect, backend: LocalBackend
    ) -> None:
        watching = [await connect() for _ in range(2)]
        for client in watching:
            client.send(request("GET /v2/keys/a?wait=true"))
            assert (await client.head()).status == 200
        third = await connect()
        response = await third.ask(request("GET /v2/keys/a?wait=true"))
        assert (response.status, response.header("Retry-After")) == (503, "1")
        assert b'"cause":"too many watchers"' in response.body
        await watching[0].close()
        await until(lambda: backend.store.watcher_count == 1)
        third.send(request("GET /v2/keys/a?wait=true"))
        assert (await third.head()).status == 200

    async def test_one_connection_has_one_watcher_at_a_time(self, client: RawClient, backend: LocalBackend) -> None:
        client.send(request("GET /v2/keys/a?wait=true") * 50)
        await client.head()
        assert backend.store.watcher_count == 1

    async def test_connections_are_counted_over_all_listeners_and_lanes(
        self, connect: Connect, backend: LocalBackend, settings: Settings
    ) -> None:
        load = Load(settings.limits)
        servers = [await serve(backend, "127.0.0.1", 0, settings=settings, load=load) for _ in range(2)]
        clients = [await RawClient.connect(server.port) for server in servers for _ in range(2)]
        for client in clients[:2]:
            assert (await client.ask(request("GET /version"))).status == 200  # aiohttp's lane
        for client in clients[2:]:
            assert (await client.ask(request("GET /v2/keys/a"))).status == 404
        fifth = await RawClient.connect(servers[0].port)
        assert await fifth.is_closed()
        await clients[0].close()
        await until(lambda: load.connections == 3)
        sixth = await RawClient.connect(servers[1].port)
        assert (await sixth.ask(request("GET /version"))).status == 200
        for client in (*clients[1:], fifth, sixth):
            await client.close()
        for server in servers:
            await server.close(grace=0.0)
        assert load.connections == 0


async def test_a_write_that_is_one_too_many_is_503_and_was_not_done(
    connect: Connect, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "too_many", True)
    for lines in (("Accept: */*",), ("X-Odd: 1",)):
        for line in ("PUT /v2/keys/a?value=1", "GET /v2/keys/a?quorum=true"):
            response = await (await connect()).ask(request(line, *lines))
            assert (response.status, response.header("Retry-After")) == (503, "1")
            assert b'"errorCode":300,' in response.body
    for line, body in (
        ("PUT /v2/auth/roles/r", b'{"role":"r"}'),
        ("POST /v2/members", b'{"peerURLs":["http://a:9"]}'),
    ):
        response = await (await connect()).ask(request(line, "Content-Type: application/json", body=body))
        assert (response.status, response.header("Retry-After")) == (503, "1")
        assert response.body == b'{"message":"etcdserver: too many requests"}'
    assert backend.store.index == 0
