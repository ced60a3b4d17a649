"""The wall clock of a member is set by an hour while it runs: TTLs end when they should, under each leader.

The members' clocks are shifted by a library that is compiled here and preloaded into them (clock_shim.c).
"""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.system.load import ask, healthy, leader_among
from tests.system.members import Cluster, Member, prepared, until

HOUR = 3600
SOURCE = Path(__file__).with_name("clock_shim.c")
#: A key of two seconds is removed by a sweep, twice a second, and the machine may have a lot to do.
SHORT_TTL, LONGEST = 2, 4.5


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here, and the clocks are shifted by compiled code")
    made = tmp_path_factory.mktemp("shim") / "clock_shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE], check=True)
    return made


class Clocks:
    """The wall clocks of a cluster's members, each to be set by itself."""

    def __init__(self, cluster: Cluster, shim: Path) -> None:
        self._files = {member.name: member.folder.with_suffix(".clock") for member in cluster.members}
        for member in cluster.members:
            file = self._files[member.name]
            file.write_bytes(bytes(8))
            member.environment |= {"LD_PRELOAD": str(shim), "CLOCK_OFFSET_FILE": str(file)}

    def shift(self, members: Iterable[Member], seconds: int) -> None:
        for member in members:
            with self._files[member.name].open("r+b") as file:
                file.write(struct.pack("q", seconds))


async def put_for(member: Member, key: str, ttl: int) -> None:
    answer = await ask(member, f"PUT /v2/keys{key}", f"value=v&ttl={ttl}")
    assert answer.status == 201, answer


async def lives(member: Member, key: str) -> float:
    """Puts a key of two seconds; for how long it is there, by a clock that is not shifted."""
    began = time.monotonic()
    await put_for(member, key, SHORT_TTL)

    async def is_gone() -> bool:
        return (await ask(member, f"GET /v2/keys{key}?quorum=true")).status == 404

    await until(is_gone, f"{key} has expired", seconds=60)
    return time.monotonic() - began


async def differences(member: Member) -> list[float]:
    """By how many seconds the others' wall clocks are ahead of this member's, as its metrics say."""
    lines = (await ask(member, "GET /metrics")).body.decode().splitlines()
    found = [line.split(" ")[1] for line in lines if line.startswith("kvstored_peer_clock_difference_seconds{")]
    assert len(found) == 2, "two others"
    return [float(seconds) for seconds in found]


def right(seconds: float) -> bool:
    return SHORT_TTL * 0.999 <= seconds <= LONGEST


async def lives_through_steps(folder: Path, shim: Path, step: int) -> None:
    async with prepared(3, folder) as cluster:
        clocks = Clocks(cluster, shim)
        await cluster.start()
        leader = await leader_among(cluster.members)
        followers = [member for member in cluster.members if member is not leader]
        await put_for(leader, "/lease", 1800)

        before = asyncio.ensure_future(lives(leader, "/before"))
        await asyncio.sleep(0)
        clocks.shift([leader], step)
        after = await lives(followers[0], "/after")
        for ahead in await differences(leader):
            assert abs(ahead + step) < 2, "its own clock was set, which its metrics show against the others'"
        assert right(after), f"the leader's clock was set by {step} s: {after}"
        assert right(await before)

        clocks.shift([leader], 0)
        clocks.shift(followers, step)
        back = await lives(followers[1], "/back")
        assert right(back), f"the leader's clock was set back to the truth, the followers' by {step} s: {back}"

        await leader.kill()
        await healthy(*followers)
        next_ = await lives(followers[0], "/next")
        assert right(next_), f"a member leads whose clock is wrong by {step} s: {next_}"
        lease = await ask(followers[0], "GET /v2/keys/lease?quorum=true")
        assert lease.status == 200, "it had half an hour"
        assert 1700 < lease.json["node"]["ttl"] <= 1800
    print(f"set by {step:+} s: ttl {SHORT_TTL} lived {after:.2f}, {back:.2f} and {next_:.2f} s, ttl 1800 survived")


async def test_keys_live_as_long_as_they_should_whatever_is_done_to_the_clocks(shim: Path, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for step in (HOUR, -HOUR):
            group.create_task(lives_through_steps(tmp_path / str(step), shim, step))
