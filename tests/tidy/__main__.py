"""`python -m tests.tidy [FILE ...]` lists the phrases; `--check` compares with the allowance, `--lower` writes it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.tidy import counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tidy", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="as git names it; a folder ends with /")
    parser.add_argument("--lower", action="store_true", help="write the counts as the new allowance")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a count is not the one allowed")
    arguments = parser.parse_args()
    found = counts.found()
    now = {name: len(hits) for name, hits in found.items()}
    if arguments.check:
        lines = counts.differences(now, counts.allowed())
        print("".join(f"tidy: {line}\n" for line in lines), end="", file=sys.stderr)
        return 1 if lines else 0
    if arguments.lower:
        try:
            counts.lower(now)
        except counts.Risen as error:
            print(f"tidy: {error}", file=sys.stderr)
            return 1
        return 0
    shown = {
        name: hits for name, hits in found.items() if not arguments.files or name.startswith(tuple(arguments.files))
    }
    for name, hits in shown.items():
        for hit in hits:
            print(f"{name}:{hit.line}: {hit.meaning}: {hit.found}")
    totals = Counter(hit.meaning for hits in shown.values() for hit in hits)
    print(f"{totals.total()} phrases: " + ", ".join(f"{meaning} ({count})" for meaning, count in totals.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
