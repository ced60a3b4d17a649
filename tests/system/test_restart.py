"""All members are killed at one moment and started: they do not wait for an election timeout that no leader began.

The timeout is far longer than the deadline, so that a machine with a lot to do changes nothing about what is tested.
`make restart-bench` measures how long it takes.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.system.load import healthy, put
from tests.system.members import prepared

ELECTION_MS = 50_000  # a timeout is drawn from one to two of them
DEADLINE_SECONDS = 45.0


async def test_members_that_were_all_killed_serve_long_before_an_election_timeout(tmp_path: Path) -> None:
    async with prepared(3, tmp_path, ["--election-timeout", str(ELECTION_MS)]) as cluster:
        await cluster.start()
        await healthy(*cluster.members)
        assert (await put(cluster.members[0], "/a", "1")).status == 201
        await cluster.kill()
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await cluster.start()
            await healthy(*cluster.members)
        print(f"all serve after {time.monotonic() - began:.2f} s")


async def test_a_follower_that_was_killed_and_starts_costs_the_leader_nothing(tmp_path: Path) -> None:
    async with prepared(3, tmp_path) as cluster:
        await cluster.start()
        await healthy(*cluster.members)
        follower = next(member for member in cluster.members if "became leader" not in member.log)
        others = [member for member in cluster.members if member is not follower]
        before = [member.log.count("no leader") for member in others]
        await follower.kill()
        await follower.start()
        await healthy(*cluster.members)
        assert [member.log.count("no leader") for member in others] == before, "nobody lost its leader"
