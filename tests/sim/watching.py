"""Events and plain reads, on every member: a write raises the index of the store by one and makes one event.

A `Witness` watches everything on one life of one member. Clients watch one key, or all below it, on any member; where
their member dies, or cuts them off, they come back elsewhere with the index after the last event that they saw. They
also read without a quorum: what a member shows may be old, but it was true once, and it never goes back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from kvstore.store.errors import HistoryCleared, KeyNotFound
from kvstore.store.events import COMPARE_AND_DELETE, DELETE, EXPIRE, Event
from kvstore.store.store import Store
from kvstore.store.watchers import Watcher
from tests.sim.clients import KEYS, QUEUE
from tests.sim.scheduler import MILLISECOND, Scheduler
from tests.sim.trace import Trace, Violation

if TYPE_CHECKING:
    from tests.sim.life import Life

EVENTS = "a watcher sees each event once and in order, on any member"
READS = "a plain read shows what was true, and never goes back on one member"
REMOVALS = (DELETE, COMPARE_AND_DELETE, EXPIRE)
WATCHED = ((b"/", True), (b"/dir", True), (QUEUE, True), (KEYS[0], False), (KEYS[2], False))


class Shown(NamedTuple):
    """What an event says on every member alike."""

    action: str
    key: bytes
    value: bytes | None
    before: bytes | None
    created: int


class Events:
    """Every event that any member showed, by its index."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.shown: dict[int, Shown] = {}
        self._values: dict[bytes, tuple[list[int], list[bytes | None]]] = {}

    def note(self, who: str, event: Event) -> None:
        before = event.previous.value if event.previous else None
        shown = Shown(event.action, event.node.key, event.node.value, before, event.node.created)
        known = self.shown.setdefault(event.index, shown)
        if known is shown:
            self.trace.saw("events")
            indices, values = self._values.setdefault(shown.key, ([], []))
            indices.append(event.index)
            values.append(shown.value)
        elif known != shown:
            raise Violation(EVENTS, f"{who} shows {shown} at {event.index}, another member {known}")

    def value_at(self, key: bytes, index: int) -> bytes | None:
        """The value of a file at an index of the store; None: there was no such file."""
        indices, values = self._values.get(key, ([], []))
        place = bisect_right(indices, index)
        return values[place - 1] if place else None


class Witness:
    """Watches all keys of one store. `look` is to be called after each step of its member."""

    def __init__(self, who: str, store: Store, events: Events, history: int) -> None:
        """`history` is the number of events that members keep."""
        self._who = who
        self._store = store
        self._events = events
        self._history = history
        self._got: list[Event | None] = []
        self._last = store.index
        self._watch()

    def _watch(self) -> None:
        self._store.watch(b"/", True, True, self._last + 1, self._got.append)

    def look(self) -> None:
        index = self._store.index
        if self._last == index and not self._got:
            return
        held = self._last
        if self._store.is_founded and self._last == 0:
            self._last = 1  # the founding is no event
        got, self._got[:] = self._got[:], []
        for event in got:
            if event is None:
                if index - held <= self._history:
                    raise Violation(EVENTS, f"{self._who} ends a watch at {held}, though it has all to {index}")
                self._events.trace.saw("watches cut off")
                self._last = index
                self._watch()
            elif event.index != self._last + 1:
                raise Violation(EVENTS, f"{self._who} shows event {event.index} after {self._last}")
            else:
                self._events.note(self._who, event)
                self._last = event.index
        if self._last != index:
            raise Violation(EVENTS, f"{self._who} is at {index} and has shown its events up to {self._last} only")


class Watching:
    """A client that watches, as a stream or one event at a time, and reads without a quorum."""

    def __init__(
        self,
        name: str,
        random: Random,
        scheduler: Scheduler,
        events: Events,
        history: int,
        lives: Callable[[], list[Life]],
    ) -> None:
        self.stopped = False
        self._name = name
        self._random = random
        self._scheduler = scheduler
        self._events = events
        self._history = history
        self._lives = lives
        self._key, self._recursive = random.choice(WATCHED)
        self._stream = random.random() < 0.5
        self._next = 1  # the index from which it wants events
        self._seen: list[int] = []
        self._gaps: list[tuple[int, int]] = []  # what the history did not hold any more when it came back
        self._life: Life | None = None
        self._watcher: Watcher | None = None
        self._pause(100 * MILLISECOND)

    def _pause(self, longest: int) -> None:
        self._scheduler.after(self._random.randrange(longest), self._go_on)

    def _go_on(self) -> None:
        if self.stopped:
            return
        self._pause(200 * MILLISECOND)
        lives = self._lives()
        if lives:
            life = self._random.choice(lives)
            life.loop.run(lambda: self._read(life))
        if self._life is not None and not self._life.over and self._random.random() < 0.8:
            return  # goes on where it is
        if self._watcher is not None and self._life is not None and not self._life.over:
            self._watcher.cancel()
        self._life = self._watcher = None
        if lives:
            life = self._random.choice(lives)
            life.loop.run(lambda: self._come(life))

    def _come(self, life: Life) -> None:
        if self._life is None:
            self._life = life
            self._events.trace.saw("watches")
            self._watch(life.node.machine.store)

    def _watch(self, store: Store) -> None:
        """From the index after the last event, again and again where the history answers."""
        while True:
            self._watcher = None
            before = self._next
            try:
                watcher = store.watch(self._key, self._recursive, self._stream, self._next, self._take)
            except HistoryCleared as cleared:
                if self._next > cleared.index - self._history:
                    raise Violation(EVENTS, f"{self._name} asks for events from {self._next}: {cleared}") from None
                self._events.trace.saw("histories cleared")
                self._gaps.append((self._next, cleared.index))
                self._next = cleared.index + 1
                continue
            if watcher.is_waiting:
                self._watcher = watcher
                return
            if self._next == before:
                raise Violation(EVENTS, f"{self._name} is answered with an event before {before}")

    def _take(self, event: Event | None) -> None:
        """Called while the store applies, so it never raises: `finish` compares."""
        if event is None or not self._stream:
            self._life = None if event is None else self._life
            self._scheduler.after(0, self._again)
        if event is None:
            return
        index, removed = event.index, event.action in REMOVALS and event.node.key == self._key
        if index >= self._next or not (removed and self._stream and index == self._next - 1):  # else as etcd does it
            self._seen.append(index)
        self._next = max(self._next, index + 1)

    def _again(self) -> None:
        life = self._life
        if life is not None and not life.over and self._watcher is not None and not self._watcher.is_waiting:
            life.loop.run(lambda: self._watch(life.node.machine.store))

    def _read(self, life: Life) -> None:
        store = life.store
        index = store.index
        if index < life.shown:
            raise Violation(READS, f"{life.machine.name} shows index {index} after {life.shown}")
        life.shown = index
        key = self._random.choice(KEYS)
        try:
            value = store.get(key, recursive=False, sort=False, now=0).value
        except KeyNotFound:
            value = None
        if value != self._events.value_at(key, index):
            raise Violation(READS, f"{life.machine.name} shows a wrong value of {key!r} at index {index}")
        self._events.trace.saw("plain reads")

    def finish(self, store: Store) -> None:
        """All that is left comes from this store; then nothing may be missing."""
        self.stopped = True
        if self._watcher is not None:
            self._watcher.cancel()
        self._watch(store)
        assert self._watcher is not None
        self._watcher.cancel()
        below = b"/" if self._key == b"/" else self._key + b"/"
        wanted = [
            index
            for index, shown in sorted(self._events.shown.items())
            if (shown.key == self._key or (self._recursive and shown.key.startswith(below)))
            and not any(first <= index <= last for first, last in self._gaps)
        ]
        if self._seen != wanted:
            raise Violation(EVENTS, f"{self._name} saw of {self._key!r} {self._seen}, and there were {wanted}")
