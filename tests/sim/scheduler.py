"""Simulated time: a queue of calls, each at its moment. Nothing here is random, and nothing takes time by itself.

Time is microseconds since the start of the run. Calls for the same moment happen in the order they were asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

MILLISECOND = 1_000
SECOND = 1_000_000


class Scheduler:
    def __init__(self) -> None:
        self.now = 0
        self.steps = 0
        self._order = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, moment: int, call: Callable[[], None]) -> None:
        """Calls at `moment`, or next if that is over."""
        self._order += 1
        heapq.heappush(self._queue, (max(moment, self.now), self._order, call))

    def after(self, delay: int, call: Callable[[], None]) -> None:
        self.at(self.now + delay, call)

    def run_until(self, moment: int) -> None:
        """Everything up to `moment`, which it then is."""
        queue = self._queue
        while queue and queue[0][0] <= moment:
            self.now, _, call = heapq.heappop(queue)
            self.steps += 1
            call()
        self.now = moment
