"""Real etcd's recorded conversations, replayed against ours.

`replay.py` and `scenarios/` are kept as they were recorded; `departures.json` names the steps that are answered
otherwise on purpose, why, and how. Each case runs `replay.py` as its own process against
servers of its own, since it compares indices exactly. Here the HTTP floor and the store run in this process; the same
against whole members is test_members.py.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kvstore.http.app import serve
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, put, request

HERE = Path(__file__).parent
REPLAY_SECONDS = 60.0
WARM_UP_WRITES = 100
AT_ONCE = 8  # scenarios that run side by side

# Without pauses: one server for all scenarios of a file.
QUICK = ("keys_basic", "dirs", "cas", "in_order", "hidden", "params_errors", "encoding", "watch_history", "auth_v2")
# Scenarios that wait for real seconds run side by side, each with a server of its own.
SLOW = ("ttl", "watch", "clients")
# They want a member that is alone, and that leads.
ALONE = ("members", "misc", "stats")
# So do these, in areas that do not.
ALONE_AMONG_OTHERS = {"etcdctl_members_and_health", "open_endpoints"}

Start = Callable[[], AbstractAsyncContextManager[list[str]]]


@asynccontextmanager
async def local() -> AsyncIterator[list[str]]:
    """A store without a cluster, in this process."""
    backend = LocalBackend(history_limit=1000)
    http = await serve(backend, "127.0.0.1", 0)
    sweeper = asyncio.create_task(backend.sweep())
    url = f"http://127.0.0.1:{http.port}"
    members = backend.membership.members
    members[backend.member] = members[backend.member]._replace(client_urls=(url,))
    try:
        yield [url]
    finally:
        sweeper.cancel()
        await http.close(grace=0.0)


@pytest.fixture(params=[local])
def start(request: pytest.FixtureRequest) -> Start:
    """Starts servers and gives their client URLs: one member, or the members of one cluster."""
    chosen: Start = request.param
    return chosen


async def warm_up(endpoint: str) -> None:
    """Raise the index beyond the small literal ones of the scenarios, as it was when they were recorded."""
    url = urlsplit(endpoint)
    client = await RawClient.connect(url.port or 0, url.hostname or "")
    client.send(b"".join([put("/warm-up", "value=1")] * WARM_UP_WRITES + [request("DELETE /v2/keys/warm-up")]))
    for _ in range(WARM_UP_WRITES + 1):
        assert (await client.response()).status in (200, 201)
    await client.close()


async def replay(endpoints: list[str], scenarios: Path, *flags: str) -> str:
    """The output of a failed run, or nothing."""
    await warm_up(endpoints[0])
    arguments = [argument for endpoint in endpoints for argument in ("--endpoint", endpoint)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "replay.py"),
        *arguments,
        *flags,
        str(scenarios),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(REPLAY_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    text = output.decode()
    return "" if process.returncode == 0 and " 0 failed" in text else text or "no output"


def scenarios_of(area: str) -> list[dict[str, Any]]:
    """All of an area, with our own answers where we depart."""
    document = json.loads((HERE / "scenarios" / f"{area}.json").read_text())
    scenarios = {scenario["name"]: scenario for scenario in document["scenarios"]}
    for departure in json.loads((HERE / "departures.json").read_text()):
        if departure["area"] == area:
            scenarios[departure["scenario"]]["steps"][departure["step"] - 1]["expect"] = departure["expect"]
    return list(scenarios.values())


def write_area(area: str, folder: Path, is_alone: bool = True) -> Path:
    scenarios = [one for one in scenarios_of(area) if is_alone or one["name"] not in ALONE_AMONG_OTHERS]
    path = folder / f"{area}.json"
    path.write_text(json.dumps({"area": area, "scenarios": scenarios}))
    return path


def test_every_departure_is_one() -> None:
    """A step that is answered as recorded has no place in the list."""
    for departure in json.loads((HERE / "departures.json").read_text()):
        document = json.loads((HERE / "scenarios" / f"{departure['area']}.json").read_text())
        (scenario,) = [one for one in document["scenarios"] if one["name"] == departure["scenario"]]
        assert scenario["steps"][departure["step"] - 1]["expect"] != departure["expect"]
        assert departure["why"]


@pytest.mark.parametrize("area", [*QUICK, *ALONE])
async def test_area(area: str, start: Start, tmp_path: Path) -> None:
    async with start() as endpoints:
        failure = await replay(endpoints, write_area(area, tmp_path))
    assert not failure, failure


@pytest.mark.parametrize("area", SLOW)
async def test_area_side_by_side(area: str, start: Start, tmp_path: Path) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def run(scenario: dict[str, Any]) -> str:
        path = tmp_path / f"{scenario['name']}.json"
        path.write_text(json.dumps({"area": area, "scenarios": [scenario]}))
        async with room, start() as endpoints:
            return await replay(endpoints, path)

    scenarios = scenarios_of(area)
    assert scenarios
    failures = [failure for failure in await asyncio.gather(*map(run, scenarios)) if failure]
    assert not failures, "\n".join(failures)
