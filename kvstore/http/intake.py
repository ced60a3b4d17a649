"""Reads the sockets of busy connections in one go, past their transports, where that is compiled (sockets.py).

A transport costs the loop about as much for each request as the request itself. So a connection that asks one thing
after the other has its socket read here; the transport stays its owner. Whatever is not a plain answer to a plain
request, a socket that takes no more or brings no more, is the transport's again: the connection then stops its intake.
Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from kvstore.http import sockets

#: Instead of a descriptor: it is not read here, and may be asked for again, or need not be.
NOT_NOW, NEVER = -1, -2


class Reader(Protocol):
    def data_received(self, octets: bytes) -> None: ...

    def stop_intake(self) -> None:
        """There is no more to read here: it has ended, or is broken."""


class Intake:
    """One for all connections of a listener."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError where no more files can be opened."""
        self._loop = loop
        self._readers = sockets.Readers() if sockets.is_compiled else None
        if self._readers is not None:
            loop.add_reader(self._readers.descriptor, self._readers.run)

    def start(self, transport: asyncio.Transport, reader: Reader) -> int:
        """The descriptor that is read for `reader` from now on, and where it may send at once. Or NOT_NOW, NEVER: then
        all is as before."""
        if self._readers is None or transport.get_extra_info("sslcontext") is not None:
            return NEVER
        file = sockets.file_of(transport)
        if file < 0:
            return NOT_NOW
        try:
            self._readers.add(file, reader)
        except OSError:  # the system has no room for it
            return NOT_NOW
        transport.pause_reading()
        return file

    def stop(self, file: int) -> None:
        """Not read here any more. Once its transport is closed it is too late."""
        assert self._readers is not None
        self._readers.remove(file)

    def close(self) -> None:
        if self._readers is not None:
            self._loop.remove_reader(self._readers.descriptor)
            self._readers.close()
            self._readers = None
