"""`python -m tests.sim --seeds 1000` runs that many clusters; `--seed N` replays one, with `--trace` line by line."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial

from tests.sim.planted import ALL
from tests.sim.run import Report, run
from tests.sim.workers import WorkerDied, quiet, run_many


def _print(moment: int, who: str, what: str) -> None:
    sys.stdout.write(f"{moment / 1e6:10.6f} {who:>2} {what}\n")


def _tell(report: Report) -> None:
    sys.stdout.write(f"seed {report.seed}: {report.violation or 'no violation'}\n")
    if report.violation is not None:
        sys.stdout.write(f"replay it: python -m tests.sim --seed {report.seed} --trace\n")


def _run_many(first: int, count: int, planted: frozenset[str]) -> int:
    total: Counter[str] = Counter()
    steps = failures = 0
    show = sys.stderr.isatty()
    died = ""
    try:
        for done, report in enumerate(run_many(range(first, first + count), partial(run, planted=planted)), 1):
            total.update(report.sightings)
            steps += report.steps
            if report.violation is not None:
                failures += 1
                _tell(report)
            if show:
                sys.stderr.write(f"\r{done} of {count} seeds, {failures} failed ")
    except WorkerDied as death:
        died = str(death)
    if show:
        sys.stderr.write("\n")
    if died:
        sys.stdout.write(f"{died}\n")
        return 2
    sys.stdout.write(f"{count} seeds, {steps} steps, {failures} failed\n")
    for what, times in sorted(total.items()):
        sys.stdout.write(f"  {what}: {times}\n")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--trace", action="store_true", help="print every event of it")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--planted", choices=list(ALL), action="append", default=[], help="a bug to be found")
    arguments = parser.parse_args()
    planted = frozenset(arguments.planted)
    if arguments.seed is None:
        return _run_many(arguments.first, arguments.seeds, planted)
    quiet()
    report = run(arguments.seed, planted, _print if arguments.trace else None)
    _tell(report)
    for what, times in sorted(report.sightings.items()):
        sys.stdout.write(f"  {what}: {times}\n")
    return 0 if report.violation is None else 1


if __name__ == "__main__":
    sys.exit(main())
