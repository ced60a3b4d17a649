"""What one request costs, counted and not timed, so that it is the same on every machine.

A real member (protocol, driver, log, store) gets the bytes of requests over wires and hands back bytes; nothing in
between is known here. Counted are the calls that Python code makes, the wires' own few among them, in the event loop
and in the thread of the log, and how much memory a large value takes at a time. The least of many repetitions counts,
because the clock may tick in any of them. How often the loop turns while it stays awake for the next request (vigil.py)
hangs on time alone, so it does not here.

What is compiled makes its calls among itself unseen; so with it only those count that leave it, or come to it.
The limits on calls are about 15 % above what was counted, and whoever makes a request cheaper lowers them. Without what
is compiled there are others; test_pure.py has them looked at.
`make test ARGS='tests/test_costs.py -s'` shows what is counted.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable
from threading import get_ident
from types import FrameType
from typing import Any, NamedTuple, cast

import pytest
import uvloop

from kvstore.http import fanout, vigil
from kvstore.server import Server, is_compiled, run
from kvstored.settings import gather
from tests.cluster import free_ports
from tests.system.members import until

ADDRESS = "127.0.0.1"
DEADLINE_SECONDS = 60.0
WARM_UP = 20
REPETITIONS = 60
TOGETHER = 64  # connections whose requests arrive in one turn of the loop
LARGE_BYTES = 32 << 10

#: Calls a request.
CALLS = {"PUT": 169.0, "GET": 52.0, "64 PUTs": 29.8, "64 GETs": 22.3, "64 quorum GETs": 27.1}
PURE_CALLS = {"PUT": 496.0, "GET": 120.0, "64 PUTs": 152.0, "64 GETs": 92.3, "64 quorum GETs": 146.0}
#: Calls for each long poll of one key that a write ends: the delivery, and that its connection may go on.
WATCHER_CALLS = 7.2
PURE_WATCHER_CALLS = 17.7
#: Bytes at a time for each byte of the value. One copy more is too many; what is read past a transport counts as one.
COPIES = {"PUT": 13.6, "GET": 1.6}
PURE_COPIES = {"PUT": 12.6, "GET": 2.8}


class Costs(NamedTuple):
    calls: dict[str, float]
    watcher_calls: float
    copies: dict[str, float]


class Wire(asyncio.Transport):
    """The server's side of a connection; tells of each answer. What is fed goes by a socket only while the server reads
    that past its transport."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol], answered: Callable[[bytes], None]) -> None:
        self._ours, self._clients = socket.socketpair(type=socket.SOCK_SEQPACKET)  # of each answer a part is enough
        super().__init__({"socket": self._ours})
        self._answered = answered
        self._is_paused = False
        asyncio.get_running_loop().add_reader(self._clients, self._readable)
        self._protocol = factory()
        self._protocol.connection_made(self)

    def feed(self, octets: bytes) -> None:
        if self._is_paused:
            self._clients.send(octets)
        else:
            cast(asyncio.Protocol, self._protocol).data_received(octets)

    def _readable(self) -> None:
        self._answered(self._clients.recv(14))

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, octets: bytes | bytearray | memoryview) -> None:
        self._answered(bytes(octets[:14]))

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(pieces))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return False

    def hang_up(self) -> None:
        self._protocol.connection_lost(None)
        asyncio.get_running_loop().remove_reader(self._clients)
        self._ours.close()
        self._clients.close()


class Bench:
    """Wires to one server, and what their requests cost."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers: list[bytes] = []
        self._all_are_here: asyncio.Future[None] = self._loop.create_future()
        self.wires = [Wire(factory, self._answered) for _ in range(TOGETHER)]

    def _answered(self, begin: bytes) -> None:
        self._answers.append(begin)
        if len(self._answers) == self._wanted:
            self._all_are_here.set_result(None)

    async def ask(self, requests: list[bytes]) -> None:
        """Each request on a wire of its own, all in this turn; returns a turn after the last answer."""
        self._expect(len(requests))
        for wire, octets in zip(self.wires, requests, strict=False):
            wire.feed(octets)
        await self._all_are_here
        await asyncio.sleep(0)
        assert all(begin.startswith(b"HTTP/1.1 20") for begin in self._answers), self._answers

    def _expect(self, answers: int) -> None:
        self._answers.clear()
        self._wanted = answers
        self._all_are_here = self._loop.create_future()

    async def calls(self, requests: list[bytes], count: Calls) -> float:
        """For each request."""
        least = float("inf")
        for turn in range(WARM_UP + REPETITIONS):
            with count:
                await self.ask(requests)
            if turn >= WARM_UP:
                least = min(least, count.total)
        return least / len(requests)

    async def watcher_calls(self, write: bytes, look: bytes, count: Calls) -> float:
        """For each of the long polls that `write` ends, in one send each, beyond what the write alone takes."""
        alone = await self.calls([write], count)
        *watchers, writer = self.wires
        least = float("inf")
        for turn in range(WARM_UP + REPETITIONS):
            await self.ask([look] * len(watchers))
            self._expect(len(self.wires))
            with count:
                writer.feed(write)
                await self._all_are_here
                await asyncio.sleep(0)
            kinds = Counter(b'{"action' in begin for begin in self._answers)
            assert self._answers[-1].startswith(b"HTTP/1.1 20"), "who writes hears last"
            assert kinds == {True: len(watchers), False: 1}, self._answers
            if turn >= WARM_UP:
                least = min(least, count.total)
        return (least - alone) / len(watchers)

    async def copies(self, request: bytes) -> float:
        """Of a value of LARGE_BYTES, at a time."""
        least = float("inf")
        tracemalloc.start()
        try:
            for turn in range(WARM_UP):
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                await self.ask([request])
                _, peak = tracemalloc.get_traced_memory()
                if turn:
                    least = min(least, peak - before)
        finally:
            tracemalloc.stop()
        return least / LARGE_BYTES


class Calls:
    """Counts calls in all threads that were started after `install`, and only inside of its `with`."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()  # by thread: each adds only to its own
        self._is_on = False

    def install(self) -> None:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def remove(self) -> None:
        threading.setprofile(None)
        sys.setprofile(None)

    def _profile(self, _frame: FrameType, event: str, _argument: Any) -> None:
        if self._is_on and event in ("call", "c_call"):
            self._counts[get_ident()] += 1

    def __enter__(self) -> None:
        self._counts.clear()
        self._is_on = True

    def __exit__(self, *_: object) -> None:
        self._is_on = False

    @property
    def total(self) -> int:
        return sum(self._counts.values())


def put(number: int, content: bytes) -> bytes:
    return (
        b"PUT /v2/keys/costs/%d HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\nvalue=%b" % (number, 6 + len(content), content)
    )


def get(number: int, query: bytes = b"") -> bytes:
    return b"GET /v2/keys/costs/%d%b HTTP/1.1\r\nHost: x\r\n\r\n" % (number, query)


async def measured(bench: Bench, count: Calls) -> Costs:
    puts = [put(number, b"v" * 256) for number in range(TOGETHER)]
    gets = [get(number) for number in range(TOGETHER)]
    quorum_gets = [get(number, b"?quorum=true") for number in range(TOGETHER)]
    batches = {
        "PUT": puts[:1],
        "GET": gets[:1],
        "64 PUTs": puts,
        "64 GETs": gets,
        "64 quorum GETs": quorum_gets,
    }
    calls = {name: await bench.calls(requests, count) for name, requests in batches.items()}
    watcher_calls = await bench.watcher_calls(puts[0], get(0, b"?wait=true"), count)
    large = put(0, b"v" * LARGE_BYTES)
    return Costs(calls, watcher_calls, {"PUT": await bench.copies(large), "GET": await bench.copies(get(0))})


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    """All are measured on one server, which runs as it always does: on uvloop, with its threads."""
    client, peer = free_ports(ADDRESS, 2)
    client_url, peer_url = (f"http://{ADDRESS}:{port}" for port in (client, peer))
    flags = {
        "data-dir": str(tmp_path_factory.mktemp("costs") / "member"),
        **dict.fromkeys(("listen-client-urls", "advertise-client-urls"), client_url),
        **dict.fromkeys(("listen-peer-urls", "initial-advertise-peer-urls"), peer_url),
        "initial-cluster": f"default={peer_url}",
    }
    settings, _ = gather(flags, {})
    count = Calls()
    found: list[Costs] = []
    tasks: list[asyncio.Task[None]] = []
    factories: dict[int, Callable[[], asyncio.BaseProtocol]] = {}
    create_server: Any = uvloop.Loop.create_server

    async def create_and_remember(loop: Any, factory: Any, *arguments: Any, **more: Any) -> Any:
        listener = await create_server(loop, factory, *arguments, **more)
        factories[listener.sockets[0].getsockname()[1]] = factory
        return listener

    async def measure(server: Server) -> None:
        async def has_leader() -> bool:
            return server.has_leader

        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await until(has_leader, "it leads itself")
                bench = Bench(factories[client])
                try:
                    found.append(await measured(bench, count))
                finally:
                    for wire in bench.wires:
                        wire.hang_up()
        finally:
            server.terminate()

    interval = sys.getswitchinterval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvloop.Loop, "create_server", create_and_remember)
        for name in ("AWAKE_SECONDS", "WRITE_SECONDS"):
            patch.setattr(vigil, name, 0.0)
        patch.setattr(fanout, "MANY", TOGETHER // 2)  # that polls end as ten thousand do, ...
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # ... and everywhere with help
        count.install()
        try:
            assert run(settings, lambda server: tasks.append(asyncio.ensure_future(measure(server)))) == 0
        finally:
            count.remove()
            sys.setswitchinterval(interval)
    tasks[0].result()
    print(found[0])  # noqa: T201
    return found[0]


@pytest.mark.parametrize("what", CALLS)
def test_a_request_takes_no_more_calls_than_it_did(costs: Costs, what: str) -> None:
    assert costs.calls[what] <= (CALLS if is_compiled else PURE_CALLS)[what]


def test_a_delivery_takes_no_more_calls_and_sends_than_it_did(costs: Costs) -> None:
    assert costs.watcher_calls <= (WATCHER_CALLS if is_compiled else PURE_WATCHER_CALLS)


@pytest.mark.parametrize("what", COPIES)
def test_a_request_copies_its_value_no_more_often_than_it_did(costs: Costs, what: str) -> None:
    assert costs.copies[what] <= (COPIES if is_compiled else PURE_COPIES)[what]
