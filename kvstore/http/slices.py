"""Long answers take turns on the event loop: a slice of one of them at a time, and other work in between.

A few are under way at a time; further ones wait in the order they came, and are refused when that takes too long. An
answer whose client does not read (a stalled one) leaves its place to the next. The number of stalled answers is
bounded as well: while others wait, the first to stall is dropped. While the member has other work, three times
the time of each slice is left to that. Does not know listings or sockets: a `LongAnswer` has both.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from kvstore.limits import Limits

#: Of one slice. A step of it may take a millisecond or two more.
SLICE_SECONDS = 0.002
SLICE_BYTES = 256 << 10
#: Time that is left to other work, in times of the slice before.
REST = 3.0

log = logging.getLogger(__name__)


class LongAnswer(Protocol):
    def begin(self) -> bool:
        """Its turn has come: takes what it needs, and sends its head. False: it was answered in another way."""

    def step(self) -> bool:
        """Sends one slice. False: that was the last one."""

    def overdue(self) -> None:
        """Its turn did not come in time, or its client did not read in time; it is over."""

    def failed(self) -> None:
        """It met a bug of ours; it is over."""

    @property
    def sent_bytes(self) -> int:
        """The length of the slices that were sent so far."""

    @property
    def is_stalled(self) -> bool:
        """The client has to read first; `Slices.resume` says when it has."""

    def has_company(self) -> bool:
        """Whether the member has had, or has, other work since this was last asked."""


class _Running:
    """`left`: seconds that it may still wait for its client, as of when it last went on. `taken`: the bytes that the
    client had taken by then."""

    __slots__ = ("left", "taken", "timer")

    def __init__(self, left: float) -> None:
        self.left = left
        self.taken = 0
        self.timer: asyncio.TimerHandle | None = None


class Slices:
    """Of one member. All calls are made on the event loop's thread.

    `are_few`: `long_answers` of these answers are sent at a time, and as many may be stalled, because they hold more
    than one slice. Each may wait `write_seconds` for its client; it regains a second whenever the client has taken
    another `taken_bytes`, so a client that reads steadily gets an answer of any length. Of other answers any number is
    under way, and a client that does not read is the load's to end.
    """

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop, are_few: bool = True) -> None:
        self._limits = limits
        self._are_few = are_few
        self._loop = loop
        self._waiting: dict[LongAnswer, asyncio.TimerHandle] = {}  # in the order they came
        self._running: dict[LongAnswer, _Running] = {}
        self._ready: deque[LongAnswer] = deque()
        self._stalled: dict[LongAnswer, float] = {}  # since when, the first to stall first
        self._is_scheduled = False
        self._retry: asyncio.TimerHandle | None = None  # when the first stalled answer may be dropped

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, answer: LongAnswer) -> None:
        if not self._are_few or (not self._waiting and self._has_room and self._has_place):
            self._begin(answer)
        else:
            self._waiting[answer] = self._loop.call_later(self._limits.turn_seconds, self._too_late, answer)
            self._schedule()

    def remove(self, answer: LongAnswer) -> None:
        """Its client is gone. Idempotent, and allowed from within all that is called here."""
        timer = self._waiting.pop(answer, None)
        if timer is not None:
            timer.cancel()
        running = self._running.pop(answer, None)
        if running is not None:
            self._stalled.pop(answer, None)
            if running.timer is not None:
                running.timer.cancel()
            self._schedule()  # the next one may begin

    def resume(self, answer: LongAnswer) -> None:
        """The client reads again."""
        since = self._stalled.pop(answer, None)
        if since is None:
            return
        running, limits = self._running[answer], self._limits
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None
        regained = (answer.sent_bytes - running.taken) / limits.taken_bytes
        running.left = min(limits.write_seconds, running.left - (self._loop.time() - since) + regained)
        running.taken = answer.sent_bytes
        self._ready.append(answer)
        self._schedule()

    def _begin(self, answer: LongAnswer) -> None:
        self._running[answer] = _Running(self._limits.write_seconds)
        self._do(answer, answer.begin)

    def _do(self, answer: LongAnswer, what: Callable[[], bool]) -> None:
        """Begin it, or send a slice. A bug in one answer ends that one."""
        try:
            goes_on = what()
        except Exception as bug:
            log.error("a request failed", exc_info=bug)
            self.remove(answer)
            answer.failed()
            return
        if goes_on and answer in self._running:
            self._go_on(answer)
        else:
            self.remove(answer)

    def _go_on(self, answer: LongAnswer) -> None:
        """After its head, or a slice."""
        if not answer.is_stalled:
            self._ready.append(answer)
        else:
            self._stalled[answer] = self._loop.time()
            if self._are_few:
                running = self._running[answer]
                running.timer = self._loop.call_later(max(0.0, running.left), self._drop, answer)
        self._schedule()

    def _too_late(self, answer: LongAnswer) -> None:
        del self._waiting[answer]
        answer.overdue()

    def _drop(self, answer: LongAnswer) -> None:
        """Its client reads too slowly."""
        self.remove(answer)
        answer.overdue()

    @property
    def _has_place(self) -> bool:
        return len(self._running) - len(self._stalled) < self._limits.long_answers

    @property
    def _has_room(self) -> bool:
        """Whether one more is not too many, stalled ones included."""
        return len(self._running) < 2 * self._limits.long_answers

    def _next_begins_in(self) -> float | None:
        """Seconds until the next waiting answer may begin; None if that takes an event."""
        if not self._waiting or not self._has_place:
            return None
        if self._has_room:
            return 0.0
        first = next(iter(self._stalled.values()))  # without room, more than half of them are stalled
        return max(0.0, first + self._limits.stall_seconds - self._loop.time())

    def _schedule(self, seconds: float = 0.0) -> None:
        if self._is_scheduled:
            return
        if not self._ready:
            begins_in = self._next_begins_in()
            if begins_in is None:
                return
            if begins_in:
                if self._retry is None:
                    self._retry = self._loop.call_later(begins_in, self._try_again)
                return
        self._is_scheduled = True
        if seconds:
            self._loop.call_later(seconds, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def _try_again(self) -> None:
        self._retry = None
        self._schedule()

    def _turn(self) -> None:
        rest = 0.0
        try:
            while self._next_begins_in() == 0.0:
                if not self._has_room:
                    self._drop(next(iter(self._stalled)))
                    continue
                answer = next(iter(self._waiting))
                self._waiting.pop(answer).cancel()
                self._begin(answer)
            while self._ready:
                answer = self._ready.popleft()
                if answer in self._running:
                    rest = self._slice(answer)
                    break
        finally:  # not earlier: the calls above would schedule the next turn without a rest
            self._is_scheduled = False
            self._schedule(rest)

    def _slice(self, answer: LongAnswer) -> float:
        """The seconds to rest afterwards."""
        begun = perf_counter()
        self._do(answer, answer.step)
        return (perf_counter() - begun) * REST if answer.has_company() else 0.0
