"""What a start makes of a damaged, wrong, busy or full data folder: of whole processes, after a real kill -9."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.storage.files import OSFiles
from kvstore.storage.layout import SegmentName
from kvstore.storage.records import Kind, frame
from kvstore.storage.scan import Scan, scan
from tests.cluster import environment
from tests.system.load import ask, healthy, keys_below, leader_among, put
from tests.system.members import Cluster, Member, prepared, running, until

BRISK = ("--heartbeat-interval", "20", "--election-timeout", "200")


def last_segment(member: Member) -> Scan:
    names = sorted(filter(None, (SegmentName.parse(path.name) for path in member.wal_folder.iterdir())))
    return scan(OSFiles(), str(member.wal_folder), names[-1])


async def settled(member: Member) -> None:
    """Waits until the log says of itself that all of it is durable."""

    async def is_settled() -> bool:
        found = last_segment(member)
        return found.watermark.durable.offset == found.end

    await until(is_settled, "the watermark covers the last write")


def overwrite(path: str, offset: int, octets: bytes) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        file.write(octets)


def check(member: Member) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kvstored", "check", "--data-dir", str(member.folder)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False)


async def with_keys(member: Member, count: int) -> dict[str, str]:
    """Starts a single member, writes keys, and kills it."""
    await member.start()
    for number in range(count):
        assert (await put(member, f"/k/{number}", f"value-{number}")).status == 201
    await settled(member)
    await member.kill()
    return {f"/k/{number}": f"value-{number}" for number in range(count)}


async def test_a_torn_tail_is_cut(tmp_path: Path) -> None:
    async with prepared(1, tmp_path) as cluster:
        member = cluster.members[0]
        keys = await with_keys(member, 5)
        found = last_segment(member)
        record, _ = frame(Kind.ENTRIES, b"\x91" * 4000, found.chain)
        overwrite(found.path, found.end, record[:1000])  # its last sectors never reached the disk
        assert check(member).returncode == 0
        await member.start()
        assert f"at offset {found.end}: cut a torn write" in member.log
        assert await keys_below(member, "/k") == keys
        assert (await put(member, "/k/more", "x")).status == 201


async def test_a_flipped_bit_stops_the_start(tmp_path: Path) -> None:
    async with prepared(1, tmp_path) as cluster:
        member = cluster.members[0]
        keys = await with_keys(member, 5)
        sound = check(member)
        assert sound.returncode == 0, sound
        assert "The data folder is sound." in sound.stdout
        found = last_segment(member)
        record = found.records[-3]
        flipped = found.buffer[record.end - 9] ^ 1
        before = bytes(found.buffer)
        overwrite(found.path, record.end - 9, bytes([flipped]))
        said = await member.refuses_to_start()
        assert f"{found.path} at offset {record.offset}: " in said
        assert "Nothing was changed." in said
        damaged = check(member)
        assert damaged.returncode == 1
        assert f"DAMAGE {found.path} at offset {record.offset}: " in damaged.stdout
        overwrite(found.path, 0, before)  # nothing else was changed
        await member.start()
        assert await keys_below(member, "/k") == keys


async def test_a_single_member_whose_acknowledged_tail_is_gone_does_not_start(tmp_path: Path) -> None:
    async with prepared(1, tmp_path) as cluster:
        member = cluster.members[0]
        await with_keys(member, 5)
        found = last_segment(member)
        overwrite(found.path, found.records[-2].offset, bytes(found.end - found.records[-2].offset))
        said = await member.refuses_to_start()
        assert "acknowledged entries" in said
        assert "restore the folder from a copy" in said
        assert check(member).returncode == 1


async def test_a_member_that_lost_its_tail_helps_nobody_to_lose_it_too(tmp_path: Path) -> None:
    """Real etcd 3.4 takes the lost tail for a torn write, and the damaged member and a lagging one elect each other."""
    async with running(3, tmp_path, BRISK) as cluster:
        await healthy(*cluster.members)
        whole = await leader_among(cluster.members)
        damaged, lagging = (member for member in cluster.members if member is not whole)
        await lagging.kill()
        for number in range(3):
            assert (await put(whole, f"/k/{number}", "acknowledged")).status == 201
        await settled(damaged)
        await asyncio.gather(whole.kill(), damaged.kill())
        found = last_segment(damaged)
        overwrite(found.path, found.records[-3].offset, bytes(found.end - found.records[-3].offset))

        await asyncio.gather(damaged.start(), lagging.start())
        assert "acknowledged entries are gone from the end of the log" in damaged.log
        # As long as a client waits, many election timeouts pass.
        answer = await put(lagging, "/k/0", "another history")
        assert (answer.status, answer.json["errorCode"]) == (500, 300)
        await whole.start()
        await healthy(*cluster.members)
        for member in cluster.members:
            held = await keys_below(member, "/k")
            assert {f"/k/{number}": "acknowledged" for number in range(1, 3)}.items() <= held.items(), member.name


async def test_an_empty_disk_under_an_old_identity_is_refused(tmp_path: Path) -> None:
    async with running(3, tmp_path, BRISK) as cluster:
        await healthy(*cluster.members)
        lost = cluster.members[2]
        others = cluster.members[:2]
        await lost.kill()
        shutil.rmtree(lost.folder)
        await lost.launch()
        assert await lost.ends() == 1
        assert "known to the cluster with another data folder" in lost.log
        assert "Traceback" not in lost.log
        await healthy(*others)
        assert (await put(others[0], "/still", "here")).status == 201


async def test_a_folder_of_another_member_or_cluster_is_refused(tmp_path: Path) -> None:
    async with prepared(3, tmp_path) as cluster:
        first, second = cluster.members[:2]
        await first.start()
        await first.kill()
        own = second.folder
        second.folder = first.folder
        said = await second.refuses_to_start()
        assert "belongs to member" in said
        assert f"{first.folder}" in said
        second.folder = own
        first.flags = ["--initial-cluster-token", "another"]
        assert "founded with another --initial-cluster-token" in await first.refuses_to_start()


async def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    async with running(1, tmp_path) as cluster:
        member = cluster.members[0]
        second = Cluster.of(1, tmp_path).members[0]
        second.log_file = tmp_path / "second.log"
        assert f"in use by process {member.pid}" in await second.refuses_to_start()
        busy = check(member)
        assert busy.returncode == 1
        assert "in use by process" in busy.stderr
        await healthy(member)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the first segment of a log and no second one."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", mounted], check=False).returncode
    ):
        pytest.skip("a small file system needs root and mount")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


async def test_a_full_disk_stops_the_server_and_loses_nothing(small_disk: Path) -> None:
    async with prepared(1, small_disk) as cluster:
        member = cluster.members[0]
        member.log_file = small_disk.parent / "n1.log"
        await member.start()
        await healthy(member)
        acknowledged = {}
        value = "x" * (1 << 20)
        for number in range(100):
            try:
                answer = await put(member, f"/k/{number}", value)
            except (OSError, EOFError):
                break
            if answer.status != 201:
                assert (answer.status, answer.json["errorCode"]) == (500, 300)
                break
            acknowledged[f"/k/{number}"] = value
        assert await member.ends() == 1
        assert 30 < len(acknowledged) < 100
        assert "No space left on device" in member.log
        assert "Traceback" not in member.log
        remount = await asyncio.create_subprocess_exec("mount", "-o", "remount,size=300m", small_disk)
        assert await remount.wait() == 0
        await member.start()
        held = await keys_below(member, "/k")
        assert acknowledged.items() <= held.items()
        assert (await ask(member, "PUT /v2/keys/more", "value=1")).status == 201
