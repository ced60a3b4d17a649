"""Random walks: figure 3 of the paper holds after every step, and is seen to break when a safety is taken out."""

from __future__ import annotations

import pytest

from kvstore.raft.config import PlantedBug
from kvstore.raft.types import Role

from .cluster import Violation
from .walk import Walk


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("seed", range(8))
def test_safety_and_convergence(seed: int, size: int) -> None:
    walk = Walk(seed, size)
    walk.run(2_000)
    walk.heal()
    cluster = walk.cluster
    leaders = [member.raft for member in cluster.up if member.raft.role is Role.LEADER]
    assert len(leaders) == 1, "the healed cluster has one leader"
    (leader,) = leaders
    assert leader.commit == leader.last_index, "and commits all it has"
    for member in leader.configuration.members:
        raft = cluster[member]
        assert (raft.applied, raft.log.last_term) == (leader.applied, leader.log.last_term)
        assert raft.configuration == leader.configuration


@pytest.mark.parametrize("bug", PlantedBug)
def test_every_planted_bug_is_found(bug: PlantedBug) -> None:
    for seed in range(300):
        # The same walk without the bug is sound: it is the bug that is found, not the weather.
        Walk(seed, weather=bug).run(1_000)
        try:
            Walk(seed, weather=bug, planted=True).run(1_000)
        except Violation:
            return
    pytest.fail(f"{bug} went unnoticed")
