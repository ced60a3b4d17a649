"""A watch: from the store's deliveries to pieces of a response body, with a bounded backlog in between.

The store delivers inside its apply; a delivery is written at once while the client reads, and kept in the backlog
while it does not. Beyond the backlog the client is cut off: the server's memory never waits for a reader. No task
and no timer belong to a watch. Knows nothing of HTTP/1.1 framing: a `Sink` does that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from kvstore.auth import Auth
from kvstore.http.shared import Shared
from kvstore.http.v2.answers import encode_event
from kvstore.store.events import Event
from kvstore.store.store import Store
from kvstore.store.watchers import Watcher


class Sink(Protocol):
    """The body of one response."""

    @property
    def is_stalled(self) -> bool:
        """Whether the client has left more unread than the transport cares to buffer."""

    def send(self, piece: bytes) -> None: ...

    def end(self, last: bytes = b"") -> None:
        """The body is complete, with `last` as its last piece if there is one; the connection may live on."""

    def abort(self) -> None:
        """Drop the connection and whatever was still to be written."""


class Permit(Protocol):
    """By what right a client watches."""

    def holds(self, auth: Auth) -> bool:
        """Whether it still may."""

    def shows(self, event: Event) -> bool:
        """Whether it may see this one."""


class Watch:
    """One client's watch, from its registration in the store to the end of its body.

    `head`: the header lines of its answer, fixed when it began.
    """

    __slots__ = (
        "_backlog",
        "_filter",
        "_is_over",
        "_limit",
        "_passed",
        "_permit",
        "_sink",
        "_stream",
        "_watcher",
        "head",
    )

    def __init__(
        self, head: bytes, stream: bool, backlog: int, permit: Permit | None = None, is_filtered: bool = False
    ) -> None:
        """`is_filtered`: `permit` decides about each event."""
        self.head = head
        self._permit = permit
        self._filter = permit if is_filtered else None
        self._passed: int | None = None  # while it registers: the index of an event that it may not see
        self._stream = stream
        self._limit = backlog
        self._backlog: deque[Event | None] | None = None  # None: empty; most watches never need one
        self._sink: Sink | None = None
        self._watcher: Watcher | None = None
        self._is_over = False

    def register(self, store: Store, key: bytes, recursive: bool, since: int) -> None:
        """Begin to watch. What is delivered before `attach` waits in the backlog. Raises HistoryCleared."""
        self._passed = 0
        self._watcher = store.watch(key, recursive, self._stream, since, self.deliver)
        while self._passed:
            since, self._passed = self._passed + 1, 0
            self._watcher = store.watch(key, recursive, self._stream, since, self.deliver)
        self._passed = None

    @property
    def has_backlog(self) -> bool:
        """Something waits to be sent."""
        return bool(self._backlog)

    def attach(self, sink: Sink) -> None:
        """The head is written: from now on events go to `sink`."""
        self._sink = sink
        if self._is_over:
            sink.end()
        else:
            self.flush()

    def review(self, auth: Auth) -> None:
        """Users or roles have changed: end the body if the right to it is gone."""
        if self._permit is not None and not self._permit.holds(auth):
            self.finish()

    def deliver(self, event: Event | None) -> None:
        """The store's callback. None: the store cannot tell what happened, the body ends."""
        if self._is_over:
            return
        sink = self._sink
        if event is not None and self._filter is not None and not self._filter.shows(event):
            self._pass_over(event)
        elif sink is not None and not self._backlog and not sink.is_stalled:
            self._write(sink, event)
        elif self._backlog is None:
            self._backlog = deque((event,))
        elif len(self._backlog) < self._limit:
            self._backlog.append(event)
        else:
            self._cut_off()

    def flush(self) -> None:
        """The client reads again: write what has waited."""
        while self._backlog and self._sink is not None and not self._sink.is_stalled:
            self._write(self._sink, self._backlog.popleft())

    def finish(self) -> None:
        """End the body: the server stops."""
        if self._is_over:
            return
        sink = self._sink
        self.cancel()
        if sink is not None:
            sink.end()

    def cancel(self) -> None:
        """The client is gone. Idempotent."""
        if self._watcher is not None:
            self._watcher.cancel()
        self._let_go()

    def _let_go(self) -> None:
        self._is_over = True
        self._backlog = None
        self._watcher = self._sink = None  # they know us, too: only the collector of cycles could part us later

    def _write(self, sink: Sink, event: Event | None) -> None:
        if event is None:
            self.finish()
        elif self._stream:
            sink.send(encode_once(event))
        else:
            self._let_go()  # the store has done so: it delivers a poll one event
            sink.end(encode_once(event))

    def _pass_over(self, event: Event) -> None:
        """An event that this client may not see: a look back goes on behind it, a poll has to ask again."""
        if self._passed is not None:
            self._passed = event.index
        elif not self._stream:
            self.finish()

    def _cut_off(self) -> None:
        sink = self._sink
        self.cancel()
        if sink is not None:
            sink.abort()


def _last_encoding() -> Callable[[Event], bytes]:
    shared = Shared[Event](encode_event)
    last_event: Event | None = None
    last_bytes = b""

    def encode(event: Event) -> bytes:
        nonlocal last_event, last_bytes
        if event is not last_event:
            last_event, last_bytes = event, shared(event)
        return last_bytes

    return encode


#: Ten thousand watchers of one key share one encoding of its event.
encode_once = _last_encoding()
