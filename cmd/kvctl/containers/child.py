"""A command as our child: its start, the signals it is handed, its end, and its exit status as a shell gives it.

A child leads a process group of its own. On a terminal that group is in the foreground, so that Ctrl-C reaches the
child alone and once; all other signals come to us and are handed on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from types import TracebackType

from kvctl.command import Failure

NOT_RUNNABLE = 126
NOT_FOUND = 127
#: Handed on to the child. Those of the second row end us where there is no child.
_HANDED_ON = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGALRM)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


class CannotRun(Failure):
    """With the status that a shell would give."""


class Child:
    """`whole_group`: signals go to all that it started, and all of it is killed when we are."""

    def __init__(self, process: asyncio.subprocess.Process, whole_group: bool, terminal: int | None) -> None:
        self._process = process
        self._whole_group = whole_group
        self._terminal = terminal

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], *, whole_group: bool = False) -> Child:
        """Raises CannotRun."""
        terminal = _our_terminal()
        parent = os.getpid()

        def prepare() -> None:
            os.setpgid(0, 0)
            if terminal is not None:
                _take(terminal, os.getpid())
            if whole_group and sys.platform == "linux":
                _die_with(parent)

        try:
            process = await asyncio.create_subprocess_exec(*command, env=environment, preexec_fn=prepare)
        except FileNotFoundError:
            raise CannotRun(f"{command[0]}: command not found", NOT_FOUND) from None
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            raise CannotRun(f"{command[0]} cannot be run: {text}", NOT_RUNNABLE) from None
        return cls(process, whole_group, terminal)

    async def wait(self) -> int:
        """Its exit status; 128 and the signal's number where one ended it."""
        status = await self._process.wait()
        if self._terminal is not None:
            _take(self._terminal, os.getpgrp())
        return status if status >= 0 else 128 - status

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if self._whole_group:
                os.killpg(self._process.pid, number)
            elif self._process.returncode is None:
                self._process.send_signal(number)

    async def end(self, grace: float) -> int:
        """SIGTERM, and after `grace` seconds SIGKILL for its whole group; its exit status.

        With `whole_group`, what it leaves behind is killed as soon as it has ended itself.
        """
        self.signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._process.wait()
        if self._whole_group or self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return await self.wait()


def _our_terminal() -> int | None:
    """Standard input, where it is a terminal that we have in the foreground."""
    with suppress(OSError):
        if os.tcgetpgrp(0) == os.getpgrp():
            return 0
    return None


def _take(terminal: int, group: int) -> None:
    """Makes `group` the foreground. Who is in the background is stopped for that unless it ignores the signal."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):
        os.tcsetpgrp(terminal, group)
    signal.signal(signal.SIGTTOU, before)


def _die_with(parent: int) -> None:
    """The kernel kills this process when `parent` dies, however that happens."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


class Signals:
    """`with Signals() as signals`: what we are sent goes to `signals.child`. One that ends is remembered in
    `ended_by`; with a child, SIGHUP is handed on and ends nothing, since it asks many programs to read again."""

    def __init__(self) -> None:
        self.child: Child | None = None
        self.ended_by = 0
        self._ended = asyncio.Event()

    def __enter__(self) -> Signals:
        loop = asyncio.get_running_loop()
        for number in (*_HANDED_ON, *_ENDING):
            loop.add_signal_handler(number, self._take, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in (*_HANDED_ON, *_ENDING):
            loop.remove_signal_handler(number)

    def attach(self, child: Child) -> None:
        """From now on signals go to `child`; one that came while it was being started does as well."""
        self.child = child
        if self.ended_by:
            child.signal(self.ended_by)

    def _take(self, number: signal.Signals) -> None:
        if self.child is not None:
            self.child.signal(number)
        if number in _ENDING and not (number == signal.SIGHUP and self.child is not None):
            self.ended_by = number
            self._ended.set()

    async def ended(self) -> int:
        """The number of the signal that ends us, once it came."""
        await self._ended.wait()
        return self.ended_by


async def until_signalled(work: Coroutine[None, None, int]) -> int:
    """What `work` returns; or it is cancelled by a signal that ends us, may put things in order, and 128 and the
    signal's number is returned."""
    with Signals() as signals:
        working = asyncio.create_task(work)
        ended = asyncio.create_task(signals.ended())
        try:
            await asyncio.wait((working, ended), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else 128 + signals.ended_by
        finally:
            for task in (working, ended):
                task.cancel()
            await asyncio.gather(working, ended, return_exceptions=True)
