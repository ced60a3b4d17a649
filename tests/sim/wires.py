"""Connections between processes: what the real transport takes for TCP.

A process is reached at the URL that it listens on, and nowhere else. The bytes with which a connection begins arrive
in order or not at all; the frames that the dialling side sends once it is welcome are messages, and fare as the
weather has it: more may happen to them than over TCP. A connection over a way that is blocked breaks after a while on
both sides, and so does that of a process that ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from kvstore.hello import FrameSplitter, frame
from kvstore.transport import USER_TIMEOUT_MS
from tests.sim.loop import HASTE, SimLoop
from tests.sim.network import Network
from tests.sim.scheduler import MILLISECOND, Scheduler

#: When the system gives up a connection over which nothing goes any more.
UNHEARD = USER_TIMEOUT_MS * MILLISECOND // HASTE

Connected: TypeAlias = "asyncio.Future[tuple[asyncio.Transport, asyncio.BaseProtocol]]"


class Process(Protocol):
    """One that dials and listens. `number` names its machine on the network."""

    loop: SimLoop
    over: bool

    @property
    def number(self) -> int: ...

    def accept(self) -> asyncio.Protocol: ...


class Wires:
    """All connections and addresses of one cluster."""

    def __init__(self, scheduler: Scheduler, network: Network) -> None:
        self._scheduler = scheduler
        self._network = network
        self._listening: dict[tuple[str, int], Process] = {}
        self._open: dict[Process, dict[SimTransport, None]] = {}

    def listen(self, process: Process, url: str) -> None:
        place = _place(url)
        assert place not in self._listening, f"two processes listen on {url}"
        self._listening[place] = process
        self._open[process] = {}

    def listens(self, url: str) -> Process | None:
        return self._listening.get(_place(url))

    def end(self, process: Process, at_power_cut: bool) -> None:
        """The process has ended: the system resets its connections, or is gone with it."""
        self._listening = {place: other for place, other in self._listening.items() if other is not process}
        for transport in list(self._open.pop(process, ())):
            transport.cut(UNHEARD if at_power_cut else 0)

    def dial(
        self, process: Process, factory: Callable[[], asyncio.Protocol], host: str, port: int, connected: Connected
    ) -> None:
        other = self._listening.get((host, port))
        if other is None:
            self._later(process, process, lambda: _fail(connected))
        elif self._network.is_open((process.number, other.number)):
            self._later(process, other, lambda: self._accept(process, factory, other, connected))

    def _later(self, process: Process, other: Process, call: Callable[[], None]) -> None:
        delay = self._network.delay((process.number, other.number))
        self._scheduler.after(delay, lambda: other.loop.run(call))

    def _accept(
        self, dialler: Process, factory: Callable[[], asyncio.Protocol], other: Process, connected: Connected
    ) -> None:
        if dialler.over:
            return
        near, far = SimTransport(self, dialler, dials=True), SimTransport(self, other, dials=False)
        near.peer, far.peer = far, near
        self._open[other][far] = None
        far.protocol = other.accept()
        far.protocol.connection_made(far)

        def made() -> None:
            if connected.done():  # too late
                near.abort()
                return
            if near.is_closing():
                connected.set_exception(ConnectionResetError())
                return
            self._open[dialler][near] = None
            near.protocol = factory()
            near.protocol.connection_made(near)
            connected.set_result((near, near.protocol))

        self._later(other, dialler, made)

    # --- for transports ---------------------------------------------------------------------------------------------

    def closed(self, transport: SimTransport) -> None:
        self._open.get(transport.process, {}).pop(transport, None)

    def carry(self, transport: SimTransport, octets: bytes, is_message: bool) -> None:
        peer = transport.peer
        way = (transport.process.number, peer.process.number)
        if way in self._network.blocked:
            self._doubt(transport)

        def arrive() -> None:
            peer.process.loop.run(lambda: peer.take(octets))

        if is_message:
            self._network.send(way, arrive)
        elif way not in self._network.blocked:
            arrival = max(self._scheduler.now + self._network.delay(way), transport.arrival)
            transport.arrival = arrival
            self._scheduler.at(arrival, arrive)

    def tell_end(self, transport: SimTransport, delay: int) -> None:
        """The other side hears of it in the end, whatever lies between the two."""
        peer = transport.peer
        way = (transport.process.number, peer.process.number)
        delay += self._network.delay(way)
        if way in self._network.blocked:
            delay += UNHEARD
        arrival = max(self._scheduler.now + delay, transport.arrival)  # not before what was written
        self._scheduler.at(arrival, lambda: peer.process.loop.run(peer.lose))

    def _doubt(self, transport: SimTransport) -> None:
        if transport.doubted:
            return
        transport.doubted = True
        way = (transport.process.number, transport.peer.process.number)

        def decide() -> None:
            transport.doubted = False
            if way in self._network.blocked and not transport.is_closing():
                transport.process.loop.run(transport.abort)

        self._scheduler.after(UNHEARD, decide)


class SimTransport(asyncio.Transport):
    """One side of one connection."""

    protocol: asyncio.Protocol
    peer: SimTransport

    def __init__(self, wires: Wires, process: Process, dials: bool) -> None:
        super().__init__()
        self.process = process
        self.arrival = 0  # of what was sent last and comes in order
        self.doubted = False  # whether a way that is blocked is being watched
        self._wires = wires
        self._splitter = FrameSplitter() if dials else None
        self._began = False
        self._closing = False
        self._paused = False
        self._unread: list[bytes] = []

    def write(self, octets: Any) -> None:
        if self._closing:
            return
        if self._splitter is None or not self._began:
            self._began = True
            self._wires.carry(self, bytes(octets), is_message=False)
            return
        for payload in self._splitter.feed(octets):
            self._wires.carry(self, frame(payload), is_message=True)

    def take(self, octets: bytes) -> None:
        """These bytes arrived."""
        if self._closing:
            return
        if self._paused:
            self._unread.append(octets)
        else:
            self.protocol.data_received(octets)

    def lose(self) -> None:
        """The other side is gone."""
        if not self._closing:
            self._closing = True
            self._wires.closed(self)
            if hasattr(self, "protocol"):
                self.protocol.connection_lost(None)

    def cut(self, delay: int) -> None:
        """Our process is gone; the other side hears of it after `delay` microseconds."""
        if not self._closing:
            self._closing = True
            self._wires.tell_end(self, delay)

    def abort(self) -> None:
        if self._closing:
            return
        self.cut(0)
        self._wires.closed(self)
        if hasattr(self, "protocol"):
            self.process.loop.call_soon(self.protocol.connection_lost, None)

    def close(self) -> None:
        self.abort()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self.process.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        while self._unread and not self._paused:
            self.take(self._unread.pop(0))

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _fail(connected: Connected) -> None:
    if not connected.done():
        connected.set_exception(ConnectionRefusedError())
