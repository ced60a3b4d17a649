"""Known bugs, planted: a simulator that does not find them would not find the next one either."""

from __future__ import annotations

import pytest

from kvstore.raft.config import PlantedBug
from tests.sim import checker, cluster, history, machine, memory, pace, probe, watching
from tests.sim.planted import PlantedFault
from tests.sim.run import BUG, run

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
    PlantedFault.REFUSED_APPEND_SETS_TIME: {pace.PACE},
    PlantedFault.OWN_SNAPSHOT_TRUSTED: {cluster.CONVERGES},
    PlantedFault.UNKNOWN_COMMAND_TAKEN: {checker.LEVEL},
    PlantedFault.UNKNOWN_MESSAGE_CRASHES: {BUG},
    PlantedFault.WATCHERS_MISS_INSTALL: {watching.EVENTS},
    PlantedFault.STORE_REPLACED: {watching.READS},
    PlantedFault.ROT_UNSEEN: {machine.ROT},
}

#: Seeds that were seen to find it; then come as many others as it may take when the code has moved on.
FIRST: dict[str, tuple[int, ...]] = {
    PlantedBug.VOTE_NOT_PERSISTED: (9,),
    PlantedBug.COMMIT_OLD_TERM: (127,),
    PlantedBug.STALE_READ: (20,),
    PlantedBug.ACK_BEFORE_FSYNC: (3,),
    PlantedFault.SNAPSHOT_NAME_BELIEVED: (101,),
    PlantedFault.TIME_FOLLOWS_WALL: (6,),
    PlantedFault.SNAPSHOT_BY_ROWS: (0,),
    PlantedFault.INSTALL_LEAKS: (2,),
    PlantedFault.MOVED_MEMBER_REFUSED: (11,),
    PlantedFault.DEAF_AFTER_MOVE: (125,),
    PlantedFault.EMPTY_DISK_WELCOMED: (45,),
    PlantedFault.REFUSED_APPEND_SETS_TIME: (19,),
    PlantedFault.OWN_SNAPSHOT_TRUSTED: (45,),
    PlantedFault.UNKNOWN_COMMAND_TAKEN: (10,),
    PlantedFault.UNKNOWN_MESSAGE_CRASHES: (19,),
    PlantedFault.WATCHERS_MISS_INSTALL: (3,),
    PlantedFault.STORE_REPLACED: (3,),
    PlantedFault.ROT_UNSEEN: (9,),
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
