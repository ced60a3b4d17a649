"""Known bugs, planted: a simulator that does not find them would not find the next one either."""

from __future__ import annotations

import pytest

from kvstore.raft.config import PlantedBug
from tests.sim import checker, cluster, history, machine, memory, pace, probe
from tests.sim.planted import PlantedFault
from tests.sim.run import run

#: The property that each breaks, and others that its doing may break first.
RULES = {
    PlantedBug.VOTE_NOT_PERSISTED: (checker.MONOTONE, {checker.ONE_LEADER, checker.ONE_VOTE}),
    PlantedBug.COMMIT_OLD_TERM: (checker.COMPLETENESS, {checker.STATE_MACHINE}),
    PlantedBug.STALE_READ: (history.LINEARIZABLE, set()),
    PlantedBug.ACK_BEFORE_FSYNC: (checker.DURABLE, {checker.COMPLETENESS, checker.STATE_MACHINE, checker.MONOTONE}),
}

#: What each mend around the core was made against. Seeds of `FIRST` were seen to find it.
MENDS: dict[PlantedFault, set[str]] = {
    PlantedFault.SNAPSHOT_NAME_BELIEVED: {machine.STARTS, checker.DURABLE},
    PlantedFault.TIME_FOLLOWS_WALL: {pace.PACE, probe.TTL, checker.TIME},
    PlantedFault.SNAPSHOT_BY_ROWS: {probe.SNAPSHOT},
    PlantedFault.INSTALL_LEAKS: {memory.MEMORY},
    PlantedFault.MOVED_MEMBER_REFUSED: {machine.STARTS},
    PlantedFault.DEAF_AFTER_MOVE: {cluster.CONVERGES},
    PlantedFault.EMPTY_DISK_WELCOMED: {checker.ONCE, checker.COMPLETENESS, checker.STATE_MACHINE, checker.ONE_VOTE},
}

#: Seeds that were seen to find it; then come as many others as it may take when the code has moved on.
FIRST: dict[str, tuple[int, ...]] = {
    PlantedBug.VOTE_NOT_PERSISTED: (1,),
    PlantedBug.COMMIT_OLD_TERM: (127,),
    PlantedBug.STALE_READ: (19,),
    PlantedBug.ACK_BEFORE_FSYNC: (1,),
    PlantedFault.SNAPSHOT_NAME_BELIEVED: (101,),
    PlantedFault.TIME_FOLLOWS_WALL: (6,),
    PlantedFault.SNAPSHOT_BY_ROWS: (0,),
    PlantedFault.INSTALL_LEAKS: (1,),
    PlantedFault.MOVED_MEMBER_REFUSED: (11,),
    PlantedFault.DEAF_AFTER_MOVE: (125,),
    PlantedFault.EMPTY_DISK_WELCOMED: (45,),
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


@pytest.mark.parametrize("fault", list(PlantedFault))
def test_the_simulator_finds_a_mend_that_is_taken_out(fault: PlantedFault) -> None:
    for seed in (*FIRST[fault], *range(AT_MOST)):
        violation = run(seed, planted=frozenset({fault})).violation
        if violation is not None:
            assert violation.rule in MENDS[fault], violation
            return
    pytest.fail(f"not found in {AT_MOST} seeds")
