"""Watches: backlog and cut-off on a sink of ours, then over real connections."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest

from kvstore.http.app import Http, Settings
from kvstore.http.reply import LAST_CHUNK, chunk, last_piece
from kvstore.http.v2.watches import Watch
from kvstore.limits import Limits
from kvstore.store.operations import Delete, Set
from kvstore.store.store import Store
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, RawClient, put, request
from tests.http.conftest import Connect


class FakeSink:
    def __init__(self) -> None:
        self.is_stalled = False
        self.sent: list[bytes] = []
        self.is_ended = False
        self.is_aborted = False

    def send(self, piece: bytes) -> None:
        self.sent.append(piece)

    def end(self, last: bytes = b"") -> None:
        if last:
            self.send(last)
        self.is_ended = True

    def abort(self) -> None:
        self.is_aborted = True

    @property
    def values(self) -> list[int]:
        return [int(json.loads(piece)["node"]["value"]) for piece in self.sent]


class TestBacklog:
    @pytest.fixture
    def store(self) -> Store:
        return Store()

    @pytest.fixture
    def sink(self) -> FakeSink:
        return FakeSink()

    def start(self, store: Store, stream: bool = True, backlog: int = 3) -> Watch:
        watch = Watch(b"", stream, backlog)
        watch.register(store, b"/a", False, 0)
        return watch

    def write(self, store: Store, *values: int) -> None:
        for value in values:
            store.apply(Set(b"/a", b"%d" % value, False, None, False), 0)

    def test_events_go_straight_to_a_sink_that_takes_them(self, store: Store, sink: FakeSink) -> None:
        self.start(store).attach(sink)
        self.write(store, *range(50))
        assert sink.values == list(range(50))
        assert not sink.is_ended

    def test_what_comes_before_the_head_waits_for_it(self, store: Store, sink: FakeSink) -> None:
        watch = self.start(store)
        self.write(store, 1, 2)
        assert sink.sent == []
        watch.attach(sink)
        assert sink.values == [1, 2]

    def test_events_never_overtake_the_backlog(self, store: Store, sink: FakeSink) -> None:
        watch = self.start(store)
        watch.attach(sink)
        sink.is_stalled = True
        self.write(store, 1, 2)
        sink.is_stalled = False
        self.write(store, 3)
        assert sink.sent == []
        watch.flush()
        assert sink.values == [1, 2, 3]

    def test_one_event_beyond_the_backlog_cuts_off(self, store: Store, sink: FakeSink) -> None:
        self.start(store).attach(sink)
        sink.is_stalled = True
        self.write(store, 1, 2, 3)
        assert not sink.is_aborted
        assert store.watcher_count == 1
        self.write(store, 4)
        assert sink.is_aborted
        assert store.watcher_count == 0
        assert sink.sent == []

    def test_a_long_poll_ends_after_one_event(self, store: Store, sink: FakeSink) -> None:
        self.start(store, stream=False).attach(sink)
        self.write(store, 1, 2)
        assert sink.values == [1]
        assert sink.is_ended
        assert store.watcher_count == 0

    def test_a_long_poll_that_had_to_wait_ends_after_one_event_too(self, store: Store, sink: FakeSink) -> None:
        watch = self.start(store, stream=False)
        watch.attach(sink)
        sink.is_stalled = True
        self.write(store, 1, 2)
        assert (sink.sent, sink.is_ended) == ([], False)
        sink.is_stalled = False
        watch.flush()
        assert (sink.values, sink.is_ended) == ([1], True)

    def test_a_lost_watch_ends_its_body(self, store: Store, sink: FakeSink) -> None:
        watch = self.start(store)
        watch.attach(sink)
        watch.deliver(None)
        assert sink.is_ended
        assert sink.sent == []

    def test_a_cancelled_watch_is_gone_at_once(self, store: Store, sink: FakeSink) -> None:
        watch = self.start(store)
        watch.attach(sink)
        watch.cancel()
        watch.cancel()
        self.write(store, 1)
        assert store.watcher_count == 0
        assert sink.sent == []
        assert not sink.is_ended


def test_who_hears_the_same_shares_the_bytes_and_nobody_else_does() -> None:
    first, second = b"first\n", b"second\n"
    assert chunk(first) is chunk(first)
    shared = last_piece(first)
    assert shared == chunk(first) + LAST_CHUNK == b"6\r\nfirst\n\r\n0\r\n\r\n"
    assert last_piece(first) is shared
    assert last_piece(second) == chunk(second) + LAST_CHUNK
    assert last_piece(first) == shared


@pytest.fixture
def settings(either_lane: Settings) -> Settings:
    return either_lane


async def until_watchers(backend: LocalBackend, count: int) -> None:
    """Let the loop run until the store has so many watchers."""
    async with asyncio.timeout(DEADLINE):
        while backend.store.watcher_count != count:  # noqa: ASYNC110  # the store tells nobody
            await asyncio.sleep(0)


async def test_the_head_comes_at_once(client: RawClient, backend: LocalBackend) -> None:
    client.send(request("GET /v2/keys/a?wait=true"))
    head = await client.head()
    assert head.status == 200
    assert head.header("Transfer-Encoding") == "chunked"
    assert head.header("X-Etcd-Index") == "1"
    assert head.header("X-Raft-Index") == "4"


async def test_a_stream_goes_on_and_a_poll_leaves_the_connection_usable(connect: Connect) -> None:
    stream, poll, writer = [await connect() for _ in range(3)]
    stream.send(request("GET /v2/keys/a?wait=true&stream=true"))
    await stream.head()
    for value in "12":
        poll.send(request("GET /v2/keys/?wait=true&recursive=true"))
        await poll.head()
        await writer.ask(put("/a", f"value={value}"))
        assert f'"value":"{value}"'.encode() in await stream.chunk()
        assert f'"value":"{value}"'.encode() in await poll.chunk()
        assert await poll.chunk() == b""


async def test_history_that_is_gone_is_an_error_and_not_a_watch(
    client: RawClient, backend: LocalBackend, http: Http
) -> None:
    for _ in range(1001):
        backend.apply(Set(b"/a", b"1", False, None, False))
    response = await client.ask(request("GET /v2/keys/a?wait=true&waitIndex=1"))
    assert response.status == 400
    assert response.header("X-Etcd-Index") == "1001"
    assert response.body == (
        b'{"errorCode":401,"message":"The event in requested index is outdated and cleared",'
        b'"cause":"the requested history has been cleared [2/1]","index":1001}\n'
    )


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_goes_away_takes_its_watcher_along(
    client: RawClient, backend: LocalBackend, politely: bool
) -> None:
    client.send(request("GET /v2/keys/a?wait=true&stream=true"))
    await client.head()
    assert backend.store.watcher_count == 1
    if not politely:  # a reset instead of a FIN
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.close()
    await until_watchers(backend, 0)


async def test_one_that_half_closes_is_gone_too(client: RawClient, backend: LocalBackend) -> None:
    client.send(request("GET /v2/keys/a?wait=true"))
    await client.head()
    client.writer.write_eof()
    await until_watchers(backend, 0)
    assert await client.is_closed()


async def test_one_that_half_closes_at_once_has_no_watch(client: RawClient, backend: LocalBackend) -> None:
    client.send(request("GET /v2/keys/a?wait=true&stream=true"))
    client.writer.write_eof()
    async with asyncio.timeout(DEADLINE):
        await client.reader.read()  # until it is closed
    assert backend.store.watcher_count == 0


class TestSlowReader:
    @pytest.fixture
    def settings(self, either_lane: Settings) -> Settings:
        return either_lane._replace(limits=Limits(watch_backlog=10))

    async def test_is_cut_off_and_its_memory_given_back(
        self, http: Http, connect: Connect, backend: LocalBackend
    ) -> None:
        slow, quick = await connect(), await connect()
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a full transport
        slow.send(request("GET /v2/keys/?wait=true&recursive=true&stream=true"))
        await until_watchers(backend, 1)
        quick.send(request("GET /v2/keys/?wait=true&recursive=true&stream=true"))
        await quick.head()
        value = b"x" * 100_000
        writes = 0
        while backend.store.watcher_count == 2:
            backend.apply(Set(b"/a", value, False, None, False))
            writes += 1
            assert len(await quick.chunk()) > len(value)
            assert writes < 1_000  # sockets hold some megabytes
        async with asyncio.timeout(DEADLINE):
            while http.connections == 2:  # noqa: ASYNC110  # the transport closes in the next turns of the loop
                await asyncio.sleep(0)
        backend.apply(Delete(b"/a", False, False))
        assert b'"delete"' in await quick.chunk()

    async def test_reading_again_in_time_loses_nothing(self, connect: Connect, backend: LocalBackend) -> None:
        slow = await connect()
        slow.send(request("GET /v2/keys/?wait=true&recursive=true&stream=true"))
        await slow.head()
        transport = slow.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        value = b"x" * 1_000_000
        written = 0
        for _ in range(8):  # more than the sockets hold, less than sockets and backlog
            backend.apply(Set(b"/a", value, False, None, False))
            written += 1
            await asyncio.sleep(0)
        transport.resume_reading()  # type: ignore[attr-defined]
        for index in range(1, written + 1):
            assert json.loads(await slow.chunk())["node"]["modifiedIndex"] == index
        assert backend.store.watcher_count == 1


async def test_many_watchers_of_one_key_all_hear(connect: Connect, backend: LocalBackend) -> None:
    clients = [await connect() for _ in range(200)]
    for client in clients:
        client.send(request("GET /v2/keys/a?wait=true"))
    for client in clients:
        await client.head()
    backend.apply(Set(b"/a", b"1", False, None, False))
    for client in clients:
        assert b'"value":"1"' in await client.chunk()
    assert backend.store.watcher_count == 0
