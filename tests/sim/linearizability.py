"""Whether a history of operations on one key could have come from one register, each operation at one moment.

The search of Wing and Gong, with Lowe's memory of what was tried: an operation may come next if nothing else that is
still to come ended before it began, and if its answer fits the state. An operation with an unknown outcome may take
effect at any moment after its beginning, or never. The search gives up after a number of steps, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

NEVER = 1 << 62  # when an operation ends whose outcome is not known
STEP_LIMIT = 200_000

State = bytes | None  # the key's value; None: no such key


class Kind(StrEnum):
    GET = "get"
    SET = "set"
    CREATE = "create"
    CAS = "cas"
    DELETE = "delete"


class Answer(StrEnum):
    DONE = "done"
    MISSING = "missing"  # there is no such key
    EXISTS = "exists"  # there is, against what was asked for
    DIFFERS = "differs"  # the key has another value than was asked for
    UNKNOWN = "unknown"


class Operation(NamedTuple):
    """`observed` is the value that the answer shows: what was read, or what was there before a write."""

    kind: Kind
    start: int
    end: int
    answer: Answer
    value: State = None  # what a write puts there
    expected: State = None  # what a CAS compares with
    observed: State = None


class Verdict(StrEnum):
    LINEARIZABLE = "linearizable"
    IMPOSSIBLE = "impossible"
    UNDECIDED = "undecided"


def check(history: Sequence[Operation], initial: State = None, limit: int = STEP_LIMIT) -> Verdict:
    operations = sorted(_worth_asking(history), key=lambda operation: (operation.start, operation.end))
    certain = [number for number, operation in enumerate(operations) if operation.answer is not Answer.UNKNOWN]
    tried: set[tuple[int, State]] = set()
    stack: list[tuple[int, State]] = [(0, initial)]  # which operations have happened, as bits; the state then
    goal = sum(1 << number for number in certain)
    while stack:
        happened, state = stack.pop()
        if happened & goal == goal:
            return Verdict.LINEARIZABLE
        if (happened, state) in tried:
            continue
        if len(tried) >= limit:
            return Verdict.UNDECIDED
        tried.add((happened, state))
        stack += _successors(operations, happened, state)
    return Verdict.IMPOSSIBLE


def _successors(operations: Sequence[Operation], happened: int, state: State) -> list[tuple[int, State]]:
    """The likeliest last, for it is tried first: known outcomes before unknown ones, early before late.

    Of deletes with an unknown outcome only the first is tried: whatever a later one could do, it can do as well.
    """
    soonest = NEVER + 1
    is_deleted = False
    known: list[tuple[int, State]] = []
    guessed: list[tuple[int, State]] = []
    for number, operation in enumerate(operations):
        if happened >> number & 1:
            continue
        if operation.start > soonest:
            break
        soonest = min(soonest, operation.end)
        if operation.answer is Answer.UNKNOWN:
            if operation.kind is Kind.DELETE:
                if is_deleted:
                    continue
                is_deleted = True
            after = _effect(operation, state)
            if after != state:  # without an effect it is the same as never
                guessed.append((happened | 1 << number, after))
        elif _fits(operation, state):
            after = _effect(operation, state) if operation.answer is Answer.DONE else state
            known.append((happened | 1 << number, after))
    return guessed + known[::-1]


def _fits(operation: Operation, state: State) -> bool:
    """Whether the operation, done in `state`, gives this answer."""
    if operation.answer is Answer.MISSING:
        return state is None
    if operation.answer is Answer.EXISTS:
        return state is not None
    if operation.answer is Answer.DIFFERS:
        return state == operation.observed and state != operation.expected
    if operation.kind is Kind.CREATE:
        return state is None
    if operation.kind is Kind.CAS and state != operation.expected:
        return False
    if operation.kind in (Kind.CAS, Kind.DELETE) and state is None:
        return False
    return state == operation.observed


def _effect(operation: Operation, state: State) -> State:
    """The state after the operation, carried out in `state`."""
    match operation.kind:
        case Kind.SET:
            return operation.value
        case Kind.CREATE:
            return operation.value if state is None else state
        case Kind.CAS:
            return operation.value if state is not None and state == operation.expected else state
        case Kind.DELETE:
            return None
        case Kind.GET:
            return state


def _worth_asking(history: Sequence[Operation]) -> list[Operation]:
    """Leaves out reads of unknown outcome, and unknown writes of a value that nobody ever saw or compared with.

    Values are unique. Had such a write happened, only an EXISTS or a MISSING could tell; where there is none, all
    answers show the state, and the history is as possible without it. That keeps the search small.
    """
    vague = any(operation.answer in (Answer.EXISTS, Answer.MISSING) for operation in history)
    seen = {operation.observed for operation in history} | {operation.expected for operation in history}
    return [
        operation
        for operation in history
        if operation.answer is not Answer.UNKNOWN
        or (operation.kind is not Kind.GET and (vague or operation.kind is Kind.DELETE or operation.value in seen))
    ]
