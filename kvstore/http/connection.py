"""One client connection: aiohttp's protocol, taught what etcd's HTTP server does differently.

aiohttp reads the bytes, queues pipelined requests and runs one task for each connection. Here are: requests that
its parser refuses and etcd answers, the limit on a request's head, half-closed connections, answers that are bytes
already, and bodies that a watch writes. Knows nothing of routes or keys.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, InvalidURLError, LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import StreamReader

from kvstore.http.backend import TooManyRequests
from kvstore.http.load import Load, drop
from kvstore.http.reply import (
    CONTINUE,
    LAST_CHUNK,
    RETRY_LATER,
    Manner,
    chunk,
    compose_stream_head,
    last_piece,
    refusal,
)
from kvstore.http.request import SHORT_BODY_BYTES, BodyError
from kvstore.http.v2.form import TOO_LARGE
from kvstore.http.v2.streamed import Streamed
from kvstore.http.v2.watches import Watch

log = logging.getLogger(__name__)

#: `1`, CR LF, one byte, CR LF: what comes with each byte of a body at worst.
CHUNK_OVERHEAD = 5
#: Bytes of a body that aiohttp buffers before it pauses. It also pauses after a sixteenth as many chunks, however short
#: they are, so both bound the work of one turn.
BODY_BUFFER_BYTES = 16 << 10
SHORT_BODY_DIGITS = len(str(SHORT_BODY_BYTES))
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([^\x00-\x20\x7f]+) HTTP/1\.[01]\r\n")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class NoRoom(HttpProcessingError):
    """Too much of requests is arriving at once."""


class Parser:
    """aiohttp's request parser, with a limit on the head and with request lines that it refuses and etcd takes.

    They have a method that is not in its table (lower-case ones too: etcd answers 405), or bytes beyond ASCII in
    the target (keys in UTF-8, as curl sends them). Such a request is parsed again with PATCH, which nothing here
    serves either, or with those bytes percent-encoded, as long as it is the first in what was received.
    """

    __slots__ = ("_body_bytes", "_fresh", "_inner", "_kept", "_load", "_payload", "passed_over")

    def __init__(self, fresh: Callable[[], HttpRequestParser], load: Load) -> None:
        self._fresh = fresh
        self._inner = fresh()
        self._load = load
        self._kept = 0  # bytes of a request that is not whole, without those of its body
        self._payload: StreamReader | None = None  # of the last request
        self.passed_over: StreamReader | None = None  # its request is answered
        self._body_bytes = 0  # of it, that are counted

    def feed_data(self, received: bytes) -> tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        in_body = not self.is_between_requests
        try:
            parsed = self._parse(received, in_body)
            self._account(parsed[0], received, self._payload if in_body else None)
        except HttpProcessingError as problem:
            if in_body and self._payload is not None and not self._payload.is_eof():
                self._break(self._payload, problem)
            raise
        return parsed

    def _break(self, body: StreamReader, problem: HttpProcessingError) -> None:
        """Whoever reads it is told so; whoever only passes over what is left of it need not be."""
        if body is self.passed_over:
            body.feed_eof()
        elif isinstance(problem, LineTooLong | NoRoom):
            body.set_exception(BodyError(TOO_LARGE))
        else:
            body.set_exception(BodyError(b"invalid byte in chunk length"))

    def _account(
        self, messages: Sequence[tuple[RawRequestMessage, StreamReader]], received: bytes, body: StreamReader | None
    ) -> None:
        if not messages:
            self._keep(received, body)
            return
        if self._kept + len(received) > min(self._load.limits.line_bytes, self._load.limits.head_bytes):
            for message, _ in messages:
                self._measure(message)
        self.release()
        self._payload = messages[-1][1]
        self._body_bytes = self._payload.total_bytes

    def _keep(self, received: bytes, body: StreamReader | None) -> None:
        """Counts what aiohttp's parser may still hold of `received`: a head that has not ended yet, or what came with
        a body and is none of it: sizes of chunks, their extensions, and trailers. Raises LineTooLong, NoRoom."""
        limit = self._load.limits.head_bytes
        kept = self._kept + len(received)
        if body is not None:
            kept, self._body_bytes = max(0, kept + self._body_bytes - body.total_bytes), body.total_bytes
            limit += CHUNK_OVERHEAD * body.total_bytes
            if body.is_eof():
                kept = 0
        if kept > limit:
            raise LineTooLong(received[:100], limit)
        if not self._load.take(kept - self._kept):
            raise NoRoom
        self._kept = kept

    def _measure(self, message: RawRequestMessage) -> None:
        """Raises LineTooLong. aiohttp bounds each header line, but neither the request line nor all of them."""
        limits = self._load.limits
        line = len(message.method) + len(message.path) + len("  HTTP/1.1")
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in message.raw_headers)
        if line > limits.line_bytes or line + lines > limits.head_bytes:
            raise LineTooLong(message.path[:100].encode("utf-8", "replace"), limits.head_bytes)

    def release(self) -> None:
        """The parser holds nothing any more."""
        self._load.give(self._kept)
        self._kept = 0

    def _parse(
        self, received: bytes, in_body: bool
    ) -> tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        try:
            return self._inner.feed_data(received)
        except (BadHttpMethod, InvalidURLError) as error:
            line = None if in_body else _REQUEST_LINE.match(received)
            if line is None:
                raise
            method = b"PATCH" if isinstance(error, BadHttpMethod) else line[1]
            target = _NOT_ASCII.sub(lambda byte: b"%%%02x" % byte[0][0], line[2])
            self._inner = self._fresh()
            return self._inner.feed_data(method + b" " + target + received[line.end(2) :])

    @property
    def is_between_requests(self) -> bool:
        """Whether the last request arrived whole."""
        return self._payload is None or self._payload.is_eof()

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun behind it either."""
        return self._kept == 0 and self.is_between_requests

    def message_consumed(self) -> None:
        self._inner.message_consumed()

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def set_upgraded(self, value: bool) -> None:
        self._inner.set_upgraded(value)


class Exchange:
    """One request and its way back. aiohttp makes it in place of its own, much larger, request object."""

    __slots__ = ("_held", "_message", "_payload", "_task", "connection", "path", "query", "writer")

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: Connection,
        writer: Any,
        task: asyncio.Task[None],
    ) -> None:
        self._message = message
        self._payload = payload
        self._task = task  # aiohttp sets and clears it
        self._held = 0  # bytes of its body that the load counts
        self.connection = connection
        self.writer = writer
        self.path = b""  # with `query`, set once the target is parsed
        self.query = b""

    @property
    def method(self) -> str:
        return self._message.method

    @property
    def raw_target(self) -> bytes:
        return self._message.path.encode("utf-8", "surrogateescape")

    def header(self, name: str) -> bytes | None:
        text = self._message.headers.get(name)
        return None if text is None else text.encode("utf-8", "surrogateescape")

    @property
    def content_type(self) -> bytes | None:
        return self.header("Content-Type")

    @property
    def has_short_body(self) -> bool:
        if self.header("Transfer-Encoding") is not None:
            return False
        length = self.header("Content-Length") or b"0"
        return len(length) <= SHORT_BODY_DIGITS and int(length) <= SHORT_BODY_BYTES

    @property
    def authorization(self) -> bytes | None:
        return self.header("Authorization")

    @property
    def is_secure(self) -> bool:
        """Whether it came over TLS."""
        return self.connection.ssl_context is not None

    @property
    def common_name(self) -> bytes | None:
        transport = self.connection.transport
        session = transport.get_extra_info("ssl_object") if transport is not None else None
        shown = (session.getpeercert() or {}) if session is not None else {}
        names = [value for part in shown.get("subject", ()) for kind, value in part if kind == "commonName"]
        return names[0].encode() if len(names) == 1 else None

    @property
    def is_http1(self) -> bool:
        return self._message.version.major == 1

    @property
    def is_http11(self) -> bool:
        return self._message.version >= HttpVersion11

    @property
    def expects_continue(self) -> bool:
        return self.is_http11 and (self.header("Expect") or b"").lower() == b"100-continue"

    @property
    def expects_nonsense(self) -> bool:
        return self.header("Expect") is not None and not self.expects_continue and self.is_http11

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can serve another request; not when a body was announced and never asked for."""
        if self._message.should_close or self.connection.is_ending:
            return False
        return self._payload.is_eof() or not self.expects_continue

    async def body(self, limit: int) -> bytes:
        payload = self._payload
        if payload.is_eof():
            whole = payload.read_nowait()
            if len(whole) > limit:
                raise BodyError(TOO_LARGE)
            return whole
        if self.expects_continue and self.connection.transport is not None:
            self.connection.transport.write(CONTINUE)
        self.connection.wants_body = True
        try:
            return await self._collect(limit)
        finally:
            self.connection.wants_body = False

    async def _collect(self, limit: int) -> bytes:
        pieces = []
        load = self.connection.load
        while piece := await self._payload.readany():
            if not load.take(len(piece)):
                raise TooManyRequests
            pieces.append(piece)
            self._held += len(piece)
            if self._held > limit:
                raise BodyError(TOO_LARGE)
            await asyncio.sleep(0)  # `readany` does not wait while there is more, and each small chunk costs
        return b"".join(pieces)

    def release_body(self) -> None:
        self.connection.load.give(self._held)
        self._held = 0

    async def pass_over_body(self) -> None:
        """Discard the rest of the body, as aiohttp would, but in turns (see `_collect`)."""
        payload, connection = self._payload, self.connection
        if payload.is_eof() or payload.exception() is not None or connection.transport is None:
            return
        try:
            async with asyncio.timeout(connection.lingering_seconds):
                while not payload.is_eof():
                    await payload.readany()
                    await asyncio.sleep(0)
        except TimeoutError:
            connection.end_lingering()

    def manner(self, cors: bytes) -> Manner:
        return Manner(self.is_http11, self.keep_alive, self.method == "HEAD", cors)

    # What follows is aiohttp's side of a request.

    def _finish(self) -> None:
        """The answer is there, and about to be written."""
        self.connection.pass_over(self._payload)

    def _cancel(self, exc: BaseException) -> None:
        self._payload.set_exception(exc)


class Reply:
    """An answer as aiohttp's protocol takes it: it calls `prepare`, then `write_eof`, then asks for `keep_alive`."""

    __slots__ = ("_bytes", "_exchange", "keep_alive")

    def __init__(self, whole: bytes, keep_alive: bool) -> None:
        self._bytes = whole
        self._exchange: Exchange | None = None
        self.keep_alive = keep_alive

    async def prepare(self, exchange: Exchange) -> None:
        self._exchange = exchange
        connection = exchange.connection
        if connection.transport is None:
            return
        connection.transport.write(self._bytes)
        if connection.writing_paused:  # one answer at a time waits for a slow reader
            await connection.drain()

    async def write_eof(self) -> None:
        if self._exchange is not None:
            await self._exchange.pass_over_body()


class WatchReply:
    """A watch as the body of an answer. Implements Sink on the connection's transport."""

    __slots__ = ("_connection", "_ended", "_is_chunked", "_manner", "_watch", "keep_alive")

    def __init__(self, watch: Watch, manner: Manner) -> None:
        self._watch = watch
        self._manner = manner
        self._is_chunked = manner.http11
        self._connection: Connection | None = None
        self._ended: asyncio.Future[None] | None = None
        self.keep_alive = manner.keep_alive and manner.http11

    async def prepare(self, exchange: Exchange) -> None:
        connection = self._connection = exchange.connection
        if connection.transport is None:
            self._watch.cancel()
            return
        connection.transport.write(compose_stream_head(self._watch.head, self._manner))
        self._ended = asyncio.get_running_loop().create_future()
        connection.watch = self._watch
        self._watch.attach(self)
        if connection.is_half_closed and not self._ended.done():  # it was before there was a watch to end
            self._watch.finish()

    async def write_eof(self) -> None:
        if self._connection is None or self._ended is None:
            return
        try:
            await self._ended
        finally:  # also when the connection is lost: aiohttp then cancels its task, and so this
            self._watch.cancel()
            self._connection.watch = None

    @property
    def is_stalled(self) -> bool:
        assert self._connection is not None
        return self._connection.writing_paused

    def send(self, piece: bytes) -> None:
        assert self._connection is not None
        if self._connection.transport is not None:
            self._connection.transport.write(chunk(piece) if self._is_chunked else piece)

    def end(self, last: bytes = b"") -> None:
        assert self._connection is not None
        if self._connection.transport is not None:
            if self._is_chunked:
                self._connection.transport.write(last_piece(last) if last else LAST_CHUNK)
            elif last:
                self._connection.transport.write(last)
        self._release()

    def abort(self) -> None:
        assert self._connection is not None
        if self._connection.transport is not None:
            self._connection.transport.abort()
        self.keep_alive = False
        self._release()

    def _release(self) -> None:
        assert self._ended is not None
        if not self._ended.done():
            self._ended.set_result(None)


class Connection(web.RequestHandler):
    """aiohttp's protocol with the pieces above."""

    __slots__ = ("_half_closed", "_wire", "load", "streamed", "wants_body", "watch")

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, load: Load) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=load.limits.idle_seconds,
            access_log=cast(logging.Logger, None),  # aiohttp's own way to have none
            logger=log,
        )
        self.load = load
        self._wire: asyncio.Transport | None = None  # `transport` is forgotten as it begins to close
        self.watch: Watch | None = None
        self.streamed: Streamed | None = None
        self.wants_body = False  # a request waits for the rest of its body
        self._half_closed = False
        self._parser = cast(Any, Parser(self._fresh_parser, load))

    def _fresh_parser(self) -> HttpRequestParser:
        return HttpRequestParser(
            self,
            self._loop,
            BODY_BUFFER_BYTES,
            max_line_size=self.load.limits.line_bytes,
            max_field_size=self.load.limits.head_bytes,
            max_headers=self.load.limits.headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=self._max_msg_queue_size,
        )

    @property
    def is_ending(self) -> bool:
        """Whether no request after the present one will be served."""
        return self._close or self._force_close or (self._half_closed and not self._messages)

    @property
    def is_half_closed(self) -> bool:
        """Whether the client sends no more."""
        return self._half_closed

    async def drain(self) -> None:
        """Wait until the client has read enough; at once when it is gone."""
        await self._drain_helper()

    # --- what the load asks and tells (load.Client) ---------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        begun = self._request_count
        super().data_received(data)
        parser = cast(Parser | None, self._parser)
        if parser is None:
            return
        if parser.is_idle or begun != self._request_count:  # each has its own time
            self.load.arrived(self)
        if not parser.is_idle:
            self.load.arriving(self)

    def _process_keepalive(self) -> None:
        """aiohttp's look whether the connection is idle. A request that has begun has a time of its own."""
        parser = cast(Parser | None, self._parser)
        if parser is None or parser.is_idle:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(self.load.limits.idle_seconds, self._process_keepalive)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)

    @property
    def unread(self) -> int:
        return self._wire.get_write_buffer_size() if self._wire is not None else 0

    def end_arrival(self) -> bool:
        if self._reading_paused or self._buffer_paused:
            return False
        if self.transport is not None:
            if self._waiter is not None or self.wants_body:  # no answer is under way
                self.transport.write(refusal(408))
            self.force_close()
        return True

    def abort(self) -> None:
        if self._wire is not None:
            drop(self._wire)

    def pass_over(self, body: StreamReader) -> None:
        """Nobody reads it any more; aiohttp waits a while for its end, for a client to read its answer in peace."""
        if body.exception() is not None:
            self._lingering_time = 0.0  # it has no end
        elif self._parser is not None:
            cast(Parser, self._parser).passed_over = body

    @property
    def lingering_seconds(self) -> float:
        """How long to wait for the rest of a body that is discarded."""
        return self._lingering_time

    def end_lingering(self) -> None:
        """It was long enough."""
        self._lingering_time = 0.0

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            self._note_last_words()

    def force_close(self) -> None:
        super().force_close()
        self._note_last_words()

    def _note_last_words(self) -> None:
        """The connection closes once they are read, and that may be never."""
        if self.unread:
            self.load.stalled(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.load.stalled(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.load.forget(self)
        if self._parser is not None:
            cast(Parser, self._parser).release()
        self._wire = None
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.load.resumed(self)
        if self.watch is not None:
            self.watch.flush()
        elif self.streamed is not None:
            self.streamed.flush()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp says None, asyncio also takes True
        """The client sends no more. A request that arrived whole is still answered, as etcd does; a watch ends."""
        parser = cast(Parser, self._parser)
        is_idle = self._request_count == 0 or (self._waiter is not None and not self._messages)
        if is_idle or self.watch is not None or self.ssl_context is not None or not parser.is_between_requests:
            return False
        self._half_closed = True
        if not self._messages:
            self._close = True  # aiohttp's word for: this request is the last
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that could not be parsed (as Go's), or that met a bug of ours."""
        if isinstance(exc, LineTooLong) or (message or "").startswith("Too many headers"):
            whole = refusal(431)
        elif isinstance(exc, NoRoom):
            whole = refusal(503, head=RETRY_LATER)
        elif isinstance(exc, HttpProcessingError):
            no_host = message is not None and message.startswith("Missing 'Host'")
            whole = refusal(400, b"Bad Request: missing required Host header" if no_host else b"")
        else:
            log.error("a request failed", exc_info=exc)
            whole = refusal(500)
        if exc is not None:  # its frames know it: only the collector of cycles could take them back
            exc.__traceback__ = exc.__context__ = exc.__cause__ = None
        return cast(web.StreamResponse, Reply(whole, keep_alive=False))
