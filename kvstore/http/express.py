"""The express lane: plain key requests that arrive whole, answered without a task, a future or aiohttp.

Theory of operation. Every connection begins here. A request is taken only if its head leaves no doubt (heads.py):
HTTP/1.1, a key, a few harmless header lines, at most one Content-Length. The first request that is anything else (an
odd header line, a chunked body, a large one, one that does not go on arriving) moves the connection for good to
aiohttp's protocol, with the bytes that were not consumed; so at any moment one parser alone decides where a request
ends, and there is nothing to smuggle between the two. While auth is on, nothing is taken.

A connection has one request served at a time, in order; a watch is served until it ends. The driver tells a write's
outcome, and the store an event, by a call in the midst of the driver's turn; all answers of one turn are written
together behind it, events at once. The functions that parse, do and answer are those of `v2.keys`. This file knows
connections, no store and no JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, cast

from kvstore.auth import Auth, AuthChanged
from kvstore.http.backend import Backend, TooManyRequests, Unavailable
from kvstore.http.errors import ApiError
from kvstore.http.guard import Permit, Scope
from kvstore.http.heads import LINE, Heads
from kvstore.http.load import Load
from kvstore.http.reply import LAST_CHUNK, Answer, Manner, chunk, compose, compose_stream_head, refusal
from kvstore.http.v2.keys import answer_failure, answer_of, list_or_read, operation_of, watch
from kvstore.http.v2.listings import Listings
from kvstore.http.v2.parameters import PREFIX, KeyRequest, parse_key_request
from kvstore.http.v2.watches import Watch
from kvstore.limits import Limits
from kvstore.proposals import Outcome
from kvstore.store.errors import StoreError
from kvstore.store.events import Event

#: A request of more bytes, head and body together, is aiohttp's.
EXPRESS_BYTES = 64 << 10
#: Bytes of further requests that are held while one is served; with more, no more is read.
PIPELINE_BYTES = 256 << 10
#: How often is looked for connections that do not go on; a request that stays unfinished for two looks is aiohttp's.
SWEEP_SECONDS = 1.0
SWEEP_CONNECTIONS = 2_000  # that are looked at in one go

_END = b"\r\n\r\n"
_METHODS = {b"GET": "GET", b"PUT": "PUT", b"POST": "POST", b"DELETE": "DELETE"}
_WITH_BODY = frozenset((b"PUT", b"POST"))


log = logging.getLogger(__name__)


HandOver: TypeAlias = Callable[[asyncio.Transport, bytes, bool], None]


class Lane:
    """What the connections of one server share."""

    def __init__(self, backend: Backend, cors: bytes, load: Load, hand_over: HandOver) -> None:
        """`cors`: the header lines of an answer to a request without an Origin. `hand_over` gives aiohttp a connection,
        what it sent and was not answered, and whether it sends no more."""
        self.backend = backend
        self.load = load
        limits = load.limits
        self.max_head = min(EXPRESS_BYTES, limits.line_bytes, limits.head_bytes)  # what is longer, is not judged here
        self.max_body = limits.request_bytes
        self.hand_over = hand_over
        self.usual = Manner(http11=True, keep_alive=True, head_only=False, cors=cors)
        self.last = self.usual._replace(keep_alive=False)
        self.connections: set[Express] = set()
        self.unfinished: set[Express] = set()  # with a request that has begun to arrive
        self.heads = Heads()
        self.listings = Listings()
        self.is_closing = False
        self._settled: list[tuple[Express, Outcome | None]] = []
        self._ended: list[Express] = []
        self._loop = asyncio.get_running_loop()
        self._to_look_at: deque[Express] = deque()
        self._overdue: set[Express] = set()
        self._emptied: asyncio.Event | None = None
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def settled(self, connection: Express, outcome: Outcome | None) -> None:
        """What `connection` waits for has ended; called in the midst of the driver's turn."""
        if not self._settled:
            self.backend.at_turn_end(self._answer)
        self._settled.append((connection, outcome))

    def _answer(self) -> None:
        settled, self._settled = self._settled, []
        for connection, outcome in settled:
            try:
                connection.answer(outcome)
            except Exception as bug:  # the others are still to be answered
                connection.fail(bug)

    def ended(self, connection: Express) -> None:
        """The watch of `connection` has; called in the midst of the driver's turn, or elsewhere."""
        if not self._ended:
            self._loop.call_soon(self._go_on)
        self._ended.append(connection)

    def _go_on(self) -> None:
        ended, self._ended = self._ended, []
        for connection in ended:
            connection.go_on()

    def review(self, auth: Auth) -> None:
        """Users or roles have changed: a watch must not outlive the right to it."""
        for connection in list(self.connections):
            connection.review(auth)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        overdue, self._overdue = self._overdue & self.unfinished, self.unfinished.copy()
        for connection in overdue:
            connection.leave()
        if not self._to_look_at:
            self._to_look_at.extend(self.connections)
        now = self._loop.time()
        for _ in range(min(SWEEP_CONNECTIONS, len(self._to_look_at))):
            self._to_look_at.popleft().close_if_idle(now, self.load.limits)
        self.load.look()

    async def close(self, grace: float) -> None:
        """No further requests; those that are under way have `grace` seconds to be answered."""
        self._sweeper.cancel()
        self.is_closing = True
        for connection in list(self.connections):
            connection.finish()
        if self.connections:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._emptied.wait()
        for connection in list(self.connections):
            connection.abort()

    def part(self, connection: Express) -> None:
        """It is closed, or aiohttp's."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.load.connections -= 1
            self.load.forget(connection)
        self.unfinished.discard(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.set()


class Express(asyncio.Protocol):
    """One connection, for as long as it asks for nothing else."""

    __slots__ = (
        "_asked",
        "_is_blocked",
        "_is_full",
        "_is_half_closed",
        "_is_serving",
        "_lane",
        "_quiet_since",
        "_request",
        "_rest",
        "_transport",
        "_watch",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._transport: asyncio.Transport | None = None
        self._rest = b""  # what has arrived and is not consumed
        self._asked: KeyRequest | None = None  # the request that waits for its outcome
        self._request = b""  # ... as it came
        self._is_serving = False  # `_serve` is on the stack
        self._is_blocked = False  # the client does not read its answers
        self._is_full = False  # we do not read, until what has come is served
        self._is_half_closed = False  # the client sends no more
        self._watch: Watch | None = None  # the one that is served; `_asked` is its request
        self._quiet_since: float | None = None  # when it was first seen without a request, since the last one

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self._lane.connections.add(self)
        self._lane.load.connections += 1

    def connection_lost(self, problem: Exception | None) -> None:
        self._part()

    def _part(self) -> None:
        self._lane.part(self)
        self._transport = None
        self._rest = b""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def data_received(self, octets: bytes) -> None:
        self._quiet_since = None
        self._rest = self._rest + octets if self._rest else octets
        if self._asked is None:
            self._serve()
        elif len(self._rest) > PIPELINE_BYTES and self._transport is not None:
            self._is_full = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; a request that arrived whole is still answered, as etcd does."""
        if self._transport is None or self._transport.get_extra_info("sslcontext") is not None:
            return False
        if self._watch is not None:
            return False
        self._is_half_closed = True
        return self._asked is not None or self._is_blocked

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._lane.load.stalled(self)

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._lane.load.resumed(self)
        if self._watch is not None:
            self._watch.flush()
        elif self._asked is None and not self._is_serving:
            self._serve()

    # --- one request after the other -----------------------------------------------------------------------------

    def _serve(self) -> None:
        """All that has arrived, until a request has to wait or is not whole."""
        self._is_serving = True
        try:
            while self._rest and self._asked is None and not self._is_blocked and self._next():
                pass
        except Exception as bug:
            self.fail(bug)
        self._is_serving = False
        if self._transport is None or self._asked is not None or self._is_blocked:
            return
        if self._is_full:
            self._is_full = False
            self._transport.resume_reading()
        if self._is_half_closed:
            self._close()

    def _next(self) -> bool:
        """Begins one request. False: it is not whole, or not for this lane."""
        rest, lane = self._rest, self._lane
        begin = rest.find(_END) + 4
        if begin < 4:
            return self._wait_for_more(len(rest))
        if begin > lane.max_head:
            return self.leave()
        line_end = rest.find(b"\r\n")
        head = lane.heads.judge(rest[line_end : begin - 4])
        line = LINE.fullmatch(rest, 0, line_end)
        if head is None or line is None or lane.backend.auth.enabled:
            return self.leave()
        method, path, query = line.groups()
        length, is_form = head
        if length and (length > lane.max_body or not is_form or method not in _WITH_BODY):
            return self.leave()
        end = begin + length
        if end > len(rest):
            return self._wait_for_more(end)
        if lane.unfinished:
            lane.unfinished.discard(self)
        try:
            asked = parse_key_request(_METHODS[method], path, query or b"", rest[begin:end])
        except ApiError as error:
            self._rest = rest[end:]
            self._write(answer_failure(error, lane.backend))
            return True
        self._request, self._rest = rest[:end], rest[end:]
        self._begin(asked, path)
        return True

    def _wait_for_more(self, length: int) -> bool:
        if length > EXPRESS_BYTES:
            return self.leave()
        self._lane.unfinished.add(self)
        return False

    def _begin(self, asked: KeyRequest, path: bytes) -> None:
        backend = self._lane.backend
        if asked.method != "GET":
            self._asked = asked
            backend.propose(operation_of(asked), self._settled)
        elif asked.quorum:
            self._asked = asked
            backend.read(self._settled)
        elif asked.wait:
            self._begin_watch(asked, path[len(PREFIX) :])
        else:
            self._write(self._look(asked))

    def _look(self, asked: KeyRequest) -> Answer:
        lane = self._lane
        try:
            return list_or_read(asked, lane.backend, lane.load, lane.listings)
        except (StoreError, TooManyRequests) as error:
            return answer_failure(error, lane.backend)

    def _settled(self, outcome: Outcome | None) -> None:
        self._lane.settled(self, outcome)

    def answer(self, outcome: Outcome | None) -> None:
        """The request that waited has its outcome; None: a reader may look."""
        asked, self._asked = self._asked, None
        if self._transport is None or asked is None:
            return
        backend = self._lane.backend
        if type(outcome) is Event:
            self._write(answer_of(outcome, asked, backend))
        elif backend.auth.enabled and (outcome is None or isinstance(outcome, AuthChanged)):
            # It was switched on meanwhile, and this was not done: it is asked again where permission is looked for.
            self._rest = self._request + self._rest
            self.leave()
            return
        elif outcome is None:
            self._write(self._look(asked))
        else:
            assert isinstance(outcome, StoreError | Unavailable), outcome
            self._write(answer_failure(outcome, backend))
        if (self._rest or self._is_half_closed) and not self._is_serving:
            self._serve()

    def _write(self, answer: Answer) -> None:
        if self._transport is None:
            return
        lane = self._lane
        if lane.is_closing or (self._is_half_closed and not self._rest):
            self._rest = b""
            self._transport.write(compose(answer, lane.last))
            self._close()
        else:
            self._transport.write(compose(answer, lane.usual))

    def fail(self, bug: Exception) -> None:
        """The answer to a request that met a bug of ours."""
        log.error("a request failed", exc_info=bug)
        if self._transport is not None:
            self._transport.write(refusal(500))
            self._rest = b""
            self._asked = None
            self._close()

    # --- a watch (watches.Sink) -----------------------------------------------------------------------------------

    def _begin_watch(self, asked: KeyRequest, written: bytes) -> None:
        """`written` is the path behind /v2/keys."""
        lane, transport = self._lane, self._transport
        assert transport is not None
        if self._is_half_closed:  # it is gone
            self._close()
            return
        try:
            started = watch(asked, lane.backend, lane.load, Permit(None, False, asked, written, Scope.ALL))
        except (StoreError, TooManyRequests) as error:
            self._write(answer_failure(error, lane.backend))
            return
        self._asked, self._watch = asked, started
        transport.write(compose_stream_head(started.head, lane.usual))
        started.attach(self)

    @property
    def is_stalled(self) -> bool:
        return self._is_blocked

    def send(self, piece: bytes) -> None:
        if self._transport is not None:
            self._transport.write(chunk(piece))

    def end(self) -> None:
        """The connection may live on, but not before the driver's turn is over."""
        if self._transport is not None:
            self._transport.write(LAST_CHUNK)
        self._watch = None
        self._lane.ended(self)

    def review(self, auth: Auth) -> None:
        """Users or roles have changed."""
        if self._watch is not None:
            self._watch.review(auth)

    def go_on(self) -> None:
        """The watch has ended: what came meanwhile is served."""
        self._asked = None
        if self._lane.is_closing:
            self._close()
        elif not self._is_serving:
            self._serve()

    # --- the end --------------------------------------------------------------------------------------------------

    def leave(self) -> bool:
        """The connection, from the first byte that was not consumed on, is aiohttp's. Always False."""
        transport, rest = self._transport, self._rest
        self._part()
        if transport is not None:
            if self._is_full:
                transport.resume_reading()
            self._lane.hand_over(transport, rest, self._is_half_closed)
        return False

    def close_if_idle(self, now: float, limits: Limits) -> None:
        """Who connects does so to ask: the first request is waited for as long as the rest of one would be."""
        if self._transport is None or self._asked is not None:
            return
        if self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= (limits.idle_seconds if self._request else limits.read_seconds):
            self._close()

    def finish(self) -> None:
        """The server stops: at once, or with the answer to the request that is under way."""
        if self._watch is not None:
            self._watch.finish()
            self._close()
        elif self._asked is None:
            self._close()

    def _close(self) -> None:
        """Once what was written is read, and that may be never."""
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                self._lane.load.stalled(self)

    # --- what the load asks (load.Client) -------------------------------------------------------------------------

    @property
    def unread(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def end_arrival(self) -> bool:
        raise AssertionError("a request that takes its time is aiohttp's")

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
