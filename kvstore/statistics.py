"""Numbers that a member keeps about itself: how often, how fast, how long.

Counted in place by the floors that do the work, as plain numbers, and put together only when somebody asks. Knows
neither who counts nor how a number is shown; time comes in as an argument, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from math import sqrt

#: Upper bounds of a histogram's buckets in seconds, etcd's own: a millisecond doubled again and again.
DISK_BUCKETS = tuple(0.001 * 2**power for power in range(14))
PEER_BUCKETS = tuple(0.0001 * 2**power for power in range(16))
TURN_BUCKETS = DISK_BUCKETS
SAVE_BUCKETS = tuple(0.01 * 2**power for power in range(14))

RATE_EVENTS = 200  # etcd's queue
RATE_SECONDS = 1.0  # without an event for so long, there is no rate any more
#: What etcd shows for a minimum while there is none.
NO_MINIMUM = float((1 << 63) - 1)


class Histogram:
    """Durations by bucket. One thread observes; others may read and see the last one half counted."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # not cumulative; the last one is for all beyond the last bound
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound with the number of durations up to it; the last bound is infinite."""
        found = []
        count = 0
        for bound, more in zip((*self.bounds, float("inf")), self.counts, strict=True):
            count += more
            found.append((bound, count))
        return found


class Turns(Histogram):
    """How late the event loop calls what is due: about as long as the turn that held it up, and what every other
    request, and a heartbeat, has to wait then."""

    __slots__ = ("longest",)

    def __init__(self) -> None:
        super().__init__(TURN_BUCKETS)
        self.longest = 0.0  # seconds, since the start

    def observe(self, seconds: float) -> None:
        super().observe(seconds)
        self.longest = max(self.longest, seconds)


class Rate:
    """How much goes by a second, by the last events alone (etcd's statsQueue)."""

    __slots__ = ("_bytes", "_events", "count")

    def __init__(self) -> None:
        self.count = 0  # of all events ever
        self._events: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def add(self, now: float, size: int) -> None:
        events = self._events
        if len(events) == RATE_EVENTS:
            self._bytes -= events.popleft()[1]
        events.append((now, size))
        self._bytes += size
        self.count += 1

    def per_second(self, now: float) -> tuple[float, float]:
        """Events and bytes; 0 and 0 when the last event is too long ago, or the only one."""
        events = self._events
        if not events or now - events[-1][0] > RATE_SECONDS:
            events.clear()
            self._bytes = 0
            return 0.0, 0.0
        span = events[-1][0] - events[0][0]
        if span <= 0:
            return 0.0, 0.0
        return len(events) / span, self._bytes / span


class Latency:
    """Durations in milliseconds, as etcd sums them up for one follower."""

    __slots__ = ("_squares", "average", "current", "failed", "maximum", "minimum", "succeeded")

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.current = 0.0
        self.average = 0.0
        self.minimum = NO_MINIMUM
        self.maximum = 0.0
        self._squares = 0.0  # their average

    def observe(self, seconds: float) -> None:
        current = self.current = seconds * 1000
        count = self.succeeded = self.succeeded + 1
        self.average += (current - self.average) / count
        self._squares += (current * current - self._squares) / count
        self.minimum = min(self.minimum, current)
        self.maximum = max(self.maximum, current)

    @property
    def deviation(self) -> float:
        return sqrt(max(0.0, self._squares - self.average * self.average))
