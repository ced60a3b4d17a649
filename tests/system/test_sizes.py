"""Large values, long names and a large history are a normal state: saved, installed, restored, within bounds.

`make sizes` runs it in full (250 values of 1 MiB, 8 of 10 MiB, a history of 300 MiB) and prints what was measured;
`make test` runs an eighth of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from tests.system.load import Connection, ask, healthy
from tests.system.members import Member, running, until
from tests.system.test_reconfiguration import members_api

IS_FULL = bool(os.environ.get("KVSTORE_SIZES"))
PART = 1 if IS_FULL else 8
MIB = (1 << 20) // PART
NAME_BYTES = 30_000 // PART
#: What a process takes that holds nothing: the interpreter and its modules, and the arenas that threads make.
BARE_BYTES = 80 << 20
SEGMENT_BYTES = 64 << 20
SNAPSHOT_BYTES = 160 * MIB  # the state makes it more than the least of 128
HISTORY_BYTES = 300 * MIB
VALUE_BYTES = 10 * MIB
#: In small, one segment of 64 MiB and one snapshot count as much as all of them do in full.
SMALL = ("--max-log-bytes", f"{128 * MIB * 8}", "--max-wals", "1", "--max-snapshots", "1")
FLAGS = (
    *("--event-history-bytes", f"{HISTORY_BYTES}", "--max-request-bytes", f"{VALUE_BYTES + 100}"),
    *(() if IS_FULL else SMALL),
)
LIVE_BYTES = 250 * MIB + 8 * VALUE_BYTES + 200 * NAME_BYTES + HISTORY_BYTES


class Sample(NamedTuple):
    resident: int
    folder: int

    def __str__(self) -> str:
        return f"resident {self.resident >> 20} MiB, folder {self.folder >> 20} MiB"


def sample(member: Member) -> Sample:
    resident = int(Path(f"/proc/{member.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    folder = 0
    for path in member.folder.rglob("*"):
        try:
            folder += path.stat().st_blocks * 512
        except FileNotFoundError:  # a file that was removed meanwhile
            continue
    return Sample(resident, folder)


async def fill(connection: Connection) -> None:
    for number in range(250):
        await write(connection, f"/value/{number}", f"{number % 10}" * MIB)
    for number in range(8):
        await write(connection, f"/large/{number}", f"{number}" * VALUE_BYTES)
    for number in range(200):
        await write(connection, f"/name/{number}" + "x" * NAME_BYTES, "")


async def write(connection: Connection, key: str, value: str) -> None:
    answer = await connection.ask(f"PUT /v2/keys{key}", f"value={value}", seconds=60)
    assert answer.status in (200, 201), answer.body[:500]


async def digest(member: Member) -> str:
    """Of all keys, values and indices."""
    connection = await Connection.to(member)
    found = hashlib.sha256()
    connection.send("GET /v2/keys/?recursive=true&quorum=true&sorted=true")
    async with asyncio.timeout(120):
        head = await connection.head()
        assert head.status == 200
        assert head.headers["transfer-encoding"] == "chunked"
        while piece := await connection.chunk():
            found.update(piece)
    await connection.close()
    return found.hexdigest()


async def snapshots_taken(member: Member) -> int:
    text = (await ask(member, "GET /metrics")).body.decode()
    assert "\nkvstored_snapshot_failures_total 0\n" in text
    (line,) = (x for x in text.splitlines() if x.startswith("etcd_debugging_snap_save_total_duration_seconds_count"))
    return int(line.split()[1])


async def newcomer(member: Member, folder: Path) -> Member:
    joining = Member("n2", folder, member.address, (*FLAGS, "--initial-cluster-state", "existing"))
    joining.initial_cluster = f"{member.name}={member.peer_url},n2={joining.peer_url}"
    assert (await members_api(member, "POST /v2/members", joining.peer_url)).status == 201
    return joining


async def test_large_values_long_names_and_a_large_history_stay_within_bounds(tmp_path: Path) -> None:
    async with running(1, tmp_path, FLAGS) as cluster:
        (member,) = cluster.members
        await healthy(member)
        connection = await Connection.to(member)
        await fill(connection)
        for number in range(HISTORY_BYTES // VALUE_BYTES):  # each event holds the value before and after it
            await write(connection, "/hot", f"{number % 10}" * VALUE_BYTES)
        samples = []
        turns = 3 * SNAPSHOT_BYTES // VALUE_BYTES + 9
        for number in range(turns):
            await write(connection, "/hot", f"{number % 10}" * VALUE_BYTES)
            samples.append(sample(member))
            if IS_FULL and number % 8 == 0:
                print(number, samples[-1])
        await connection.close()
        assert await snapshots_taken(member) >= 3

        last = samples[-turns // 3 :]
        middle = samples[turns // 3 : -turns // 3]
        resident, folder = (max(one[which] for one in samples) for which in (0, 1))
        print(f"live {LIVE_BYTES >> 20} MiB; at most {Sample(resident, folder)} in {turns} writes")
        print(f"middle third at most {Sample(*map(max, zip(*middle, strict=True)))}")
        print(f"last third at most {Sample(*map(max, zip(*last, strict=True)))}")
        assert resident <= BARE_BYTES + 2.5 * LIVE_BYTES
        assert folder <= 3 * LIVE_BYTES + (0 if IS_FULL else 4 * SEGMENT_BYTES)
        for which in (0, 1):
            assert max(one[which] for one in last) <= 1.1 * max(one[which] for one in middle) + SEGMENT_BYTES, "flat"

        joining = await newcomer(member, tmp_path)
        try:
            await joining.start()
            await until(lambda: _is_healthy(joining), "the new member has all", seconds=120)
            assert "installed a snapshot" in joining.log
            held = await digest(member)
            assert await digest(joining) == held
            print(f"new member: {sample(joining)}")
            for one in (member, joining):
                await one.kill()
            await asyncio.gather(member.start(), joining.start())
            await healthy(member, joining)
            assert await digest(member) == await digest(joining) == held
            print(f"after a restart: {sample(member)}; new member: {sample(joining)}")
        finally:
            await joining.kill()
        assert "Traceback" not in member.log + joining.log


async def _is_healthy(member: Member) -> bool:
    return (await ask(member, "GET /health")).status == 200
