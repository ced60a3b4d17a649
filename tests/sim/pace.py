"""Replicated time runs as true time does, whatever becomes of wall clocks: what leaders stamp is held against it.

The stamps of committed commands may begin anywhere, because wall clocks may be wrong when all members were down. From
then on they follow true time: faster by a trifle, slower by 5 %, and a new leader may know the time only as of the
last stamp that it saw. Only a leader that had to go by the wall clocks, since it did not know the time, may jump.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvstore.replicated_clock import SLOWER_PART, ReplicatedClock
from tests.sim.trace import Violation

PACE = "replicated time runs at the pace of true time"
SECOND_NS = 1_000_000_000
#: What a leader may be behind, because its last fresh stamp took that long to arrive; and with it the next one ahead.
SLACK_NS = 3 * SECOND_NS // 2


class WatchedClock(ReplicatedClock):
    """`has_jumped`: in this life it began a term by the wall clocks."""

    def __init__(self, wall: Callable[[], int], monotonic: Callable[[], int]) -> None:
        super().__init__(wall, monotonic)
        self.has_jumped = False

    def begin_term(self, last_stamp: int) -> None:
        self.has_jumped = self.has_jumped or not self.is_set
        super().begin_term(last_stamp)


class Leading(Protocol):
    """A life that led; None: it is not known how it reckons time."""

    clock: WatchedClock | None


class Pace:
    """`now` gives true time in nanoseconds."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._appended: dict[tuple[int, int], int] = {}  # (index, term) -> true time when it was first in a log
        self._term = 0
        self._ahead = 0  # the last stamp less the true time when it was made
        self._at = 0  # that true time

    def appended(self, index: int, term: int) -> None:
        self._appended[index, term] = self._now()

    def committed(self, index: int, term: int, stamp: int, leader: Leading | None) -> None:
        at = self._appended.get((index, term), self._now())
        ahead = stamp - at
        jumped = ahead - self._ahead
        slower = (at - self._at) // SLOWER_PART
        first, term_before = not self._at, self._term
        self._term, self._ahead, self._at = term, ahead, at
        if first or leader is None or leader.clock is None or (term != term_before and leader.clock.has_jumped):
            return
        if not -SLACK_NS - slower <= jumped <= SLACK_NS:
            raise Violation(
                PACE,
                f"entry {index} of term {term} was stamped {jumped / SECOND_NS:.3f} s away from where true time was"
                f" {(at) / SECOND_NS:.3f} s after the start",
            )
