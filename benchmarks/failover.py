"""How long nobody can write after the leader was killed."""

from __future__ import annotations

import asyncio
import contextlib
import time

import uvloop

from benchmarks.raw import answer, put
from benchmarks.systems import CannotMeasure
from tests.cluster import Cluster, Member

PACE_SECONDS = 0.01  # between two new writes to each member that is left
DEADLINE_SECONDS = 30.0

_PUT = put(b"failover", b"v")


def seconds_without_writes(cluster: Cluster) -> float:
    """Kills the leader, and starts it again afterwards. From the kill to the first answer to a write sent after it."""
    leader = cluster.leader()
    others = [member for member in cluster.members if member is not leader]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds = runner.run(_seconds(leader, others))
    cluster.restart(leader.name)
    cluster.wait_until_healthy()
    return seconds


async def _seconds(leader: Member, others: list[Member]) -> float:
    """New writes go out all the time, each on a connection of its own: an old one may wait for who is dead."""
    loop = asyncio.get_running_loop()
    written: asyncio.Future[float] = loop.create_future()
    killed = time.perf_counter()
    leader.kill()
    writes: set[asyncio.Task[None]] = set()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not written.done():
                for member in others:
                    write = loop.create_task(_write(member, written))
                    writes.add(write)
                    write.add_done_callback(writes.discard)
                await asyncio.wait([written], timeout=PACE_SECONDS)
    except TimeoutError:
        raise CannotMeasure(f"no write succeeded within {DEADLINE_SECONDS:g} s of the leader's death") from None
    finally:
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
    return written.result() - killed


async def _write(member: Member, written: asyncio.Future[float]) -> None:
    """One write; notes when it was acknowledged, and forgets it when it was not."""
    with contextlib.suppress(OSError, EOFError, CannotMeasure):
        reader, writer = await asyncio.open_connection(member.address, member.ports.client)
        try:
            writer.write(_PUT)
            await answer(reader)
            if not written.done():
                written.set_result(time.perf_counter())
        finally:
            writer.close()
