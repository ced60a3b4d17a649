"""Reads the sockets of busy connections in one go, past their transports, where that is compiled (sockets.py).

A transport costs the loop about as much for each request as the request itself. So a connection that asks one thing
after the other, or waits for the end of a long poll, has its socket read here; the transport stays its owner. Whatever
is not a plain answer to a plain request, a socket that takes no more or brings no more, is the transport's again: the
connection then stops its intake. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from kvstore.http import sockets

#: Instead of a descriptor: it is not read here, and may be asked for again, or need not be.
NOT_NOW, NEVER = -1, -2


class Reader(Protocol):
    """A connection."""

    def data_received(self, octets: bytes) -> None: ...

    def fail(self, bug: Exception) -> None:
        """`data_received` has raised it: what it was given is lost."""

    def stop_intake(self) -> None:
        """There is no more to read here: it has ended, or is broken."""


class Intake:
    """One for all connections of a listener."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._may_read = sockets.is_compiled
        self._readers: sockets.Readers | None = None  # opened when it is first needed

    def start(self, transport: asyncio.Transport, reader: Reader) -> int:
        """The descriptor that is read for `reader` from now on, and where it may send at once; the transport reads no
        more. Or NOT_NOW, NEVER: then all is as before."""
        if not self._may_read or transport.get_extra_info("sslcontext") is not None:
            return NEVER
        file = sockets.file_of(transport)
        if file < 0:
            return NOT_NOW
        try:
            self._opened().add(file, reader)
        except OSError:  # the system has no room for one more
            return NOT_NOW
        transport.pause_reading()
        return file

    def _opened(self) -> sockets.Readers:
        """Raises OSError."""
        if self._readers is None:
            self._readers = sockets.Readers()
            self._loop.add_reader(self._readers.descriptor, self._readers.run)
        return self._readers

    def stop(self, file: int) -> None:
        """Not read here any more. To be said before its transport has closed it: then the number is another's."""
        assert self._readers is not None
        self._readers.remove(file)

    def close(self) -> None:
        """All have stopped; none starts any more."""
        self._may_read = False
        if self._readers is not None:
            self._loop.remove_reader(self._readers.descriptor)
            self._readers.close()
            self._readers = None
