"""Threads beside the event loop: one for the log, whose jobs clients wait for, one for bulk work on snapshots.

Jobs of one lane run in the order they were given. A job's outcome comes back on the event loop. What the jobs do is
not known here. The usual write to the log is no job: it was staged on the loop, and a third thread, which is compiled
and never asks for the interpreter, commits it (storage/native.pyx); without that one, it is a job like the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from kvstore.storage.files import OSFile
from kvstore.storage.segment import Staged

try:
    from kvstore.storage.native import Committer as NativeCommitter
except ImportError:
    NativeCommitter = None  # type: ignore[assignment,misc]
is_compiled = NativeCommitter is not None

T = TypeVar("T")


class Lanes(Protocol):
    """Where disk jobs run; the simulator has lanes of its own, in simulated time."""

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """A failing job of this lane ends the process: `done` is then never called."""

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None: ...

    def commit(self, staged: Staged, done: Callable[[float], None]) -> None:
        """Writes and syncs; `done` gets the seconds that the sync took. One at a time. A failure is one of the log."""


class ThreadLanes:
    """`after` is called on the loop behind each outcome; `fatal` with what broke the log lane, or took an outcome
    and failed over it."""

    def __init__(self, after: Callable[[], None], fatal: Callable[[Exception], None]) -> None:
        loop = asyncio.get_running_loop()
        self._after = after
        self._fatal = fatal
        self._log_jobs = 0  # that were given and whose outcome is still to come
        self._log_quiet = asyncio.Event()  # set: there are none, or none will be done any more
        self._is_log_broken = False
        self._committer = None if NativeCommitter is None else _Committer(NativeCommitter(), loop)
        self._log = _Lane("kvstore-log", loop, ends_on_failure=True)
        self._bulk = _Lane("kvstore-bulk", loop, ends_on_failure=False)

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        self._log_jobs += 1

        def ended(outcome: T) -> None:
            try:
                done(outcome)  # of which more jobs may come
            finally:
                self._log_jobs -= 1
                if not self._log_jobs:
                    self._log_quiet.set()

        self._log.jobs.put((job, self._then(ended), self._log_broke))

    def _log_broke(self, problem: Exception) -> None:
        self._is_log_broken = True  # the other jobs are not done any more
        self._log_quiet.set()
        self._fatal(problem)

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self._bulk.jobs.put((job, self._then(done), self._then(failed)))

    def commit(self, staged: Staged, done: Callable[[float], None]) -> None:
        if self._committer is None or not isinstance(staged.file, OSFile):
            self.log(staged.write, done)
        else:
            self._committer.begin(staged, staged.file.descriptor, self._then(done), self._fatal)

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
        """Finishes what was given, also what comes of that for the log, then ends all threads. Nothing may be given to
        it any more, but by the outcomes."""
        await self._bulk.close()
        if self._committer is not None:
            await self._committer.finish()
        while self._log_jobs and not self._is_log_broken:
            self._log_quiet.clear()
            await self._log_quiet.wait()
        await self._log.close()
        if self._committer is not None:
            self._committer.close()


class _Committer:
    """The thread that commits without Python, as seen from the loop."""

    def __init__(self, native: NativeCommitter, loop: asyncio.AbstractEventLoop) -> None:
        self._native = native
        self._loop = loop
        self._running: tuple[Staged, Callable[[float], None], Callable[[Exception], None]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = threading.Thread(target=native.run, name="kvstore-commit", daemon=True)
        self._thread.start()
        loop.add_reader(native.descriptor, self._ended)

    def begin(
        self, staged: Staged, descriptor: int, done: Callable[[float], None], failed: Callable[[Exception], None]
    ) -> None:
        self._native.begin(descriptor, staged.pieces)
        self._running = staged, done, failed
        self._idle.clear()

    def _ended(self) -> None:
        assert self._running is not None
        staged, done, failed = self._running
        number, is_written, seconds = self._native.end()
        self._running = None
        if number:
            failed(staged.failed(is_written, OSError(number, os.strerror(number))))
        else:
            done(seconds)  # which may begin the next one
        if self._running is None:
            self._idle.set()

    async def finish(self) -> None:
        """Waits until nothing is under way."""
        while self._running is not None:
            await self._idle.wait()

    def close(self) -> None:
        assert self._running is None, "a commit is under way"
        self._loop.remove_reader(self._native.descriptor)
        self._native.stop()
        self._thread.join()
        self._native.close()


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
