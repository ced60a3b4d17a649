"""A connection without a network: a protocol under test is handed pieces of bytes, and says what it does with it."""

from __future__ import annotations

import asyncio
from typing import Any


class Pipe(asyncio.Transport):
    """Takes all that is written at once; `sent` is what."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.sent = bytearray()
        self.is_paused = False
        self.is_aborted = False
        self._is_closing = False

    def feed(self, octets: bytes) -> None:
        if not self._is_closing:
            self.protocol.data_received(octets)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = self.is_aborted = True

    def write(self, data: Any) -> None:
        if not self._is_closing:
            self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


def cut(octets: bytes) -> list[bytes]:
    """In pieces, at places that depend on the bytes alone: whole, in two, or in many."""
    if not octets:
        return []
    way = octets[len(octets) // 2] % 3
    if way == 0:
        return [octets]
    size = max(1, len(octets) // 2) if way == 1 else max(7, len(octets) // 50)
    return [octets[at : at + size] for at in range(0, len(octets), size)]
