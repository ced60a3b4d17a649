"""The disk's two lanes in simulated time: a job happens at one moment, its outcome arrives at a later one.

Between the two, and while jobs wait, the process may die: then nothing more of either happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from kvstore.storage.errors import StorageError
from kvstore.storage.segment import Staged
from tests.sim.disk import SimCrash
from tests.sim.scheduler import Scheduler

T = TypeVar("T")


class SimLanes:
    """Satisfies `kvstore.lanes.Lanes` for one life of one process.

    `enter` brings an outcome to the driver; `broken` ends the process: the power went (SimCrash), or the log's disk
    failed. `latency` gives microseconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        random: Random,
        latency: Callable[[], int],
        enter: Callable[[Callable[[], None]], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._scheduler = scheduler
        self._random = random
        self._latency = latency
        self._enter = enter
        self._broken = broken
        self._over = False
        self._log: deque[Any] = deque()
        self._bulk: deque[Any] = deque()

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self._put(self._log, job, done, None)

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self._put(self._bulk, job, done, failed)

    def commit(self, staged: Staged, done: Callable[[float], None]) -> None:
        self.log(staged.write, done)

    def stop(self) -> None:
        """The process is dead."""
        self._over = True

    @property
    def is_idle(self) -> bool:
        return not self._log and not self._bulk

    def _put(self, lane: deque[Any], job: Any, done: Any, failed: Any) -> None:
        lane.append((job, done, failed))
        if len(lane) == 1:
            self._scheduler.after(self._latency(), lambda: self._run(lane))

    def _run(self, lane: deque[Any]) -> None:
        if self._over:
            return
        job, done, failed = lane[0]
        try:
            outcome = job()
        except SimCrash as crash:
            self._broken(crash)
            return
        except StorageError as problem:
            if failed is None:
                self._broken(problem)
                return
            done, outcome = failed, problem
        lane.popleft()
        self._scheduler.after(self._random.randrange(300), lambda: self._enter(lambda: done(outcome)))
        if lane:
            self._scheduler.after(self._latency(), lambda: self._run(lane))
