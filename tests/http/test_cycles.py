"""No request leaves a cycle of references behind: the collector looks at old objects rarely (kvstore/collector.py)."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from kvstore.http.app import Http, Settings
from tests.http.client import DEADLINE, RawClient, put, request

TIMES = 20
REQUESTS = {
    "read": request("GET /v2/keys/a"),
    "write": put("/a", "value=1"),
    "error": request("GET /v2/keys/nowhere"),
    "watch": request("GET /v2/keys/b?wait=true"),
    "not for the express lane": request("GET /v2/keys/a", "X-Unknown: 1"),
    "another route": request("GET /version"),
    "no method": b"\x16\x03\x01\r\n\r\n",
    "no host": b"GET /v2/keys/a HTTP/1.1\r\n\r\n",
    "broken chunk": request("PUT /v2/keys/a", "Transfer-Encoding: chunked") + b"x\r\n",
    "half a request": b"GET /v2/ke",
}


@pytest.fixture
def settings(either_lane: Settings) -> Settings:
    return either_lane


@pytest.fixture
def saved() -> Iterator[list[object]]:
    """What the collector finds, with the collector standing still but for a test's own calls."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_request_whose_client_goes_away_is_gone(http: Http, kind: str, saved: list[object]) -> None:
    for _ in range(TIMES):
        client = await RawClient.connect(http.port)
        client.send(REQUESTS[kind])
        if kind != "half a request":
            async with asyncio.timeout(DEADLINE):
                await client.reader.read(10)
        await client.close()
        async with asyncio.timeout(DEADLINE):
            while http.connections:  # noqa: ASYNC110  # the transport closes in the next turns of the loop
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        del client
    gc.collect()
    ours = Counter(type(found).__name__ for found in saved if type(found).__module__.startswith("kvstore."))
    assert not ours
