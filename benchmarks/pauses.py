"""The longest request that clients at a steady pace meet, while nothing happens or while snapshots are taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine

import uvloop

from benchmarks.filling import FIRST_SMALL_KEY
from benchmarks.raw import answer, get, put
from benchmarks.systems import CannotMeasure, snapshots_of
from tests.cluster import Member

CLIENTS = 8
PACE_SECONDS = 0.008  # between two requests of one client; every other one is a PUT
WARM_UP_SECONDS = 2.0
LOOK_SECONDS = 0.02  # between two looks for new snapshots
DEADLINE_SECONDS = 120.0
SNAPSHOT_COUNT = 4000  # --snapshot-count: one every eight seconds at this pace
SNAPSHOTS = 2  # that must end meanwhile: the first may have begun before

_PUTS = [put(b"paced/%d" % number, 100 * b"p") for number in range(CLIENTS)]
_GET = get(FIRST_SMALL_KEY)


def longest_usually(member: Member, seconds: float) -> float:
    """Seconds that the longest request took, over a time in which no snapshot ends. CannotMeasure."""
    before = snapshots_of(member)
    longest = _run(member, asyncio.sleep(seconds))
    if snapshots_of(member) != before:
        raise CannotMeasure("a snapshot was taken where none should be")
    return longest


def longest_meanwhile(member: Member) -> float:
    """Seconds that the longest request took, over a time in which at least one snapshot begins and ends."""
    return _run(member, _snapshots(member))


async def _snapshots(member: Member) -> None:
    seen = set(snapshots_of(member))
    wanted = len(seen) + SNAPSHOTS
    while len(seen) < wanted:
        await asyncio.sleep(LOOK_SECONDS)
        seen |= snapshots_of(member)


def _run(member: Member, meanwhile: Coroutine[None, None, None]) -> float:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_longest(member, meanwhile))
    except TimeoutError:
        raise CannotMeasure(f"no snapshot was seen to end within {DEADLINE_SECONDS:g} s") from None


async def _longest(member: Member, meanwhile: Coroutine[None, None, None]) -> float:
    """All clients at work, first to warm up and then until `meanwhile` ends."""
    took: list[float] = []
    clients = [asyncio.create_task(_client(member, number, took)) for number in range(CLIENTS)]
    try:
        await asyncio.sleep(WARM_UP_SECONDS)
        took.clear()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.wait([asyncio.ensure_future(meanwhile), *clients], return_when=asyncio.FIRST_COMPLETED)
            while not took and not any(client.done() for client in clients):  # all wait since before that time began
                await asyncio.wait(clients, timeout=LOOK_SECONDS)
    finally:
        for client in clients:
            client.cancel()
        ended = await asyncio.gather(*clients, return_exceptions=True)
    broken = [problem for problem in ended if not isinstance(problem, asyncio.CancelledError)]
    if broken:
        raise CannotMeasure(f"a client met {broken[0]!r}")
    return max(took)


async def _client(member: Member, number: int, took: list[float]) -> None:
    """One connection that asks at its pace until it is cancelled; notes how long each request took."""
    reader, writer = await asyncio.open_connection(member.address, member.ports.client)
    loop = asyncio.get_running_loop()
    due = loop.time() + PACE_SECONDS * number / CLIENTS  # the clients take turns
    try:
        for turn in range(1 << 30):
            await asyncio.sleep(max(0.0, due - loop.time()))
            began = time.perf_counter()
            writer.write(_GET if turn % 2 else _PUTS[number])
            await answer(reader)
            took.append(time.perf_counter() - began)
            due = max(due + PACE_SECONDS, loop.time())  # what a pause held back is not sent all at once
    finally:
        writer.close()
