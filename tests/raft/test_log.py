"""The log against a plain list, and its cursors when a write ends late."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.raft.config import ENTRY_OVERHEAD
from kvstore.raft.log import UNKNOWN_TERM, Log
from kvstore.raft.types import Configuration, Entry, EntryKind, SnapshotMeta


def entries_of(terms: list[int], start: int = 0) -> list[Entry]:
    return [Entry(index, term, 0, b"x" * (index % 5)) for index, term in enumerate(terms, start + 1)]


def log_of(*terms: int, committed: int = 0) -> Log:
    return Log(0, 0, entries_of(list(terms)), committed, 0)


rising_terms = st.lists(st.integers(1, 6), max_size=12).map(sorted)


@given(rising_terms, st.integers(0, 15), st.integers(0, 8))
def test_last_agreement_is_the_last_entry_that_may_be_common(terms: list[int], index: int, term: int) -> None:
    candidates = [(0, 0)] + [(i, t) for i, t in enumerate(terms, 1) if i <= index and t <= term]
    assert log_of(*terms).last_agreement(index, term) == candidates[-1]


@given(rising_terms, st.integers(1, 13), st.integers(0, 13), st.integers(0, 200))
def test_slices_fit_but_never_stay_empty(terms: list[int], first: int, last: int, max_bytes: int) -> None:
    log = log_of(*terms)
    wanted = [entry for entry in entries_of(terms) if first <= entry.index <= last]
    got = log.slice(first, last, max_bytes)
    assert got == wanted[: len(got)]
    size = sum(len(entry.payload) + ENTRY_OVERHEAD for entry in got)
    assert size <= max_bytes or len(got) == 1
    if len(got) < len(wanted):
        assert got
        assert size + len(wanted[len(got)].payload) + ENTRY_OVERHEAD > max_bytes


@given(st.integers(0, 2**32))
def test_against_a_plain_list(seed: int) -> None:
    random = Random(seed)
    log, model, start, term = Log(0, 0, (), 0, 0), [Entry(0, 0, 0, b"")], 0, 1
    for _ in range(30):
        step = random.choice(["append", "merge", "commit", "compact", "write"])
        if step == "append":
            term += random.randrange(2)
            payloads = [b"y" * random.randrange(9) for _ in range(random.randrange(1, 4))]
            first = log.append_payloads(term, EntryKind.COMMAND, payloads)
            model += [Entry(index, term, 0, payload) for index, payload in enumerate(payloads, first)]
        elif step == "merge":
            prev = random.randrange(log.committed, log.last_index + 1)
            kept = model[prev + 1 : prev + 1 + random.randrange(3)]
            after = prev + len(kept)
            fresh = []
            if random.random() < 0.7:
                term += 1
                fresh = entries_of([term] * random.randrange(1, 4), after)
            log.merge([*kept, *fresh])
            if fresh:
                model[after + 1 :] = fresh
        elif step == "commit":
            log.commit_to(random.randrange(log.committed, log.last_index + 1))
        elif step == "write":
            log.take_unwritten()
            log.written()
            assert log.durable == log.last_index
            entries = log.applicable(1 << 30)
            assert entries == model[log.applied + 1 : log.committed + 1]
            log.applied_to(log.committed)
        else:
            start = max(start, random.randrange(log.applied + 1))
            log.compact(start)
        assert log.last_index == model[-1].index
        assert log.last_term == model[-1].term
        assert log.slice(log.first_index, log.last_index, 1 << 30) == model[start + 1 :]
        assert log.term_at(start - 1) == UNKNOWN_TERM
        assert [log.term_at(index) for index in range(start, len(model) + 1)] == [
            *(entry.term for entry in model[start:]),
            UNKNOWN_TERM,
        ]
        tail = model[log.committed + 1 :]
        assert log.uncommitted_bytes == sum(len(entry.payload) + ENTRY_OVERHEAD for entry in tail)


def test_a_write_that_ends_after_a_truncation_makes_nothing_new_durable() -> None:
    log = log_of(1)
    log.append(entries_of([1, 1, 1], 1))
    assert [entry.index for entry in log.take_unwritten()] == [2, 3, 4]
    log.merge(entries_of([2, 2], 2))
    assert log.last_index == 4
    log.written()
    assert log.durable == 2
    assert [(entry.index, entry.term) for entry in log.take_unwritten()] == [(3, 2), (4, 2)]


def test_even_when_the_old_entries_come_back() -> None:
    log = log_of(1)
    log.append(entries_of([1, 1], 1))
    log.take_unwritten()
    log.merge(entries_of([2], 1))
    log.merge(entries_of([1, 1, 3], 1))
    log.written()
    assert log.durable == 1
    assert [entry.index for entry in log.take_unwritten()] == [2, 3, 4]


def test_nothing_is_applied_before_it_is_durable() -> None:
    log = log_of(1)
    log.append_payloads(1, EntryKind.COMMAND, [b"a"])
    log.commit_to(2)
    assert [entry.index for entry in log.applicable(1 << 20)] == [1]
    with pytest.raises(AssertionError):
        log.applied_to(2)
    log.take_unwritten()
    log.written()
    assert [entry.index for entry in log.applicable(1 << 20)] == [1, 2]


def test_a_snapshot_replaces_the_log_and_counts_when_its_mark_is_durable() -> None:
    log = log_of(1, 1, 1, committed=2)
    log.append_payloads(1, EntryKind.COMMAND, [b"a"])
    log.take_unwritten()
    log.restart_after(SnapshotMeta(9, 4, Configuration()))
    log.written()  # what was under way is gone
    assert (log.last_index, log.last_term, log.durable, log.committed, log.applied) == (9, 4, 2, 9, 0)
    assert log.applicable(1 << 20) == []
    log.append(entries_of([4], 9))
    assert [entry.index for entry in log.take_unwritten()] == [10]
    log.written()
    log.snapshot_durable(9)
    assert (log.durable, log.applied) == (10, 9)


def test_committed_entries_cannot_be_replaced() -> None:
    log = log_of(1, 1, committed=2)
    with pytest.raises(AssertionError):
        log.merge(entries_of([2], 1))
