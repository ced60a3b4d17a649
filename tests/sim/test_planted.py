"""Four known bugs, planted: a simulator that does not find them would not find the next one either."""

from __future__ import annotations

import pytest

from kvstore.raft.config import PlantedBug
from tests.sim import checker, history
from tests.sim.run import run

#: The property that each breaks, and others that its doing may break first.
RULES = {
    PlantedBug.VOTE_NOT_PERSISTED: (checker.MONOTONE, {checker.ONE_LEADER, checker.ONE_VOTE}),
    PlantedBug.COMMIT_OLD_TERM: (checker.COMPLETENESS, {checker.STATE_MACHINE}),
    PlantedBug.STALE_READ: (history.LINEARIZABLE, set()),
    PlantedBug.ACK_BEFORE_FSYNC: (checker.DURABLE, {checker.COMPLETENESS, checker.STATE_MACHINE, checker.MONOTONE}),
}

#: Seeds that were seen to find it; then come as many others as it may take when the code has moved on.
FIRST = {
    PlantedBug.VOTE_NOT_PERSISTED: (0, 2),
    PlantedBug.COMMIT_OLD_TERM: (140, 68),
    PlantedBug.STALE_READ: (5,),
    PlantedBug.ACK_BEFORE_FSYNC: (0, 1),
}
AT_MOST = 400


@pytest.mark.parametrize("bug", list(PlantedBug))
def test_the_simulator_finds_it(bug: PlantedBug) -> None:
    rule, others = RULES[bug]
    for seed in (*FIRST[bug], *range(AT_MOST)):
        violation = run(seed, planted=frozenset({bug})).violation
        if violation is not None:
            if violation.rule == rule:
                return
            assert violation.rule in others, violation
    pytest.fail(f"not found in {AT_MOST} seeds")
