"""Members of the release before and of this one, side by side, with real processes: `make upgrade` in full."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from tests.cluster import environment
from tests.system.members import Cluster, Member, prepared, until
from tests.upgrade.before import ROOT, command, is_in_history, unpacked

#: Sizes of the clusters; `make upgrade` asks for all of them.
SIZES = [int(size) for size in os.environ.get("UPGRADE_SIZES", "3").split(",")]
#: Longest time without an acknowledged write, in seconds.
LONGEST_GAP = float(os.environ.get("UPGRADE_LONGEST_GAP", "6"))
FLAGS = ("--snapshot-count", "50")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

pytestmark = pytest.mark.skipif(not is_in_history(), reason="the release before is not in this clone's history")


class Versioned(Member):
    """A member whose program can be changed while it is stopped."""

    tree = ROOT

    def command(self) -> list[str]:
        return [*command(self.tree), *super().command()[3:]]


class Writers:
    """One client for each member, which writes as fast as it is answered, and when each answer came."""

    def __init__(self, members: list[Member]) -> None:
        self.acknowledged: list[tuple[float, str, int]] = []
        self.failures: list[str] = []
        self._members = members

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session:
            tasks = [asyncio.create_task(self._write(session, member)) for member in self._members]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, session: aiohttp.ClientSession, member: Member) -> None:
        number = 0
        while True:
            number += 1
            url = f"{member.client_url}/v2/keys/{member.name}"
            try:
                async with session.put(url, data=f"value={number}", headers=FORM) as answer:
                    if answer.status in (200, 201):
                        self.acknowledged.append((time.monotonic(), member.name, number))
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.02)

    def longest_gap(self) -> float:
        times = [at for at, _, _ in self.acknowledged]
        return max(after - before for before, after in pairwise(times))


def has_level(member: Member, level: int) -> bool:
    return (member.folder / "member" / "identity").read_text().startswith(f"kvstored data folder, format {level}\n")


async def leads(member: Member) -> bool:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{member.client_url}/v2/stats/self") as answer,
    ):
        return bool((await answer.json(content_type=None))["state"] == "StateLeader")


async def holding_back(member: Member) -> set[str]:
    """The names of the members that keep the cluster at its level."""
    async with aiohttp.ClientSession() as session, session.get(f"{member.client_url}/levels") as answer:
        document = await answer.json(content_type=None)
    assert document["level"] == 1
    return {one["name"] for one in document["members"] if one["holdsBack"]}


async def levels_shown_by(member: Member) -> str:
    """What `kvctl levels` prints."""
    arguments = ("-m", "kvctl", "--no-sync", "--endpoints", member.client_url, "levels")
    kvctl = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, env=environment()
    )
    said, _ = await kvctl.communicate()
    assert kvctl.returncode == 0
    return said.decode()


async def value_of(member: Member, name: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{member.client_url}/v2/keys/{name}?quorum=true") as answer,
    ):
        return int((await answer.json(content_type=None))["node"]["value"])


async def roll(cluster: Cluster, members: list[Member], tree: Path, writers: Writers) -> None:
    """Replaces the program of one member after the other, the leader's last, as an operator does."""
    leading = [member for member in members if await leads(member)]
    for member in [*(one for one in members if one not in leading), *leading]:
        assert isinstance(member, Versioned)
        assert await member.stop() == 0, member.log
        member.tree = tree
        await member.start()
        came = len(writers.acknowledged)

        async def writes(member: Member = member, came: int = came) -> bool:
            return any(name == member.name for _, name, _ in writers.acknowledged[came:])

        await until(writes, f"{member.name} takes writes")
        assert [one.name for one in cluster.members if not one.is_running] == []


@pytest.mark.parametrize("size", SIZES)
async def test_members_are_replaced_one_after_the_other_under_load(size: int, tmp_path: Path) -> None:
    before = unpacked(tmp_path)
    async with prepared(size, tmp_path, FLAGS) as cluster:
        cluster.members = [_versioned(member, before) for member in cluster.members]
        await cluster.start()
        writers = Writers(cluster.members)
        async with writers.running():
            await until(_some(writers), "the first writes")
            await roll(cluster, cluster.members[:1], ROOT, writers)
            held_back = await holding_back(cluster.members[0])
            assert "version=unknown highestLevel=1 holds the level back" in await levels_shown_by(cluster.members[0])
            await roll(cluster, cluster.members[:1], before, writers)  # until the level rises, there is a way back
            assert held_back == {member.name for member in cluster.members[1:]}
            assert not any(has_level(member, 2) for member in cluster.members)
            copy = await copied(cluster.members[-1])
            await roll(cluster, cluster.members, ROOT, writers)

            async def risen() -> bool:
                return all(has_level(member, 2) for member in cluster.members)

            await until(risen, "the level rises at the end")
        last = {name: number for _, name, number in writers.acknowledged}
        for name, number in last.items():
            assert await value_of(cluster.members[0], name) >= number, "an acknowledged write is lost"
        assert all("Traceback" not in member.log for member in cluster.members)
        gap = writers.longest_gap()
        sys.stdout.write(f"{size} members: {len(writers.acknowledged)} writes, {gap:.2f} s at most without one\n")
        assert gap < LONGEST_GAP
        await refuses_the_folder(cluster.members[-1], before)
        await is_refused_by_the_others(cluster.members, copy)


async def copied(member: Member) -> Path:
    """A copy of the folder as the release before left it."""
    assert await member.stop() == 0
    copy = member.folder.with_name("copy")
    shutil.copytree(member.folder, copy)
    await member.start()
    return copy


async def refuses_the_folder(member: Member, before: Path) -> None:
    """The program of the release before, on a folder of this one, says in one line what to do."""
    assert isinstance(member, Versioned)
    assert await member.stop() == 0
    member.tree = before
    said = await member.refuses_to_start()
    (line,) = [line for line in said.splitlines() if "ERROR" in line]
    assert "format version 2 is not known" in line
    assert "Start the version of kvstored that wrote this folder" in line


async def is_refused_by_the_others(members: list[Member], copy: Path) -> None:
    """The release before, with the folder that it left, cannot come back: the others say why, once each."""
    *others, member = members
    member.folder = copy
    await member.start()

    async def refused() -> bool:
        return all("reason=version" in other.log for other in others)

    await until(refused, "its hello is refused")
    for other in others:
        (line,) = [line for line in other.log.splitlines() if "refuses a peer" in line and "version=1" in line]
        assert "here versions 2 to 2 are spoken; start a later kvstored there" in line


def _some(writers: Writers) -> Callable[[], Awaitable[bool]]:
    async def some() -> bool:
        return len(writers.acknowledged) > 20

    return some


def _versioned(member: Member, tree: Path) -> Versioned:
    made = Versioned(member.name, member.folder.parent, member.address, member.flags)
    made.client_port, made.peer_port, made.peer_url = member.client_port, member.peer_port, member.peer_url
    made.initial_cluster = member.initial_cluster
    made.tree = tree
    return made
