"""Runs the scenes in rounds, ours and etcd's in turn, and keeps every figure.

Who begins changes from round to round, and the scene that fills the disk comes in rounds of its own behind all others:
what it leaves for the disk to do, and the next to wait for, would be counted as the other's.
What a step cannot measure it reports, and its rows are not tried again; all others go on.
"""

from __future__ import annotations

import http.client
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.scenes import Scene, Sizes, Stage, Step
from benchmarks.systems import ETCD_NAME, OURS, CannotMeasure
from tests.cluster import ROOT, ClusterError

SYSTEMS = (OURS, ETCD_NAME)  # A B B A A B
MAX_FAILURE_LETTERS = 200  # of what is told in the table
_PROBLEMS = (CannotMeasure, ClusterError, OSError, TimeoutError, EOFError, http.client.HTTPException)


@dataclass(slots=True)
class Outcome:
    """What one system did in one row: a figure for each round, or why there is none."""

    rounds: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.rounds) if self.rounds and not self.failure else None

    @property
    def spread(self) -> float | None:
        """From the lowest round to the highest, as a share of the median; None where that has no sense."""
        median = self.median
        return (max(self.rounds) - min(self.rounds)) / median if median is not None and median > 0 else None


Outcomes = dict[str, dict[str, Outcome]]  # by row and system
Told = Callable[[str], None]


def measure(scenes: Sequence[Scene], names: Collection[str], sizes: Sizes, tell: Told) -> Outcomes:
    """All rows in `names`. `tell` hears what comes next."""
    outcomes: Outcomes = {name: {system: Outcome() for system in SYSTEMS} for name in names}
    for scene, turn, rounds in _order(scenes, sizes):
        for system in SYSTEMS if turn % 2 == 0 else reversed(SYSTEMS):
            steps = [step for step in scene.steps if _is_wanted(step, outcomes, system)]
            if steps:
                at = f"round {turn + 1} of {rounds}, {scene.name}, {system}"
                _play(scene, steps, sizes, system, outcomes, lambda what, at=at: tell(f"{at}: {what}"))  # type: ignore[misc]
    return outcomes


def _order(scenes: Sequence[Scene], sizes: Sizes) -> Iterator[tuple[Scene, int, int]]:
    """Which scene comes next, in which of how many rounds."""
    for is_long, rounds in ((False, sizes.rounds), (True, sizes.long_rounds)):
        for turn in range(rounds):
            for scene in scenes:
                if scene.is_long == is_long:
                    yield scene, turn, rounds


def _is_wanted(step: Step, outcomes: Outcomes, system: str) -> bool:
    return any(name in outcomes and not outcomes[name][system].failure for name in step.rows)


def _play(scene: Scene, steps: Sequence[Step], sizes: Sizes, system: str, outcomes: Outcomes, tell: Told) -> None:
    tell("prepares")
    with ExitStack() as stack:
        try:
            stage = stack.enter_context(scene.enter(system, sizes))
        except _PROBLEMS as problem:
            for step in steps:
                _fail(step, system, outcomes, problem)
            return
        for step in steps:
            tell(", ".join(step.rows))
            _take(step, stage, system, outcomes)


def _take(step: Step, stage: Stage, system: str, outcomes: Outcomes) -> None:
    try:
        figures = step.measure(stage)
    except _PROBLEMS as problem:
        _fail(step, system, outcomes, problem)
        return
    for name, figure in step.rows.items():
        if name in outcomes:
            outcomes[name][system].rounds.append(figures[figure])


def _fail(step: Step, system: str, outcomes: Outcomes, problem: BaseException) -> None:
    for name in _rows(step, outcomes):
        outcomes[name][system].failure = _in_one_line(problem)


def _rows(step: Step, outcomes: Outcomes) -> Iterator[str]:
    return (name for name in step.rows if name in outcomes)


def _in_one_line(problem: BaseException) -> str:
    """A server that ended says why in the last line of its log. No path of this machine, and no traceback."""
    lines = [line for line in str(problem).splitlines() if line.strip()] or [repr(problem)]
    said = lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1].partition(' | ')[2] or lines[-1]}"
    return said.partition(" traceback=")[0].replace(f"{ROOT}/", "")[:MAX_FAILURE_LETTERS]
