"""What was measured, as JSON and as a Markdown table, judged against the goals.

The table and the chart are made from the JSON alone, and from reasons.toml, which is written by hand: why a row falls
short. Knows nothing of how anything is measured.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.rounds import Outcome, Outcomes
from benchmarks.rows import ROWS, Row
from benchmarks.scenes import Sizes
from benchmarks.systems import ETCD_NAME, OURS
from tests.cluster import ROOT

REASONS = Path(__file__).parent / "reasons.toml"


class Line(NamedTuple):
    """One row with what both systems did."""

    row: Row
    what: str
    ours: Outcome
    theirs: Outcome

    @property
    def ratio(self) -> float | None:
        """Ours over etcd's; None where either is missing, or etcd's is nothing to divide by."""
        ours, theirs = self.ours.median, self.theirs.median
        return ours / theirs if ours is not None and theirs is not None and theirs > 0 else None

    @property
    def is_met(self) -> bool | None:
        """None where there is no goal, or where it cannot be told."""
        if self.row.goal is None:
            return None
        if self.ours.median is None:
            return False
        return self.row.goal.is_met(self.ours.median, self.theirs.median)


def to_json(outcomes: Outcomes, sizes: Sizes, versions: Mapping[str, str]) -> str:
    """Everything that was measured; no name of a host and no path."""
    rows = {
        row.name: {system: {"rounds": one.rounds, "failure": one.failure} for system, one in outcomes[row.name].items()}
        | {"unit": row.unit, "median": {system: one.median for system, one in outcomes[row.name].items()}}
        | {"ratio": line.ratio, "goal": row.wanted, "met": line.is_met}
        for row, line in ((line.row, line) for line in _lines(outcomes, sizes))
    }
    document = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": _machine(),
        "versions": dict(versions),
        "sizes": sizes._asdict(),
        "rows": rows,
    }
    return json.dumps(document, indent=1) + "\n"


def _machine() -> dict[str, object]:
    """What the figures depend on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _text("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = next((int(line.split()[1]) for line in _text("/proc/meminfo") if line.startswith("MemTotal:")), 0)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / (1 << 20)),
        "kernel": platform.release(),
    }


def _text(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def versions() -> dict[str, str]:
    """Of ours, of Python, and of what the Debian packages brought."""
    tools = {ETCD_NAME: ("etcd", "--version"), "wrk": ("wrk", "-v"), "h2load": ("h2load", "--version")}
    numbers = {name: re.search(r"\d+\.\d+[^\s,]*", _output(*command)) for name, command in tools.items()}
    commit = re.fullmatch(r"[0-9a-f]+", _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"))
    return {
        OURS: commit[0] if commit else "unknown",
        "python": platform.python_version(),
        **{name: number[0] if number else "not installed" for name, number in numbers.items()},
    }


def _output(*command: str) -> str:
    """What it prints to stdout; empty where it cannot run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except OSError:
        return ""


def lines_of(document: Mapping[str, Any]) -> list[Line]:
    """The rows of a JSON document, in the order of the table."""
    outcomes = {
        name: {system: Outcome(found[system]["rounds"], found[system]["failure"]) for system in (OURS, ETCD_NAME)}
        for name, found in document["rows"].items()
    }
    return list(_lines(outcomes, Sizes(**document["sizes"])))


def _lines(outcomes: Outcomes, sizes: Sizes) -> Iterator[Line]:
    for row in ROWS:
        if row.name in outcomes:
            what = row.title(sizes.keys, sizes.watchers)
            yield Line(row, what, outcomes[row.name][OURS], outcomes[row.name][ETCD_NAME])


def reasons() -> dict[str, str]:
    """Why rows fall short, by their name."""
    return {name: str(text) for name, text in tomllib.loads(REASONS.read_text()).items()}


def circumstances(document: Mapping[str, Any]) -> str:
    """When, where and how, in one sentence."""
    machine, sizes, found = document["machine"], document["sizes"], document["versions"]
    rounds = f"medians of {sizes['rounds']} rounds" if sizes["rounds"] > 1 else "a single round"
    return (
        f"{document['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Linux"
        f" {machine['kernel']}, Python {found['python']}, etcd {found[ETCD_NAME]}; {rounds} of {sizes['seconds']:g} s."
    )


def to_markdown(document: Mapping[str, Any], why: Mapping[str, str]) -> str:
    lines = [
        "| what | goal | ours | etcd | ratio | met? | why not |",
        "|---|---|---:|---:|---:|---|---|",
        *(_markdown(line, why) for line in lines_of(document)),
    ]
    met = [line.is_met for line in lines_of(document)]
    summary = f"{met.count(True)} goals of {len(met) - met.count(None)} are met."
    return f"{circumstances(document)}\n{summary}{_noise(lines_of(document))}\n\n" + "\n".join(lines) + "\n"


def _noise(lines: Sequence[Line]) -> str:
    """How far the rounds lie apart, as one sentence; nothing after a single round."""
    spreads = [one.spread for line in lines for one in (line.ours, line.theirs) if len(one.rounds) > 1]
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return ""
    return f" In half of the rows, lowest and highest round lie less than {statistics.median(known):.0%} apart."


def _markdown(line: Line, why: Mapping[str, str]) -> str:
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    met = {True: "yes", False: "**no**", None: ""}[line.is_met]
    failures = [one.failure for one in (line.ours, line.theirs) if one.failure]
    reason = "; ".join([*failures, *([why[line.row.name]] if not line.is_met and line.row.name in why else [])])
    cells = (line.what, line.row.wanted, _cell(line.row, line.ours), _cell(line.row, line.theirs), ratio, met, reason)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(row: Row, outcome: Outcome) -> str:
    return "not measured" if outcome.median is None else row.show(outcome.median)


def unexplained(lines: Sequence[Line], why: Mapping[str, str]) -> list[str]:
    """Rows that fall short without a written reason."""
    return [
        line.row.name for line in lines if line.is_met is False and not line.ours.failure and line.row.name not in why
    ]
