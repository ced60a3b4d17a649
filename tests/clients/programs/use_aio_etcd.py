"""What an application does with aio-etcd 0.4.6.1. Arguments: the members' `host:port`. Runs in its own environment.

What it leans on: kept-alive connections shared by many tasks; the head of a watch before its first event, since its
time-out counts from there; /v2/machines again after every failed request; 404s with X-Etcd-Index; long polls that end
after one event, then the next one from modifiedIndex + 1.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aio_etcd as etcd
import aiohttp

PATIENCE_SECONDS = 30.0
AT_ONCE = 100


async def main() -> None:
    hosts = tuple((host, int(port)) for host, _, port in (one.rpartition(":") for one in sys.argv[1:]))
    client = etcd.Client(host=hosts, allow_reconnect=True, loop=asyncio.get_running_loop())
    await see_the_cluster(client, len(hosts))
    await use_keys(client)
    await use_directories(client)
    await use_many_at_once(client)
    await use_watches(client)
    held = etcd.Lock(client, "turn")
    assert await held.acquire(lock_ttl=600)
    second = etcd.Lock(client, "turn")
    assert not await second.acquire(blocking=False, lock_ttl=600)
    await client.write("/before", "the kill")

    await lose_the_leader()

    assert (await insist(lambda: client.read("/before", quorum=True))).value == "the kill"
    await insist(lambda: client.write("/after", "the kill"))
    assert (await insist(lambda: client.read("/after"))).value == "the kill"
    await insist(held.release)
    assert await insist(lambda: second.acquire(lock_ttl=600))
    assert await second.is_acquired()
    await insist(second.release)
    session, client._client = client._client, None  # its own close() does not wait
    await session.close()


async def see_the_cluster(client: Any, count: int) -> None:
    assert len(await client.machines()) == count
    members = await client.members()
    assert len(members) == count
    assert (await client.leader())["id"] in members
    assert (await client.stats())["id"] in members
    assert (await client.store_stats())["watchers"] == 0


async def use_keys(client: Any) -> None:
    made = await client.write("/keys/one", "1")
    assert made.newKey
    assert (await client.read("/keys/one")).value == "1"
    assert (await client.test_and_set("/keys/one", "2", "1")).action == "compareAndSwap"
    await fails(etcd.EtcdCompareFailed, lambda: client.test_and_set("/keys/one", "3", "1"))
    await fails(etcd.EtcdAlreadyExist, lambda: client.write("/keys/one", "3", prevExist=False))
    await fails(etcd.EtcdKeyNotFound, lambda: client.read("/keys/none"))
    await fails(etcd.EtcdRootReadOnly, lambda: client.delete("/", recursive=True))
    await client.write("/keys/short", "1", ttl=100)
    assert 0 < (await client.refresh("/keys/short", ttl=50)).ttl <= 50
    assert (await client.delete("/keys/one")).action == "delete"


async def use_directories(client: Any) -> None:
    await client.write("/tree/branch", None, dir=True)
    await fails(etcd.EtcdNotFile, lambda: client.write("/tree/branch", "leaf"))
    for value in ("first", "second"):
        await client.write("/tree/branch", value, append=True)
    found = await client.read("/tree", recursive=True, sorted=True)
    assert [leaf.value for leaf in found.leaves] == ["first", "second"]
    await fails(etcd.EtcdDirNotEmpty, lambda: client.delete("/tree/branch", dir=True))
    await client.delete("/tree", recursive=True)


async def use_many_at_once(client: Any) -> None:
    answers = await asyncio.gather(*(client.write("/many", str(one), append=True) for one in range(AT_ONCE)))
    assert len({answer.key for answer in answers}) == AT_ONCE
    children = list((await client.read("/many", sorted=True)).leaves)
    assert [child.createdIndex for child in children] == sorted(answer.createdIndex for answer in answers)


async def use_watches(client: Any) -> None:
    start = (await client.write("/seen/0", "0")).modifiedIndex
    for number in range(1, 4):
        await client.write("/seen/0", str(number))
    seen: list[str] = []

    def see(event: Any) -> None:
        seen.append(event.value)
        if event.value == "4":
            raise etcd.StopWatching

    watching = asyncio.ensure_future(client.eternal_watch("/seen", see, index=start, recursive=True))
    waiting = asyncio.ensure_future(client.watch("/seen/0", index=start + 4))
    while len(seen) < 4:
        assert not watching.done()
        await asyncio.sleep(0.01)
    assert not waiting.done()
    await client.write("/seen/0", "4")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await watching == start + 5
        assert (await waiting).value == "4"
    assert seen == ["0", "1", "2", "3", "4"]


async def fails(kind: type[Exception], action: Callable[[], Awaitable[object]]) -> None:
    try:
        await action()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


async def insist(action: Callable[[], Awaitable[Any]]) -> Any:
    """Again and again while there is no leader, as an application would."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await action()
            except (etcd.EtcdException, aiohttp.ClientError, OSError):
                await asyncio.sleep(0.1)


async def lose_the_leader() -> None:
    """The test kills the leader, where there are others, and says so."""
    sys.stdout.write("lose the leader\n")
    sys.stdout.flush()
    assert await asyncio.to_thread(sys.stdin.readline) == "lost\n"


if __name__ == "__main__":
    asyncio.run(main())
