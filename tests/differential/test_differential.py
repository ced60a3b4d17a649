"""Random operations on kvstored, on etcd where it is installed, and on a model: answer for answer the same.

DIFFERENTIAL_OPERATIONS says how many (`make differential`: 20,000), DIFFERENTIAL_SEED makes them others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.differential.machine import Bench, Machine
from tests.differential.servers import COMMANDS, Sides

OPERATIONS = int(os.environ.get("DIFFERENTIAL_OPERATIONS", "4000"))
FIRST_SEED = int(os.environ.get("DIFFERENTIAL_SEED", "1"))

ACTIONS = {"get", "set", "create", "update", "compareAndSwap", "delete", "compareAndDelete"}
ERRORS = {"100", "101", "102", "104", "105", "107", "108", "201", "202", "203", "209", "210", "211", "212", "401"}

ROUND = settings(
    max_examples=5,
    stateful_step_count=50,
    deadline=None,
    database=None,
    print_blob=False,
    phases=[Phase.generate],  # no shrinking: each try would need fresh servers, and the steps already name their bytes
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    Machine.bench = Bench(Sides(tmp_path))
    yield Machine.bench
    Machine.bench.sides.close()


def test_every_answer_is_the_same(bench: Bench) -> None:
    number = FIRST_SEED
    while bench.operations < OPERATIONS:
        run_state_machine_as_test(seed(number)(Machine), settings=ROUND)
        number += 1
    counts = (bench.operations, bench.watches, ", ".join(COMMANDS), dict(bench.outcomes))
    logging.getLogger(__name__).info("%d operations and %d watches on %s: %s", *counts)
    assert bench.outcomes.keys() >= ACTIONS | ERRORS  # all sorts of answers were had
    assert bench.watches > bench.operations / 100
