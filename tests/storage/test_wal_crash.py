"""The power goes, or the process dies, at any step of anything; the log must come back.

Each example is a list of operations, each of which may be cut short after some steps of the disk. A dumb model keeps
what was acknowledged and what was asked for last. Whatever a crash leaves:
- the log opens, owes nothing, and no record is called damaged;
- it holds what was acknowledged, or that and the last operation, or that and the last operation's entries.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.raft.types import Entry, HardState, SnapshotMeta
from kvstore.storage.wal import WAL
from tests.sim.disk import SimCrash, SimFiles
from tests.storage.logs import FOLDER, IDENTITY, SMALL, mark


class Step(NamedTuple):
    """One thing to do; the meaning of the numbers is `_perform`'s."""

    what: str
    number: int
    size: int
    crash_in: int | None  # the power goes at this step of the disk


@dataclass
class Model:
    """What the log should hold. Entries by index; nothing at or below the snapshot counts."""

    term: int = 0
    vote: int = 0
    snapshot: SnapshotMeta | None = None
    entries: dict[int, Entry] = field(default_factory=dict)

    @property
    def base(self) -> int:
        return self.snapshot.index if self.snapshot else 0

    @property
    def last_index(self) -> int:
        return max(self.entries, default=self.base)

    def appended(self, hard_state: HardState | None, batch: list[Entry]) -> Model:
        kept = {index: entry for index, entry in self.entries.items() if not batch or index < batch[0].index}
        kept.update((entry.index, entry) for entry in batch)
        term, vote = (hard_state.term, hard_state.vote) if hard_state else (self.term, self.vote)
        return replace(self, term=term, vote=vote, entries=kept)

    def marked(self, meta: SnapshotMeta) -> Model:
        if meta.index > self.last_index:
            return replace(self, snapshot=meta, entries={}, term=max(self.term, meta.term))
        kept = {index: entry for index, entry in self.entries.items() if index > meta.index}
        return replace(self, snapshot=meta, entries=kept)

    def seen(self) -> tuple[int, int, list[Entry]]:
        return self.term, self.vote, [self.entries[index] for index in sorted(self.entries)]


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["append"] * 6 + ["rewrite", "snapshot", "install", "purge", "settle", "crash", "stop"]),
        st.integers(0, 1000),
        st.sampled_from([0, 1, 30, 500, 600, 1500]),
        st.none() | st.integers(1, 14),
    ),
    max_size=25,
)


class Machine:
    """One member's log and the model beside it."""

    def __init__(self, seed: int) -> None:
        self.files = SimFiles(Random(seed))
        self.wal = WAL.create(self.files, FOLDER, IDENTITY, segment_bytes=SMALL)
        self.certain = Model()

    def run(self, step: Step) -> None:
        if step.what in ("crash", "stop"):
            self._die(step.what == "crash")
            self._reopen(step.crash_in, [self.certain])
            return
        operation, outcomes = self._perform(step)
        if step.crash_in is not None:
            self.files.crash_in(step.crash_in)
        try:
            operation()
        except SimCrash:
            self._die(power=step.number % 3 > 0)
            self._reopen(None if step.number % 2 else step.crash_in, [self.certain, *outcomes])
        else:
            self.files.crash_in(0)
            self.certain = outcomes[-1]

    def _perform(self, step: Step) -> tuple[Callable[[], object], list[Model]]:
        model = self.certain
        match step.what:
            case "append" | "rewrite":
                back = step.number % 5 if step.what == "rewrite" else 0
                first = max(model.base + 1, model.last_index + 1 - back)
                term = max(model.term, 1) + (step.what == "rewrite")
                batch = [
                    Entry(index, term, 0, b"\0" * (step.size // 2) + b"%d" % index + b"y" * (step.size // 2))
                    for index in range(first, first + 1 + step.number % 3)
                ]
                hard_state = None
                if step.number % 2 or term != model.term:
                    hard_state = HardState(term, step.number % 4 if term > model.term else model.vote, model.base)
                torn = model.appended(None, batch)  # their term is known from the entries alone, its vote is not
                torn = replace(torn, term=term, vote=0) if term > model.term else torn
                outcomes = [torn, model.appended(hard_state, batch)]
                return lambda: self.wal.append(hard_state, batch), outcomes
            case "snapshot" if model.entries:
                entry = list(model.entries.values())[step.number % len(model.entries)]
                meta = mark(entry.index, entry.term)
                return lambda: self.wal.mark_snapshot(meta), [model.marked(meta)]
            case "install":
                meta = mark(model.last_index + 1 + step.number % 9, max(model.term, 1))
                return lambda: self.wal.mark_snapshot(meta), [model.marked(meta)]
            case "purge":
                return lambda: self.wal.purge(model.base, 1 + step.number % 2), [model]
            case _:
                return lambda: self.wal.settle(), [model]

    def _die(self, power: bool) -> None:
        if power:
            self.files.crash()
        else:
            self.files.stop()

    def _reopen(self, crash_in: int | None, outcomes: list[Model]) -> None:
        # the snapshot's file is durable before its mark, so the newest one is at hand in any case
        snapshot = outcomes[-1].snapshot
        if crash_in is not None:
            self.files.crash_in(crash_in)
        try:
            self.wal, recovered = WAL.open(self.files, FOLDER, snapshot=snapshot, segment_bytes=SMALL)
        except SimCrash:
            self._die(power=crash_in is None or crash_in % 2 > 0)
            self._reopen(None, outcomes)
            return
        self.files.crash_in(0)
        if snapshot is not None:
            outcomes = [model.marked(snapshot) for model in outcomes]
        assert recovered.promised is None
        assert recovered.identity == IDENTITY
        found = (recovered.hard_state.term, recovered.hard_state.vote, recovered.entries)
        possible = [model for model in outcomes if model.seen() == found]
        assert possible, f"{found} is none of {[model.seen() for model in outcomes]}"
        self.certain = possible[-1]


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 1 << 32), steps)
def test_whatever_a_crash_leaves_is_a_log_with_all_that_was_acknowledged(seed: int, what: list[Step]) -> None:
    machine = Machine(seed)
    for step in what:
        machine.run(step)
    machine.run(Step("crash", 0, 0, None))


def test_a_commit_that_a_crash_leaves_speaks_of_entries_that_it_leaves_too() -> None:
    """Entries 4 and 5 replace others and are committed with the same batch; tear it in every possible way."""
    replaced = 0
    for seed in range(40):
        for size in range(380, 512, 8):
            files = SimFiles(Random(seed))
            wal = WAL.create(files, FOLDER, IDENTITY, segment_bytes=1 << 14)
            wal.append(HardState(1, 1, 3), [Entry(index, 1, 0, b"old") for index in range(1, 8)])
            files.crash_in(3)
            with contextlib.suppress(SimCrash):
                wal.append(HardState(2, 1, 5), [Entry(4, 2, 0, b"n" * size), Entry(5, 2, 0, b"new")])
            files.crash()
            _, found = WAL.open(files, FOLDER, snapshot=None, segment_bytes=1 << 14)
            replaced += found.entries[3].term == 2
            assert found.hard_state.commit <= 3 or found.entries[3].term == 2
    assert 0 < replaced < 40 * len(range(380, 512, 8))


def test_a_crash_at_every_step_of_a_cut() -> None:
    """Small enough to try them all: each step of the disk, with many ways to lose what was not synced."""
    for seed in range(8):
        for at in range(1, 40):
            machine = Machine(seed * 1000 + at)
            while machine.wal._segment.has_room(700):
                machine.run(Step("append", 1, 100, None))
            machine.run(Step("append", 2, 500, at))
            machine.run(Step("append", 2, 500, None))
            machine.run(Step("crash", 0, 0, at))
            machine.run(Step("crash", 0, 0, None))
