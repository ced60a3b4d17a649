"""Many seeds: nothing of one stays for the next, and a process that is killed is noticed."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter

import pytest

from kvstore import compiled
from tests.sim.life import Life
from tests.sim.run import Report, run
from tests.sim.workers import WorkerDied, forget, run_many


def _quick(seed: int) -> Report:
    return Report(seed, os.getpid(), Counter(), None)


def _killed(seed: int) -> Report:
    if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return _quick(seed)


def test_nothing_of_a_seed_stays_behind() -> None:
    frozen: list[int] = []

    def listener(moment: int, who: str, what: str) -> None:
        """A member that installs a snapshot freezes all objects that there are; here also without one."""
        if not frozen and what.startswith("starts in term"):
            gc.freeze()
            frozen.append(moment)

    run(3, listener=listener)
    assert frozen
    forget()
    assert not gc.get_freeze_count()
    if not compiled.is_in_use("kvstore.transport"):  # a compiled coroutine that waits keeps what it refers to
        assert not [one for one in gc.get_objects() if type(one) is Life]


def test_processes_are_replaced_and_every_seed_is_reported() -> None:
    reports = list(run_many(range(7), _quick, processes=2, seeds_a_process=2))
    assert sorted(report.seed for report in reports) == list(range(7))
    assert max(Counter(report.steps for report in reports).values()) == 2


def test_a_process_that_is_killed_ends_the_run_and_its_seed_is_named() -> None:
    with pytest.raises(WorkerDied, match=r"seed 3 ended with signal SIGKILL.*--seed 3"):
        list(run_many(range(8), _killed, processes=2, seeds_a_process=3))
