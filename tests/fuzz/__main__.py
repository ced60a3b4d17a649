"""`make fuzz`: many mutated inputs for each target, a million in all by default.

Findings are printed with the input as Python writes it; the status is 1 if there are any. The same seed gives the same
inputs.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import resource
import sys
import time

from tests.fuzz.run import Finding, fuzz
from tests.fuzz.targets import TARGETS, counts

MOST_FINDINGS = 20  # of one target, then it is left alone
EVERY = 997  # inputs between two looks at the terminal


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=...", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=[target.name for target in TARGETS], help="this one alone")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # they are what should be
    shares = counts(arguments.inputs)
    total = 0
    findings: list[Finding] = []
    for target in TARGETS:
        if arguments.target in (None, target.name):
            count = arguments.inputs if arguments.target else shares[target.name]
            began = time.monotonic()
            found: list[Finding] = []
            tried = 0
            for tried, one in enumerate(fuzz(target, count, arguments.seed), 1):
                if one is not None:
                    found.append(one)
                    if len(found) == MOST_FINDINGS:
                        break
                if sys.stderr.isatty() and tried % EVERY == 0:
                    print(f"\r{target.name}: {tried} of {count}\x1b[K", end="", file=sys.stderr, flush=True)
            if sys.stderr.isatty():
                print("\r\x1b[K", end="", file=sys.stderr)
            seconds = time.monotonic() - began
            print(f"{target.name:>16}  {tried:>8} inputs  {seconds:>7.1f} s  {len(found)} findings", flush=True)
            for finding in found:
                print(finding, flush=True)
            total += tried
            findings += found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    kinds = len(list(itertools.groupby(sorted(finding.problem for finding in findings))))
    print(f"{total} inputs, {len(findings)} findings of {kinds} kinds, at most {peak} MiB held")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
