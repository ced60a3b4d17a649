"""A port that speaks TLS: accepts, shakes hands, looks at the certificate, and only then hands the connection over.

The protocol that gets a connection sees none of its bytes before its certificate was found good. Handshakes that do
not come to an end are ended, and so is the oldest where there are too many, so that whoever is served is not kept out
by those who only knock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

from kvstore import logs
from kvstore.alerts import alert_of
from kvstore.tls.checks import examine_address
from kvstore.tls.credentials import Credentials
from kvstore.tls.pacing import adopt
from kvstore.tls.refusals import Refusals, reason, speaks_no_tls, text_of
from kvstore.tls.sides import Refused, handshakes_for

HANDSHAKE_SECONDS = 5.0
#: The byte that every connection with TLS begins with (a record of a handshake), and no request of HTTP.
TLS_RECORD = b"\x16"
#: Before the next one is accepted, where the system has no file or no memory left.
ACCEPT_PAUSE = 0.1
#: How long one who was refused may take to read why.
FAREWELL_SECONDS = 1.0
FAREWELL_READS = 16
FAREWELL_BYTES = 64 << 10  # of one read
#: What Go's server says.
PLAIN_HTTP = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

Factory: TypeAlias = Callable[[], asyncio.Protocol]

log = logs.get("tls")


async def listen_tls(
    factory: Factory, host: str, port: int, backlog: int, credentials: Credentials, plain: Factory | None = None
) -> TlsListener:
    """Serve connections with TLS by `factory`'s protocols, and those without by `plain`'s; None: refuse these.

    Raises OSError where the address cannot be had.
    """
    return TlsListener(await _bind(host, port, backlog), credentials, factory, plain)


class TlsListener:
    """As much of an asyncio.Server as is asked for."""

    def __init__(
        self, sockets: list[socket.socket], credentials: Credentials, factory: Factory, plain: Factory | None = None
    ) -> None:
        self.sockets = sockets
        self._plain = plain
        self._credentials = credentials
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._refusals = Refusals(credentials.side)
        self._max_handshakes = handshakes_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._handshakes: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._accepting = [self._loop.create_task(self._accept(one)) for one in sockets]

    def close(self) -> None:
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        for one in self.sockets:
            one.close()
        self._refusals.close()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._accepting, *self._handshakes, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(listening)
                arrival = _Arrival(connection, address)
            except OSError as problem:
                self._refusals.tell(f"cannot accept: {problem.strerror}")
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            if len(self._handshakes) >= self._max_handshakes:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
                self._refusals.tell("too many handshakes at a time: the oldest ends")
            task = self._loop.create_task(self._admit(arrival))
            self._handshakes[task] = None
            task.add_done_callback(partial(self._admitted, arrival))

    def _admitted(self, arrival: _Arrival, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        arrival.close()
        if not task.cancelled() and (bug := task.exception()) is not None:
            logging.getLogger(__name__).error("a connection failed", exc_info=bug)

    async def _admit(self, arrival: _Arrival) -> None:
        """One connection, from its first byte to its protocol."""
        address = arrival.address
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                if self._plain is not None and await arrival.first_byte() != TLS_RECORD:
                    await self._loop.connect_accepted_socket(arrival.taking(self._plain), arrival.connection)
                    return
                transport = await self._shake_hands(arrival)
        except ConnectionError as problem:  # a load balancer looks in, or a client has changed its mind
            log.debug("a connection ended in its handshake", peer=text_of(address), why=str(problem))
        except TimeoutError:
            self._refusals.tell("its handshake took too long", address)
        except Refused as problem:
            self._refusals.tell(str(problem), address)
        except OSError as problem:
            self._refusals.tell(reason(problem), address)
            await arrival.say(PLAIN_HTTP if speaks_no_tls(problem) else alert_of(problem))
        else:
            self._hand_over(transport, arrival.gate)

    async def _shake_hands(self, arrival: _Arrival) -> asyncio.Transport:
        credentials = self._credentials
        transport, _ = await self._loop.connect_accepted_socket(
            arrival.take, arrival.connection, ssl=credentials.material.listening
        )
        session: ssl.SSLObject = transport.get_extra_info("ssl_object")
        try:
            credentials.examine(session)
            if credentials.checks_addresses:
                await examine_address(session, arrival.address[0])
        except BaseException:
            transport.abort()
            raise
        return transport

    def _hand_over(self, transport: asyncio.Transport, gate: _Gate) -> None:
        if gate.is_lost:
            return
        transport = adopt(transport, self._factory())
        if not transport.is_closing():
            transport.resume_reading()


class _Gate(asyncio.Protocol):
    """Holds a connection between its handshake and its protocol: nothing is read meanwhile."""

    is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()  # uvloop's do not inherit from it

    def connection_lost(self, problem: Exception | None) -> None:
        self.is_lost = True


class _Arrival:
    """One connection before it has a protocol."""

    def __init__(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Raises OSError, and then has closed the connection."""
        self.connection = connection
        self.address = address
        self.gate = _Gate()
        self._is_taken = False  # by the event loop, which closes it
        try:
            self._second = connection.dup()  # outlives a handshake that failed, to say why
        except OSError:
            connection.close()
            raise
        with contextlib.suppress(OSError):  # it may be broken already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def take(self) -> _Gate:
        self._is_taken = True
        return self.gate

    def taking(self, factory: Factory) -> Factory:
        """Return `factory`, which notes that the event loop has the connection now."""

        def take() -> asyncio.Protocol:
            self._is_taken = True
            return factory()

        return take

    async def first_byte(self) -> bytes:
        """Wait for the first byte and leave it to be read. Raises ConnectionError if there will be none."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self.connection, ready.set)
        try:
            while True:
                await ready.wait()
                ready.clear()
                with contextlib.suppress(BlockingIOError):
                    if octet := self.connection.recv(1, socket.MSG_PEEK):
                        return octet
                    raise ConnectionResetError("closed without a word")
        finally:
            loop.remove_reader(self.connection)

    def close(self) -> None:
        self._second.close()
        if not self._is_taken:
            self.connection.close()

    async def say(self, octets: bytes) -> None:
        """The last words to one who was refused; what they still send is read, or the words would be lost with it."""
        if not octets:
            return
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # also TimeoutError
            async with asyncio.timeout(FAREWELL_SECONDS):
                await loop.sock_sendall(self._second, octets)
                self._second.shutdown(socket.SHUT_WR)
                for _ in range(FAREWELL_READS):
                    if not await loop.sock_recv(self._second, FAREWELL_BYTES):
                        break


async def _bind(host: str, port: int, backlog: int) -> list[socket.socket]:
    """One socket for each address of `host`, as asyncio does it."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as undo:
        sockets = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = undo.enter_context(socket.socket(family, kind, protocol))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind(address)
                one.listen(backlog)
            except OSError as problem:
                words = (problem.strerror or str(problem)).lower()
                raise OSError(problem.errno, f"cannot listen on {text_of(address)}: {words}") from None
            one.setblocking(False)
            sockets.append(one)
        undo.pop_all()
    return sockets
