"""Sockets that are read and sent to without their transports, where that is compiled (sockets_native.pyx)."""

from __future__ import annotations

import asyncio
import socket

__all__ = ["Readers", "Sends", "file_of", "is_compiled", "is_reset", "send_now"]

try:
    from kvstore.http.sockets_native import Readers, Sends, send_now
except ImportError:
    Readers = Sends = send_now = None  # type: ignore[assignment,misc]
    is_compiled = False
else:
    is_compiled = True


def file_of(transport: asyncio.Transport) -> int:
    """Its descriptor, if what is sent there at once is what the transport would send; -1: it is not."""
    if (
        transport.is_closing()
        or transport.get_write_buffer_size()
        or transport.get_extra_info("sslcontext") is not None
    ):
        return -1
    end: socket.socket | None = transport.get_extra_info("socket")
    return -1 if end is None else end.fileno()


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the other side refused bytes that were sent to it.

    The event loop reports that only with the next write, once the client has closed its own side of the connection.
    """
    end: socket.socket | None = None if transport.is_closing() else transport.get_extra_info("socket")
    return end is not None and end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
