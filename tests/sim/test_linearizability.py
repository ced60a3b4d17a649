"""The judge is judged first: histories that are possible, and histories that are not."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from tests.sim.linearizability import NEVER, Answer, Kind, Operation, State, Verdict, _effect, _fits, check


def done(kind: Kind, start: int, end: int, **fields: State) -> Operation:
    return Operation(kind, start, end, Answer.DONE, **fields)


def unknown(kind: Kind, start: int, **fields: State) -> Operation:
    return Operation(kind, start, NEVER, Answer.UNKNOWN, **fields)


A_SET = done(Kind.SET, 0, 10, value=b"a")

POSSIBLE = {
    "nothing happened": [],
    "a read of what was written": [A_SET, done(Kind.GET, 11, 12, observed=b"a")],
    "a read beside the write sees it": [A_SET, done(Kind.GET, 5, 6, observed=b"a")],
    "a read beside the write does not see it": [A_SET, Operation(Kind.GET, 5, 6, Answer.MISSING)],
    "two writes at once, either order": [
        A_SET,
        done(Kind.SET, 1, 9, value=b"b", observed=b"a"),
        done(Kind.GET, 20, 21, observed=b"b"),
    ],
    "an unknown write that happened late": [
        unknown(Kind.SET, 0, value=b"x"),
        done(Kind.SET, 10, 20, value=b"a"),
        done(Kind.GET, 30, 40, observed=b"a"),
        done(Kind.GET, 50, 60, observed=b"x"),
    ],
    "an unknown write that never happened": [unknown(Kind.SET, 0, value=b"x"), A_SET],
    "a refused create": [A_SET, Operation(Kind.CREATE, 11, 12, Answer.EXISTS, value=b"b")],
    "a refused create shows an unknown write": [
        unknown(Kind.SET, 0, value=b"x"),
        Operation(Kind.CREATE, 11, 12, Answer.EXISTS, value=b"b"),
    ],
    "compare and swap, once each": [
        A_SET,
        done(Kind.CAS, 11, 20, value=b"b", expected=b"a", observed=b"a"),
        Operation(Kind.CAS, 12, 22, Answer.DIFFERS, value=b"c", expected=b"a", observed=b"b"),
        done(Kind.DELETE, 30, 31, observed=b"b"),
        Operation(Kind.CAS, 32, 33, Answer.MISSING, value=b"d", expected=b"b"),
    ],
}

IMPOSSIBLE = {
    "a lost write": [A_SET, Operation(Kind.GET, 11, 12, Answer.MISSING)],
    "a value from nowhere": [done(Kind.GET, 0, 1, observed=b"a")],
    "a stale read": [
        A_SET,
        done(Kind.SET, 11, 20, value=b"b", observed=b"a"),
        done(Kind.GET, 21, 22, observed=b"a"),
    ],
    "two reads that see writes in different orders": [
        A_SET,
        done(Kind.SET, 11, 30, value=b"b", observed=b"a"),
        done(Kind.GET, 12, 13, observed=b"b"),
        done(Kind.GET, 14, 15, observed=b"a"),
    ],
    "two swaps from the same value": [
        A_SET,
        done(Kind.CAS, 11, 20, value=b"b", expected=b"a", observed=b"a"),
        done(Kind.CAS, 11, 20, value=b"c", expected=b"a", observed=b"a"),
    ],
    "a create that was refused for nothing": [Operation(Kind.CREATE, 0, 1, Answer.EXISTS, value=b"b")],
    "a create over something": [A_SET, done(Kind.CREATE, 11, 12, value=b"b")],
    "a delete of nothing": [done(Kind.DELETE, 0, 1, observed=b"a")],
    "a swap refused although it fits": [
        A_SET,
        Operation(Kind.CAS, 11, 12, Answer.DIFFERS, value=b"b", expected=b"a", observed=b"a"),
    ],
    "an unknown write that happened before it was asked for": [
        done(Kind.GET, 0, 1, observed=b"x"),
        unknown(Kind.SET, 5, value=b"x"),
    ],
    "an unknown write that happened twice": [
        unknown(Kind.SET, 0, value=b"x"),
        done(Kind.GET, 1, 2, observed=b"x"),
        done(Kind.SET, 3, 4, value=b"a", observed=b"x"),
        done(Kind.GET, 5, 6, observed=b"x"),
    ],
}


@pytest.mark.parametrize("history", POSSIBLE.values(), ids=POSSIBLE.keys())
def test_possible(history: list[Operation]) -> None:
    assert check(history) is Verdict.LINEARIZABLE


@pytest.mark.parametrize("history", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible(history: list[Operation]) -> None:
    assert check(history) is Verdict.IMPOSSIBLE


def test_gives_up_and_says_so() -> None:
    guesses = [unknown(Kind.SET, 0, value=b"%d" % number) for number in range(30)]
    reads = [done(Kind.GET, 10 + number, 10 + number, observed=b"%d" % number) for number in range(30)]
    beyond = [done(Kind.GET, 100, 101, observed=b"nowhere")]
    assert check(guesses + reads + beyond, limit=20) is Verdict.UNDECIDED


def test_deletes_of_unknown_outcome_are_tried_once() -> None:
    deletes = [unknown(Kind.DELETE, number) for number in range(30)]
    writes = [done(Kind.SET, 100 + number, 101 + number, value=b"%d" % number) for number in range(0, 40, 2)]
    nowhere = [done(Kind.GET, 200, 201, observed=b"nowhere")]
    assert check(deletes + writes + nowhere, limit=1000) is Verdict.IMPOSSIBLE


def test_agrees_with_trying_every_order() -> None:
    seen = {Verdict.LINEARIZABLE: 0, Verdict.IMPOSSIBLE: 0}
    for seed in range(600):
        history = _random_history(Random(seed))
        expected = Verdict.LINEARIZABLE if _possible(history) else Verdict.IMPOSSIBLE
        assert check(history) is expected, seed
        seen[expected] += 1
    assert min(seen.values()) > 50


def _random_history(random: Random) -> list[Operation]:
    """Five operations that overlap, with answers that are made up, often plausibly."""
    history = []
    values = [b"%d" % number for number in range(5)]
    for number in range(5):
        kind = random.choice(list(Kind))
        start = random.randrange(12)
        end = start + random.randrange(12)
        observed = random.choice([None, *values[:2]])
        expected = random.choice(values[:2]) if kind is Kind.CAS else None
        answers = {
            Kind.GET: [Answer.DONE, Answer.MISSING],
            Kind.SET: [Answer.DONE],
            Kind.CREATE: [Answer.DONE, Answer.EXISTS],
            Kind.CAS: [Answer.DONE, Answer.MISSING, Answer.DIFFERS],
            Kind.DELETE: [Answer.DONE, Answer.MISSING],
        }
        answer = random.choice([*answers[kind], Answer.UNKNOWN])
        if answer is Answer.UNKNOWN:
            end, observed = NEVER, None
        elif kind is Kind.GET and answer is Answer.DONE and observed is None:
            observed = values[0]
        if kind is Kind.CREATE or answer in (Answer.MISSING, Answer.EXISTS):
            observed = None
        value = values[number] if kind in (Kind.SET, Kind.CREATE, Kind.CAS) else None
        history.append(Operation(kind, start, end, answer, value, expected, observed))
    return history


def _possible(history: list[Operation]) -> bool:
    """The definition, word for word: some order of all known and some unknown operations."""
    unknowns = [operation for operation in history if operation.answer is Answer.UNKNOWN]
    certain = [operation for operation in history if operation.answer is not Answer.UNKNOWN]
    for mask in range(1 << len(unknowns)):
        chosen = [operation for number, operation in enumerate(unknowns) if mask >> number & 1]
        if any(_in_order(order) for order in permutations(certain + chosen)):
            return True
    return False


def _in_order(order: tuple[Operation, ...]) -> bool:
    state: State = None
    for position, operation in enumerate(order):
        if any(later.end < operation.start for later in order[position + 1 :]):
            return False
        if operation.answer is Answer.UNKNOWN:
            state = _effect(operation, state)
        elif not _fits(operation, state):
            return False
        elif operation.answer is Answer.DONE:
            state = _effect(operation, state)
    return True
