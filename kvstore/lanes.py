"""Two threads beside the event loop: one for the log, whose jobs clients wait for, one for bulk work on snapshots.

Jobs of one lane run in the order they were given. A job's outcome comes back on the event loop. What the jobs do is
not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Lanes(Protocol):
    """Where disk jobs run; the simulator has lanes of its own, in simulated time."""

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """A failing job of this lane ends the process: `done` is then never called."""

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None: ...


class ThreadLanes:
    """`after` is called on the loop behind each outcome; `fatal` with what broke the log lane, or took an outcome
    and failed over it."""

    def __init__(self, after: Callable[[], None], fatal: Callable[[Exception], None]) -> None:
        loop = asyncio.get_running_loop()
        self._after = after
        self._fatal = fatal
        self._log = _Lane("kvstore-log", loop, ends_on_failure=True)
        self._bulk = _Lane("kvstore-bulk", loop, ends_on_failure=False)

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self._log.jobs.put((job, self._then(done), self._fatal))

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self._bulk.jobs.put((job, self._then(done), self._then(failed)))

    def _then(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        def finish(outcome: object) -> None:
            try:
                callback(outcome)
            except Exception as problem:  # whoever waits for what comes next would wait for ever
                self._fatal(problem)
                return
            self._after()

        return finish

    async def close(self) -> None:
        """Finishes what was given, then ends both threads."""
        for lane in (self._bulk, self._log):
            await lane.close()


class _Lane:
    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, ends_on_failure: bool) -> None:
        self.jobs: SimpleQueue[Any] = SimpleQueue()
        self._loop = loop
        self._ends_on_failure = ends_on_failure
        self._ended = loop.create_future()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (item := self.jobs.get()) is not None:
            job, done, failed = item
            try:
                outcome = job()
            except Exception as problem:  # its owner knows what it means
                self._tell(failed, problem)
                if self._ends_on_failure:
                    break
            else:
                self._tell(done, outcome)
        self._tell(self._ended.set_result, None)

    def _tell(self, callback: Callable[[Any], None], outcome: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends at once, and nobody waits
            self._loop.call_soon_threadsafe(callback, outcome)

    async def close(self) -> None:
        self.jobs.put(None)
        await self._ended
