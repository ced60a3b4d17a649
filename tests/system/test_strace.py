"""The order that everything rests on, as the kernel saw it: a write is on the disk before its client hears of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.system.load import healthy, put
from tests.system.members import prepared, until

STRACE = shutil.which("strace")
CALLS = "openat,pwrite64,fdatasync,write,sendto,sendmsg,writev"
KEY = "/traced-key"


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
async def test_no_answer_leaves_before_the_fdatasync_that_covers_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert STRACE is not None
    async with prepared(1, tmp_path) as cluster:
        member = cluster.members[0]
        # -D: it is the server and not strace that gets our signals.
        await member.launch(STRACE, "-D", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace))
        await member.serves()
        await healthy(member)
        assert (await put(member, KEY, "seen")).status == 201

        async def is_traced() -> bool:
            return "201 Created" in trace.read_text()

        await until(is_traced, "strace has written down the answer")
        assert await member.stop() == 0
    lines = trace.read_text().splitlines()
    written = next(at for at, line in enumerate(lines) if "pwrite64(" in line and ".wal>" in line and KEY[1:] in line)
    synced = _finished(lines, "fdatasync", written)
    answered = next(at for at, line in enumerate(lines) if "201 Created" in line)
    assert written < synced < answered, "\n".join(lines[written : answered + 1])


def _finished(lines: list[str], call: str, after: int) -> int:
    """The line in which the first such call on the log that begins behind `after` has returned 0."""
    for at, line in enumerate(lines[after:], after):
        begun = re.match(rf"(\d+) +{call}\(.*\.wal>", line)
        if begun is None:
            continue
        if line.endswith(" = 0"):
            return at
        resumed = re.compile(rf"{begun[1]} +<\.\.\. {call} resumed>.* = 0$")
        return next(later for later, text in enumerate(lines[at:], at) if resumed.match(text))
    raise AssertionError(f"no {call} behind the write")
