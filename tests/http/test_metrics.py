"""What a scrape shows, and that docs/metrics.md lists exactly that."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from kvstore.membership import Member
from kvstore.raft.types import AppendRequest
from tests.http.backend import LocalBackend
from tests.http.client import FORM, RawClient, put, request

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


async def scrape(client: RawClient) -> str:
    answer = await client.ask(request("GET /metrics"))
    assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    return answer.body.decode()


async def samples(client: RawClient) -> dict[str, float]:
    """By name with its labels, as they are written."""
    lines = [line for line in (await scrape(client)).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_the_page_lists_what_is_there(client: RawClient, backend: LocalBackend) -> None:
    backend.membership.members[2] = Member(2, "n2", ("http://x:2",))
    text = await scrape(client)
    shown = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    listed = re.findall(r"^\| `([a-z_]+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(shown)
    families = {family.name for family in text_string_to_metric_families(text)}
    assert len(families) == len(shown)  # another program's parser finds them all


async def test_whole_numbers_look_whole(client: RawClient) -> None:
    assert "\n# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1\n" in await scrape(client)


async def test_what_happens_is_counted(client: RawClient, backend: LocalBackend) -> None:
    backend.membership.members[2] = Member(2, "n2", ("http://x:2",))
    await client.ask(put("/k", "value=v"))
    await client.ask(put("/k", "prevExist=false"))
    await client.ask(request("GET /v2/keys/?recursive=true"))
    await client.ask(request("GET /v2/keys/none"))
    backend.traffic.sent(AppendRequest(2, backend.member, 1, 0, 0, (), 0), 50)
    backend.numbers().sync_seconds.observe(0.003)
    found = await samples(client)
    expected = {
        "etcd_server_has_leader": 1,
        "etcd_server_is_leader": 1,
        "etcd_server_leader_changes_seen_total": 1,
        "etcd_server_proposals_applied_total": backend.raft_index,
        'etcd_debugging_store_writes_total{action="set"}': 1,
        'etcd_debugging_store_writes_failed_total{action="create"}': 1,
        'etcd_debugging_store_reads_total{action="get"}': 1,
        'etcd_debugging_store_reads_total{action="getRecursive"}': 1,
        "etcd_debugging_store_reads_failed_total": 1,
        'etcd_network_peer_sent_bytes_total{To="2"}': 50,
    }
    assert {name: found[name] for name in expected} == expected
    assert found["process_open_fds"] > 0
    backend.has_leader = False
    assert (await samples(client))["etcd_server_has_leader"] == 0


async def test_any_verb_may_scrape_as_in_etcd(client: RawClient) -> None:
    for verb in ("POST", "PUT", "DELETE"):
        assert (await client.ask(request(f"{verb} /metrics", FORM, body=b"x=1"))).status == 200
    head = await client.ask(request("HEAD /metrics"))
    assert (head.status, head.body) == (200, b"")
