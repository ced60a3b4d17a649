"""A graceful stop."""

from __future__ import annotations

import asyncio

import pytest

from kvstore.auth import AuthChanged
from kvstore.http.app import Http, Settings
from kvstore.store.operations import Set
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, RawClient, put, request
from tests.http.conftest import Connect
from tests.http.scene import furnish


@pytest.fixture
def settings(either_lane: Settings) -> Settings:
    return either_lane


async def test_idle_connections_close_and_nobody_else_gets_in(http: Http, client: RawClient) -> None:
    await client.ask(request("GET /version"))
    port = http.port
    await http.close(grace=DEADLINE)
    assert await client.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(port)


async def test_watches_end_their_bodies(http: Http, client: RawClient) -> None:
    client.send(request("GET /v2/keys/a?wait=true"))
    await client.head()
    await http.close(grace=DEADLINE)
    assert await client.chunk() == b""
    assert await client.is_closed()


async def test_a_request_in_flight_is_answered(http: Http, client: RawClient, backend: LocalBackend) -> None:
    backend.is_stuck = True
    client.send(put("/a", "value=1"))
    await backend.called.wait()
    closing = asyncio.create_task(http.close(grace=DEADLINE))
    await asyncio.sleep(0)
    event = backend.apply(Set(b"/a", b"1", False, None, False))
    assert event is not None
    backend.pending[0].set_result(event)
    response = await client.response()
    assert (response.status, response.header("Connection")) == (201, "close")
    assert await client.is_closed()
    await closing


@pytest.mark.parametrize("grace", [0.0, 0.01])
async def test_after_the_grace_a_stuck_request_is_dropped(
    http: Http, client: RawClient, backend: LocalBackend, grace: float
) -> None:
    backend.is_stuck = True
    client.send(put("/a", "value=1"))
    await backend.called.wait()
    async with asyncio.timeout(DEADLINE):
        await http.close(grace)
    assert await client.is_closed()


async def test_closing_twice_is_fine(http: Http, connect: Connect) -> None:
    await http.close(grace=0.0)
    await http.close(grace=0.0)


async def test_what_leaves_the_express_lane_meanwhile_is_answered_and_closed(
    http: Http, client: RawClient, backend: LocalBackend
) -> None:
    backend.is_stuck = True
    client.send(put("/app/a", "value=1"))
    await backend.called.wait()
    closing = asyncio.create_task(http.close(grace=DEADLINE))
    await asyncio.sleep(0)
    furnish(backend)
    backend.is_stuck = False
    backend.pending[0].set_exception(AuthChanged("auth was switched on"))
    assert (await client.response()).status == 401
    await closing
    assert await client.is_closed()
    assert http.connections == 0
