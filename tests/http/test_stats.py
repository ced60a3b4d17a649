"""docs/api-v2.md, *Other paths*, where the recordings do not reach."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvstore.http.v2.stats import go_duration
from kvstore.membership import Member
from kvstore.raft.types import AppendRequest, AppendResponse
from kvstore.statistics import NO_MINIMUM
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, request


async def stats(client: RawClient, name: str) -> Any:
    return json.loads((await client.ask(request(f"GET /v2/stats/{name}"))).body)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_000_000_000, "1s"),
        (62_500_000_000, "1m2.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (90_061_000_000_001, "25h1m1.000000001s"),
    ],
)
def test_durations_are_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text


async def test_rates_are_there_only_while_something_moves(client: RawClient, backend: LocalBackend) -> None:
    assert "sendPkgRate" not in await stats(client, "self")
    now = [10.0]
    backend.traffic.clock = lambda: now[0]
    for _ in range(5):
        now[0] += 0.1
        backend.traffic.sent(AppendRequest(2, backend.member, 1, 0, 0, (), 0), 50)
        backend.traffic.received(AppendRequest(backend.member, 2, 1, 0, 0, (), 0), 20)
    shown = await stats(client, "self")
    assert (shown["sendAppendRequestCnt"], shown["recvAppendRequestCnt"]) == (5, 5)
    rates = ("sendPkgRate", "sendBandwidthRate", "recvPkgRate", "recvBandwidthRate")
    assert [shown[name] for name in rates] == pytest.approx([12.5, 625, 12.5, 250])
    now[0] += 2
    shown = await stats(client, "self")
    assert not set(rates) & set(shown)


async def test_a_leader_shows_how_fast_each_follower_answers(client: RawClient, backend: LocalBackend) -> None:
    for number in (2, 3):
        backend.membership.members[number] = Member(number, f"n{number}", (f"http://x:{number}",))
    now = [10.0]
    backend.traffic.clock = lambda: now[0]
    backend.traffic.sent(AppendRequest(2, backend.member, 1, 0, 0, (), 0), 50)
    now[0] += 0.25
    backend.traffic.received(AppendResponse(backend.member, 2, 1, 0, False, 0, 0), 20)
    shown = await stats(client, "leader")
    assert shown["leader"] == f"{backend.member:x}"
    assert shown["followers"]["2"] == {
        "latency": {"current": 250, "average": 250, "standardDeviation": 0, "minimum": 250, "maximum": 250},
        "counts": {"fail": 0, "success": 1},
    }
    assert shown["followers"]["3"]["latency"]["minimum"] == NO_MINIMUM
    backend.has_leader = False
    refused = await client.ask(request("GET /v2/stats/leader"))
    assert (refused.status, refused.body) == (403, b'{"message":"not current leader"}')


async def test_who_leads_and_since_when(client: RawClient, backend: LocalBackend) -> None:
    shown = await stats(client, "self")
    assert (shown["name"], shown["id"], shown["state"]) == ("n1", "abc", "StateLeader")
    assert shown["leaderInfo"]["leader"] == "abc"
    backend.has_leader = False
    shown = await stats(client, "self")
    assert (shown["state"], shown["leaderInfo"]["leader"]) == ("StateFollower", "")
