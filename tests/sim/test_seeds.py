"""Some whole clusters. `make sim` runs a thousand."""

from __future__ import annotations

from collections import Counter

from tests.sim.run import run
from tests.sim.workers import run_many

SEEDS = (*range(45, 68), 78, 88)

#: What they must have met, or they prove little.
RARE = (
    "configuration changes",
    "conflicts truncated",
    "disk failures",
    "disks lost",
    "elections",
    "histories cleared",
    "killed in mid-operation",
    "lost promises",
    "members moved",
    "members replaced",
    "plain reads",
    "re-proposals",
    "rot found",
    "snapshot pieces",
    "snapshots installed",
    "snapshots rotten",
    "snapshots rotten when they are needed",
    "states compared",
    "torn tails cut",
    "transfers",
    "watches cut off",
)


def test_seeds_hold_and_meet_what_is_rare() -> None:
    reports = list(run_many(SEEDS, run, seeds_a_process=5))
    broken = [f"python -m tests.sim --seed {one.seed}: {one.violation}" for one in reports if one.violation]
    assert not broken, "\n".join(broken)
    seen: Counter[str] = Counter()
    for report in reports:
        seen.update(report.sightings)
    assert not [what for what in RARE if not seen[what]]
    assert seen["commits"] > 50 * len(SEEDS)
    assert seen["keys linearizable"] > 2 * len(SEEDS)
    assert seen["keys undecided"] <= len(SEEDS) // 10
