"""Changes of the members of real clusters, under load: one more, one less, the leader, one whose disk is lost."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.http.client import RawClient, Response, request
from tests.system.load import ask, healthy, keys_below, leader_among, load, put
from tests.system.members import Cluster, Member, prepared, running, until

FLAGS = ("--heartbeat-interval", "50", "--election-timeout", "500")
GAP_SECONDS = 0.5  # one election timeout
REMOVED = "this member was removed from the cluster"


async def members_api(member: Member, line: str, *peer_urls: str) -> Response:
    """A request to /v2/members of this member."""
    client = await RawClient.connect(member.client_port, member.address)
    body = json.dumps({"peerURLs": peer_urls}).encode() if peer_urls else b""
    try:
        client.send(request(line, "Content-Type: application/json", body=body))
        return await client.response()
    finally:
        await client.close()


async def listed(member: Member) -> dict[str, Any]:
    """By name."""
    return {one["name"]: one for one in (await ask(member, "GET /v2/members")).json["members"]}


async def id_of(member: Member, asked: Member) -> str:
    found: str = (await listed(asked))[member.name]["id"]
    return found


async def published(member: Member, asked: Member) -> None:
    """Waits until everybody, by way of `asked`, can know where clients reach it."""

    async def is_so() -> bool:
        shown = (await listed(asked)).get(member.name)
        return shown is not None and shown["clientURLs"] == [member.client_url]

    await until(is_so, f"{member.name} has told its name and URLs")


async def introduced(*members: Member) -> None:
    """Waits until all of them have names everywhere: before that, they do not count as started."""
    for member in members:
        for asked in members:
            await published(member, asked)


async def join(cluster: Cluster, member: Member, asked: Member) -> str:
    """Adds a member and starts it; its id. It serves, and has told its name, on return."""
    added = await members_api(asked, "POST /v2/members", member.peer_url)
    assert added.status == 201, added.body
    if member not in cluster.members:
        cluster.members.append(member)
    cluster.introduce()
    member.flags = [*FLAGS, "--initial-cluster-state", "existing"]
    await member.start()
    await healthy(member)
    await published(member, asked)
    found: str = json.loads(added.body)["id"]
    return found


async def leaves(member: Member) -> None:
    """It stops by itself, and says why."""
    assert await member.ends() == 1
    assert REMOVED in member.log
    assert "Traceback" not in member.log


async def test_a_fourth_member_catches_up_by_a_snapshot_and_serves(tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        first = cluster.members[0]
        await introduced(*cluster.members)
        fourth = Member("n4", tmp_path, first.address)
        async with load(cluster.members) as written:
            await join(cluster, fourth, first)
            acknowledged = dict(written.acknowledged)
            assert acknowledged.items() <= (await keys_below(fourth, "/load")).items()
        assert "installed a snapshot" in fourth.log
        assert (await put(fourth, "/through-the-fourth", "1")).status == 201
        # It counts: with one of the others down, three of four go on.
        await cluster.members[1].kill()
        assert (await put(first, "/without-the-second", "1")).status == 201
        # And it comes back under its own name, whatever --initial-cluster says of its id.
        fourth.flags = list(FLAGS)
        assert await fourth.stop() == 0
        await fourth.start()
        await healthy(fourth)
        assert written.acknowledged.items() <= (await keys_below(fourth, "/load")).items()


@pytest.mark.parametrize("who", ["follower", "leader"])
async def test_a_removed_member_stops_and_the_others_go_on(who: str, tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        await introduced(*cluster.members)
        leader = await leader_among(cluster.members)
        goes = leader if who == "leader" else next(member for member in cluster.members if member is not leader)
        others = [member for member in cluster.members if member is not goes]
        number = await id_of(goes, leader)
        async with load(others) as written:
            asked = time.monotonic()
            removed = await members_api(goes, f"DELETE /v2/members/{number}")
            assert removed.status == 204, removed.body
            await leaves(goes)
            await leader_among(others)
            gap = written.longest_gap(asked) - written.longest_stall(asked)
        print(f"longest gap while the {who} was removed: {gap:.3f} s")
        assert gap < GAP_SECONDS
        again = await members_api(others[0], f"DELETE /v2/members/{number}")
        assert again.status == 410
        assert again.body == b'{"message":"Member permanently removed: %b"}' % number.encode()
        assert set(await listed(others[0])) == {member.name for member in others}
        for member in others:
            assert written.acknowledged.items() <= (await keys_below(member, "/load")).items()
        # It does not come back.
        said = len(goes.log)
        await goes.launch()
        assert await goes.ends() == 1
        assert REMOVED in goes.log[said:]


@pytest.mark.parametrize("who", ["follower", "leader"])
async def test_two_become_one(who: str, tmp_path: Path) -> None:
    async with running(2, tmp_path, FLAGS) as cluster:
        await introduced(*cluster.members)
        leader = await leader_among(cluster.members)
        (follower,) = (member for member in cluster.members if member is not leader)
        goes, stays = (leader, follower) if who == "leader" else (follower, leader)
        assert (await members_api(stays, f"DELETE /v2/members/{await id_of(goes, stays)}")).status == 204
        await leaves(goes)
        await healthy(stays)
        assert (await put(stays, "/alone", "1")).status == 201
        await stays.kill()
        await stays.start()
        assert (await put(stays, "/alone", "2")).status == 200
        last = await members_api(stays, f"DELETE /v2/members/{await id_of(stays, stays)}")
        assert last.status == 500


async def test_a_member_that_was_removed_while_it_was_down_learns_it(tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        await introduced(*cluster.members)
        first, second, third = cluster.members
        number = await id_of(third, first)
        await third.kill()
        assert (await members_api(first, f"DELETE /v2/members/{number}")).status == 204
        await third.launch()
        await leaves(third)
        assert (await put(second, "/k", "1")).status == 201


async def test_a_member_whose_disk_is_lost_is_replaced(tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        await introduced(*cluster.members)
        first, _, third = cluster.members
        async with load(cluster.members[:2]) as written:
            number = await id_of(third, first)
            await third.kill()
            shutil.rmtree(third.folder)
            third.flags = [*FLAGS, "--initial-cluster-state", "existing"]
            await third.launch()  # under its old identity it is refused
            assert await third.ends() == 1
            assert "known to the cluster with another data folder" in third.log
            shutil.rmtree(third.folder)
            assert (await members_api(first, f"DELETE /v2/members/{number}")).status == 204
            assert await join(cluster, third, first) != number
        await healthy(*cluster.members)
        assert written.acknowledged.items() <= (await keys_below(third, "/load")).items()
        assert set(await listed(third)) == {"n1", "n2", "n3"}


async def test_a_change_that_could_cost_the_quorum_is_refused(tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        await introduced(*cluster.members)
        first, second, third = cluster.members
        numbers = {member.name: await id_of(member, first) for member in cluster.members}
        await third.kill()

        async def refuses(line: str, *urls: str) -> bool:
            answer = await members_api(first, line, *urls)
            return answer.status == 500 and answer.body == b'{"message":"Internal Server Error"}'

        await until(lambda: refuses("POST /v2/members", "http://127.0.0.1:1"), "the loss of the third is noticed")
        assert await refuses(f"DELETE /v2/members/{numbers['n2']}")
        assert await refuses(f"DELETE /v2/members/{numbers['n1']}")
        assert "may cost the quorum" in first.log
        assert len(await listed(first)) == 3
        # The one that is down costs nothing.
        assert (await members_api(second, f"DELETE /v2/members/{numbers['n3']}")).status == 204
        assert (await put(first, "/k", "1")).status == 201
        # Whoever wants to can do without the check.
        first.flags += ["--strict-reconfig-check=false"]
        assert await first.stop() == 0
        await first.start()
        await healthy(first, second)
        assert (await members_api(first, "POST /v2/members", "http://127.0.0.1:1")).status == 201
        assert (await members_api(first, "POST /v2/members", "http://127.0.0.1:2")).status == 201


async def test_a_member_moves_to_another_peer_url(tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        await introduced(*cluster.members)
        first, _, third = cluster.members
        number = await id_of(third, first)
        spare = Member("spare", tmp_path, first.address)
        assert (await members_api(first, f"PUT /v2/members/{number}", spare.peer_url)).status == 204
        assert (await members_api(first, f"PUT /v2/members/{number}", first.peer_url)).status == 409
        assert await third.stop() == 0
        third.peer_port, third.peer_url = spare.peer_port, spare.peer_url
        cluster.introduce()
        await third.start()
        await healthy(third)
        assert (await listed(third))["n3"]["peerURLs"] == [spare.peer_url]
        await cluster.members[1].kill()  # so the third is needed
        assert (await put(first, "/k", "1")).status == 201


async def test_a_member_that_nobody_added_does_not_start(tmp_path: Path) -> None:
    async with running(1, tmp_path, FLAGS) as cluster:
        stranger = Member("n2", tmp_path, cluster.members[0].address, (*FLAGS, "--initial-cluster-state", "existing"))
        stranger.initial_cluster = f"n1={cluster.members[0].peer_url},n2={stranger.peer_url}"
        assert "add it first" in await stranger.refuses_to_start()


async def test_a_newcomer_without_existing_says_that_a_cluster_runs_and_ends(tmp_path: Path) -> None:
    async with running(3, tmp_path, FLAGS) as cluster:
        await introduced(*cluster.members)
        first = cluster.members[0]
        fourth = Member("n4", tmp_path, first.address, FLAGS)
        assert (await members_api(first, "POST /v2/members", fourth.peer_url)).status == 201
        cluster.members.append(fourth)
        cluster.introduce()
        advice = f"delete {fourth.folder}, which never held anything of the running cluster"
        assert advice in await fourth.refuses_to_start()
        fourth.flags.extend(("--initial-cluster-state", "existing"))
        assert advice in await fourth.refuses_to_start()
        shutil.rmtree(fourth.folder)
        await fourth.start()
        await healthy(*cluster.members)


async def test_one_stranger_does_not_stop_a_member_that_waits_for_its_cluster(tmp_path: Path) -> None:
    """At the URL of one of three is a member of another cluster; the third one comes later."""
    async with prepared(3, tmp_path / "ours", FLAGS) as cluster, running(1, tmp_path / "other", FLAGS) as other:
        (stranger,) = other.members
        first, second, third = cluster.members
        second.peer_url = stranger.peer_url
        cluster.introduce()
        await first.start()

        async def is_refused() -> bool:
            return "reason=cluster" in first.log

        await until(is_refused, "the stranger refuses it")
        await third.start()
        await healthy(first, third)
        assert first.is_running
