"""How many phrases each file holds, and how many it may."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tidy.phrases import Hit, hits

ROOT = Path(__file__).parents[2]
ALLOWANCE = Path(__file__).with_name("allowance.txt")
#: They show the phrases: as examples, as patterns, in tests.
EXEMPT = ("docs/style.md", "tests/tidy/", "tests/test_prose.py")
#: Texts for people are anywhere in the programs; strings of tests and benchmarks are data.
PROGRAMS = ("kvstore/", "cmd/")
HEAD = (
    "# Phrases that docs/style.md replaces, by file; written by `python -m tests.tidy --lower`. The sum never rises.\n"
)
SUFFIXES = (".md", ".py", ".pyx", ".pyi")


class Risen(Exception):
    """The phrases are more than the allowance has; the text is how many more."""


def found(root: Path = ROOT) -> dict[str, list[Hit]]:
    """The phrases of each file of the project that holds any."""
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=root, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name.endswith(SUFFIXES) and not name.startswith(EXEMPT)]
    everything = {
        name: hits(root / name, all_strings=name.startswith(PROGRAMS)) for name in names if (root / name).is_file()
    }
    return {name: of_file for name, of_file in everything.items() if of_file}


def allowed(path: Path = ALLOWANCE) -> dict[str, int]:
    lines = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: int(count) for count, name in lines}


def differences(now: dict[str, int], allowance: dict[str, int]) -> list[str]:
    """Every file whose count is not the one allowed, as a line that says what to do."""
    lines = []
    for name in sorted(now.keys() | allowance.keys()):
        count, limit = now.get(name, 0), allowance.get(name, 0)
        if count > limit:
            lines.append(
                f"{name}: {count} phrases, {limit} allowed: see `python -m tests.tidy {name}` and docs/style.md"
            )
        elif count < limit:
            lines.append(f"{name}: {count} phrases, {limit} allowed: `python -m tests.tidy --lower`")
    return lines


def lower(now: dict[str, int], path: Path = ALLOWANCE) -> None:
    """Write the counts as the new allowance. A file may have been moved or merged, but the sum may not rise: Risen."""
    before, after = sum(allowed(path).values()), sum(now.values())
    if after > before:
        raise Risen(f"{after} phrases, {before} allowed")
    path.write_text(HEAD + "".join(f"{now[name]:4} {name}\n" for name in sorted(now)))
