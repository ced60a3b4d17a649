"""--host-whitelist: what a Host header without TLS may name."""

from __future__ import annotations

import pytest

from kvstore.http.app import Settings
from kvstore.http.whitelist import Whitelist
from tests.http.client import RawClient


@pytest.fixture
def settings() -> Settings:
    return Settings(hosts=frozenset(("kv.example", "::1")))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("kv.example", 200),
        ("kv.example:2379", 200),
        ("[::1]:2379", 200),
        ("evil.example", 421),
        ("evil.example:2379", 421),
        ("kv.example.evil", 421),
        ("KV.example", 421),
        ("", 421),
        ("kv.example:2379:1", 421),
        ("[::1]", 421),  # as Go has it: only a port takes the brackets off
    ],
)
@pytest.mark.parametrize("line", ["GET /v2/keys/", "GET /version", "OPTIONS /v2/keys/"])
async def test_who_names_another_host_is_refused(client: RawClient, host: str, status: int, line: str) -> None:
    answer = await client.ask(f"{line} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.status == status
    if status == 421:
        assert answer.head.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
        assert answer.header("Access-Control-Allow-Origin") is None


async def test_a_refused_request_does_not_end_the_connection(client: RawClient) -> None:
    refused = await client.ask(b"HEAD /v2/keys/ HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert (refused.status, refused.body) == (421, b"")
    assert (await client.ask(b"GET /v2/keys/ HTTP/1.1\r\nHost: kv.example\r\n\r\n")).status == 200


@pytest.mark.parametrize("hosts", [(), ("*",), ("a", "*")])
def test_it_may_allow_all(hosts: tuple[str, ...]) -> None:
    assert Whitelist(frozenset(hosts)).refusal(b"whoever") is None


def test_no_host_at_all_is_no_allowed_host() -> None:
    assert Whitelist(frozenset(("a",))).refusal(None) is not None
