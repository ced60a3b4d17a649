"""A bug that stops every member at one entry: they say which, `check` finds it, and all come back without it."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.cluster import environment
from tests.system.load import Connection, ask, healthy, keys_below, put
from tests.system.members import Member, prepared

#: A server, or `check`, with a bug in it: deleting one key raises.
PLANTED = """
import sys
from kvstore.store import store
from kvstore.store.operations import Delete
apply = store._APPLIERS[Delete]
def broken(machine, operation, now):
    if operation.key == b"/poison":
        raise ZeroDivisionError("planted")
    return apply(machine, operation, now)
store._APPLIERS[Delete] = broken
from kvstored.main import main
sys.exit(main())
"""
FLAGS = ("--heartbeat-interval", "20", "--election-timeout", "200", "--max-snapshots", "2")


class BuggyMember(Member):
    def command(self) -> list[str]:
        _, _, _, *flags = super().command()
        return [sys.executable, "-c", PLANTED, *flags]


async def check(member: Member) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PLANTED, "check", "--data-dir", str(member.folder)),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def state(member: Member) -> bytes:
    return (await ask(member, "GET /v2/keys/?recursive=true&sorted=true&quorum=true")).body


async def test_all_members_stop_at_one_entry_and_come_back_equal_without_it(tmp_path: Path) -> None:
    async with prepared(3, tmp_path, FLAGS) as cluster:
        for member in cluster.members:
            member.__class__ = BuggyMember
        await cluster.start()
        await healthy(*cluster.members)
        first = cluster.members[0]
        assert (await put(first, "/poison", "1")).status == 201
        connection = await Connection.to(first)
        connection.send("DELETE /v2/keys/poison")
        assert set(await asyncio.gather(*(member.ends() for member in cluster.members))) == {1}
        await connection.close()
        words = [
            re.findall(r'must stop why="?(entry (\d+) of term (\d+) .*)', member.log) for member in cluster.members
        ]
        assert len({(found[0][1], found[0][2]) for found in words}) == 1, words
        ((line, index, term),) = words[0]
        entry = f"{index}:{term}"
        assert f"--skip-entry {entry}, on ALL members" in line

        status, report = await check(first)
        assert status == 1
        assert f"entry {index} of term {term} cannot be applied" in report

        for member in cluster.members:
            member.flags += ["--skip-entry", entry]
        await cluster.start()
        await healthy(*cluster.members)
        assert (await put(first, "/after", "1")).status == 201
        held = {await state(member) for member in cluster.members}
        assert len(held) == 1
        assert b'"key":"/poison"' in held.pop(), "its removal did not happen, on any of them"
        assert all("skipped an entry of the log" in member.log for member in cluster.members)

        await cluster.kill()
        for member in cluster.members:
            member.flags = [*FLAGS, "--snapshot-count", "5"]  # remembered; and then a snapshot is past it
        await cluster.start()
        await healthy(*cluster.members)
        for number in range(20):
            await put(first, "/turn", f"{number}")
        assert await keys_below(first, "/") == await keys_below(cluster.members[2], "/")
        status, report = await check_stopped(first)
        assert status == 0, report
        assert f"entry {index} of term {term} is skipped" in report


async def check_stopped(member: Member) -> tuple[int | None, str]:
    await member.kill()
    return await check(member)


async def test_a_member_whose_snapshot_is_past_the_entry_refuses_the_flag(tmp_path: Path) -> None:
    async with prepared(1, tmp_path, ("--snapshot-count", "5")) as cluster:
        (member,) = cluster.members
        await member.start()
        await healthy(member)
        for number in range(20):
            await put(member, "/turn", f"{number}")
        await member.stop()
        member.flags += ["--skip-entry", "4:2"]
        assert "is past that entry" in await member.refuses_to_start()
