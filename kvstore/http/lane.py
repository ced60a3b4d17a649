"""What the connections of the express lane share: limits, judged heads, listings, looks at those that stand still.

Knows of a connection only what it can be told; express.py has the connection itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from kvstore.auth import Auth
from kvstore.http.backend import Backend
from kvstore.http.fanout import Fanout
from kvstore.http.heads import Heads
from kvstore.http.health import probe
from kvstore.http.intake import Intake
from kvstore.http.load import Load
from kvstore.http.reply import Answer, Manner, date_line, last_piece, status_line
from kvstore.http.shortcut import Query, compose_event, compose_view, is_compiled, take
from kvstore.http.v2.answers import SUCCESS_HEAD, answer_view
from kvstore.http.v2.keys import answer_of, head_now, list_or_read
from kvstore.http.v2.large import LARGE_BYTES, answer_large_view
from kvstore.http.v2.listings import Listings
from kvstore.http.v2.parameters import KeyRequest
from kvstore.http.v2.streamed import Streamed
from kvstore.http.vigil import Vigil
from kvstore.proposals import Outcome
from kvstore.store.events import Event

if TYPE_CHECKING:
    from kvstore.http.express import Express

#: A request of more bytes, head and body together, is aiohttp's.
EXPRESS_BYTES = 64 << 10
#: How often is looked for connections that do not go on; a request that stays unfinished for two looks is aiohttp's.
SWEEP_SECONDS = 1.0
SWEEP_CONNECTIONS = 2_000  # that are looked at in one go
#: Different queries of GETs that are remembered. One more, and all are forgotten and learnt anew.
QUERIES = 1024
QUERY_BYTES = 128  # of one that is worth remembering


HandOver: TypeAlias = Callable[[asyncio.Transport, bytes, bool], None]


def _has_large_value(event: Event) -> bool:
    """Looked at here, where it is compiled: each write is answered by way of this."""
    value, previous = event.node.value, event.previous
    if value is not None and len(value) > LARGE_BYTES:
        return True
    return previous is not None and previous.value is not None and len(previous.value) > LARGE_BYTES


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
        self.max_key, self.max_components = limits.key_bytes, limits.key_components
        self.hand_over = hand_over
        self.usual = Manner(http11=True, keep_alive=True, head_only=False, cors=cors)
        self.last = self.usual._replace(keep_alive=False)
        self.connections: set[Express] = set()
        self.unfinished: set[Express] = set()  # with a request that has begun to arrive
        self.heads = Heads()
        self._queries: dict[bytes, Query] = {}
        begin = cors + SUCCESS_HEAD % backend.cluster_id  # of a success, up to the number of its index
        self._head, self._created_head = status_line(200) + begin, status_line(201) + begin
        self.listings = Listings()
        self.is_closing = False
        self._probes: set[asyncio.Task[Answer]] = set()  # the loop alone would not keep them
        self._settled: list[tuple[Express, Outcome | None]] = []
        self._ended: list[Express] = []
        self._deliveries: defaultdict[bytes, list[Express]] = defaultdict(list)
        self._fanout = Fanout(len(os.sched_getaffinity(0)))
        self._loop = asyncio.get_running_loop()
        self.intake = Intake(self._loop)
        self._to_look_at: deque[Express] = deque()
        self._overdue: set[Express] = set()
        self._emptied: asyncio.Event | None = None
        self.vigil = Vigil(self._loop, lambda: backend.commands_pending)
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    # --- requests and answers, by the shortcut where there is one ---------------------------------------------------

    def take(self, rest: bytes, at: int) -> tuple[int, KeyRequest] | None:
        """The whole, plain request at `at` of `rest`, and where it ends; None: it is to be looked at closely."""
        if self.backend.auth.enabled:
            return None
        return take(
            rest, at, self.heads.known, self._queries, self.max_head, self.max_body, self.max_key, self.max_components
        )

    def learn(self, asked: KeyRequest, query: bytes | None) -> None:
        """What a query makes of a GET, for the next one."""
        if query and asked.method == "GET" and len(query) <= QUERY_BYTES:
            if len(self._queries) >= QUERIES:
                self._queries.clear()
            self._queries[query] = (asked.value, asked[3:])

    def begins_write(self) -> None:
        """A thread that needs the interpreter, as without what is compiled, is better off if the loop sleeps."""
        if is_compiled:
            self.vigil.tell(is_write=True)

    def answer(self, event: Event, asked: KeyRequest) -> Answer | Streamed | bytes:
        """Bytes are the whole answer, as on a connection that lives on."""
        backend = self.backend
        if not asked.no_value_on_success and not _has_large_value(event):
            answer = compose_event(
                event, self._head, self._created_head, backend.raft_index, backend.raft_term, date_line()
            )
            if answer is not None:
                return answer
        return answer_of(event, asked, backend, self.load)

    def look(self, asked: KeyRequest) -> Answer | Streamed | bytes:
        """Raises as `list_or_read` does. Bytes as in `answer`."""
        backend = self.backend
        store = backend.store
        if self.load.may_answer and not store.is_directory(asked.key):
            view = store.get(asked.key, asked.recursive, asked.sorted, backend.now())
            value = view.value
            if value is not None and len(value) > LARGE_BYTES:
                return answer_large_view(view, head_now(backend, store.index), backend, self.load)
            answer = compose_view(view, self._head, store.index, backend.raft_index, backend.raft_term, date_line())
            return answer or answer_view(view, head_now(backend, store.index))
        return list_or_read(asked, backend, self.load, self.listings)

    # --- turns --------------------------------------------------------------------------------------------------------

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

    def ended_with(self, last: bytes, connection: Express) -> None:
        """As `ended`; `last`, the last of its body, is sent before the answers of the driver's turn, to all who get it
        together."""
        if not self._deliveries:
            self.backend.at_turn_end(self._deliver, first=True)
            self._loop.call_soon(self._go_on)
        self._deliveries[last].append(connection)

    def _deliver(self) -> None:
        deliveries, self._deliveries = self._deliveries, defaultdict(list)
        for last, connections in deliveries.items():
            self._fanout.send(last_piece(last), connections)
            self._ended += connections

    def _go_on(self) -> None:
        self._deliver()  # where there was no turn of the driver
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
            connection.hurry()
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
        self._fanout.close()
        self.intake.close()

    def probe(self, connection: Express) -> None:
        """Makes the answer to /health, for a connection that serves nothing else until it gets it."""
        task = self._loop.create_task(probe(self.backend))
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)
        task.add_done_callback(partial(self._made, connection))

    def _made(self, connection: Express, future: asyncio.Future[Answer]) -> None:
        if future.cancelled():
            return
        bug = future.exception()
        try:
            if bug is None:
                connection.composed(future.result())
        except Exception as problem:
            bug = problem
        if isinstance(bug, Exception):
            connection.fail(bug)

    def later(self, callback: Callable[[], None]) -> None:
        """In the next turn of the loop."""
        self._loop.call_soon(callback)

    def part(self, connection: Express) -> None:
        """It is closed, or aiohttp's."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.load.connections -= 1
            self.load.forget(connection)
        self.unfinished.discard(connection)
        if self._emptied is not None and not self.connections:
            self._emptied.set()
