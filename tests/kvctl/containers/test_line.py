"""The line and its session, against a directory in memory: clocks, unknown outcomes, orphans, order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any, cast

import pytest

from kvctl.command import Failure
from kvctl.containers import session as session_module
from kvctl.containers.line import Line
from kvctl.containers.session import Session
from kvstore.client import DeadlineExceeded, Keys, KeyspaceError, Missed, Node, OutcomeUnknown, Response, Unreachable

DEADLINE = 10.0


def gone(key: str) -> KeyspaceError:
    return KeyspaceError(100, "Key not found", key, 1)


class Directory:
    """What a Line asks of Keys. `fails` are raised by the next calls; a `late` creation happens though it failed."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.numbers = count(1)
        self.creations: list[Callable[[], None]] = []
        self.renewals: list[Exception] = []
        self.watched: list[str] = []
        self.changed = asyncio.Condition()

    def add(self, value: str) -> Node:
        index = next(self.numbers)
        key = f"/line/{index:020}"
        self.nodes[key] = Node(key, value, False, None, index, index, "", 0)
        return self.nodes[key]

    async def create_in_order(self, directory: str, value: str, *, ttl: int) -> Response:
        assert directory == "/line"
        if self.creations:
            self.creations.pop(0)()
        return Response("create", self.add(value), None, 1)

    async def get(self, key: str, *, sort: bool, quorum: bool) -> Response:
        assert quorum
        return Response("get", Node(key, "", True, tuple(self.nodes.values()), 0, 0, "", 0), None, 1)

    async def delete(self, key: str) -> None:
        async with self.changed:
            if self.nodes.pop(key, None) is None:
                raise gone(key)
            self.changed.notify_all()

    async def set(self, key: str, *, ttl: int, refresh: bool, prev_exist: bool) -> None:
        assert refresh
        assert prev_exist
        if self.renewals:
            raise self.renewals.pop(0)
        if key not in self.nodes:
            raise gone(key)

    async def watch(self, key: str, *, after_index: int, recursive: bool = False) -> AsyncIterator[Response]:
        self.watched.append(key)
        before = dict(self.nodes)
        async with self.changed:
            await self.changed.wait_for(lambda: before != self.nodes if recursive else key not in self.nodes)
        yield Response("delete", Node(key, "", False, None, 0, 0, "", 0), None, 1)


def line(directory: Directory, *, limit: int = 1, ttl: int = 60) -> Line:
    return Line(
        cast("Keys", directory),
        "/line",
        limit=limit,
        ttl=ttl,
        reserve=ttl / 2,
        on_wait=lambda _text: None,
        on_trouble=lambda _text: None,
    )


async def turn(one: Line) -> None:
    async with asyncio.timeout(DEADLINE):
        keeping = await one.turn()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


def waiting(one: Line) -> asyncio.Task[None]:
    return asyncio.create_task(turn(one))


async def settled(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110, since there is no event: a few turns of the loop will do
            await asyncio.sleep(0)


async def test_first_come_first_served_each_watching_the_one_in_front() -> None:
    directory = Directory()
    lines = [line(directory) for _ in range(3)]
    await turn(lines[0])
    second = waiting(lines[1])
    await settled(lambda: len(directory.watched) == 1)
    third = waiting(lines[2])
    await settled(lambda: len(directory.watched) == 2)
    assert directory.watched == [lines[0].key, lines[1].key]
    await lines[1].leave()  # the second gives up: the third moves on to the first, and is not let in
    await settled(lambda: lines[0].key in directory.watched[2:])
    assert not third.done()
    second.cancel()
    await lines[0].leave()
    await third
    assert lines[0].created_index < lines[2].created_index


@pytest.mark.parametrize("happened", [True, False])
async def test_an_unknown_creation_is_recognised_by_its_value(happened: bool) -> None:
    directory = Directory()
    one = line(directory)

    def break_off() -> None:
        if happened:
            directory.add(one.value)
        raise OutcomeUnknown(DeadlineExceeded())

    directory.creations.append(break_off)
    await turn(one)
    assert [node.value for node in directory.nodes.values()] == [one.value]
    assert one.key in directory.nodes
    assert one.created_index == 1  # if it had happened, the place is kept


async def test_a_creation_that_happens_late_blocks_nobody() -> None:
    directory = Directory()
    one, other = line(directory), line(directory)
    await turn(other)
    orphan = directory.add(one.value)  # of a POST that was given up; it is in front of ours
    mine = waiting(one)
    await settled(lambda: directory.watched)
    assert orphan.key not in directory.nodes
    directory.add(one.value)  # and one behind ours
    await other.leave()
    await mine
    await one.leave()
    assert directory.nodes == {}


async def test_a_place_that_is_lost_while_waiting_is_taken_again_at_the_end() -> None:
    directory = Directory()
    holder, one, behind = (line(directory) for _ in range(3))
    await turn(holder)
    mine = waiting(one)
    await settled(lambda: one.created_index)
    before = one.created_index
    last = waiting(behind)
    await settled(lambda: len(directory.watched) == 2)
    await directory.delete(one.key)
    await directory.delete(holder.key)
    await last
    await behind.leave()
    await mine
    assert one.created_index > behind.created_index > before


async def test_a_limit_lets_so_many_in_and_another_limit_is_refused() -> None:
    directory = Directory()
    lines = [line(directory, limit=2) for _ in range(4)]
    await turn(lines[0])
    await turn(lines[1])
    third = waiting(lines[2])
    await settled(lambda: directory.watched == ["/line"])
    fourth = waiting(lines[3])
    await settled(lambda: len(directory.watched) == 2)
    with pytest.raises(Failure, match=rf"{lines[0].owner} goes by another limit for /line: 2, not 3"):
        await line(directory, limit=3).turn()
    await lines[0].leave()
    await third
    assert not fourth.done()
    await lines[1].leave()
    await fourth


async def test_a_stranger_in_the_line_counts() -> None:
    directory = Directory()
    stranger = directory.add("{nonsense")
    with pytest.raises(Failure, match=f"{stranger.key} goes by another limit"):
        await line(directory).turn()


async def test_a_key_that_was_removed_is_told_through_outages_and_a_cleared_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvctl.containers.line.RETRY_SECONDS", 0.0)
    directory = Directory()
    one = line(directory)
    await turn(one)
    there = Response("get", directory.nodes[one.key], None, 1)
    cleared = KeyspaceError(401, "The event in requested index is outdated and cleared", "", 1)
    polls: list[list[Exception | Response | Missed]] = [
        [Unreachable([])],
        [Missed(there, 5, cleared), there, Unreachable([])],  # neither that nor a write removes it
        [Missed(None, 6, cleared)],
    ]
    begun: list[tuple[str, int]] = []

    async def watch(key: str, *, after_index: int) -> AsyncIterator[Response | Missed]:
        begun.append((key, after_index))
        for event in polls.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event

    monkeypatch.setattr(directory, "watch", watch)
    async with asyncio.timeout(DEADLINE):
        assert await one.removed() == f"{one.key} is gone: it was removed, or ran out"
    assert begun == [(one.key, one.created_index)] * 3


# --- the session ----------------------------------------------------------------------------------------------------


class Clock:
    """Goes on by what is slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.really = asyncio.sleep
        monkeypatch.setattr(session_module, "now", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await self.really(0)


async def test_a_session_is_renewed_three_times_in_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, directory = Clock(monkeypatch), Directory()
    node = directory.add("x")
    asked: list[float] = []

    async def renew(*_: Any, **__: Any) -> None:
        asked.append(clock.now)
        if len(asked) == 6:
            raise gone(node.key)

    monkeypatch.setattr(directory, "set", renew)
    one = Session(cast("Keys", directory), node.key, 30, clock.now)
    assert "is gone" in await one.keep(5)
    assert asked == [1010.0, 1020.0, 1030.0, 1040.0, 1050.0, 1060.0]


@pytest.mark.parametrize(
    "error", [Unreachable([]), DeadlineExceeded(), OutcomeUnknown(DeadlineExceeded()), TimeoutError()]
)
async def test_without_an_answer_it_is_lost_before_it_can_run_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The reserve before the time to live is over, counted from when the last good renewal was *sent*."""
    clock, directory = Clock(monkeypatch), Directory()
    node = directory.add("x")
    asked: list[float] = []

    async def renew(*_: Any, **__: Any) -> None:
        asked.append(clock.now)
        clock.now += 2  # the answer takes its time
        if len(asked) > 1:
            raise error

    monkeypatch.setattr(directory, "set", renew)
    one = Session(cast("Keys", directory), node.key, 30, clock.now)
    assert "could not be renewed in time" in await one.keep(5)
    assert asked[:2] == [1010.0, 1020.0]
    assert one.ends_at == 1010.0 + 30
    assert 1010.0 + 30 - 5 <= clock.now < 1010.0 + 30 - 5 + 2.5
    assert len(asked) >= 5  # and it was tried again and again


async def test_a_machine_that_slept_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at the clock after waking is enough; no renewal in between makes it good again."""
    clock, directory = Clock(monkeypatch), Directory()
    node = directory.add("x")
    one = Session(cast("Keys", directory), node.key, 30, clock.now)
    keeping = asyncio.create_task(one.keep(5))
    await clock.really(0)
    clock.now += 3600
    async with asyncio.timeout(DEADLINE):
        assert "could not be renewed in time" in await keeping


async def test_a_renewal_that_hangs_does_not_hold_up_the_end() -> None:
    directory = Directory()
    node = directory.add("x")

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    directory.set = hang  # type: ignore[method-assign]
    sent = session_module.now()
    one = Session(cast("Keys", directory), node.key, 1, sent)
    assert "could not be renewed in time" in await one.keep(0.5)
    assert 0.5 <= session_module.now() - sent < 1


def test_the_value_says_whose_it_is() -> None:
    one, other = line(Directory(), limit=2), line(Directory(), limit=2)
    assert one.value != other.value
    assert json.loads(one.value)["owner"] == one.owner
