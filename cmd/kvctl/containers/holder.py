"""`lock` and `semaphore`: a command that runs while we have a place among the first of a line, and not for longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kvctl.command import Context, Failure
from kvctl.containers.child import Child, Signals
from kvctl.containers.line import Line
from kvctl.containers.tree import clean
from kvctl.containers.words import (
    LOCK_LOST,
    TIME_IS_UP,
    UNANSWERED,
    Waiting,
    connect,
    is_out_of_reach,
    one_line,
    out_of_reach,
    warn,
)
from kvctl.flags import NUMBER, SECONDS, TEXT, Flag
from kvstore.client import Client, ClientError, Keys

TTL_SECONDS = 30
#: Below it, a slow disk or an election would already cost the place.
LEAST_TTL_SECONDS = 2
#: Of the time to live: how long the command has between SIGTERM and SIGKILL, at most; and a rest for clocks that drift.
GRACE_PART = 3
REST_PART = 10

FLAGS = (
    Flag("ttl", "seconds after which the place is free again when this machine is lost", NUMBER, TTL_SECONDS, "30"),
    Flag("grace", "time between SIGTERM and SIGKILL when the place is lost (default: a third of --ttl)", SECONDS),
    Flag("timeout", "give up waiting after so long, with status 124; 0s: never", SECONDS, 0.0, "0s"),
    Flag(
        "cache", "accepted for all commands alike; a place is never taken from it: fails at once, without waiting", TEXT
    ),
)


class Place(NamedTuple):
    """What is being waited for. `what` is for messages, `variables` for the command."""

    what: str
    directory: str
    limit: int
    variables: Callable[[Line], Mapping[str, str]]


class _Times(NamedTuple):
    """Seconds."""

    ttl: int
    grace: float
    reserve: float


def directory(root: str, name: str) -> str:
    """A NAME with a slash in front is the directory itself."""
    return clean(name if name.startswith("/") else f"{root}/{name}")


def name(context: Context) -> str:
    """Raises Failure."""
    if len(context.words) != 1 or not context.words[0].strip("/"):
        raise Failure("one name is needed")
    if not context.command_line:
        raise Failure("a command is needed behind --")
    return context.words[0]


def _times(context: Context) -> _Times:
    ttl = context.flags.number("ttl")
    if ttl < LEAST_TTL_SECONDS:
        raise Failure(f"--ttl must be at least {LEAST_TTL_SECONDS}")
    grace = context.flags.seconds("grace") if context.flags.is_given("grace") else ttl / GRACE_PART
    if not 0 <= grace <= ttl / 2:
        raise Failure("--grace must be between 0s and half of --ttl")
    return _Times(ttl, grace, grace + ttl / REST_PART)


async def hold(context: Context, place: Place) -> int:
    times = _times(context)
    with Signals() as signals:
        client = await connect(context)
        async with client:
            if context.flags.text("cache"):
                await _be_there(client, place)
            async with Waiting(f"waiting for {place.what}") as waiting:
                line = Line(
                    Keys(client),
                    place.directory,
                    limit=place.limit,
                    ttl=times.ttl,
                    reserve=times.reserve,
                    on_wait=lambda text: setattr(waiting, "detail", text),
                    on_trouble=lambda text: warn(context, text),
                )
                waited = await _wait(context, line, signals, place, waiting)
            if isinstance(waited, int):
                return waited
            try:
                return await _run(context, line, signals, waited, place, times)
            finally:
                waited.cancel()
                await asyncio.gather(waited, return_exceptions=True)
                await _leave(context, line)


async def _be_there(client: Client, place: Place) -> None:
    try:
        await Keys(client).get("/", quorum=True)
    except ClientError as error:
        if is_out_of_reach(error):
            raise Failure(f"{out_of_reach(error)}; {place.what} is never taken from a cache") from None


async def _wait(
    context: Context, line: Line, signals: Signals, place: Place, waiting: Waiting
) -> asyncio.Task[str] | int:
    """The task that keeps the place, or the exit status of giving up."""
    turn = asyncio.create_task(line.turn())
    ended = asyncio.create_task(signals.ended())
    seconds = context.flags.seconds("timeout")
    try:
        await asyncio.wait((turn, ended), timeout=seconds or None, return_when=asyncio.FIRST_COMPLETED)
        if turn.done() and not ended.done():
            return turn.result()
        if turn.done() and turn.exception() is None:
            turn.result().cancel()
    except (Failure, ClientError):
        await _leave(context, line)
        raise
    finally:
        for task in (turn, ended):
            task.cancel()
        await asyncio.gather(turn, ended, return_exceptions=True)
    why = waiting.detail or UNANSWERED
    await _leave(context, line)
    if signals.ended_by:
        return 128 + signals.ended_by
    warn(context, f"{place.what} could not be taken within {seconds:g} s: {why}")
    return TIME_IS_UP


async def _run(
    context: Context, line: Line, signals: Signals, keeping: asyncio.Task[str], place: Place, times: _Times
) -> int:
    environment = {**context.environment, **place.variables(line)}
    child = await Child.start(context.command_line, environment, whole_group=True)
    signals.attach(child)
    ending = asyncio.create_task(child.wait())
    removed = asyncio.create_task(line.removed())
    try:
        await asyncio.wait((ending, keeping, removed), return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            return ending.result()
        why = (keeping if keeping.done() else removed).result()
    finally:
        removed.cancel()
        await asyncio.gather(removed, return_exceptions=True)
    warn(context, f"{place.what} is lost, and the command is ended: {why}")
    await child.end(times.grace)
    await ending
    return LOCK_LOST


async def _leave(context: Context, line: Line) -> None:
    try:
        await line.leave()
    except ClientError as error:
        warn(context, f"{line.key} may not be removed, and runs out with its time to live: {one_line(error)}")
