"""Listings that are kept until the next write: never an old one, never one that something expires in."""

from __future__ import annotations

import pytest

from kvstore.http.v2 import listings
from kvstore.http.v2.answers import answer_view
from kvstore.http.v2.listings import Listings
from kvstore.http.v2.parameters import KeyRequest
from kvstore.store.operations import Delete, Set
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, request

SECOND = 10**9


def set_(key: bytes, value: bytes = b"1", ttl: int | None = None) -> Set:
    return Set(key, value, False, ttl, False)


async def test_a_kept_listing_is_the_same_and_counts(client: RawClient, backend: LocalBackend) -> None:
    for number in range(3):
        backend.apply(set_(b"/d/%d" % number))
    asked = request("GET /v2/keys/d?sorted=true&recursive=true")
    first = await client.ask(asked)
    reads = backend.store.counts.gets, backend.store.counts.recursive_gets
    second = await client.ask(asked)
    assert (first.status, first.body) == (second.status, second.body)
    assert first.body.count(b'"key":"/d/') == 3
    assert (backend.store.counts.gets, backend.store.counts.recursive_gets) == (reads[0] + 1, reads[1] + 1)


async def test_every_kind_of_change_is_seen_at_once(client: RawClient, backend: LocalBackend) -> None:
    asked = request("GET /v2/keys/d")
    for command in (set_(b"/d/a"), set_(b"/d/a", b"2"), set_(b"/d/b"), Delete(b"/d/a", False, False)):
        backend.apply(command)
        seen = (await client.ask(asked)).body
        assert seen == answer_view(backend.store.get(b"/d", False, False, 0), b"").body
        assert seen == (await client.ask(asked)).body
    backend.apply(Delete(b"/d", False, True))
    assert (await client.ask(asked)).status == 404


async def test_the_flags_tell_listings_apart(client: RawClient, backend: LocalBackend) -> None:
    backend.apply(set_(b"/d/e/f"))
    flat = await client.ask(request("GET /v2/keys/d"))
    deep = await client.ask(request("GET /v2/keys/d?recursive=true"))
    assert b"/d/e/f" not in flat.body
    assert b"/d/e/f" in deep.body
    assert (await client.ask(request("GET /v2/keys/d"))).body == flat.body


def test_what_expires_is_not_kept_and_a_value_that_looks_so_is() -> None:
    kept = Listings()
    asked = KeyRequest("GET", b"/d")
    kept.keep(asked, 7, b'{"node":{"nodes":[{"key":"/d/a","value":"1","expiration":"2026","ttl":3}]}}')
    assert kept.get(asked, 7) is None
    body = rb'{"node":{"nodes":[{"key":"/d/a","value":"\"expiration\":\"2026"}]}}'
    kept.keep(asked, 7, body)
    assert kept.get(asked, 7) == body
    assert kept.get(asked, 8) is None


def test_no_more_bytes_than_the_limit_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "LISTINGS_BYTES", 100)
    kept = Listings()
    requests = [KeyRequest("GET", b"/%d" % number) for number in range(4)]
    kept.keep(requests[0], 1, b"x" * 101)
    assert kept.get(requests[0], 1) is None
    for asked in requests:
        kept.keep(asked, 1, b"x" * 40)
    assert [kept.get(asked, 1) is not None for asked in requests] == [False, False, True, True]
