"""Check that every reference to a page, heading or decision leads somewhere. Part of `make check`; needs no network.

- In Markdown: every relative link, every anchor after `#` as GitHub derives it from a heading, and every section named
  in italics after a link to its page.
- Elsewhere: every page of docs/ or of the root that a docstring or comment names, and the section in italics after it.
- Everywhere: every decision, by its number (docs/adr/).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (".py", ".pyx", ".pyi", ".lua", ".toml")
#: Holds references that lead nowhere on purpose.
EXAMPLES = Path("tests/test_links.py")

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_PAGE = re.compile(r"(?<![\w/.-])(docs/[\w./-]+\.md|[A-Z]+\.md)\b(?:, \*([^*]+)\*)?")
_SECTION = re.compile(r"\]\(([\w./-]+\.md)\), \*([^*]+)\*")
_DECISION = re.compile(r"\bADRs? (\d+)|\badr/(\d{4})")
#: A line's end, and what begins the next line of a comment: a reference may be broken there.
_MARGIN = re.compile(r"\n[ \t]*(?:#:?[ \t]?)?")


def tracked(root: Path) -> list[Path]:
    """The files under version control below `root`, or all files where there is no repository."""
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [root / name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
    return [path for path in sorted(root.rglob("*")) if path.is_file()]


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page: headings in lower case, without punctuation, blanks as hyphens, repetitions numbered."""
    found: list[str] = []
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return frozenset(found)


@cache
def sections(page: Path) -> frozenset[str]:
    """What a reference may call the sections of a page: a heading, or the part of it before a colon."""
    found = [text.replace("`", "") for text in _HEADING.findall(_FENCE.sub("", page.read_text()))]
    return frozenset(found) | {text.partition(":")[0] for text in found}


def in_markdown(page: Path) -> Iterator[str]:
    text = _FENCE.sub("", page.read_text())
    for target in _LINK.findall(text):
        name, _, anchor = target.partition("#")
        if "://" in name or name.startswith("mailto:"):
            continue
        path = page.parent / name if name else page
        if not path.exists():
            yield f"{target} does not exist"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield f"{target} names no heading of {path.name}"
    for name, section in _SECTION.findall(" ".join(text.split())):
        if (page.parent / name).is_file() and section not in sections(page.parent / name):
            yield f"{name} has no section {section!r}"


def in_source(path: Path, root: Path) -> Iterator[str]:
    """References in docstrings, comments and texts; a name without a folder is a page at the root."""
    for name, section in _PAGE.findall(_MARGIN.sub(" ", path.read_text(errors="replace"))):
        if not (root / name).is_file():
            yield f"{name} does not exist"
        elif section and section not in sections(root / name):
            yield f"{name} has no section {section!r}"


def of_decisions(path: Path, root: Path) -> Iterator[str]:
    for match in _DECISION.finditer(path.read_text(errors="replace")):
        number = int(match[1] or match[2])
        if not any((root / "docs" / "adr").glob(f"{number:04}-*.md")):
            yield f"{match[0]} does not exist"


def problems(root: Path = ROOT) -> Iterator[str]:
    for path in tracked(root):
        name = path.relative_to(root)
        if path.suffix == ".md":
            found = [*in_markdown(path), *of_decisions(path, root)]
        elif name != EXAMPLES and (path.suffix in SOURCES or path.name == "Makefile"):
            found = [*in_source(path, root), *of_decisions(path, root)]
        else:
            continue
        yield from (f"{name}: {text}" for text in found)


def main() -> int:
    lines = list(problems())
    for line in lines:
        print(f"links: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
