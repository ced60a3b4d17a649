"""Disk jobs beside the event loop: in order, answered on the loop, and at an end after a failure of the log."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.lanes import ThreadLanes
from kvstore.storage.errors import DiskFailed
from kvstore.storage.files import File, OSFile, OSFiles
from kvstore.storage.layout import Point, Watermark
from kvstore.storage.segment import Staged

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


def staged(file: File, pieces: list[tuple[bytes, int]]) -> Staged:
    point = Point(0, 0, 0, 0, 0)
    return Staged(file, "a.wal", pieces, (0, 0, Watermark(1, point, point, 0, 0), point))


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[OSFile]:
    file = OSFiles().create(str(tmp_path / "log"))
    yield file
    file.close()


async def test_a_commit_writes_all_its_pieces_and_is_told_on_the_loop(log_file: OSFile) -> None:
    flushes: list[int] = []
    lanes = ThreadLanes(lambda: flushes.append(1), lambda problem: None)
    told: list[str] = []

    def done(seconds: float) -> None:
        assert 0 <= seconds < SECONDS
        assert log_file.pread(20, 0) == b"head" + bytes(6) + b"body"
        told.append(threading.current_thread().name)

    lanes.commit(staged(log_file, [(b"body", 10), (b"", 3), (b"head", 0)]), done)
    await lanes.close()
    assert told == [threading.main_thread().name], "and close has waited for it"
    assert flushes == [1]


async def test_commits_follow_one_another(log_file: OSFile) -> None:
    lanes = ThreadLanes(lambda: None, lambda problem: None)
    ended = asyncio.Event()

    def go_on(at: int) -> None:
        if at == 200:
            ended.set()
        else:
            lanes.commit(staged(log_file, [(b"%03d" % at, 3 * at)]), lambda _: go_on(at + 1))

    go_on(0)
    async with asyncio.timeout(SECONDS):
        await ended.wait()
    assert log_file.pread(1000, 0) == b"".join(b"%03d" % at for at in range(200))
    await lanes.close()


async def test_a_commit_that_cannot_write_is_fatal(tmp_path: Path) -> None:
    file = OSFiles().create(str(tmp_path / "log"))
    file.close()
    problems: list[Exception] = []
    lanes = ThreadLanes(lambda: None, problems.append)
    lanes.commit(staged(file, [(b"lost", 0)]), lambda _: problems.append(Exception("it was told as done")))
    await lanes.close()
    assert [str(problem) for problem in problems] == ["a.wal: write failed: Bad file descriptor"]
    assert isinstance(problems[0], DiskFailed)


async def test_a_commit_that_cannot_sync_is_fatal() -> None:
    reader, writer = os.pipe()  # which cannot be synced
    problems: list[Exception] = []
    lanes = ThreadLanes(lambda: None, problems.append)
    lanes.commit(staged(OSFile(writer), []), lambda _: problems.append(Exception("it was told as done")))
    await lanes.close()
    os.close(reader)
    os.close(writer)
    assert [str(problem) for problem in problems] == ["a.wal: fdatasync failed: Invalid argument"]


async def test_close_waits_for_the_commits_that_come_of_a_commit(log_file: OSFile) -> None:
    lanes = ThreadLanes(lambda: None, lambda problem: None)
    told: list[int] = []

    def done(number: int) -> None:
        told.append(number)
        if number < 3:
            lanes.commit(staged(log_file, [(b"x", number)]), lambda _: done(number + 1))
        else:
            lanes.log(lambda: told.append(4), lambda _: told.append(5))

    lanes.commit(staged(log_file, [(b"x", 0)]), lambda _: done(1))
    await lanes.close()
    assert told == [1, 2, 3, 4, 5]
