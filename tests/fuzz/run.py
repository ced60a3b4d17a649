"""Hands mutated inputs to a target and watches it: no exception, no hang, no memory out of proportion.

Seconds are bounded by an alarm, memory by what the process has ever held: an input that raises that by much is a
finding, also where the target then got over it. Both say which input it was.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import NamedTuple

from tests.fuzz.mutate import mutated
from tests.fuzz.target import Target

SECONDS = 2.0  # for one input, on a machine that has other things to do
MEMORY = 64 << 20  # bytes that one input, of at most 20 kB, may add to what the process held before
WARM_UP = 200  # inputs, while memory may grow as it likes


class Hang(BaseException):
    """One input takes too long. No Exception, so that nothing under test swallows it."""


class Finding(NamedTuple):
    target: str
    octets: bytes
    problem: str

    def __str__(self) -> str:
        return f"{self.target}: {self.problem}\n    {self.octets!r}"


def fuzz(target: Target, count: int, seed: int) -> Iterator[Finding | None]:
    """One item for each input, None where nothing was found."""
    random = Random(f"{target.name} {seed}")
    most = _peak()
    for number in range(count):
        octets = mutated(random, target.seeds, target.tokens)
        found = examine(target, octets)
        peak = _peak()
        if found is None and number > WARM_UP and peak - most > MEMORY:
            found = Finding(target.name, octets, f"takes {(peak - most) >> 20} MiB")
        most = peak
        yield found


def examine(target: Target, octets: bytes) -> Finding | None:
    try:
        with _alarm():
            target.take(octets)
    except Hang:
        return Finding(target.name, octets, f"takes more than {SECONDS} seconds")
    except Exception as problem:  # that is what is looked for
        return Finding(target.name, octets, f"{type(problem).__name__}: {problem} {_place(problem)}")
    return None


@contextmanager
def _alarm() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _place(problem: BaseException) -> str:
    """Where it was raised."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
