"""Real etcd's recorded conversations, replayed against real processes: a single member, a follower of three, and three.

Scenarios run one after the other against one server, as they were recorded, and so compare indices exactly; those
that wait for real seconds have servers of their own beside the others'.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.conformance.test_recordings import ALONE, QUICK, SLOW, replay, write_area
from tests.system.load import healthy, leader_among
from tests.system.members import running

FLAGS = ("--event-history", "1000", "--bcrypt-cost", "4")  # etcd's history, which the recordings need


async def test_members_answer_as_recorded(tmp_path: Path) -> None:
    """Most of the time of the one without a quorum is waiting, so the others have theirs beside it."""

    async def one_after_the_other() -> list[str]:
        return [*await replay_all(1, tmp_path), *await replay_all(3, tmp_path), *await replay_three(tmp_path)]

    failures, failure = await asyncio.gather(one_after_the_other(), replay_without_quorum(tmp_path))
    assert not any((*failures, failure)), "\n".join((*failures, failure))


async def replay_all(count: int, tmp_path: Path) -> list[str]:
    """A single member, or a follower of three."""

    async def replay_some(areas: tuple[str, ...]) -> list[str]:
        folder = tmp_path / f"{count}-{areas[0]}"
        failures = []
        async with running(count, folder, FLAGS) as cluster:
            await healthy(*cluster.members)
            leader = await leader_among(cluster.members)
            asked = next((member for member in cluster.members if member is not leader), leader)
            failures.extend([await replay([asked.client_url], write_area(area, folder, count == 1)) for area in areas])
            assert all("Traceback" not in member.log for member in cluster.members)
        return failures

    groups = [QUICK, *((area,) for area in (*SLOW, *(ALONE if count == 1 else ())))]
    return [failure for some in await asyncio.gather(*map(replay_some, groups)) for failure in some]


async def replay_three(tmp_path: Path) -> list[str]:
    folder = tmp_path / "three"
    async with running(3, folder, FLAGS) as cluster:
        await healthy(*cluster.members)
        failure = await replay([member.client_url for member in cluster.members], write_area("cluster", folder))
        assert all("Traceback" not in member.log for member in cluster.members)
    return [failure]


async def replay_without_quorum(tmp_path: Path) -> str:
    """Each refused request takes five seconds and two election timeouts."""
    folder = tmp_path / "no_quorum"
    async with running(1, folder, (*FLAGS, "--heartbeat-interval=20", "--election-timeout=200")) as cluster:
        (member,) = cluster.members
        await healthy(member)
        failure = await replay([member.client_url], write_area("no_quorum", folder), "--throwaway")
        assert "Traceback" not in member.log
    return failure
