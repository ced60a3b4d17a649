from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
import uvloop

from kvstore.http.app import Http, Settings, serve
from tests.http.backend import LocalBackend
from tests.http.client import RawClient

Connect = Callable[[], Awaitable[RawClient]]
#: What hangs on how a transport behaves is tried on the server's own event loop as well.
ON_BOTH_LOOPS = frozenset(("test_express.py", "test_intake.py"))


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], object]]:
    loops: dict[str, Callable[[], object]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ON_BOTH_LOOPS:
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture
def backend() -> LocalBackend:
    return LocalBackend()


@pytest.fixture
def settings() -> Settings:
    return Settings()


#: As these settings want it, a connection begins in the express lane, or all of it is aiohttp's: where a Host header
#: must be looked at, the express lane takes nothing.
LANES = {"express": Settings(), "aiohttp": Settings(hosts=frozenset(("x",)))}


@pytest.fixture(params=LANES)
def either_lane(request: pytest.FixtureRequest) -> Settings:
    """For tests that override `settings`."""
    return LANES[request.param]


@pytest.fixture
async def http(backend: LocalBackend, settings: Settings) -> AsyncIterator[Http]:
    server = await serve(backend, "127.0.0.1", 0, settings=settings)
    yield server
    await server.close(grace=0.0)


@pytest.fixture
async def connect(http: Http) -> AsyncIterator[Connect]:
    clients: list[RawClient] = []

    async def one_more() -> RawClient:
        clients.append(await RawClient.connect(http.port))
        return clients[-1]

    yield one_more
    for client in clients:
        await client.close()


@pytest.fixture
async def client(connect: Connect) -> RawClient:
    return await connect()
