"""An asyncio event loop in simulated time, for what a member runs on one: the real transport with its tasks and timers.

Each process has a loop of its own, which stands still while the process is paused and ends with it. A callback that
raises ends the run: in the product it would only have been logged.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol, cast

from tests.sim.scheduler import SECOND, Scheduler

#: The transport's timers are made for elections that take a second; here they take a tenth of that.
HASTE = 10


class Process(Protocol):
    """Whose loop this is. `busy_until`: a moment of the scheduler, until which it stands still."""

    over: bool
    busy_until: int


class SimLoop:
    """What tasks, futures and timeouts ask of an asyncio.AbstractEventLoop, and nothing else.

    `dial` opens a connection: (protocol factory, host, port, future of (transport, protocol)).
    """

    def __init__(self, scheduler: Scheduler, process: Process, dial: Callable[..., None]) -> None:
        self._scheduler = scheduler
        self._process = process
        self._dial = dial
        self._problem: BaseException | None = None
        self._tasks: dict[asyncio.Task[Any], Coroutine[Any, Any, Any]] = {}
        self._as_loop = cast(asyncio.AbstractEventLoop, self)

    def run(self, call: Callable[[], None]) -> None:
        """Call within this loop: now, or as soon as the process runs again, or never if that has ended."""
        if self._process.over:
            return
        if self._process.busy_until > self._scheduler.now:
            self._scheduler.at(self._process.busy_until, lambda: self.run(call))
            return
        around = _get_running_loop()
        _set_running_loop(self._as_loop)
        try:
            call()
        finally:
            _set_running_loop(around)
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    # --- what asyncio asks of it ------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._scheduler.now * HASTE / SECOND

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(0, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        after = max(0, round(delay * SECOND / HASTE))
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self._as_loop, context)

        def due() -> None:
            if not handle.cancelled():
                handle._run()

        self._scheduler.after(after, lambda: self.run(due))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._as_loop)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self._as_loop, **options)
        task.add_done_callback(self._ended)
        self._tasks[task] = coro
        return task

    def end(self) -> None:
        """The process is over: its tasks go no further."""
        for coro in self._tasks.values():
            with suppress(RuntimeError, ValueError):  # the one that runs at this moment, or does not want to end
                coro.close()
        self._tasks.clear()

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, ssl: object = None
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        assert ssl is None, "there is no TLS here"
        connected: asyncio.Future[tuple[asyncio.Transport, asyncio.BaseProtocol]] = self.create_future()
        self._dial(protocol_factory, host, port, connected)
        return await connected

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        if not self._process.over and problem is not None:
            self._problem = self._problem or problem

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._problem = self._problem or problem
