"""What is read and followed: nothing is lost between the first read and the watch, nor when the history is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kvctl.command import Context, Failure
from kvctl.containers.source import MAX_FOLLOWED, Source, Subject
from kvctl.containers.tree import Tree
from kvctl.containers.words import CACHE
from kvctl.flags import parse
from kvctl.table import GLOBAL
from kvstore.client import Client, Keys

DEADLINE = 20.0
#: More than a server keeps.
HISTORY = 1000


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Source, Keys]]:
    """Beside a client that writes."""
    context = Context(parse(["--endpoints", url], GLOBAL), parse([], (CACHE,)), (), (), {})
    async with asyncio.timeout(DEADLINE), Client(url.split(",")) as client, await Source.open(context) as source:
        yield source, Keys(client)


async def test_a_change_between_the_read_and_the_watch_is_seen(url: str) -> None:
    async with opened(url) as (source, keys):
        subject = Subject("/between/a", "value")
        await keys.set("/between/a", "read")
        await source.load([subject])
        await keys.set("/between/a", "before the watch")
        assert await anext(source.changes(0.0)) == {subject}
        assert source.answers[subject] == Tree("/between/a", "before the watch")


async def test_a_history_that_is_gone_is_read_again(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with opened(url) as (source, keys):
        subject = Subject("/cleared", "all")
        await keys.set("/cleared/a", "1")
        await source.load([subject])
        await keys.delete("/cleared/a")
        await keys.set("/cleared/b", "2")
        lanes = [asyncio.create_task(flood(keys, lane)) for lane in range(16)]
        await asyncio.gather(*lanes)
        changes = source.changes(0.0)
        assert await anext(changes) == {subject}
        assert source.answers[subject] == Tree("/cleared", None, (Tree("/cleared/b", "2"),))
        await keys.set("/cleared/c", "3")
        assert await anext(changes) == {subject}
    assert capfd.readouterr().err == ""


async def flood(keys: Keys, lane: int) -> None:
    for _ in range(HISTORY // 16 + 2):
        await keys.set(f"/flood/{lane}", "x")


async def test_a_directory_that_comes_to_be_counts_for_its_name(url: str) -> None:
    async with opened(url) as (source, keys):
        subject = Subject("/comes/to/be", "names")
        await source.load([subject])
        assert source.answers[subject] is None
        changes = source.changes(0.0)
        change = asyncio.ensure_future(anext(changes))
        await keys.set("/comes/to/be/there", "1")
        assert await change == {subject}


async def test_no_more_are_followed_than_there_is_room_for(url: str) -> None:
    async with opened(url) as (source, _):
        source.answers.update({Subject(f"/{number}", "value"): None for number in range(MAX_FOLLOWED + 1)})
        with pytest.raises(Failure, match="257 keys are read one by one; more than 256 are not followed"):
            await anext(source.changes(0.0))
