"""Snapshots while requests come in: restarts from them, purging, and a member that catches up by one over the wire."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.system.load import Connection, ask, healthy, keys_below, leader_among, load, put
from tests.system.members import Member, running, until
from tests.system.test_reconfiguration import members_api

COUNT = 200
ELECTION_SECONDS = 0.2
OFTEN = (
    "--snapshot-count",
    f"{COUNT}",
    "--max-snapshots",
    "2",
    "--heartbeat-interval",
    "20",
    "--election-timeout",
    "200",
)
KEPT = 5_000  # entries that a leader keeps behind a snapshot, for followers that are slow


def snapshots(member: Member) -> list[str]:
    return sorted(path.name for path in (member.folder / "member" / "snap").glob("*.snap"))


async def index_of(member: Member) -> int:
    return (await ask(member, "GET /v2/keys/?quorum=true")).etcd_index


async def write_many(member: Member, folder: str, count: int) -> None:
    """`count` keys, many at a time on one connection each."""

    async def write(first: int) -> None:
        connection = await Connection.to(member)
        for number in range(first, count, 50):
            assert (await connection.ask(f"PUT /v2/keys{folder}/{number}", f"value={number}")).status == 201
        await connection.close()

    await asyncio.gather(*(write(first) for first in range(50)))


async def test_every_member_restarts_from_its_snapshots(tmp_path: Path) -> None:
    async with running(3, tmp_path, OFTEN) as cluster:
        await healthy(*cluster.members)
        async with load(cluster.members, pace=0.001) as written:

            async def has_many() -> bool:
                return len(written.times) > 1200

            await until(has_many, "many writes are acknowledged")
            for member in cluster.members:
                await member.kill()
                await member.start()
                await healthy(member)
        for member in cluster.members:
            # Six were taken; those beyond --max-snapshots went while the server ran.
            assert 1 <= len(snapshots(member)) <= 3, snapshots(member)
            assert written.acknowledged.items() <= (await keys_below(member, "/load")).items(), member.name
        assert len({await index_of(member) for member in cluster.members}) == 1
        assert not any("Traceback" in member.log for member in cluster.members)


async def test_a_member_that_was_away_for_long_catches_up_by_a_snapshot(tmp_path: Path) -> None:
    async with running(3, tmp_path, OFTEN) as cluster:
        await healthy(*cluster.members)
        leader = await leader_among(cluster.members)
        away = next(member for member in cluster.members if member is not leader)
        await put(leader, "/before", "1")
        await healthy(away)
        await away.kill()
        killed = time.monotonic()
        await write_many(leader, "/many", KEPT + 1_000)

        async def is_given_up() -> bool:
            """For an election timeout the leader keeps whatever a member needs that it has heard of."""
            return time.monotonic() - killed > 2 * ELECTION_SECONDS

        await until(is_given_up, "the leader keeps nothing for the member that is away")
        await write_many(leader, "/more", 2 * COUNT)  # the next snapshot, behind which it forgets
        forgets_after = snapshots(leader)[-1]

        async def has_forgotten() -> bool:
            await put(leader, "/more/turn", "1")
            return snapshots(leader)[-1] > forgets_after

        await until(has_forgotten, "another snapshot is taken")
        await away.start()
        await healthy(away)
        assert "installed a snapshot" in away.log
        assert await keys_below(away, "/many") == await keys_below(leader, "/many")
        assert await index_of(away) == await index_of(leader)
        # It goes on from what it got, and keeps it.
        assert (await put(away, "/after", "1")).status == 201
        await away.kill()
        await away.start()
        await healthy(away)
        assert len(await keys_below(away, "/many")) == KEPT + 1_000
        assert "Traceback" not in away.log


async def test_a_watch_outlives_the_leader(tmp_path: Path) -> None:
    async with running(3, tmp_path, OFTEN) as cluster:
        await healthy(*cluster.members)
        leader = await leader_among(cluster.members)
        follower, other = (member for member in cluster.members if member is not leader)
        watcher = await Connection.to(follower)
        watcher.send("GET /v2/keys/watched?wait=true&recursive=true&stream=true")
        began = await watcher.head()
        assert began.status == 200
        assert (await put(leader, "/watched/1", "before")).status == 201
        async with asyncio.timeout(10):
            assert b'"key":"/watched/1"' in await watcher.chunk()
        await leader.kill()
        assert (await put(other, "/watched/2", "after")).status == 201
        async with asyncio.timeout(10):
            event = await watcher.chunk()
        assert b'"key":"/watched/2","value":"after"' in event
        await watcher.close()


async def test_segments_of_the_log_that_nothing_needs_are_removed(tmp_path: Path) -> None:
    flags = ("--snapshot-count", "20", "--max-snapshots", "1", "--max-wals", "1", "--event-history", "1")
    async with running(1, tmp_path, flags) as cluster:
        member = cluster.members[0]
        await healthy(member)
        connection = await Connection.to(member)
        first = [path.name for path in member.wal_folder.iterdir()]
        assert len(first) == 1
        for number in range(100):  # one segment is 64 MiB
            assert (await connection.ask("PUT /v2/keys/large", f"value={number}" + "x" * (1 << 20))).status < 300

        async def is_gone() -> bool:
            await connection.ask("PUT /v2/keys/small", "value=1")
            return first[0] not in {path.name for path in member.wal_folder.iterdir()}

        await until(is_gone, "the first segment is removed")
        await connection.close()
        await member.kill()
        await member.start()
        await healthy(member)
        assert (await ask(member, "GET /v2/keys/large")).json["node"]["value"].startswith("99x")


async def test_a_leader_whose_snapshot_rotted_saves_another_one_and_a_new_member_joins(tmp_path: Path) -> None:
    async with running(1, tmp_path, OFTEN) as cluster:
        (leader,) = cluster.members
        await healthy(leader)
        await write_many(leader, "/many", 2 * COUNT)

        async def is_saved() -> bool:  # the last one that is due, so that no sound one follows the one that rots
            await put(leader, "/turn", "1")
            return int(snapshots(leader)[-1].removesuffix(".snap").split("-")[1], 16) >= 2 * COUNT

        await until(is_saved, "the snapshot of all keys is saved")
        newest = leader.folder / "member" / "snap" / snapshots(leader)[-1]
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
        joining = Member("n2", tmp_path, leader.address, (*OFTEN, "--initial-cluster-state", "existing"))
        assert (await members_api(leader, "POST /v2/members", joining.peer_url)).status == 201
        cluster.members.append(joining)
        cluster.introduce()
        await joining.start()
        await healthy(joining)
        assert await keys_below(joining, "/many") == await keys_below(leader, "/many")
        assert "our own snapshot is damaged" in leader.log
        assert joining.log.count("cannot take a snapshot") <= 5
