"""Long answers in turns: a slice of each, a rest while there is other work, and none that holds up the others."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from kvstore.http.slices import REST, Slices
from kvstore.limits import Limits
from tests.http.client import DEADLINE


class Answer:
    """So many steps; what happens is written down."""

    def __init__(self, name: str, said: list[str], steps: int = 3, works: bool = True) -> None:
        self.name = name
        self.said = said
        self.steps = steps
        self.works = works
        self.is_stalled = False
        self.is_busy = False
        self.over = asyncio.Event()

    def say(self, what: str) -> None:
        self.said.append(f"{self.name} {what}")

    def begin(self) -> bool:
        self.say("begins")
        return self.steps > 0

    def step(self) -> bool:
        if not self.works:
            raise ValueError("planted")
        self.steps -= 1
        self.say("steps")
        if not self.steps:
            self.over.set()
        return self.steps > 0

    def overdue(self) -> None:
        self.say("is overdue")
        self.over.set()

    def has_company(self) -> bool:
        return self.is_busy


@pytest.fixture
def said() -> list[str]:
    return []


async def ends(*answers: Answer) -> None:
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(answer.over.wait() for answer in answers))


async def test_they_take_turns_and_further_ones_wait(said: list[str]) -> None:
    slices = Slices(Limits(long_answers=2), asyncio.get_running_loop())
    answers = [Answer(name, said) for name in "abc"]
    for answer in answers:
        slices.add(answer)
    assert (slices.running, slices.waiting) == (2, 1)
    await ends(*answers)
    assert said == [
        *("a begins", "b begins", "a steps", "b steps", "a steps", "b steps", "a steps"),
        *("c begins", "b steps", "c steps", "c steps", "c steps"),
    ]
    assert (slices.running, slices.waiting) == (0, 0)


async def test_other_work_comes_between_two_slices(said: list[str]) -> None:
    slices = Slices(Limits(), asyncio.get_running_loop())
    loop = asyncio.get_running_loop()
    answer = Answer("a", said, steps=200)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not answer.over.is_set():
            loop.call_soon(turn)

    slices.add(answer)
    turn()
    await ends(answer)
    assert turns >= 200


async def test_a_busy_member_has_a_rest_after_each_slice(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    slices = Slices(Limits(), loop)
    answer = Answer("a", said)
    answer.is_busy = True
    clock = iter(range(100))
    monkeypatch.setattr("kvstore.http.slices.perf_counter", lambda: next(clock) / 1000)  # a slice takes 1 ms
    rests: list[float] = []
    original = loop.call_later

    def call_later(delay: float, *what: Any) -> asyncio.TimerHandle:
        rests.append(delay)
        return original(0.0 if delay < 1 else delay, *what)

    monkeypatch.setattr(loop, "call_later", call_later)
    slices.add(answer)
    await ends(answer)
    assert [round(rest, 6) for rest in rests if rest < 1] == [0.001 * REST] * 2


async def test_one_whose_client_does_not_read_is_passed_over(said: list[str]) -> None:
    slices = Slices(Limits(), asyncio.get_running_loop())
    slow, gone, quick = Answer("slow", said), Answer("gone", said), Answer("quick", said)
    slow.is_stalled = gone.is_stalled = True
    for answer in (slow, gone, quick):
        slices.add(answer)
    slices.remove(gone)
    await ends(quick)
    assert "slow steps" not in said
    slow.is_stalled = False
    slices.resume(slow)
    await ends(slow)
    assert said.count("slow steps") == 3
    assert not any("overdue" in line or line == "gone steps" for line in said)
    slices.resume(slow)
    slices.remove(slow)


async def test_the_time_that_it_waits_for_its_client_counts_together(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    slices = Slices(Limits(write_seconds=0.05), loop)
    answer = Answer("a", said, steps=1000)
    answer.is_stalled = True
    slices.add(answer)

    def read_on() -> None:
        if not answer.over.is_set():
            slices.resume(answer)
            loop.call_later(0.01, read_on)

    read_on()
    await ends(answer)
    assert said[-1] == "a is overdue"
    assert slices.running == 0


async def test_a_bug_in_one_ends_that_one(said: list[str], caplog: pytest.LogCaptureFixture) -> None:
    slices = Slices(Limits(long_answers=1), asyncio.get_running_loop())
    broken, other = Answer("broken", said, works=False), Answer("other", said, steps=1)
    with caplog.at_level(logging.ERROR):
        for answer in (broken, other):
            slices.add(answer)
        await ends(broken, other)
    assert said == ["broken begins", "broken is overdue", "other begins", "other steps"]
    assert "a request failed" in caplog.text


async def test_one_that_was_answered_in_another_way_makes_room(said: list[str]) -> None:
    slices = Slices(Limits(long_answers=1), asyncio.get_running_loop())
    short, other = Answer("short", said, steps=0), Answer("other", said, steps=1)
    slices.add(short)
    slices.add(other)
    await ends(other)
    assert said == ["short begins", "other begins", "other steps"]
