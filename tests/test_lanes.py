"""Disk jobs beside the event loop: in order, answered on the loop, and at an end after a failure of the log."""

from __future__ import annotations

import asyncio
import threading

from kvstore.lanes import ThreadLanes

SECONDS = 10.0


async def test_jobs_of_a_lane_run_in_order_and_answer_on_the_loop() -> None:
    flushes: list[int] = []
    lanes = ThreadLanes(lambda: flushes.append(1), lambda problem: None)
    ran: list[int] = []
    answered: list[tuple[int, str]] = []

    def job(number: int) -> int:
        ran.append(number)
        return number

    for number in range(20):
        lanes.log(
            lambda number=number: job(number),  # type: ignore[misc]
            lambda got: answered.append((got, threading.current_thread().name)),
        )
    await lanes.close()
    assert ran == list(range(20))
    assert answered == [(number, threading.main_thread().name) for number in range(20)]
    assert len(flushes) == 20


async def test_a_long_bulk_job_does_not_keep_the_log_waiting() -> None:
    lanes = ThreadLanes(lambda: None, lambda problem: None)
    gate = threading.Event()
    logged = asyncio.Event()
    finished: list[bool] = []
    lanes.bulk(lambda: gate.wait(SECONDS), finished.append, lambda problem: None)
    lanes.log(lambda: None, lambda _: logged.set())
    async with asyncio.timeout(SECONDS):
        await logged.wait()
    assert finished == []
    gate.set()
    await lanes.close()
    assert finished == [True]


async def test_a_failing_bulk_job_is_told_and_the_next_one_runs() -> None:
    lanes = ThreadLanes(lambda: None, lambda problem: None)
    outcomes: list[object] = []

    def fail() -> None:
        raise OSError("no space")

    lanes.bulk(fail, outcomes.append, lambda problem: outcomes.append(str(problem)))
    lanes.bulk(lambda: 2, outcomes.append, lambda problem: outcomes.append("unexpected"))
    await lanes.close()
    assert outcomes == ["no space", 2]


async def test_after_a_failing_log_job_no_other_runs() -> None:
    """What the page cache holds cannot be believed any more, so nothing may be written behind it."""
    problems: list[str] = []
    lanes = ThreadLanes(lambda: None, lambda problem: problems.append(str(problem)))
    ran: list[int] = []

    def fail() -> None:
        raise OSError("fsync failed")

    lanes.log(fail, lambda _: ran.append(1))
    lanes.log(lambda: ran.append(2), lambda _: ran.append(3))
    await lanes.close()
    assert problems == ["fsync failed"]
    assert ran == []


async def test_an_outcome_that_cannot_be_taken_is_fatal() -> None:
    problems: list[Exception] = []
    lanes = ThreadLanes(lambda: None, problems.append)

    def take(outcome: object) -> None:
        raise AssertionError("a bug")

    lanes.log(lambda: None, take)
    await lanes.close()
    assert [str(problem) for problem in problems] == ["a bug"]


def test_a_job_may_outlive_the_loop() -> None:
    """As when the server stops at once in the middle of a snapshot. What its thread raised would fail this test."""
    gate, ran = threading.Event(), threading.Event()

    async def begin() -> None:
        lanes = ThreadLanes(lambda: None, lambda problem: None)
        lanes.bulk(gate.wait, lambda _: None, lambda problem: None)
        lanes.bulk(ran.set, lambda _: None, lambda problem: None)

    asyncio.run(begin())
    gate.set()
    assert ran.wait(SECONDS)  # the thread lived on
