"""Long answers in turns: a slice of each, a rest while there is other work, and none that holds up the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from operator import itemgetter
from typing import Any, cast

import pytest

from kvstore.http.slices import REST, Slices
from kvstore.limits import Limits
from tests.http.client import DEADLINE
from tests.http.waiting import until


class Answer:
    """It has `steps` slices of `size` bytes; what happens is recorded. It fails in the method that `bug` names."""

    def __init__(self, name: str, said: list[str], steps: int = 3, bug: str = "", size: int = 100) -> None:
        self.name = name
        self.said = said
        self.steps = steps
        self.bug = bug
        self.size = size
        self.sent_bytes = 0
        self.is_stalled = False
        self.is_busy = False
        self.over = asyncio.Event()

    def say(self, what: str) -> None:
        self.said.append(f"{self.name} {what}")

    def begin(self) -> bool:
        self.say("begins")
        if self.bug == "begin":
            raise ValueError("planted")
        return self.steps > 0

    def step(self) -> bool:
        if self.bug == "step":
            raise ValueError("planted")
        self.steps -= 1
        self.sent_bytes += self.size
        self.say("steps")
        if not self.steps:
            self.over.set()
        return self.steps > 0

    def overdue(self) -> None:
        self.say("is overdue")
        self.over.set()

    def failed(self) -> None:
        self.say("fails")
        self.over.set()
        if self.bug == "failed":
            raise ValueError("planted")

    def fails(self) -> bool:
        raise ValueError("planted")

    def has_company(self) -> bool:
        return self.is_busy


class Clock:
    """An event loop whose timers run in `advance`, on the test's own loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = 0.0
        self._timers: list[tuple[float, asyncio.Handle]] = []

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        return self._loop.call_soon(callback, *arguments)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, arguments, self._loop)
        self._timers.append((self._now + delay, handle))
        return handle

    def advance(self, seconds: float) -> None:
        self._now += seconds
        due = [timer for timer in self._timers if timer[0] <= self._now]
        self._timers = [timer for timer in self._timers if timer[0] > self._now]
        for _, handle in sorted(due, key=itemgetter(0)):
            if not handle.cancelled():
                handle._run()


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


class Reader:
    """A client for which an answer stalls after each slice, until it reads."""

    def __init__(self, slices: Slices, answer: Answer, loop: asyncio.AbstractEventLoop) -> None:
        self.slices, self.answer, self.loop = slices, answer, loop
        answer.is_stalled = True
        slices.add(answer)

    def reads_every(self, seconds: float) -> None:
        if not self.answer.over.is_set():
            self.slices.resume(self.answer)
            self.loop.call_later(seconds, self.reads_every, seconds)


async def test_a_client_that_reads_too_little_is_dropped(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    slices = Slices(Limits(write_seconds=0.05, taken_bytes=10_000_000), loop)
    answer = Answer("a", said, steps=1000)
    Reader(slices, answer, loop).reads_every(0.01)
    await ends(answer)
    assert said[-1] == "a is overdue"
    assert slices.running == 0


async def test_a_client_that_reads_steadily_gets_an_answer_of_any_length(said: list[str]) -> None:
    """It waits for the client forty times as long as a client may take to read nothing."""
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    slices = Slices(Limits(write_seconds=5.0, taken_bytes=100), cast(asyncio.AbstractEventLoop, clock))
    answer = Answer("a", said, steps=200, size=100)
    answer.is_stalled = True
    slices.add(answer)
    async with asyncio.timeout(DEADLINE):
        while not answer.over.is_set():
            clock.advance(1.0)
            slices.resume(answer)
            await asyncio.sleep(0)
    assert "a is overdue" not in said


async def test_time_that_was_not_used_is_not_saved_up(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    slices = Slices(Limits(write_seconds=5.0, taken_bytes=100), cast(asyncio.AbstractEventLoop, clock))
    answer = Answer("a", said, steps=10, size=1_000_000)
    answer.is_stalled = True
    slices.add(answer)
    slices.resume(answer)
    await until(lambda: "a steps" in said)
    slices.resume(answer)
    await until(lambda: said.count("a steps") == 2)
    clock.advance(4.9)
    assert "a is overdue" not in said
    clock.advance(0.2)
    assert said[-1] == "a is overdue"


async def test_answers_that_stall_leave_their_places_to_others(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    slices = Slices(Limits(long_answers=2, stall_seconds=1000.0), loop)
    stalled = [Answer(name, said) for name in "ab"]
    for answer in stalled:
        answer.is_stalled = True
        slices.add(answer)
    other = Answer("c", said)
    slices.add(other)
    await ends(other)
    for answer in stalled:
        answer.is_stalled = False
        slices.resume(answer)
    await ends(*stalled)
    assert not any("overdue" in line for line in said)


async def test_the_one_that_stalled_first_is_dropped_when_too_many_stall_and_others_wait(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    slices = Slices(Limits(long_answers=2, stall_seconds=2.0), cast(asyncio.AbstractEventLoop, clock))
    stalled = [Answer(name, said) for name in "abcd"]
    for answer in stalled:
        answer.is_stalled = True
        slices.add(answer)
        clock.advance(0.5)
    slices.resume(stalled[0])  # it reads: from now on, b is the one that stalled first
    await until(lambda: "a steps" in said)
    assert slices.running == 4
    other = Answer("other", said)
    slices.add(other)
    assert (slices.running, slices.waiting) == (4, 1)
    clock.advance(0.4)  # b has stalled for 1.9 seconds
    await asyncio.sleep(0)
    assert "other begins" not in said
    clock.advance(0.2)
    await ends(other)
    assert [line for line in said if "overdue" in line] == ["b is overdue"]
    clock.advance(30.0)  # no other one waits
    assert [line for line in said if "overdue" in line] == ["b is overdue"]


async def test_clients_that_never_read_cannot_keep_others_from_their_listings(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    limits = Limits()
    slices = Slices(limits, cast(asyncio.AbstractEventLoop, clock))
    for number in range(20 * limits.long_answers):
        answer = Answer(f"stalled-{number}", said)
        answer.is_stalled = True
        slices.add(answer)
    other = Answer("other", said)
    slices.add(other)
    most = 0
    async with asyncio.timeout(DEADLINE):
        while not other.over.is_set():
            clock.advance(0.1)
            await asyncio.sleep(0)
            most = max(most, slices.running)
    assert "other is overdue" not in said
    assert most == 2 * limits.long_answers


@pytest.mark.parametrize("bug", ["begin", "step"])
async def test_a_bug_in_one_ends_that_one(said: list[str], caplog: pytest.LogCaptureFixture, bug: str) -> None:
    slices = Slices(Limits(long_answers=1), asyncio.get_running_loop())
    first, broken, other = Answer("first", said, steps=1), Answer("broken", said, bug=bug), Answer("other", said)
    with caplog.at_level(logging.ERROR):
        for answer in (first, broken, other):
            slices.add(answer)
        await ends(broken, other)
    assert said[2:5] == ["broken begins", "broken fails", "other begins"]
    assert caplog.text.count("a request failed") == 1
    assert slices.running == 0


async def test_a_bug_in_the_end_of_one_stops_no_other(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    slices = Slices(Limits(long_answers=1), loop)
    first, broken, other = Answer("first", said, steps=1), Answer("broken", said, bug="failed"), Answer("other", said)
    broken.step = broken.begin = broken.fails  # type: ignore[method-assign]
    for answer in (first, broken, other):
        slices.add(answer)
    await ends(broken, other)
    assert len(reported) == 1


async def test_one_that_was_answered_in_another_way_makes_room(said: list[str]) -> None:
    slices = Slices(Limits(long_answers=1), asyncio.get_running_loop())
    short, other = Answer("short", said, steps=0), Answer("other", said, steps=1)
    slices.add(short)
    slices.add(other)
    await ends(other)
    assert said == ["short begins", "other begins", "other steps"]
