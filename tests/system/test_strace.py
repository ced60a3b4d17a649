"""The order that everything rests on, as the kernel saw it: a majority has a write on disk before its client hears it.

Every member runs under strace, and clients that pipeline write to all of them at the same time, so that many writes
share a sync and answers share a packet. The traces have the same clock.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.load import Connection, healthy
from tests.system.members import Member, prepared, until

STRACE = shutil.which("strace")
CALLS = "openat,pwrite64,pwritev,fdatasync,write,sendto,sendmsg,writev"
SHOWN_BYTES = 1 << 20  # of what is written: no batch here is longer
CONNECTIONS = 8  # to each member
PIPELINED = 6  # requests that are sent at a time on each of them
TURNS = 4  # how often they are
SECONDS = 60.0

_LINE = re.compile(r"(\d+) +(\d+\.\d+) (?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)")
_RESULT = re.compile(r" = (-?\d+).* <(\d+\.\d+)>$")
_FILE = re.compile(r"\d+<([^>]*\.wal)>")
_KEY = re.compile(r"traced-\d{6}")


class Call(NamedTuple):
    """One system call. Times are seconds since 1970."""

    name: str
    arguments: str
    began: float
    ended: float
    result: int


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize("size", [1, 3])
async def test_no_answer_leaves_before_the_fdatasyncs_that_cover_it(tmp_path: Path, size: int) -> None:
    async with prepared(size, tmp_path) as cluster:
        traces = {member.name: tmp_path / f"{member.name}.trace" for member in cluster.members}
        for member in cluster.members:
            await _launch(member, traces[member.name])
        for member in cluster.members:
            await member.serves()
        await healthy(*cluster.members)
        written = await _write(cluster.members)
        for member in cluster.members:
            assert await member.stop() == 0
        await until(lambda: _are_whole(traces.values()), "strace has written everything down")
    calls = {name: list(_calls(trace.read_text())) for name, trace in traces.items()}
    synced = {name: _synced(one) for name, one in calls.items()}
    answered = dict(answer for one in calls.values() for answer in _answered(one))
    assert answered.keys() == written
    majority = size // 2 + 1
    for key, moment in answered.items():
        moments = {name: one.get(key) for name, one in synced.items()}
        before = [name for name, one in moments.items() if one is not None and one < moment]
        assert len(before) >= majority, f"{key} was answered at {moment} and on disk at {moments}"
    shared = len(set(synced[cluster.members[0].name].values()))
    assert shared < len(written), "no two writes shared a sync, so this has shown little"


async def _launch(member: Member, trace: Path) -> None:
    assert STRACE is not None
    # -D: it is the server and not strace that gets our signals.
    await member.launch(
        *(STRACE, "-D", "-f", "-y", "-T", "--absolute-timestamps=format:unix,precision:ns"),
        *("-s", str(SHOWN_BYTES), "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(trace)),
    )


async def _write(members: Sequence[Member]) -> set[str]:
    """Writes on many connections at a time; the keys."""
    keys = [f"traced-{number:06}" for number in range(len(members) * CONNECTIONS * TURNS * PIPELINED)]
    unwritten = iter(keys)

    async def writes(member: Member) -> None:
        connection = await Connection.to(member)
        for _ in range(TURNS):
            for _ in range(PIPELINED):
                connection.send(f"PUT /v2/keys/{next(unwritten)}", "value=seen")
            for _ in range(PIPELINED):
                assert (await connection.answer()).status == 201
        await connection.close()

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        for member in members:
            for _ in range(CONNECTIONS):
                group.create_task(writes(member))
    return set(keys)


async def _are_whole(traces: Iterable[Path]) -> bool:
    return all(trace.read_text().endswith("+++ exited with 0 +++\n") for trace in traces)


def _calls(trace: str) -> Iterator[Call]:
    """In the order of their ends. One that another thread interrupts in the trace is in two lines."""
    begun: dict[str, tuple[str, str, float]] = {}
    for line in trace.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        thread, moment, name, text = found.groups()
        name, arguments, began = begun.pop(thread, (name, "", float(moment)))
        if text.endswith("<unfinished ...>"):
            begun[thread] = (name, text, began)
        elif result := _RESULT.search(text):
            yield Call(name, arguments + text, began, began + float(result[2]), int(result[1]))


def _synced(calls: Iterable[Call]) -> dict[str, float]:
    """When each key that was written to the log was on disk: the end of the first fdatasync that began after that."""
    waiting: dict[str, list[tuple[float, str]]] = {}  # by file: the ends of writes, and their keys
    synced: dict[str, float] = {}
    for call in calls:
        file = _FILE.match(call.arguments)
        if file is None or call.result < 0:
            continue
        keys = waiting.setdefault(file[1], [])
        if call.name == "fdatasync":
            for key in [key for end, key in keys if end <= call.began]:
                synced.setdefault(key, call.ended)
            keys[:] = [(end, key) for end, key in keys if end > call.began]
        else:
            keys += [(call.ended, key) for key in _KEY.findall(call.arguments)]
    return synced


def _answered(calls: Iterable[Call]) -> Iterator[tuple[str, float]]:
    """Which keys were answered, and when each answer was handed to the kernel."""
    for call in calls:
        if "HTTP/1.1 201 Created" in call.arguments:
            for key in set(_KEY.findall(call.arguments)):
                yield key, call.began
