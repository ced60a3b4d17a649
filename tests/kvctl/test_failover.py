"""Writes through a cluster whose leaders are killed and frozen: what the client says of each is true."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kvstore.client import Client, DeadlineExceeded, Keys, OutcomeUnknown, Unreachable
from tests.cluster import Cluster

WRITERS = 4


class Ledger:
    """What became of each key, as the client says."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.not_done: set[str] = set()
        self.unknown: set[str] = set()

    async def write(self, keys: Keys, writer: int, stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"/w{writer}/{number}"
            try:
                await keys.set(key, "1")
                self.done.add(key)
            except (Unreachable, DeadlineExceeded):
                self.not_done.add(key)
            except OutcomeUnknown:
                self.unknown.add(key)

    async def goes_on(self) -> None:
        """Until another ten writes are acknowledged."""
        wanted = len(self.done) + 10
        while len(self.done) < wanted:  # noqa: ASYNC110 - many writers, no one event
            await asyncio.sleep(0.01)


async def test_what_is_said_of_a_write_is_true(tmp_path: Path) -> None:
    with Cluster.of(3, tmp_path) as cluster:
        await asyncio.to_thread(cluster.leader)
        urls = [member.client_url for member in cluster.members]
        ledger, stop = Ledger(), asyncio.Event()
        async with asyncio.timeout(60), Client(urls, timeout=0.5) as client:
            writers = [asyncio.ensure_future(ledger.write(Keys(client), n, stop)) for n in range(WRITERS)]
            for freeze in (False, True):
                leader = await asyncio.to_thread(cluster.leader)
                client.use([leader.client_url])  # so that it is asked when it goes
                await ledger.goes_on()
                leader.pause() if freeze else leader.kill()
                client.use(urls)
                await ledger.goes_on()
                if freeze:
                    leader.resume()
                else:
                    await asyncio.to_thread(cluster.restart, leader.name)
                await asyncio.to_thread(cluster.wait_until_healthy)
            stop.set()
            await asyncio.gather(*writers)
            tree = await Keys(client).get("/", recursive=True, quorum=True)
    present = {leaf.key for folder in tree.node.nodes or () for leaf in folder.nodes or ()}
    assert ledger.unknown  # otherwise this shows nothing
    assert ledger.done - present == set()
    assert ledger.not_done & present == set()
    assert present <= ledger.done | ledger.unknown
