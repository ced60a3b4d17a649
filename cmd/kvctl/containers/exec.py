"""`exec`: a command with keys in its environment, told or started anew when they change."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from typing import NamedTuple

from kvctl.command import Command, Context, Failure
from kvctl.containers.child import Child, Signals
from kvctl.containers.env import NAMING, read, subjects
from kvctl.containers.source import Source
from kvctl.containers.variables import Unfit
from kvctl.containers.words import CACHE, PATIENCE, PREFIX, warn
from kvctl.flags import SECONDS, TEXT, Flag

PAUSE_SECONDS = 0.5
GRACE_SECONDS = 10.0


class _Reaction(NamedTuple):
    """To a change: `signal` is sent, or where it is None the command starts anew, `grace` seconds after SIGTERM."""

    signal: signal.Signals | None
    pause: float
    grace: float


async def _exec(context: Context) -> int:
    if not context.command_line:
        raise Failure("a command is needed behind --")
    reaction = _reaction(context)
    wanted = subjects(context)
    async with await Source.open(context) as source:
        await source.load(wanted, context.flags.seconds("wait"))
        source.save()
        with Signals() as signals:
            running = _Running(context, source, signals)
            await running.start()
            return await (running.child.wait() if reaction is None else running.follow(reaction))


def _reaction(context: Context) -> _Reaction | None:
    name, restarts = context.flags.text("signal"), context.flags.switch("restart")
    if name and restarts:
        raise Failure("--signal and --restart exclude each other")
    if not name and not restarts:
        if context.flags.switch("watch"):
            raise Failure("--watch needs --signal NAME or --restart")
        return None
    number = None
    if name:
        try:
            number = signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
        except KeyError:
            raise Failure(f"--signal: there is no signal {name}") from None
    return _Reaction(number, max(context.flags.seconds("debounce"), 0.0), max(context.flags.seconds("grace"), 0.0))


class _Running:
    """The command, and the environment that it was started in."""

    def __init__(self, context: Context, source: Source, signals: Signals) -> None:
        self._context = context
        self._source = source
        self._signals = signals
        self._environment: Mapping[str, str] = {}
        self.child: Child

    async def start(self) -> None:
        """Raises Failure."""
        try:
            self._environment = self._read()
        except Unfit as error:
            raise Failure(str(error)) from None
        await self._start()

    def _read(self) -> Mapping[str, str]:
        own = {} if self._context.flags.switch("pristine") else self._context.environment
        return {**own, **read(self._context, self._source).values}

    async def _start(self) -> None:
        self.child = await Child.start(self._context.command_line, self._environment)
        self._signals.attach(self.child)

    async def follow(self, reaction: _Reaction) -> int:
        """Until the command ends by itself or by a signal that we were sent; its status."""
        changes = self._source.changes(reaction.pause)
        change = asyncio.ensure_future(anext(changes))
        end = asyncio.ensure_future(self.child.wait())
        try:
            while True:
                await asyncio.wait((change, end), return_when=asyncio.FIRST_COMPLETED)
                if end.done():
                    return end.result()
                change.result()
                change = asyncio.ensure_future(anext(changes))
                if not self._is_new():
                    continue
                if reaction.signal is not None:
                    self.child.signal(reaction.signal)
                    continue
                status = await self.child.end(reaction.grace)
                if self._signals.ended_by:
                    return status
                await self._start()
                end = asyncio.ensure_future(self.child.wait())
        finally:
            change.cancel()
            await asyncio.gather(change, return_exceptions=True)
            await changes.aclose()

    def _is_new(self) -> bool:
        try:
            environment = self._read()
        except Unfit as error:
            warn(self._context, f"{error}; the command goes on as it is")
            return False
        changed = environment != self._environment
        self._environment = environment
        return changed


EXEC = Command(
    _exec,
    usage="-- <command> [args...]",
    flags=(
        PREFIX,
        *NAMING,
        Flag("pristine", "nothing of kvctl's own environment for the command"),
        Flag("watch, w", "follow changes; needs --signal or --restart, which imply it"),
        Flag("signal", "on a change, send the command this signal, as HUP", TEXT),
        Flag("restart", "on a change, end the command and start it in the new environment"),
        Flag("debounce", "react once no change came for so long", SECONDS, PAUSE_SECONDS, "500ms"),
        Flag("grace", "with --restart: time between SIGTERM and SIGKILL", SECONDS, GRACE_SECONDS, "10s"),
        CACHE,
        PATIENCE,
    ),
    example="kvctl exec --prefix /defaults --prefix /services/web --upcase --sanitize --restart -- ./web --port 80",
    is_ours=True,
    runs_command=True,
)
