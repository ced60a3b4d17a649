"""One seed, from its plan to its verdict."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.sim.cluster import Cluster
from tests.sim.faults import Faults
from tests.sim.limits import scaled
from tests.sim.plan import draw
from tests.sim.trace import Trace, Violation

BUG = "the product's own assertions"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of `seed` saw; `violation` is None if all went well."""

    seed: int
    steps: int
    sightings: Counter[str]
    violation: Violation | None


def run(
    seed: int, planted: frozenset[str] = frozenset(), listener: Callable[[int, str, str], None] | None = None
) -> Report:
    """Never raises for what the cluster does: that is in the report."""
    trace = Trace(listener)
    plan = draw(seed, planted)
    cluster = Cluster(seed, plan, trace)
    violation = None
    try:
        with scaled(plan):
            faults = Faults(cluster)
            cluster.scheduler.run_until(plan.duration)
            faults.over = True
            cluster.settle()
    except Violation as broken:
        violation = broken
    except Exception as problem:
        violation = Violation(BUG, "".join(traceback.format_exception(problem)))
    if violation is not None and trace.is_on:
        trace.tell(cluster.scheduler.now, "*", f"VIOLATION {violation}")
    return Report(seed, cluster.scheduler.steps, trace.sightings, violation)
