"""kvstored and etcd side by side on this machine: `python -m benchmarks`, or `make bench`.

docs/benchmarks.md says how it is measured. Only a whole run replaces what benchmarks/results/ holds.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import report
from benchmarks.chart import to_svg
from benchmarks.rounds import measure
from benchmarks.rows import NAMES, ROWS
from benchmarks.scenes import FULL, QUICK, SCENES
from benchmarks.systems import PACKAGES, missing
from tests.cluster import ROOT

RESULTS = Path(__file__).parent / "results"
PARTIAL_RESULTS = ROOT / "run" / "bench"
JSON, TABLE, CHART = "results.json", "table.md", "chart.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 when a row could not be measured; a missed goal is a figure like any other."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.list:
        print("\n".join(f"{row.name:20} {row.title(FULL.keys, FULL.watchers)}" for row in ROWS))
        return 0
    names = [name for name in NAMES if any(fnmatch(name, pattern) for pattern in chosen.only or ["*"])]
    if not names:
        parser.error("no row has such a name; --list shows them")
    is_whole = not chosen.quick and not chosen.only
    into = chosen.into or (RESULTS if is_whole or chosen.render else PARTIAL_RESULTS)
    if not chosen.render:
        sizes = QUICK if chosen.quick else FULL
        sizes = sizes._replace(rounds=chosen.rounds or sizes.rounds, seconds=chosen.seconds or sizes.seconds)
        sizes = sizes._replace(long_rounds=min(sizes.long_rounds, sizes.rounds))
        _say_what_is_missing()
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            outcomes = measure(SCENES, names, sizes, _tell)
        except KeyboardInterrupt:
            return 130
        finally:
            _tell("")
        into.mkdir(parents=True, exist_ok=True)
        (into / JSON).write_text(report.to_json(outcomes, sizes, report.versions()))
    return _render(into)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes: one round, fewer keys and watchers")
    parser.add_argument("--only", action="append", metavar="ROW", help="these rows alone; * and ? stand for letters")
    parser.add_argument("--list", action="store_true", help="show the names of the rows and end")
    parser.add_argument("--rounds", type=_positive, help=f"default: {FULL.rounds}")
    parser.add_argument("--seconds", type=_positive, help=f"of each run of a load, default: {FULL.seconds:g}")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: make table and chart anew from the JSON"
    )
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where the results go")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _say_what_is_missing() -> None:
    if tools := missing():
        packages = " ".join(PACKAGES[tool] for tool in tools)
        print(
            f"bench: {', '.join(tools)} not installed, so not every row can be measured;"
            f" on Debian: apt-get install {packages}",
            file=sys.stderr,
        )


def _tell(what: str) -> None:
    """One line that changes, on a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what[:110]}", end="", file=sys.stderr, flush=True)


def _render(folder: Path) -> int:
    try:
        document = json.loads((folder / JSON).read_text())
    except OSError as problem:
        print(f"bench: {JSON} cannot be read: {problem.strerror}; `make bench` makes it", file=sys.stderr)
        return 1
    why = report.reasons()
    lines = report.lines_of(document)
    table = report.to_markdown(document, why)
    (folder / TABLE).write_text(table)
    (folder / CHART).write_text(to_svg(lines, report.circumstances(document)))
    print(table)
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    print(f"In {shown}: {JSON}, {TABLE}, {CHART}")
    if names := report.unexplained(lines, why):
        print(f"bench: {report.REASONS.name} gives no reason for {', '.join(names)}", file=sys.stderr)
    return 1 if any(one.failure for line in lines for one in (line.ours, line.theirs)) else 0


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
