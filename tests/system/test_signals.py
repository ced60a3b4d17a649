"""SIGTERM and SIGINT: what is in flight is finished, and the exit status is 0."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.system.load import Connection, healthy, keys_below
from tests.system.members import running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_in_flight_is_answered_before_the_end(number: signal.Signals, tmp_path: Path) -> None:
    async with running(1, tmp_path) as cluster:
        member = cluster.members[0]
        await healthy(member)
        watcher = await Connection.to(member)
        watcher.send("GET /v2/keys/never?wait=true")
        assert (await watcher.head()).status == 200
        writers = [await Connection.to(member) for _ in range(20)]
        asked = [
            asyncio.ensure_future(writer.ask(f"PUT /v2/keys/k/{at}", "value=" + "x" * 100_000))
            for at, writer in enumerate(writers)
        ]
        await asked[0]
        member.signal(number)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        async with asyncio.timeout(5):
            assert await watcher.chunk() == b""  # the watch ends in good order
        await asyncio.gather(*(connection.close() for connection in (watcher, *writers)))
        assert await member.ends() == 0
        assert "Traceback" not in member.log
        acknowledged = {f"/k/{at}" for at, answer in enumerate(answers) if not isinstance(answer, BaseException)}
        assert acknowledged
        await member.start()
        assert acknowledged <= set(await keys_below(member, "/k"))


async def test_a_member_without_a_quorum_stops_too(tmp_path: Path) -> None:
    async with running(3, tmp_path) as cluster:
        await healthy(*cluster.members)
        first, *others = cluster.members
        await asyncio.gather(*(other.kill() for other in others))
        assert await first.stop() == 0, first.log
