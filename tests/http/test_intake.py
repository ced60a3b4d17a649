"""Sockets that are read past their transports: what belongs to whom, that nothing is lost, and none outlives its owner.

On asyncio's loop and on the server's own, for all of it hangs on what a transport does meanwhile. test_express.py asks
on such connections whatever it asks on others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kvstore.http import sockets
from kvstore.http.app import Http
from kvstore.http.express import PIPELINE_BYTES, Express
from kvstore.http.intake import NEVER, NOT_NOW, Intake
from kvstore.store.operations import Set
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, RawClient, put, request
from tests.http.conftest import Connect
from tests.http.test_express import NOT_EXPRESS, make_busy
from tests.http.waiting import until

READY = 256  # sockets that are read in one go
READ_BYTES = 64 << 10  # of one of them

pytestmark = pytest.mark.skipif(
    not sockets.is_compiled,
    reason="transports read their sockets: KVSTORE_PURE is set, or there was no compiler (Debian: gcc python3-dev)",
)


def files_read(intake: Intake) -> set[int]:
    """What the system says of it."""
    readers = intake._readers
    if readers is None or readers.descriptor < 0:
        return set()
    listed = Path(f"/proc/self/fdinfo/{readers.descriptor}").read_text(encoding="ascii")
    return {int(number) for number in re.findall(r"^tfd:\s*(\d+)", listed, re.MULTILINE)}


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Owner(asyncio.Protocol):
    """What a transport tells."""

    def __init__(self) -> None:
        self.got = b""
        self.has_ended = False
        self.lost: list[Exception | None] = []

    def data_received(self, octets: bytes) -> None:
        self.got += octets

    def eof_received(self) -> bool:
        self.has_ended = True
        return True

    def connection_lost(self, problem: Exception | None) -> None:
        self.lost.append(problem)


class Reading:
    """What the intake tells."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.reads: list[bytes] = []
        self.bugs: list[Exception] = []
        self.has_stopped = False

    @property
    def got(self) -> bytes:
        return b"".join(self.reads)

    def data_received(self, octets: bytes) -> None:
        self.reads.append(octets)

    def fail(self, bug: Exception) -> None:
        self.bugs.append(bug)

    def stop_intake(self) -> None:
        assert not self.has_stopped
        self.has_stopped = True
        self.pair.intake.stop(self.pair.file)
        self.pair.transport.resume_reading()


class Pair:
    """A connection's transport, whose socket the intake reads, and the client's socket."""

    def __init__(self, intake: Intake, transport: asyncio.Transport, owner: Owner, client: socket.socket) -> None:
        self.intake = intake
        self.transport = transport
        self.owner = owner
        self.client = client
        self.reading = Reading(self)
        self.file = NOT_NOW

    def start(self) -> int:
        self.file = self.intake.start(self.transport, self.reading)
        return self.file


class Pairs:
    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.made: list[Pair] = []

    async def __call__(self) -> Pair:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        owner = Owner()
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: owner, ours)
        self.made.append(Pair(self.intake, transport, owner, client))
        return self.made[-1]


@pytest.fixture
async def pairs() -> AsyncIterator[Pairs]:
    made = Pairs(Intake(asyncio.get_running_loop()))
    yield made
    for pair in made.made:
        if pair.file >= 0 and not pair.reading.has_stopped:
            pair.reading.stop_intake()
        pair.transport.abort()
        pair.client.close()
    await until(lambda: all(pair.owner.lost for pair in made.made))
    made.intake.close()


@pytest.fixture
async def pair(pairs: Pairs) -> Pair:
    made = await pairs()
    made.start()
    return made


# --- the intake alone ---------------------------------------------------------------------------------------------


async def test_what_comes_is_read_once_and_by_one_of_the_two(pairs: Pairs) -> None:
    pair = await pairs()
    pair.client.send(b"one ")
    await until(lambda: pair.owner.got == b"one ")
    assert pair.start() >= 0
    pair.client.send(b"two ")
    await until(lambda: pair.reading.got == b"two ")
    pair.client.send(b"three ")
    pair.reading.stop_intake()  # before it was read
    pair.client.send(b"four")
    await until(lambda: pair.owner.got == b"one three four")
    assert pair.reading.reads == [b"two "]
    assert files_read(pair.intake) == set()


async def test_what_came_before_the_start_is_read_by_the_intake(pairs: Pairs) -> None:
    pair = await pairs()
    pair.client.send(b"early")
    pair.start()
    await until(lambda: pair.reading.got == b"early")
    assert pair.owner.got == b""


async def test_a_clients_end_is_its_transports(pair: Pair) -> None:
    pair.client.send(b"last")
    pair.client.shutdown(socket.SHUT_WR)
    await until(lambda: pair.owner.has_ended)
    assert (pair.reading.got, pair.owner.got, pair.owner.lost) == (b"last", b"", [])


async def test_so_is_its_death(pair: Pair) -> None:
    """With what the system knows of it: it tells that only once."""
    reset(pair.client)
    await until(lambda: bool(pair.owner.lost))
    assert isinstance(pair.owner.lost[0], ConnectionResetError)
    assert pair.reading.has_stopped


async def test_a_bug_is_one_connections(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = [await pairs() for _ in range(3)]

    def broken(octets: bytes) -> None:
        raise ZeroDivisionError(octets)

    monkeypatch.setattr(second.reading, "data_received", broken)
    for pair in (first, second, third):
        pair.start()
        pair.client.send(b"x")
    await until(lambda: first.reading.got == third.reading.got == b"x")
    assert [bug.args for bug in second.reading.bugs] == [(b"x",)]


async def test_who_is_stopped_by_another_ones_reader_is_not_read_any_more(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [await pairs() for _ in range(2)]
    for pair, other in (both, both[::-1]):

        def stop_the_other(octets: bytes, pair: Pair = pair, other: Pair = other) -> None:
            pair.reading.reads.append(octets)
            other.reading.stop_intake()

        monkeypatch.setattr(pair.reading, "data_received", stop_the_other)
        pair.start()
        pair.client.send(b"x")
    await until(lambda: all(pair.reading.got + pair.owner.got for pair in both))
    assert sorted((pair.reading.got, pair.owner.got) for pair in both) == [(b"", b"x"), (b"x", b"")]


async def test_who_sends_much_does_not_keep_others_waiting(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is read for the second time before everybody was once."""
    reads: list[Pair] = []
    for _ in range(READY + 20):
        pair = await pairs()

        def note(octets: bytes, pair: Pair = pair) -> None:
            pair.reading.reads.append(octets)
            reads.append(pair)

        monkeypatch.setattr(pair.reading, "data_received", note)
    size = READ_BYTES + 1
    for pair in pairs.made:
        pair.client.setblocking(False)
        assert pair.client.send(b"x" * size) == size
        pair.start()
    await until(lambda: all(len(pair.reading.got) == size for pair in pairs.made))
    assert set(reads[: len(pairs.made)]) == set(pairs.made)
    assert max(len(octets) for pair in pairs.made for octets in pair.reading.reads) == READ_BYTES


class Encrypting(asyncio.Transport):
    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


async def test_nothing_is_read_past_the_encryption(pairs: Pairs) -> None:
    pair = await pairs()
    inner = pair.transport.get_extra_info("socket")
    assert pairs.intake.start(Encrypting({"sslcontext": object(), "socket": inner}), pair.reading) == NEVER


async def test_a_transport_that_has_to_send_or_closes_goes_on_alone(pairs: Pairs) -> None:
    pair = await pairs()
    pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    pair.transport.write(b"x" * (16 << 20))
    assert pair.start() == NOT_NOW
    pair.client.send(b"to the transport")
    await until(lambda: pair.owner.got == b"to the transport")
    pair.transport.abort()
    assert pair.start() == NOT_NOW


@contextlib.contextmanager
def out_of_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(sockets, "Readers", refuse)
        yield


async def test_where_the_system_has_no_room_the_transport_goes_on(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, other = await pairs(), await pairs()
    with out_of_files(monkeypatch):
        assert pair.start() == NOT_NOW
    assert pair.start() >= 0
    assert pairs.intake.start(pair.transport, other.reading) == NOT_NOW, "the system has it already"
    pair.client.send(b"x")
    other.client.send(b"y")
    await until(lambda: (pair.reading.got, other.owner.got) == (b"x", b"y"))


async def test_a_closed_intake_has_no_descriptor_and_takes_nobody(pair: Pair) -> None:
    readers = pair.intake._readers
    assert readers is not None
    descriptor = readers.descriptor
    pair.reading.stop_intake()
    pair.intake.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert pair.start() == NEVER
    readers.run()  # as one whose turn had come
    pair.client.send(b"x")
    await until(lambda: pair.owner.got == b"x")


async def test_only_who_is_read_can_be_stopped(pair: Pair) -> None:
    with pytest.raises(KeyError):
        pair.intake.stop(pair.file + 1)


async def test_as_much_is_sent_as_the_socket_takes(pair: Pair) -> None:
    large = bytes(range(256)) * (64 << 10)
    sent, more = 0, 1
    while more > 0:  # there may be room again behind what was sent
        more = sockets.send_now(pair.file, large[sent:])
        sent += more
    assert 0 < sent < len(large)
    got = b""
    while len(got) < sent:
        got += pair.client.recv(1 << 20)
    assert got == large[:sent]
    reset(pair.client)
    await until(lambda: sockets.send_now(pair.file, b"x") == 0)


# --- connections that a server has --------------------------------------------------------------------------------


@pytest.fixture
async def busy(connect: Connect) -> RawClient:
    client = await connect()
    await make_busy(client)
    return client


@pytest.fixture
def connection(http: Http, busy: RawClient) -> Express:
    """The server's end of it."""
    (made,) = http._lane.connections
    assert files_read(http._lane.intake) == {made.file}
    return made


async def test_who_asks_a_second_time_is_read(http: Http, connect: Connect) -> None:
    intake = http._lane.intake
    for _ in range(2):  # what is asked is new, and then known
        client = await connect()
        before = len(files_read(intake))
        await client.ask(request("GET /v2/keys/none"))
        assert len(files_read(intake)) == before
        await client.ask(request("GET /v2/keys/none"))
        assert len(files_read(intake)) == before + 1


async def test_who_only_watches_is_not(http: Http, client: RawClient, backend: LocalBackend) -> None:
    backend.apply(Set(b"/a", b"1", False, None, False))
    for _ in range(4):
        assert (await client.ask(request("GET /v2/keys/a?wait=true&waitIndex=1"))).status == 200
    assert http._lane.intake._readers is None


async def test_a_large_answer_arrives_whole_and_then_its_connection_is_read_again(
    http: Http, connection: Express, busy: RawClient
) -> None:
    """The beginning of it is sent at once, the rest by the transport, and what is asked next behind it."""
    end = busy.writer.transport
    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)  # else it would grow
    values = [b"%02d" % number * 25_000 for number in range(20)]
    for number, value in enumerate(values):
        await busy.ask(put(f"/{number}", f"value={value.decode()}"))
    values *= 20  # more than two sockets hold
    end.pause_reading()  # type: ignore[attr-defined]
    busy.send(b"".join(request(f"GET /v2/keys/{int(value[:2])}") for value in values))
    await until(lambda: connection._is_blocked)
    assert files_read(http._lane.intake) == set()
    end.resume_reading()  # type: ignore[attr-defined]
    for value in values:
        assert b'"value":"%b"' % value in (await busy.response()).body
    await until(lambda: not connection._is_blocked)
    await busy.ask(request("GET /v2/keys/0"))
    assert files_read(http._lane.intake) == {connection.file}


async def test_a_poll_is_read_from_the_first_request_on(http: Http, connect: Connect, backend: LocalBackend) -> None:
    """So that many can be ended at once (fanout.py)."""
    client = await connect()
    for value in (b"1", b"2"):
        client.send(request("GET /v2/keys/a?wait=true"))
        await client.head()
        (connection,) = http._lane.connections
        assert files_read(http._lane.intake) == {connection.file}
        backend.apply(Set(b"/a", value, False, None, False))
        assert b'"value":"%b"' % value in await client.chunk()
        assert await client.chunk() == b""
        assert files_read(http._lane.intake) == {connection.file}


@pytest.mark.parametrize("query", ["wait=true&stream=true", "wait=true&waitIndex=1"])
async def test_what_a_watch_sends_in_pieces_its_transport_gathers_and_what_follows_is_read_again(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend, query: str
) -> None:
    backend.apply(Set(b"/a", b"1", False, None, False))
    busy.send(request("GET /v2/keys/none") + request(f"GET /v2/keys/a?{query}"))
    assert (await busy.response()).status == 404
    await busy.head()
    assert files_read(http._lane.intake) == set()
    if "stream" in query:
        backend.apply(Set(b"/a", b"1", False, None, False))
        assert b'"value":"1"' in await busy.chunk()
        for watching in list(http._lane.connections):
            assert watching._watch is not None
            watching._watch.finish()
    else:
        assert b'"value":"1"' in await busy.chunk()
    assert await busy.chunk() == b""
    await busy.ask(request("GET /v2/keys/a"))
    assert files_read(http._lane.intake) == {connection.file}


async def test_who_has_too_much_waiting_is_not_read_for_a_poll_either(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend
) -> None:
    polls = 3 * PIPELINE_BYTES // len(request("GET /v2/keys/a?wait=true"))
    busy.send(request("GET /v2/keys/a?wait=true") * polls)
    for _ in range(3):
        await busy.head()
        await until(lambda: connection._is_full)
        assert files_read(http._lane.intake) == set()
        backend.apply(Set(b"/a", b"1", False, None, False))
        assert await busy.chunk()
        assert await busy.chunk() == b""


async def test_who_sends_no_more_is_not_read_for_a_poll(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend
) -> None:
    backend.is_stuck = True
    busy.send(put("/a", "value=1") + request("GET /v2/keys/a?wait=true"))
    busy.writer.write_eof()
    await until(lambda: connection._is_half_closed)
    backend.pending[0].set_result(backend.apply(Set(b"/a", b"1", False, None, False)))
    while http.connections:
        assert files_read(http._lane.intake) == set()
        await asyncio.sleep(0)
    assert [(await busy.response()).status for _ in range(2)] == [201, 200]


async def test_who_is_gone_in_a_watch_is_let_go(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend
) -> None:
    busy.send(request("GET /v2/keys/a?wait=true"))
    await busy.head()
    busy.writer.transport.abort()
    await until(lambda: http.connections == 0)
    assert backend.store.watcher_count == 0


async def test_what_aiohttp_takes_over_is_its_own(http: Http, connection: Express, busy: RawClient) -> None:
    busy.send(request("GET /v2/keys/none") + request("GET /version", NOT_EXPRESS) + request("GET /v2/keys/none"))
    assert [(await busy.response()).status for _ in range(3)] == [404, 200, 404]
    assert files_read(http._lane.intake) == set()
    assert (await busy.ask(request("GET /version"))).status == 200
    assert (http.connections, len(http._lane.connections)) == (1, 0)


def die(client: RawClient) -> None:
    """As when its process dies."""
    end: socket.socket = client.writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def test_who_dies_while_a_write_waits_is_gone_at_once(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend
) -> None:
    backend.is_stuck = True
    busy.send(put("/a", "value=1"))
    await until(lambda: bool(backend.pending))
    die(busy)
    await until(lambda: http.connections == 0)
    backend.pending[0].set_result(backend.apply(Set(b"/a", b"1", False, None, False)))
    assert files_read(http._lane.intake) == set()


async def test_an_answer_to_who_is_gone_harms_nobody(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend, connect: Connect
) -> None:
    backend.is_stuck = True
    busy.send(put("/a", "value=1"))
    await until(lambda: bool(backend.pending))
    backend.pending[0].set_result(backend.apply(Set(b"/a", b"1", False, None, False)))
    die(busy)
    await until(lambda: http.connections == 0)
    assert (await (await connect()).ask(request("GET /v2/keys/a"))).status == 200


async def test_a_number_that_is_used_again_is_the_new_ones(http: Http, connection: Express, busy: RawClient) -> None:
    """However a transport comes to its end."""
    file, transport = connection.file, connection._transport
    assert transport is not None
    with socket.socket() as end:
        transport.abort()
        await until(lambda: http.connections == 0)
        assert files_read(http._lane.intake) == set()
        end.connect(("127.0.0.1", http.port))
        client = RawClient(*await asyncio.open_connection(sock=end))
        await make_busy(client)
        assert files_read(http._lane.intake) == {file}
        assert (await client.ask(request("GET /v2/keys/none"))).status == 404
        await client.close()


@pytest.mark.parametrize("way", ["_close", "abort"])
async def test_of_a_connection_that_ends_nothing_is_read(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend, way: str
) -> None:
    getattr(connection, way)()
    assert files_read(http._lane.intake) == set()
    assert await busy.is_closed()


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_a_server_that_stops_answers_and_reads_no_more(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend, is_waiting: bool
) -> None:
    readers = http._lane.intake._readers
    assert readers is not None
    if is_waiting:
        backend.is_stuck = True
        busy.send(put("/a", "value=1"))
        await until(lambda: bool(backend.pending))
    stopping = asyncio.ensure_future(http.close(DEADLINE))
    await until(lambda: http._lane.is_closing)
    if is_waiting:
        backend.pending[0].set_result(backend.apply(Set(b"/a", b"1", False, None, False)))
        last = await busy.response()
        assert (last.status, last.header("Connection")) == (201, "close")
    assert await busy.is_closed()
    await stopping
    assert readers.descriptor < 0


async def test_a_bug_ends_its_connection(
    http: Http, connection: Express, busy: RawClient, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(backend, "propose", broken)
    assert (await busy.ask(put("/a", "value=1"))).status == 500
    assert await busy.is_closed()
    assert files_read(http._lane.intake) == set()
