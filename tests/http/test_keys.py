"""From requests to operations, and what happens when the cluster cannot."""

from __future__ import annotations

import json

import pytest

from kvstore.compaction import SnapshotStatus
from kvstore.http import health
from kvstore.http.app import Settings
from kvstore.http.v2.keys import operation_of
from kvstore.http.v2.parameters import parse_key_request
from kvstore.store.operations import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Operation,
    Set,
    Update,
)
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, put, request


@pytest.mark.parametrize(
    ("method", "query", "operation"),
    [
        ("PUT", "value=v&ttl=5&dir=true", Set(b"/a", b"v", True, 5, False)),
        ("PUT", "", Set(b"/a", b"", False, None, False)),
        ("PUT", "refresh=true&ttl=5", Set(b"/a", b"", False, 5, True)),
        ("PUT", "prevExist=true&value=v", Update(b"/a", b"v", None, False)),
        ("PUT", "prevExist=true&prevIndex=0", Update(b"/a", b"", None, False)),
        ("PUT", "prevExist=true&prevValue=x", CompareAndSwap(b"/a", b"", b"x", 0, None, False)),
        ("PUT", "prevIndex=4&value=v", CompareAndSwap(b"/a", b"v", None, 4, None, False)),
        ("PUT", "prevIndex=0", Set(b"/a", b"", False, None, False)),
        ("PUT", "prevExist=false&prevIndex=4&prevValue=x", Create(b"/a", b"", False, None)),
        ("POST", "value=v&prevExist=false&prevIndex=4", CreateInOrder(b"/a", b"v", False, None)),
        ("DELETE", "dir=true", Delete(b"/a", True, False)),
        ("DELETE", "recursive=true&prevExist=true", Delete(b"/a", False, True)),
        ("DELETE", "prevValue=x&recursive=true", CompareAndDelete(b"/a", b"x", 0)),
        ("DELETE", "prevIndex=7", CompareAndDelete(b"/a", None, 7)),
    ],
)
def test_operations(method: str, query: str, operation: Operation) -> None:
    asked = parse_key_request(method, b"/v2/keys/a", query.encode(), b"")
    assert operation_of(asked) == operation
    assert type(operation_of(asked)) is type(operation)


async def test_a_write_without_a_quorum_is_error_300(client: RawClient, backend: LocalBackend) -> None:
    backend.has_quorum = False
    response = await client.ask(put("/a", "value=1"))
    assert response.status == 500
    assert response.header("X-Etcd-Index") == "0"
    assert response.header("X-Raft-Index") is None
    assert response.body == (
        b'{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out","index":0}\n'
    )


async def test_quorum_reads_wait_for_the_barrier_and_others_do_not(client: RawClient, backend: LocalBackend) -> None:
    await client.ask(put("/a", "value=1"))
    assert (await client.ask(request("GET /v2/keys/a?quorum=true"))).status == 200
    assert backend.barriers == 1
    assert (await client.ask(request("GET /v2/keys/a?quorum=true&wait=true"))).body.startswith(b'{"action":"get"')
    assert backend.barriers == 2
    backend.has_quorum = False
    assert (await client.ask(request("GET /v2/keys/a?quorum=true"))).status == 500
    assert (await client.ask(request("GET /v2/keys/a"))).status == 200
    assert (await client.ask(request("HEAD /v2/keys/a?quorum=true"))).status == 200
    assert backend.barriers == 3


async def test_health_says_that_snapshots_fail_and_when_writes_are_refused(
    client: RawClient, backend: LocalBackend
) -> None:
    backend.snapshots = SnapshotStatus(failures=2, failing='no "space"')
    response = await client.ask(request("GET /health"))
    assert response.status == 200
    assert json.loads(response.body) == {"health": "true", "reason": 'snapshots fail: no "space"'}
    backend.snapshots = backend.snapshots._replace(refusing="too much log")
    response = await client.ask(request("GET /health"))
    assert response.status == 503
    assert json.loads(response.body) == {"health": "false", "reason": "writes are refused: too much log"}
    backend.snapshots = SnapshotStatus()
    assert (await client.ask(request("GET /health"))).body == b'{"health":"true"}'


@pytest.mark.parametrize("headers", [(), ("X-Unknown: 1",)])  # the latter moves its connection to aiohttp
async def test_health(
    client: RawClient, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, headers: tuple[str, ...]
) -> None:
    monkeypatch.setattr(health, "HEALTH_SECONDS", 0.01)
    response = await client.ask(request("GET /health", *headers))
    assert (response.status, response.body) == (200, b'{"health":"true"}')
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    for trouble in ("is_stuck", "has_quorum", "has_leader"):
        setattr(backend, trouble, trouble == "is_stuck")
        response = await client.ask(request("GET /health", *headers))
        assert (response.status, response.body) == (503, b'{"health":"false"}\n')
        setattr(backend, trouble, trouble != "is_stuck")


async def test_a_bug_of_ours_is_a_bare_500_that_is_logged(
    client: RawClient, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(backend, "now", broken)
    response = await client.ask(request("GET /v2/keys/"))
    assert response.status == 500
    assert "a request failed" in caplog.text


@pytest.mark.parametrize(
    ("line", "status", "allow"),
    [
        ("GET /version", 200, None),
        ("HEAD /version", 405, "GET"),
        ("GET /version/", 404, None),
        ("POST /health", 405, "GET"),
        ("GET /v2/keysx", 404, None),
        ("GET /v2/Keys", 404, None),
        ("GET /", 404, None),
        ("OPTIONS /nothing", 200, None),
        ("OPTIONS //v2/keys", 200, None),
        ("CONNECT /v2/keys", 404, None),
    ],
)
async def test_routes(client: RawClient, line: str, status: int, allow: str | None) -> None:
    response = await client.ask(request(line))
    assert (response.status, response.header("Allow")) == (status, allow)
    assert response.header("Access-Control-Allow-Origin") == "*"
    if status == 404:
        assert response.body == b"404 page not found\n"


class TestCors:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(cors=frozenset(("http://a",)))

    async def test_only_the_named_origins_are_answered(self, client: RawClient) -> None:
        for origin, expected in (("http://a", "http://a"), ("http://b", None)):
            response = await client.ask(request("GET /version", f"Origin: {origin}"))
            assert response.header("Access-Control-Allow-Origin") == expected
        assert (await client.ask(request("GET /version"))).header("Access-Control-Allow-Methods") is None
