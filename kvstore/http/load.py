"""What the clients of a member make it hold, and for how long: connections, requests that arrive, answers not read.

One object for all listeners of a member and for both lanes. It counts and decides; what is closed, closes itself.
Knows no request and no socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import NamedTuple, Protocol, cast

from kvstore.http.form_threads import FormThreads
from kvstore.http.slices import Slices
from kvstore.limits import Limits

#: By how much the system is later than we are to end a connection: unlike us, it does not tell the client.
LATER_SECONDS = 5.0


class Client(Protocol):
    """A connection, in either lane."""

    @property
    def unread(self) -> int:
        """Bytes of answers that wait to be sent."""

    def end_arrival(self) -> bool:
        """The rest of its request did not come in time: closes. False: it was not the client that held it up."""

    def abort(self) -> None:
        """Drops the connection and all that waits to be sent."""


class Refusal(asyncio.Protocol):
    """One connection too many: closed as it comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


def drop(transport: asyncio.Transport) -> None:
    """Ends a connection with all that waits to be sent, also what the system holds of it: else that would wait on."""
    end: socket.socket | None = transport.get_extra_info("socket")
    if end is not None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Stall(NamedTuple):
    since: float
    unread: int


class Load:
    """Of one member. All calls are made on the event loop's thread."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections = 0
        self._arriving: dict[Client, float] = {}  # since when, the oldest first
        self.arriving_bytes = 0  # that are kept of requests which are not whole
        self._stalled: dict[Client, _Stall] = {}  # the oldest first
        self.unread_bytes = 0  # of answers, as of when their clients stalled
        self._loop = asyncio.get_running_loop()
        self._held: dict[int, int] = {}  # how many answers hold a value, by its identity
        self.held_bytes = 0  # of values that answers under way are made from, each counted once
        self.long_answers = Slices(limits, self._loop)
        self.large_answers = Slices(limits, self._loop, are_few=False)
        self.form_threads = FormThreads()

    @property
    def is_full(self) -> bool:
        """Whether one more client is one too many."""
        return self.connections >= self.limits.connections

    def admit(self, transport: asyncio.BaseTransport) -> None:
        """One more connection. The system ends it, too, when nothing of what was sent is taken for a little longer: it
        alone sees what waits in its own buffers."""
        self.connections += 1
        end: socket.socket | None = transport.get_extra_info("socket")
        if end is not None and end.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int((self.limits.write_seconds + LATER_SECONDS) * 1000)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    # --- requests that arrive -------------------------------------------------------------------------------------

    def arriving(self, client: Client) -> None:
        """A request has begun, and is not whole; nothing new when that was said before."""
        if client not in self._arriving:
            self._arriving[client] = self._loop.time()

    def arrived(self, client: Client) -> None:
        """It is whole. Said of one that was never arriving, it does nothing."""
        self._arriving.pop(client, None)

    def take(self, octets: int) -> bool:
        """Whether there is room to keep so much more of requests that arrive; then it is taken, until `give`. There
        always is for less."""
        if octets > 0 and self.arriving_bytes + octets > self.limits.buffered_bytes:
            return False
        self.arriving_bytes += octets
        return True

    def give(self, octets: int) -> None:
        self.arriving_bytes -= octets

    # --- answers that are not read --------------------------------------------------------------------------------

    def stalled(self, client: Client) -> None:
        """It reads more slowly than it is answered, or is not done with reading the last answer."""
        if client in self._stalled:
            return
        self._stalled[client] = stall = _Stall(self._loop.time(), client.unread)
        self.unread_bytes += stall.unread

    def resumed(self, client: Client) -> None:
        """It has read. Said of one that was not stalled, it does nothing."""
        stall = self._stalled.pop(client, None)
        if stall is not None:
            self.unread_bytes -= stall.unread

    def hold(self, value: bytes) -> None:
        """An answer that is under way is made from it, until `let_go`."""
        holders = self._held.get(id(value), 0)
        self._held[id(value)] = holders + 1
        if not holders:
            self.held_bytes += len(value)

    def let_go(self, value: bytes) -> None:
        holders = self._held.pop(id(value)) - 1
        if holders:
            self._held[id(value)] = holders
        else:
            self.held_bytes -= len(value)

    @property
    def may_answer(self) -> bool:
        """Whether there is room for another large answer."""
        return self.unread_bytes + self.held_bytes < self.limits.buffered_bytes

    # --- the end --------------------------------------------------------------------------------------------------

    def forget(self, client: Client) -> None:
        """It is closed, or in the other lane."""
        self.arrived(client)
        self.resumed(client)

    def look(self) -> None:
        """Ends those whose time is over. Costs in proportion to these, and to the stalled ones."""
        now = self._loop.time()
        for client, since in list(self._arriving.items()):
            if now - since < self.limits.read_seconds:
                break
            del self._arriving[client]
            if not client.end_arrival():
                self._arriving[client] = now
        for client, stall in list(self._stalled.items()):
            unread = client.unread
            if unread < stall.unread:
                self.resumed(client)
                self.stalled(client)
            elif now - stall.since >= self.limits.write_seconds:
                self.resumed(client)
                client.abort()
