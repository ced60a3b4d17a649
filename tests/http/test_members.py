"""docs/api-v2.md, *Members*, where the recordings do not reach: who is refused, and what a change waits for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvstore.http.v2.members import Refusal, parse_peer_urls
from kvstore.membership import Member
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, Response, request

JSON = "Content-Type: application/json"


def add(*urls: str) -> bytes:
    return request("POST /v2/members", JSON, body=json.dumps({"peerURLs": urls}).encode())


def shown(response: Response) -> Any:
    return json.loads(response.body)


async def test_a_member_is_added_and_listed_in_the_order_of_ids(client: RawClient, backend: LocalBackend) -> None:
    added = await client.ask(add(" http://b:1 ", "http://a:3"))
    assert added.status == 201
    member = shown(added)
    assert member | {"id": ""} == {"id": "", "name": "", "peerURLs": ["http://a:3", "http://b:1"], "clientURLs": []}
    assert added.body.endswith(b"}\n")
    listed = shown(await client.ask(request("GET /v2/members")))["members"]
    assert [one["id"] for one in listed] == sorted(
        [member["id"], f"{backend.member:x}"], key=lambda text: int(text, 16)
    )


async def test_the_same_urls_get_another_id_each_time(client: RawClient, backend: LocalBackend) -> None:
    ids = set()
    for _ in range(3):
        member = shown(await client.ask(add("http://b:1")))
        ids.add(member["id"])
        backend.active.discard(int(member["id"], 16))
        assert (await client.ask(request(f"DELETE /v2/members/{member['id']}"))).status == 204
    assert len(ids) == 3


async def test_an_answer_without_a_body_has_no_length(client: RawClient, backend: LocalBackend) -> None:
    client.send(request(f"PUT /v2/members/{backend.member:x}", JSON, body=b'{"peerURLs":["http://c:1"]}'))
    head = await client.head()
    assert (head.status, head.header("Content-Length"), head.header("Content-Type")) == (204, None, None)
    assert backend.membership.members[backend.member].peer_urls == ("http://c:1",)
    assert (await client.ask(request("GET /version"))).status == 200  # nothing came in between


async def test_what_could_cost_the_quorum_is_refused(client: RawClient, backend: LocalBackend) -> None:
    last = await client.ask(request(f"DELETE /v2/members/{backend.member:x}"))
    assert (last.status, last.body) == (500, b'{"message":"Internal Server Error"}')
    assert (await client.ask(add("http://b:1"))).status == 201
    assert (await client.ask(add("http://c:1"))).status == 500  # the second has not started yet
    assert len(backend.membership.members) == 2


async def test_a_change_waits_for_the_one_before(client: RawClient, backend: LocalBackend) -> None:
    backend.changes_pending = 3
    assert (await client.ask(add("http://b:1"))).status == 201
    assert backend.changes_pending == 0


async def test_a_change_knows_all_that_was_decided_before_it(client: RawClient, backend: LocalBackend) -> None:
    before = backend.barriers
    await client.ask(add("http://b:1"))
    assert backend.barriers > before
    backend.has_quorum = False
    for asked in (add("http://c:1"), request("DELETE /v2/members/1"), request("DELETE /v2/members/none")):
        refused = await client.ask(asked)
        assert refused.status == (404 if b"none" in asked else 500)


async def test_no_more_members_than_a_cluster_has(client: RawClient, backend: LocalBackend) -> None:
    for number in range(2, 8):
        backend.membership.members[number] = Member(number, f"n{number}", (f"http://x:{number}",))
        backend.active.add(number)
    assert (await client.ask(add("http://eighth:1"))).status == 500
    assert len(backend.membership.members) == 7


async def test_who_leads_is_unknown_during_an_election(client: RawClient, backend: LocalBackend) -> None:
    assert shown(await client.ask(request("GET /v2/members/leader")))["id"] == f"{backend.member:x}"
    backend.has_leader = False
    refused = await client.ask(request("GET /v2/members/leader"))
    assert (refused.status, refused.body) == (503, b'{"message":"During election"}')


async def test_machines_are_all_client_urls_in_order(client: RawClient, backend: LocalBackend) -> None:
    backend.membership.members[2] = Member(2, "n2", ("http://x:2",), ("http://a:1", "http://b:1"))
    answer = await client.ask(request("GET /v2/machines"))
    assert answer.body == b"http://a:1, http://a:2, http://b:1"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"peerURLs":["http://h:99999"]}', 'parse "http://h:99999": invalid port ":99999" after host'),
        (b'{"peerURLs":["http://h:x"]}', 'parse "http://h:x": invalid port ":x" after host'),
        (b'{"peerURLs":["h:1"]}', "URL scheme must be http, https, unix, or unixs: h:1"),
        (b'{"peerURLs":["127.0.0.1:1"]}', 'parse "127.0.0.1:1": first path segment in URL cannot contain colon'),
        (b'{"peerURLs":["http://a b:1"]}', 'parse "http://a b:1": invalid character in host name'),
        (b'{"peerURLs":["http://%zz:1"]}', 'parse "http://%zz:1": invalid character in host name'),
        (b'{"peerURLs":["http://[::1:80"]}', 'parse "http://[::1:80": Invalid IPv6 URL'),
        (b'{"peerURLs":["http://::1:80"]}', 'URL address does not have the form "host:port": http://::1:80'),
        (b'{"peerURLs":["http://[::1]"]}', 'URL address does not have the form "host:port": http://[::1]'),
        (b'{"peerURLs":["http://h:1/"]}', "URL must not contain a path: http://h:1/"),
        (b'{"peerURLs":["http://\\ud800:1"]}', 'parse "http://\ufffd:1": not ASCII; write a host name as xn--'),
        (b'{"peerURLs":["http://h:1\\udfff"]}', 'parse "http://h:1\ufffd": invalid port ":1\ufffd" after host'),
        (b'{"peerURLs":["\\udc80"]}', "URL scheme must be http, https, unix, or unixs: \ufffd"),
        (
            b'{"peerURLs":["http://b\\u00fccher.de:1"]}',
            'parse "http://b\xfccher.de:1": not ASCII; write a host name as xn--',
        ),
        (b'{"peerURLs":["http://\\u00e9@h:1"]}', 'parse "http://\xe9@h:1": not ASCII; write a host name as xn--'),
        (b'{"peerURLs":["http://h:1?\\u00e9"]}', 'parse "http://h:1?\xe9": not ASCII; write a host name as xn--'),
        (b'{"peerURLs":["http://h:\\u0663"]}', 'parse "http://h:\u0663": invalid port ":\u0663" after host'),
        (b'{"peerURLs":["http://a\\u0000b:1"]}', 'parse "http://a\0b:1": invalid character in host name'),
        (
            b'{"peerURLs":["http://[fe80::1%25eth0]:1"]}',
            'parse "http://[fe80::1%25eth0]:1": invalid character in host name',
        ),
        (
            b'{"peerURLs":[%b]}' % b",".join([b'"http://h:1"'] * 205),
            "the peerURLs have 2050 characters; the limit for one member is 2048",
        ),
        (b'{"peerURLs":[1]}', "peerURLs must be a list of strings"),
        (b'{"peerURLs":"http://h:1"}', "peerURLs must be a list of strings"),
        (b'{"peerURLs":{}}', "peerURLs must be a list of strings"),
        (b'{"peerURLs":[]}', "no valid URLs given"),
        (b'{"peerURLs":null}', "no valid URLs given"),
        (b"null", "no valid URLs given"),
        (b"[]", "the body must be a JSON object"),
        (b"[" * 100_000, "the JSON is nested too deeply"),
        (b"1" * 5_000, "a number in the JSON is too long"),
        (b'{"peerURLs":["http://h:0000070000"]}', 'parse "http://h:0000070000": invalid port ":0000070000" after host'),
        (b'{"peerURLs":["http://h:1"]} more', "Extra data: line 1 column 29 (char 28)"),
        (b"\xff", "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_body_that_is_refused_says_why(body: bytes, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_peer_urls(body)
    assert (refused.value.status, refused.value.message) == (400, message)


def test_urls_are_sorted_and_the_field_counts_in_any_case() -> None:
    body = b'{"peerURLs":["x"],"PEERURLS":["https://b:2 ","http://[::1]:3"],"name":"ignored"}'
    assert parse_peer_urls(body) == ("http://[::1]:3", "https://b:2")


def test_urls_that_etcd_takes_are_kept_as_they_are() -> None:
    for url in ("http://user:pw@h:1", "http://[::1]:1", "http://xn--bcher-kva.de:1", "http://h:0", "http://h:1?a=b"):
        assert parse_peer_urls(json.dumps({"peerURLs": [url, url]}).encode()) == (url, url)
    assert parse_peer_urls(b'{"peerURLs":["HTTP://h:1"]}') == ("http://h:1",)


async def test_half_a_character_is_answered(client: RawClient) -> None:
    """JSON may hold what no text in UTF-8 can."""
    for body in (b'{"peerURLs":["http://\\ud800:2380"]}', b'{"peerURLs":["\\udc80"]}', b'{"\\ud800":1}'):
        answer = await client.ask(request("POST /v2/members", JSON, body=body))
        assert answer.status == 400
        assert isinstance(shown(answer)["message"], str)


async def test_a_member_that_the_cluster_does_not_know_by_name_yet_shows_its_own_urls(
    client: RawClient, backend: LocalBackend
) -> None:
    """Else a client that asks who the members are would find nobody to go on to, in the first moments of a cluster."""
    known = backend.membership.members[backend.member]
    for other in (backend.member, 7):
        backend.membership.members[other] = known._replace(id=other, name="", client_urls=())
    own, unknown = sorted(
        shown(await client.ask(request("GET /v2/members")))["members"], key=lambda one: one["id"] == "7"
    )
    assert (own["name"], own["clientURLs"]) == ("n1", ["http://a:2"])
    assert (unknown["name"], unknown["clientURLs"]) == ("", [])
    assert (await client.ask(request("GET /v2/machines"))).body == b"http://a:2"
    assert backend.membership.members[backend.member].client_urls == ()
