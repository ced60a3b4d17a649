"""Long answers take turns on the event loop: a slice of one of them at a time, and other work in between.

A few are under way at a time, each for as long as its client reads; further ones wait in the order they came, and are
refused when that takes too long. While the member has other work, three times the time of each slice is left to that.
Knows no listing and no socket: a `LongAnswer` has both.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
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

    @property
    def is_stalled(self) -> bool:
        """The client has to read first; `Slices.resume` says when it has."""

    def has_company(self) -> bool:
        """Whether the member has had, or has, other work since this was last asked."""


class _Running:
    """`waited`: for its client, in seconds, all together."""

    __slots__ = ("is_stalled", "stalled_since", "timer", "waited")

    def __init__(self) -> None:
        self.is_stalled = False
        self.waited = 0.0
        self.stalled_since = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Slices:
    """Of one member. All calls are made on the event loop's thread.

    `are_few`: of these answers `long_answers` are under way at a time, each for `write_seconds` of waiting for its
    client at most, because they hold more than one slice. Of others any number is, and a client that does not read
    is the load's to end.
    """

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop, are_few: bool = True) -> None:
        self._limits = limits
        self._are_few = are_few
        self._loop = loop
        self._waiting: dict[LongAnswer, asyncio.TimerHandle] = {}  # in the order they came
        self._running: dict[LongAnswer, _Running] = {}
        self._ready: deque[LongAnswer] = deque()
        self._is_scheduled = False

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, answer: LongAnswer) -> None:
        if not self._are_few or (len(self._running) < self._limits.long_answers and not self._waiting):
            self._begin(answer)
        else:
            self._waiting[answer] = self._loop.call_later(self._limits.turn_seconds, self._too_late, answer)

    def remove(self, answer: LongAnswer) -> None:
        """Its client is gone. Idempotent, and allowed from within all that is called here."""
        timer = self._waiting.pop(answer, None)
        if timer is not None:
            timer.cancel()
        running = self._running.pop(answer, None)
        if running is not None:
            if running.timer is not None:
                running.timer.cancel()
            self._schedule()  # the next one may begin

    def resume(self, answer: LongAnswer) -> None:
        """The client reads again."""
        running = self._running.get(answer)
        if running is not None and running.is_stalled:
            running.is_stalled = False
            if running.timer is not None:
                running.timer.cancel()
                running.timer = None
                running.waited += self._loop.time() - running.stalled_since
            self._ready.append(answer)
            self._schedule()

    def _begin(self, answer: LongAnswer) -> None:
        self._running[answer] = _Running()
        if answer.begin() and answer in self._running:
            self._go_on(answer)
        else:
            self.remove(answer)

    def _go_on(self, answer: LongAnswer) -> None:
        """After its head, or a slice."""
        running = self._running[answer]
        if answer.is_stalled:
            running.is_stalled = True
            if self._are_few:
                running.stalled_since = self._loop.time()
                left = max(0.0, self._limits.write_seconds - running.waited)
                running.timer = self._loop.call_later(left, self._too_slow, answer)
        else:
            self._ready.append(answer)
            self._schedule()

    def _too_late(self, answer: LongAnswer) -> None:
        del self._waiting[answer]
        answer.overdue()

    def _too_slow(self, answer: LongAnswer) -> None:
        self._running[answer].timer = None
        self.remove(answer)
        answer.overdue()

    def _schedule(self, seconds: float = 0.0) -> None:
        if self._is_scheduled or not (self._ready or self._may_begin):
            return
        self._is_scheduled = True
        if seconds:
            self._loop.call_later(seconds, self._turn)
        else:
            self._loop.call_soon(self._turn)

    @property
    def _may_begin(self) -> bool:
        return bool(self._waiting) and len(self._running) < self._limits.long_answers

    def _turn(self) -> None:
        while self._may_begin:
            answer = next(iter(self._waiting))
            self._waiting.pop(answer).cancel()
            self._begin(answer)
        rest = 0.0
        while self._ready:
            answer = self._ready.popleft()
            if answer in self._running:
                rest = self._slice(answer)
                break
        self._is_scheduled = False  # not before, for what is called above would have the next turn come immediately
        self._schedule(rest)

    def _slice(self, answer: LongAnswer) -> float:
        """The seconds to rest afterwards."""
        begun = perf_counter()
        try:
            goes_on = answer.step()
        except Exception as bug:
            log.error("a request failed", exc_info=bug)
            answer.overdue()
            goes_on = False
        if goes_on and answer in self._running:
            self._go_on(answer)
        else:
            self.remove(answer)
        return (perf_counter() - begun) * REST if answer.has_company() else 0.0
