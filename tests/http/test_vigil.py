"""The loop stays awake for a moment behind a lone answer, and for nobody else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from kvstore.http import vigil
from kvstore.http.vigil import AWAKE_SECONDS, WRITE_SECONDS, Vigil


class Turns:
    """The turns that are asked for, and the time as the test has it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 50.0
        self.pending = 0
        self._asked: list[Callable[[], None]] = []
        patch.setattr(vigil, "monotonic", lambda: self.now)
        self.vigil = Vigil(self, lambda: self.pending)  # type: ignore[arg-type]  # all of a loop that it needs

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._asked.append(callback)

    def take(self, seconds: float = 0.0) -> bool:
        """One turn; whether there is to be another one."""
        self.now += seconds
        asked, self._asked = self._asked, []
        assert len(asked) <= 1
        for callback in asked:
            callback()
        return bool(self._asked)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


def test_a_lone_answer_keeps_the_loop_awake_for_a_moment(turns: Turns) -> None:
    turns.vigil.tell()
    assert turns.take()
    assert turns.take(AWAKE_SECONDS * 0.9)
    assert not turns.take(AWAKE_SECONDS * 0.2)
    assert not turns.take()


def test_the_next_one_prolongs_it(turns: Turns) -> None:
    turns.vigil.tell()
    for _ in range(10):
        assert turns.take(AWAKE_SECONDS * 0.9)
        turns.vigil.tell()
    assert turns.take(AWAKE_SECONDS * 2)
    assert not turns.take(AWAKE_SECONDS * 2)


def test_several_in_one_turn_end_it_at_once(turns: Turns) -> None:
    turns.vigil.tell()
    turns.vigil.tell()
    assert not turns.take()
    turns.vigil.tell()
    assert turns.take(), "it begins anew with the next lone one"


def test_a_lone_write_is_waited_for(turns: Turns) -> None:
    turns.vigil.tell(is_write=True)
    turns.pending = 1
    assert turns.take()
    assert turns.take(WRITE_SECONDS * 0.9)
    assert not turns.take(WRITE_SECONDS * 0.2)


def test_one_among_others_is_not(turns: Turns) -> None:
    turns.vigil.tell(is_write=True)
    turns.pending = 2
    assert not turns.take()


def test_others_go_first_during_a_lone_write_and_at_no_other_time(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load, the processor would be given away for milliseconds each time."""
    yields: list[int] = []
    monkeypatch.setattr(os, "sched_yield", lambda: yields.append(1))
    turns.vigil.tell()
    assert turns.take()
    assert not turns.take(1.0)
    turns.vigil.tell(is_write=True)
    turns.pending = 2
    assert not turns.take()
    assert yields == []
    turns.vigil.tell(is_write=True)
    turns.pending = 1
    assert turns.take()
    assert yields == [1]


def test_a_read_beside_a_write_that_hangs_keeps_the_loop_awake_no_longer_than_any_other(turns: Turns) -> None:
    turns.pending = 1
    turns.vigil.tell()
    assert turns.take()
    assert not turns.take(AWAKE_SECONDS * 1.1)


async def test_an_idle_loop_sleeps() -> None:
    loop = asyncio.get_running_loop()
    watched = Vigil(loop, lambda: 0)
    watched.tell()
    deadline = loop.time() + 10
    for _ in iter(lambda: watched.is_kept, False):
        assert loop.time() < deadline
        await asyncio.sleep(0)
