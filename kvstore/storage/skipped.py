"""Entries of the log that an operator has this member skip for good, because applying them stops every member.

    member/skipped     a line for each: index and term

They are remembered, because a later start replays the same log. Nothing here knows what an entry holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from kvstore.storage.errors import DamagedFile, DiskFailed
from kvstore.storage.files import Files
from kvstore.storage.textfile import read_lines, write_lines

_LINE = re.compile(r"entry ([0-9]{1,20}) term ([0-9]{1,20})")


def skipped_file(path: str) -> str:
    return f"{path}/member/skipped"


def read_skipped(files: Files, path: str) -> frozenset[tuple[int, int]]:
    """(index, term) of each. DamagedFile, DiskFailed."""
    try:
        lines = read_lines(files, skipped_file(path)) or []
    except OSError as error:
        raise DiskFailed(skipped_file(path), "reading", error) from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if None in matches:
        raise DamagedFile(skipped_file(path), 0, "a line that names no entry")
    return frozenset((int(match[1]), int(match[2])) for match in matches if match is not None)


def write_skipped(files: Files, path: str, entries: Collection[tuple[int, int]]) -> None:
    """Durable on return. DiskFailed."""
    try:
        write_lines(files, skipped_file(path), [f"entry {index} term {term}" for index, term in sorted(entries)])
    except OSError as error:
        raise DiskFailed(skipped_file(path), "writing", error) from error
