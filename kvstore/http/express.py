"""The express lane: plain key requests that arrive whole, answered without a task, a future or aiohttp; and /health.

Theory of operation. A connection begins here, unless Host headers must be looked at (app.py). A request is taken only
if its head leaves no doubt (heads.py): HTTP/1.1, a key, a few harmless header lines, at most one Content-Length. The
first request that is anything else (an odd header line, a chunked body, a large one, one that does not go on arriving)
moves the connection for good to aiohttp's protocol, with the bytes that were not consumed; so at any moment one parser
alone decides where a request ends, and there is nothing to smuggle between the two. While auth is on, nothing is taken.

A connection has one request served at a time, in order; a watch is served until it ends. The driver tells a write's
outcome, and the store an event, by a call in the midst of the driver's turn; all answers of one turn are written
together behind it, what ends a watch just before them, and other events at once. The functions that parse, do and
answer are those of `v2.keys`. From the second plain request on the socket is read past the transport (intake.py), until
anything else happens than plain requests and answers. This file knows one connection, no store and no JSON.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from kvstore.auth import Auth, AuthChanged
from kvstore.http.backend import TooManyRequests, Unavailable
from kvstore.http.errors import ApiError
from kvstore.http.guard import Permit, Scope
from kvstore.http.heads import HEALTH_LINE, LINE, NO_BODY
from kvstore.http.intake import NOT_NOW
from kvstore.http.lane import EXPRESS_BYTES, Lane
from kvstore.http.load import drop
from kvstore.http.reply import LAST_CHUNK, Answer, chunk, compose, compose_stream_head, last_part, part, refusal
from kvstore.http.sockets import is_reset, send_now
from kvstore.http.v2.keys import (
    answer_failure,
    answer_of,
    answer_refusal,
    list_or_read,
    operation_of,
    refuse_without_room,
    watch,
)
from kvstore.http.v2.parameters import PREFIX, KeyRequest, parse_key_request
from kvstore.http.v2.streamed import Streamed
from kvstore.http.v2.watches import Watch
from kvstore.limits import Limits
from kvstore.proposals import Outcome
from kvstore.store.errors import StoreError
from kvstore.store.events import Event

#: Bytes of further requests that are held while one is served, or answers are not read; then no more is read.
PIPELINE_BYTES = 64 << 10
#: Requests of one connection that are served in one go; then it is the others' turn.
TURN_REQUESTS = 64

_END = b"\r\n\r\n"
_METHODS = {b"GET": "GET", b"PUT": "PUT", b"POST": "POST", b"DELETE": "DELETE"}
_WITH_BODY = frozenset((b"PUT", b"POST"))
#: What a connection waits for whose client asks for /health: nothing of it is looked at.
_HEALTH = parse_key_request("GET", PREFIX, b"quorum=true", b"")

log = logging.getLogger(__name__)


class Express:
    """One connection, for as long as it asks for nothing else."""

    __slots__ = (
        "_asked",
        "_at",
        "_has_asked",
        "_held",
        "_is_blocked",
        "_is_due",
        "_is_ending",
        "_is_full",
        "_is_half_closed",
        "_is_serving",
        "_lane",
        "_quiet_since",
        "_request",
        "_rest",
        "_streamed",
        "_transport",
        "_watch",
        "file",
    )

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._transport: asyncio.Transport | None = None
        self.file = NOT_NOW  # that the intake reads for us, and we send to at once
        self._rest = b""  # what has arrived ...
        self._at = 0  # ... and is not consumed from here on
        self._held = 0  # bytes of it that the load knows of
        self._asked: KeyRequest | None = None  # the request that waits for its outcome, or that a watch answers
        self._request = b""  # ... as it came, in case that it must be asked again
        self._watch: Watch | None = None  # the one that is served
        self._streamed: Streamed | None = None  # the answer that is being sent, or waits for its turn
        self._is_serving = False  # `_serve` is on the stack
        self._is_due = False  # there is more to serve, in a turn that is yet to come
        self._is_blocked = False  # the client does not read its answers
        self._is_full = False  # we do not read, until what has come is served
        self._is_half_closed = False  # the client sends no more
        self._is_ending = False  # what still comes is of no interest
        self._has_asked = False  # at all, yet
        self._quiet_since: float | None = None  # when it was first seen with nothing to do, since it last had

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self._lane.connections.add(self)
        self._lane.load.admit(transport)

    def connection_lost(self, problem: Exception | None) -> None:
        self._part()

    def _part(self) -> None:
        self.stop_intake()
        self._drop_rest()
        self._lane.part(self)
        self._transport = None
        self._is_ending = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._streamed is not None:
            self._streamed.cancel()
            self._streamed = None

    def data_received(self, octets: bytes) -> None:
        if self._is_ending:
            return
        self._quiet_since = None
        if not (self._rest or self._asked or self._is_due or self._is_blocked or self._is_half_closed):
            # The usual: nothing is left from before, and this is one whole request.
            lane = self._lane
            taken = lane.take(octets, 0)
            if taken is not None and taken[0] == len(octets):
                try:
                    if self.file == NOT_NOW and self._has_asked and not taken[1].wait:
                        self._start_intake()  # who asks one thing after the other most likely goes on like that
                    self._has_asked = True
                    self._begin(taken[1], octets, taken[1].key)
                except Exception as bug:
                    self.fail(bug)
                return
        self._rest = self._rest + octets if self._rest else octets
        if self._asked is None and not self._is_due:
            self._serve()
        else:
            self._hold()

    def _start_intake(self) -> None:
        if self._transport is not None:
            self.file = self._lane.intake.start(self._transport, self)

    def stop_intake(self) -> None:
        """From here on the transport reads, and sends, as it does at the beginning."""
        if self.file >= 0:
            self._lane.intake.stop(self.file)
            self.file = NOT_NOW
            if self._transport is not None:
                self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The client sends no more; a request that arrived whole is still answered, as etcd does. A watch ends."""
        if self._transport is None or self._transport.get_extra_info("sslcontext") is not None:
            return False
        if self._watch is not None:
            return False
        self._is_half_closed = True
        return self._asked is not None or self._is_blocked or self._is_due

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._lane.load.stalled(self)

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._lane.load.resumed(self)
        if self._watch is not None:
            self._watch.flush()
        elif self._streamed is not None:
            self._streamed.flush()
        else:
            self._serve()

    # --- what has arrived -----------------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Counts what has come and cannot be served yet, and reads no more while that is much."""
        left, transport = len(self._rest), self._transport
        if transport is None:
            return
        if left != self._held:
            if not self._lane.load.take(left - self._held):
                self._find_no_room()
                return
            self._held = left
        if self._is_full != (left > PIPELINE_BYTES):
            self._is_full = not self._is_full
            if self._is_full:
                self.stop_intake()
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _find_no_room(self) -> None:
        """All clients together have us hold too much. Whoever has half a request with us is told so by aiohttp."""
        if self._asked is None and not self._is_blocked:
            self.leave()
        else:
            self.abort()

    def _drop_rest(self) -> None:
        self._lane.load.give(self._held)
        self._rest, self._at, self._held = b"", 0, 0

    # --- one request after the other ------------------------------------------------------------------------------

    def _waits(self) -> bool:
        """A request waits for its outcome, or is answered by a watch. A call, for it changes with what is called."""
        return self._asked is not None

    def _serve(self) -> None:
        """What has arrived, until a request has to wait, or is not whole, or others should have their turn."""
        if self._is_serving or self._waits():
            return
        self._is_serving = True
        try:
            for _ in range(TURN_REQUESTS):
                if self._is_blocked or self._is_ending or self._at >= len(self._rest) or not self._next():
                    break
                if self._waits():
                    break
            else:
                if self._at < len(self._rest):
                    self._is_due = True
                    self._lane.later(self._take_turn)
        except Exception as bug:
            self.fail(bug)
        self._is_serving = False
        if self._at:
            self._rest, self._at = self._rest[self._at :], 0
        if self._rest or self._held:
            self._hold()
        if self._is_half_closed and not (self._waits() or self._is_due or self._is_blocked):
            self._close()

    def _take_turn(self) -> None:
        self._is_due = False
        self._serve()

    def _next(self) -> bool:
        """Begins one request. False: it is not whole, or not for this lane."""
        rest, at, lane = self._rest, self._at, self._lane
        taken = lane.take(rest, at)
        if taken is not None:
            end, asked = taken
            written = asked.key
        else:
            begin = rest.find(_END, at) + 4
            if begin < 4:
                return self._wait_for_more(len(rest) - at)
            if begin - at > lane.max_head:
                return self.leave()
            line_end = rest.find(b"\r\n", at)
            head = lane.heads.judge(rest[line_end : begin - 4])
            if head == NO_BODY and rest[at:line_end] == HEALTH_LINE:
                self._arrived(begin)
                self._asked = _HEALTH
                lane.probe(self)
                return True
            line = LINE.fullmatch(rest, at, line_end)
            if head is None or line is None or lane.backend.auth.enabled:
                return self.leave()
            method, path, query = line.groups()
            length, is_form = head
            if length and (length > lane.max_body or not is_form or method not in _WITH_BODY):
                return self.leave()
            end = begin + length
            if end > len(rest):
                return self._wait_for_more(end - at)
            try:
                asked = parse_key_request(_METHODS[method], path, query or b"", rest[begin:end], lane.load.limits)
            except ApiError as error:
                self._arrived(end)
                self._write(answer_failure(error, lane.backend))
                return True
            lane.learn(asked, query)
            written = path[len(PREFIX) :]
        self._arrived(end)
        self._begin(asked, rest[at:end], written)
        return True

    def _arrived(self, end: int) -> None:
        """The request up to there is whole."""
        self._lane.unfinished.discard(self)
        self._has_asked = True
        self._at = end

    def _begin(self, asked: KeyRequest, request: bytes, written: bytes) -> None:
        """`request` are the bytes that it came as, `written` is the path behind /v2/keys."""
        lane = self._lane
        if asked[0] != "GET":
            if not lane.load.may_answer:
                try:
                    refuse_without_room(asked, lane.backend, lane.load)
                except TooManyRequests as error:
                    self._write(answer_failure(error, lane.backend))
                    return
            self._asked, self._request = asked, request
            lane.backend.propose(operation_of(asked), self._settled)
            lane.begins_write()
        elif asked.quorum:
            self._asked, self._request = asked, request
            lane.backend.read(self._settled)
        elif asked.wait:
            self._begin_watch(asked, written)
        else:
            self._look(asked, request)

    def _wait_for_more(self, length: int) -> bool:
        if length > EXPRESS_BYTES:
            return self.leave()
        self._lane.unfinished.add(self)
        return False

    def _look(self, asked: KeyRequest, request: bytes) -> None:
        lane = self._lane
        try:
            if lane.is_closing or self._is_half_closed:
                answer: Answer | Streamed | bytes = list_or_read(asked, lane.backend, lane.load, lane.listings)
            else:
                answer = lane.look(asked)
        except (StoreError, TooManyRequests) as error:
            answer = answer_failure(error, lane.backend)
        self._answer(answer, asked, request)

    def _answer(self, answer: Answer | Streamed | bytes, asked: KeyRequest, request: bytes) -> None:
        if isinstance(answer, Streamed):
            self._begin_body(answer, asked, request)
        else:
            self._write(answer)

    def composed(self, answer: Answer) -> None:
        """The answer to /health."""
        self._asked = None
        self._write(answer)
        if self._rest or self._is_half_closed:
            self._serve()

    def _settled(self, outcome: Outcome | None) -> None:
        self._lane.settled(self, outcome)

    def answer(self, outcome: Outcome | None) -> None:
        """The request that waited has its outcome; None: a reader may look."""
        asked, request = self._asked, self._request
        self._asked, self._request = None, b""
        if self._is_ending or asked is None:
            return
        lane = self._lane
        if type(outcome) is Event:
            if lane.is_closing or self._is_half_closed:
                self._answer(answer_of(outcome, asked, lane.backend, lane.load), asked, request)
            else:
                self._answer(lane.answer(outcome, asked), asked, request)
        elif isinstance(outcome, AuthChanged) or (outcome is None and lane.backend.auth.enabled):
            # Auth was switched on meanwhile, so it was not done: it is asked again where permission is looked for.
            self._ask_again(request)
        elif outcome is None:
            self._look(asked, request)
        else:
            assert isinstance(outcome, StoreError | Unavailable), outcome
            self._answer(answer_refusal(outcome, lane.backend, lane.load), asked, request)
        if self._rest or self._is_half_closed:
            self._serve()

    def _ask_again(self, request: bytes) -> None:
        self._rest, self._at = request + self._rest, 0
        if self._is_blocked:
            self.abort()
        else:
            self.leave()

    def _write(self, answer: Answer | bytes) -> None:
        """Bytes are a whole answer after which the connection lives on."""
        if self._transport is None or self._is_ending:
            return
        lane = self._lane
        if isinstance(answer, bytes):
            self.write(answer)
            lane.vigil.tell()
        elif lane.is_closing or (self._is_half_closed and self._at >= len(self._rest)):
            self.write(compose(answer, lane.last))
            self._close()
        else:
            self.write(compose(answer, lane.usual))

    def write(self, octets: bytes) -> None:
        """At once where that may be, else by the transport; to who is gone, not at all."""
        if self._transport is None:
            return
        if self.file >= 0:
            sent = send_now(self.file, octets)
            if sent == len(octets):
                return
            self.stop_intake()  # the client does not read, or is gone
            octets = octets[sent:]
        self._transport.write(octets)

    def fail(self, bug: Exception) -> None:
        """The answer to a request that met a bug of ours."""
        log.error("a request failed", exc_info=bug)
        if self._transport is None:
            return
        if self._watch is not None or self._streamed is not None:
            self.abort()  # in the middle of a body nothing can be said
        else:
            self.write(refusal(500))
            self._close()

    # --- a watch (watches.Sink) -----------------------------------------------------------------------------------

    def _begin_watch(self, asked: KeyRequest, written: bytes) -> None:
        lane, transport = self._lane, self._transport
        assert transport is not None
        try:
            started = watch(asked, lane.backend, lane.load, Permit(None, False, asked, written, Scope.ALL))
        except (StoreError, TooManyRequests) as error:
            self._write(answer_failure(error, lane.backend))
            return
        self._asked, self._watch = asked, started
        if asked.stream or started.has_backlog:
            self.stop_intake()  # what is sent piece by piece gathers in the transport
        elif self.file == NOT_NOW and not (self._is_full or self._is_half_closed):
            self._start_intake()  # so that many can be ended at once
        self.write(compose_stream_head(started.head, lane.usual))
        started.attach(self)
        if self._is_half_closed:  # as etcd does: whoever sends no more waits for nothing either
            started.finish()

    @property
    def is_stalled(self) -> bool:
        return self._is_blocked

    def send(self, piece: bytes) -> None:
        if self._transport is not None:
            self._transport.write(chunk(piece))

    def end(self, last: bytes = b"") -> None:
        """The connection may live on, but not before the driver's turn is over."""
        self._watch = None
        if last:
            self._lane.ended_with(last, self)
        else:
            self.write(LAST_CHUNK)
            self._lane.ended(self)

    def review(self, auth: Auth) -> None:
        """Users or roles have changed."""
        if self._watch is not None:
            self._watch.review(auth)
        elif self._streamed is not None and auth.enabled and not self._streamed.has_begun:
            self._streamed.cancel()  # it is asked again where permission is looked for
            self._streamed = self._asked = None
            self._ask_again(self._request)

    def go_on(self) -> None:
        """The watch, or the body, has ended: serve requests that arrived meanwhile."""
        self._asked = None
        self._request = b""
        if self._lane.is_closing:
            self._close()
        elif self._rest or self._is_half_closed:
            self._serve()

    # --- a body in slices -----------------------------------------------------------------------------------------

    def _begin_body(self, streamed: Streamed, asked: KeyRequest, request: bytes) -> None:
        self._asked, self._request, self._streamed = asked, request, streamed
        self.stop_intake()  # what is sent piece by piece gathers in the transport
        streamed.attach(BodySink(self))

    @property
    def is_reset(self) -> bool:
        return self._transport is None or (self._is_half_closed and is_reset(self._transport))

    def begin_body(self, head: bytes, status: int) -> None:
        lane = self._lane
        self.write(compose_stream_head(head, lane.last if lane.is_closing else lane.usual, status))

    def end_body(self, answer: Answer | Streamed | None) -> None:
        """With `answer`, if it is another one after all."""
        self._streamed = None
        if isinstance(answer, Streamed):
            self._streamed = answer
            answer.attach(BodySink(self))
            return
        if answer is not None:
            self._write(answer)
        self._lane.ended(self)

    # --- the end --------------------------------------------------------------------------------------------------

    def leave(self) -> bool:
        """The connection, from the first byte that was not consumed on, is aiohttp's. Always False."""
        assert not self._is_blocked, "aiohttp would not know that it must wait"
        transport, rest, is_full = self._transport, self._rest[self._at :], self._is_full
        self._part()
        if transport is not None:
            if is_full:
                transport.resume_reading()
            self._lane.hand_over(transport, rest, self._is_half_closed)
        return False

    def hurry(self) -> None:
        """Its request is not whole, and does not go on arriving."""
        if self._asked is None and not (self._is_blocked or self._is_due or self._is_ending):
            self.leave()

    def close_if_idle(self, now: float, limits: Limits) -> None:
        """Who connects does so to ask: the first request is waited for as long as the rest of one would be."""
        if self._asked is not None or self._rest or self._is_blocked or self._is_ending or self.unread:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= (limits.idle_seconds if self._has_asked else limits.read_seconds):
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
        self._is_ending = True
        self._drop_rest()
        self.stop_intake()
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
            self.stop_intake()
            drop(self._transport)


class BodySink:
    """Where an answer in slices is written to (streamed.Sink): a connection of the express lane."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Express) -> None:
        self._connection = connection

    @property
    def is_stalled(self) -> bool:
        return self._connection.is_stalled

    @property
    def is_reset(self) -> bool:
        return self._connection.is_reset

    def begin(self, head: bytes, status: int = 200) -> None:
        self._connection.begin_body(head, status)

    def send(self, piece: bytes) -> None:
        self._connection.write(part(piece))

    def end(self, last: bytes) -> None:
        self._connection.write(last_part(last))
        self._connection.end_body(None)

    def answer(self, answer: Answer | Streamed) -> None:
        self._connection.end_body(answer)

    def abort(self) -> None:
        self._connection.abort()
