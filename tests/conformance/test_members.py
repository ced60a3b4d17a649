"""Real etcd's recorded conversations, replayed against real processes: a single member, a follower of three, and three.

Scenarios run one after the other against one server, as they were recorded, and so compare indices exactly; those
that wait for real seconds have servers of their own beside the others'.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conformance.test_recordings import ALONE, QUICK, SLOW, replay, write_area
from tests.system.load import healthy, leader_among
from tests.system.members import running

FLAGS = ("--event-history", "1000", "--bcrypt-cost", "4")  # etcd's history, which the recordings need


@pytest.mark.parametrize("count", [1, 3], ids=["single_member", "follower_of_three"])
async def test_members_answer_as_recorded(count: int, tmp_path: Path) -> None:
    async def replay_all(areas: tuple[str, ...]) -> list[str]:
        folder = tmp_path / areas[0]
        failures = []
        async with running(count, folder, FLAGS) as cluster:
            await healthy(*cluster.members)
            leader = await leader_among(cluster.members)
            asked = next((member for member in cluster.members if member is not leader), leader)
            failures.extend([await replay([asked.client_url], write_area(area, folder, count == 1)) for area in areas])
            assert all("Traceback" not in member.log for member in cluster.members)
        return [failure for failure in failures if failure]

    groups = [QUICK, *((area,) for area in (*SLOW, *(ALONE if count == 1 else ())))]
    found = await asyncio.gather(*(replay_all(group) for group in groups))
    assert not any(found), "\n".join(failure for failures in found for failure in failures)


async def test_three_members_answer_as_recorded(tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        await healthy(*cluster.members)
        failure = await replay([member.client_url for member in cluster.members], write_area("cluster", tmp_path))
        assert all("Traceback" not in member.log for member in cluster.members)
    assert not failure, failure


async def test_a_member_without_quorum_answers_as_recorded(tmp_path: Path) -> None:
    """Each refused request takes five seconds and two election timeouts."""
    async with running(1, tmp_path, (*FLAGS, "--heartbeat-interval=20", "--election-timeout=200")) as cluster:
        (member,) = cluster.members
        await healthy(member)
        failure = await replay([member.client_url], write_area("no_quorum", tmp_path), "--throwaway")
        assert "Traceback" not in member.log
    assert not failure, failure
