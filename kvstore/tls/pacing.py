"""A transport for TLS that says what waits to be sent, as one without TLS does.

The loop's own hands all that is written on to the socket's transport and forgets it, and so neither counts it nor ever
asks the protocol to wait: a client that reads nothing would be answered and answered. Here a large write goes out in
pieces, and no further piece before the one before was taken; what waits meanwhile is counted, and the protocol waits.
Knows no HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

PIECE_BYTES = 64 << 10
HIGH_WATER = 64 << 10  # bytes that wait, with more the protocol is asked to; asyncio's default without TLS
LOW_WATER = 16 << 10


class PacedTransport(asyncio.Transport):
    """Between the loop's transport for TLS, `inner`, and a protocol. `adopt` makes one."""

    def __init__(self, inner: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._inner = inner
        self._protocol = protocol
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._is_held = False  # the inner one has not passed on the last piece
        self._is_pausing = False  # the protocol was asked to wait
        self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return self._inner.is_reading()

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_closing:
            self._inner.resume_reading()

    # --- writing ----------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        if len(data) <= PIECE_BYTES and not self._is_held and not self._waiting:
            self._inner.write(data)
            return
        octets = memoryview(bytes(data))
        for start in range(0, len(octets), PIECE_BYTES):
            self._waiting.append(octets[start : start + PIECE_BYTES])
        self._waiting_bytes += len(octets)
        self._go_on()

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes + self._inner.get_write_buffer_size()

    def _go_on(self) -> None:
        while self._waiting and not self._is_held:
            piece = self._waiting.popleft()
            self._waiting_bytes -= len(piece)
            self._inner.write(piece)
        if self._is_closing:
            if not self._waiting:
                self._inner.close()
        elif self._waiting_bytes > HIGH_WATER and not self._is_pausing:
            self._is_pausing = True
            self._protocol.pause_writing()
        elif self._waiting_bytes <= LOW_WATER and self._is_pausing:
            self._is_pausing = False
            self._protocol.resume_writing()

    # --- the end ------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing or self._inner.is_closing()

    def close(self) -> None:
        """Once all is passed on."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._waiting:
            self._inner.pause_reading()
        else:
            self._inner.close()

    def abort(self) -> None:
        self._is_closing = True
        self._drop()
        self._inner.abort()

    def _drop(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0


class _Inside(asyncio.Protocol):
    """What the inner transport calls."""

    def __init__(self, paced: PacedTransport) -> None:
        self._paced = paced

    def data_received(self, data: bytes) -> None:
        if not self._paced._is_closing:
            self._paced._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._paced._protocol.eof_received()

    def pause_writing(self) -> None:
        self._paced._is_held = True

    def resume_writing(self) -> None:
        self._paced._is_held = False
        self._paced._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._paced._is_closing = True
        self._paced._drop()
        self._paced._protocol.connection_lost(exc)


def adopt(inner: asyncio.Transport, protocol: asyncio.Protocol) -> PacedTransport:
    """`protocol` gets the connection over a paced transport."""
    paced = PacedTransport(inner, protocol)
    inner.set_write_buffer_limits(high=1, low=0)  # tell of each piece that is held
    inner.set_protocol(_Inside(paced))
    protocol.connection_made(paced)
    return paced
