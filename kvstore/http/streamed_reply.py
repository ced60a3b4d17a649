"""An answer in slices on a connection of aiohttp's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kvstore.http.reply import Answer, Manner, compose, compose_stream_head, last_part, part
from kvstore.http.sockets import is_reset
from kvstore.http.v2.streamed import Streamed

if TYPE_CHECKING:
    from kvstore.http.connection import Connection, Exchange


class StreamedReply:
    """aiohttp's protocol calls `prepare`, then `write_eof`, then asks for `keep_alive`. Implements Sink."""

    __slots__ = ("_connection", "_ended", "_manner", "_streamed", "keep_alive")

    def __init__(self, streamed: Streamed, manner: Manner) -> None:
        self._streamed = streamed
        self._manner = manner
        self._connection: Connection | None = None
        self._ended: asyncio.Future[None] | None = None
        self.keep_alive = manner.keep_alive

    async def prepare(self, exchange: Exchange) -> None:
        connection = self._connection = exchange.connection
        if connection.transport is None:
            return
        self._ended = asyncio.get_running_loop().create_future()
        connection.streamed = self._streamed
        self._streamed.attach(self)

    async def write_eof(self) -> None:
        if self._connection is None or self._ended is None:
            return
        connection = self._connection
        try:
            await self._ended
        finally:  # also when the connection is lost: aiohttp then cancels its task, and so this
            self._streamed.cancel()
            connection.streamed = None
        if connection.transport is not None and connection.writing_paused:
            await connection.drain()  # before the next request is looked at

    @property
    def is_stalled(self) -> bool:
        assert self._connection is not None
        return self._connection.writing_paused

    @property
    def is_reset(self) -> bool:
        assert self._connection is not None
        transport = self._connection.transport
        return transport is None or is_reset(transport)

    def begin(self, head: bytes, status: int = 200) -> None:
        self.keep_alive = self._manner.keep_alive and self._manner.http11
        self._write(compose_stream_head(head, self._manner, status))

    def send(self, piece: bytes) -> None:
        self._write(part(piece) if self._manner.http11 else piece)

    def end(self, last: bytes) -> None:
        self._write(last_part(last) if self._manner.http11 else last)
        self._release()

    def answer(self, answer: Answer | Streamed) -> None:
        assert self._connection is not None
        if isinstance(answer, Streamed):
            self._streamed = self._connection.streamed = answer
            answer.attach(self)
            return
        self._write(compose(answer, self._manner))
        self._release()

    def abort(self) -> None:
        assert self._connection is not None
        self.keep_alive = False
        self._connection.abort()
        self._release()

    def _write(self, octets: bytes) -> None:
        assert self._connection is not None
        if self._connection.transport is not None:
            self._connection.transport.write(octets)

    def _release(self) -> None:
        assert self._ended is not None
        if not self._ended.done():
            self._ended.set_result(None)
