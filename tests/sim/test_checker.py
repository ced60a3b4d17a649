"""The watch itself: each rule is broken once, by hand, and must be named."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvstore.apply import StateMachine
from kvstore.bootstrap import Opened
from kvstore.levels import HIGHEST_LEVEL
from kvstore.membership import Membership
from kvstore.node import Node
from kvstore.raft.config import Config
from kvstore.raft.core import Raft
from kvstore.raft.types import AppendResponse, Configuration, Entry, HardState, Role, SnapshotMeta, VoteResponse
from kvstore.storage.layout import Identity
from kvstore.store.operations import Create, CreateInOrder, Set
from kvstore.store.store import Store
from kvstore.wire import Announce, Command, SetLevel, pack_command, stamp
from tests.sim import checker, history
from tests.sim.checker import Checker, View
from tests.sim.history import Call, History
from tests.sim.linearizability import NEVER, Answer
from tests.sim.trace import Trace, Violation

THREE = Configuration(voters=frozenset({1, 2, 3}))
GENESIS = SnapshotMeta(1, 1, THREE)


def entry(index: int, term: int, value: bytes = b"", request: int = 0, time: int = 1000) -> Entry:
    if not value:
        return Entry(index, term, 0, b"")
    return holding(index, term, Set(b"/a", value, False, None, False), request, time)


def holding(index: int, term: int, command: Command, request: int = 0, time: int = 1000) -> Entry:
    (payload,) = stamp(time, [pack_command(request or index, command)])
    return Entry(index, term, 0, payload)


class Bench:
    """Members that are put into any state, and looked at."""

    def __init__(self) -> None:
        self.living: list[Raft] = []
        self.checker = Checker(Trace(None), lambda: self.living)

    def opened(
        self,
        member: int,
        *entries: Entry,
        term: int = 2,
        commit: int = 1,
        promised: tuple[int, int] | None = None,
        base: SnapshotMeta = GENESIS,
    ) -> Opened:
        machine = StateMachine(Store(10), Membership())
        identity = Identity(9, member, bytes(16))
        hard_state = HardState(term, 0, commit)
        unused: Any = None
        return Opened(
            identity, unused, unused, unused, machine, base, hard_state, entries, promised, base.configuration
        )

    def look(
        self,
        member: int,
        *entries: Entry,
        term: int = 2,
        commit: int = 1,
        applied: int = 1,
        leads: bool = False,
        level: int = HIGHEST_LEVEL,
        base: SnapshotMeta = GENESIS,
    ) -> tuple[View, Node]:
        """A member as it came up with this, and what a first look at it says."""
        opened = self.opened(member, *entries, term=term, commit=commit, base=base)
        raft = opened.raft(Config(), Random(1))
        for index in range(2, applied + 1):
            raft.applied_to(index)
        if leads:
            raft.role = Role.LEADER
        self.living.append(raft)
        node = cast(Node, SimpleNamespace(raft=raft, machine=opened.machine))
        view = View(opened)
        view.level = level
        self.checker.observe(view, node)
        return view, node


def broken(rule: str, step: Callable[[], object]) -> None:
    with pytest.raises(Violation) as caught:
        step()
    assert caught.value.rule == rule


def test_two_leaders_of_one_term() -> None:
    bench = Bench()
    bench.look(1, leads=True)
    broken(checker.ONE_LEADER, lambda: bench.look(2, leads=True))


def test_one_place_in_the_log_with_two_contents() -> None:
    bench = Bench()
    bench.look(1, entry(2, 2, b"x"))
    broken(checker.LOG_MATCHING, lambda: bench.look(2, entry(2, 2, b"y")))


def test_one_entry_behind_two_different_ones() -> None:
    bench = Bench()
    bench.look(1, entry(2, 1), entry(3, 2))
    broken(checker.LOG_MATCHING, lambda: bench.look(2, entry(2, 2), entry(3, 2)))


def test_a_leader_without_what_was_committed_before_it() -> None:
    bench = Bench()
    bench.look(1, entry(2, 2), commit=2)
    broken(checker.COMPLETENESS, lambda: bench.look(2, term=3, leads=True))


def test_a_commit_that_a_later_leader_lacks() -> None:
    bench = Bench()
    bench.look(2, term=3, leads=True)
    broken(checker.COMPLETENESS, lambda: bench.look(1, entry(2, 2), commit=2))


def test_a_leader_of_an_earlier_term_may_lack_it() -> None:
    bench = Bench()
    bench.look(1, entry(2, 3), term=3, commit=2)
    bench.look(2, term=2, leads=True)


def test_two_entries_committed_in_one_place() -> None:
    bench = Bench()
    bench.look(1, entry(2, 2), commit=2)
    broken(checker.STATE_MACHINE, lambda: bench.look(2, entry(2, 1), commit=2))


def test_one_index_with_two_states() -> None:
    bench = Bench()
    _, first = bench.look(1, entry(2, 2), commit=2, applied=2)
    _, second = bench.look(2, entry(2, 2), commit=2, applied=2)
    bench.checker.compare(first)
    bench.checker.compare(second)
    second.machine.store.apply(Create(b"/b", b"", False, None), 1)
    broken(checker.STATE_MACHINE, lambda: bench.checker.compare(second))


@pytest.mark.parametrize(
    "second", [entry(3, 2, b"y", request=2), entry(3, 2, b"x", request=3)], ids=["one request", "one value"]
)
def test_a_command_that_is_committed_twice(second: Entry) -> None:
    broken(checker.ONCE, lambda: Bench().look(1, entry(2, 2, b"x", request=2), second, commit=3))


def test_time_that_goes_back() -> None:
    late, early = entry(2, 2, b"x", time=1000), entry(3, 2, b"y", time=999)
    broken(checker.TIME, lambda: Bench().look(1, late, early, commit=3))


def test_a_term_that_goes_back() -> None:
    bench = Bench()
    view, node = bench.look(1, term=5)
    node.raft.term = 4
    broken(checker.MONOTONE, lambda: bench.checker.observe(view, node))


def test_two_votes_in_one_term() -> None:
    bench = Bench()
    _, node = bench.look(1)
    bench.checker.sends(node.raft, VoteResponse(2, 1, 2, granted=True, pre=False))
    bench.checker.sends(node.raft, VoteResponse(2, 1, 2, granted=True, pre=False))
    bench.checker.sends(node.raft, VoteResponse(3, 1, 3, granted=True, pre=True))
    broken(checker.ONE_VOTE, lambda: bench.checker.sends(node.raft, VoteResponse(3, 1, 2, granted=True, pre=False)))


def test_an_acknowledged_entry_and_a_term_that_a_crash_took() -> None:
    bench = Bench()
    _, node = bench.look(1, entry(2, 2), entry(3, 2))
    bench.checker.sends(node.raft, AppendResponse(2, 1, 2, 3, False, 0, 0))
    broken(checker.DURABLE, lambda: bench.checker.begins(1, bench.opened(1, entry(2, 2))))
    broken(checker.DURABLE, lambda: bench.checker.begins(1, bench.opened(1, entry(2, 2), promised=(2, 2))))
    broken(checker.MONOTONE, lambda: bench.checker.begins(1, bench.opened(1, entry(2, 2), entry(3, 2), term=1)))
    bench.checker.begins(1, bench.opened(1, entry(2, 2), entry(3, 2)))
    bench.checker.begins(1, bench.opened(1, entry(2, 2), promised=(2, 3)))
    bench.checker.begins(1, bench.opened(1, entry(2, 2)))  # it owns up to the loss: the promise is now a smaller one


FOUNDING = (entry(2, 2), holding(3, 2, SetLevel(2)))
ANNOUNCED = holding(4, 2, Announce(1, "a", (), bytes(16), "", 2))


def test_a_member_that_holds_what_is_above_its_level() -> None:
    raised = holding(3, 2, SetLevel(2))
    Bench().look(1, entry(2, 2, b"x"), raised, level=2)
    broken(checker.LEVEL, lambda: Bench().look(1, entry(2, 2, b"x"), raised, level=1))


def test_a_founding_that_did_not_wait_for_a_member() -> None:
    bench = Bench()
    bench.look(1, *FOUNDING)
    bench.look(2, *FOUNDING, level=1)
    bench.look(1, *FOUNDING, ANNOUNCED, commit=3)
    bench.look(2, *FOUNDING, ANNOUNCED, level=1)


def test_a_member_of_a_lower_level_that_has_the_founding_from_a_snapshot() -> None:
    bench = Bench()
    bench.look(1, *FOUNDING, ANNOUNCED, commit=3)
    bench.look(2, ANNOUNCED, level=1, commit=3, base=SnapshotMeta(3, 2, THREE))


def test_a_founding_behind_a_snapshot() -> None:
    bench = Bench()
    bench.look(1, entry(2, 2), commit=2)
    bench.look(2, holding(3, 2, SetLevel(2)), level=1, commit=2, base=SnapshotMeta(2, 2, THREE))


def test_a_founding_that_was_lost_allows_nothing() -> None:
    bench = Bench()
    bench.look(1, *FOUNDING)
    bench.look(2, *FOUNDING, level=1)
    later = (entry(2, 3), entry(3, 3, b"x"), holding(4, 3, SetLevel(2)))
    broken(checker.LEVEL, lambda: bench.look(3, *later, level=1))


# --- histories ----------------------------------------------------------------------------------------------------

PUT = Set(b"/a", b"x", False, None, False)
POST = CreateInOrder(b"/queue", b"p", False, None)


def call(command: Set | CreateInOrder | None, start: int, end: int, answer: Answer | None, **more: object) -> Call:
    made = Call(1, b"/queue" if command is POST else b"/a", command, start, end, answer)
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("rule", "calls", "written", "in_order"),
    [
        (history.ACKNOWLEDGED, [call(PUT, 0, 1, Answer.DONE)], {}, []),
        (history.UNASKED, [call(PUT, 0, NEVER, Answer.UNKNOWN, refused=True)], {b"x": 2}, []),
        (history.IN_ORDER, [call(POST, 0, 1, Answer.DONE)], {b"p": 2}, []),
        (history.IN_ORDER, [call(POST, 0, 1, Answer.DONE)], {b"p": 2}, [b"p", b"p"]),
        (history.IN_ORDER, [call(POST, 0, NEVER, None)], {b"p": 2}, [b"p", b"p"]),
        (history.LINEARIZABLE, [call(PUT, 0, 1, Answer.DONE), call(None, 2, 3, Answer.MISSING)], {b"x": 2}, []),
        (
            history.LINEARIZABLE,
            [call(PUT, 0, NEVER, Answer.UNKNOWN), call(None, 2, 3, Answer.DONE, observed=b"x")],
            {},
            [],
        ),
        (
            history.LINEARIZABLE,
            [call(PUT, 0, 1, Answer.DONE, index=7), call(None, 2, 3, Answer.DONE, observed=b"x", index=6)],
            {b"x": 2},
            [],
        ),
        (
            history.LINEARIZABLE,
            [call(None, 0, 1, Answer.MISSING, index=7), call(PUT, 2, 3, Answer.DONE, index=7)],
            {b"x": 2},
            [],
        ),
    ],
)
def test_a_story_that_cannot_be_true(
    rule: str, calls: list[Call], written: dict[bytes, int], in_order: list[bytes]
) -> None:
    told = History(Trace(None))
    told.calls += calls
    broken(rule, lambda: told.check(written, in_order))


def test_a_story_that_can_be_true() -> None:
    told = History(Trace(None))
    told.calls += [
        call(PUT, 0, 1, Answer.DONE, index=7),
        call(None, 2, 3, Answer.DONE, observed=b"x", index=7),
        call(POST, 4, NEVER, None),
        call(None, 5, NEVER, None),
    ]
    told.check({b"x": 2, b"p": 3}, [b"p"])
