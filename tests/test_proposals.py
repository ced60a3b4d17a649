"""A proposal is answered once, sent again only when it is certainly lost, and never waits for ever."""

from __future__ import annotations

import pytest

from kvstore.proposals import Outcome, Proposal, Proposals, Refused, TooManyRequests, Unavailable
from kvstore.raft.types import Change
from kvstore.store.operations import Expire, Set
from kvstore.wire import MembershipChange


class Table:
    """A table whose outcomes are collected by request."""

    def __init__(self, limit: int = 100, limit_bytes: int = 10_000) -> None:
        self.proposals = Proposals(limit, limit_bytes)
        self.outcomes: dict[int, list[Outcome]] = {}

    def new(self, request: int, deadline: int = 100, size: int = 10, change: bool = False) -> Proposal:
        self.outcomes[request] = []
        command = (
            MembershipChange(request, (Change(0, 1),), 1, "", ()) if change else Set(b"/", b"", False, None, False)
        )
        proposal = Proposal(request, command, b"x" * size, self.outcomes[request].append, deadline)
        self.proposals.add(proposal)
        return proposal

    def waiting(self) -> list[int]:
        return [proposal.request for proposal in self.proposals.unsent]


def requests(batch: list[Proposal]) -> list[int]:
    return [proposal.request for proposal in batch]


def test_batches_keep_the_order_and_the_limit() -> None:
    table = Table()
    for request in range(1, 6):
        table.new(request, size=40)
    assert requests(table.proposals.next_batch(100)) == [1, 2]
    assert requests(table.proposals.next_batch(10)) == [3]  # at least one, however large
    assert requests(table.proposals.next_batch(1000)) == [4, 5]
    assert table.proposals.next_batch(1000) == []


def test_a_membership_change_goes_alone() -> None:
    table = Table()
    table.new(1)
    table.new(2, change=True)
    table.new(3)
    assert [requests(table.proposals.next_batch(1000)) for _ in range(3)] == [[1], [2], [3]]


def test_what_is_put_back_keeps_its_place() -> None:
    table = Table()
    for request in (1, 2, 3):
        table.new(request, size=50)
    table.proposals.put_back(table.proposals.next_batch(100))
    assert table.waiting() == [1, 2, 3]


def test_an_entry_of_a_later_term_sends_lost_proposals_again() -> None:
    table = Table()
    for request in (1, 2, 3, 4):
        table.new(request)
    table.proposals.appended(table.proposals.next_batch(20), term=3, first_index=10)
    table.proposals.forwarded(table.proposals.next_batch(20), term=4, sequence=1)
    table.proposals.term_began(4)
    assert table.waiting() == [1, 2]  # 3 and 4 may still be applied in term 4
    assert table.proposals.at(10, 3) is None
    table.proposals.term_began(5)
    assert table.waiting() == [3, 4, 1, 2]
    assert table.outcomes == {1: [], 2: [], 3: [], 4: []}


def test_only_the_entry_that_was_appended_here_is_its_own() -> None:
    table = Table()
    table.new(1)
    (proposal,) = table.proposals.next_batch(100)
    table.proposals.appended([proposal], term=3, first_index=10)
    assert table.proposals.at(10, 4) is None  # another leader's entry stands there now
    table.new(2)
    table.proposals.appended(table.proposals.next_batch(100), term=3, first_index=11)
    found = table.proposals.at(11, 3)
    assert found is not None
    assert found.request == 2


def test_behind_a_snapshot_the_outcome_is_not_known() -> None:
    table = Table()
    for request in (1, 2, 3):
        table.new(request)
    table.proposals.appended(table.proposals.next_batch(10), term=3, first_index=10)
    table.proposals.forwarded(table.proposals.next_batch(10), term=5, sequence=1)
    table.proposals.jumped(4)
    assert isinstance(table.outcomes[1][0], Unavailable)
    assert table.outcomes[2] == []  # proposed after the snapshot's last entry: not in it
    assert table.waiting() == [3]


def test_each_is_answered_once() -> None:
    table = Table()
    proposal = table.new(1)
    table.proposals.settle(proposal, None)
    table.proposals.settle(proposal, Unavailable())
    assert table.outcomes[1] == [None]
    assert len(table.proposals) == 0


def test_time_is_over_for_the_oldest_first() -> None:
    table = Table()
    table.new(1, deadline=5)
    table.new(2, deadline=6)
    table.proposals.expire(4)
    assert table.outcomes == {1: [], 2: []}
    table.proposals.expire(5)
    assert isinstance(table.outcomes[1][0], Unavailable)
    assert not isinstance(table.outcomes[1][0], Refused)  # it is not known
    assert requests(table.proposals.next_batch(100)) == [2]


def test_a_refused_batch_is_the_callers_again() -> None:
    table = Table()
    table.new(1)
    gone = table.new(2)
    table.proposals.forwarded(table.proposals.next_batch(100), term=3, sequence=9)
    table.proposals.settle(gone, None)
    assert requests(table.proposals.refused(9)) == [1]
    assert table.proposals.refused(9) == []
    table.proposals.term_began(4)
    assert table.waiting() == []  # the caller has it, it must not be sent twice


def test_too_many_are_refused_and_not_queued() -> None:
    table = Table(limit=2)
    table.new(1)
    table.new(2)
    with pytest.raises(TooManyRequests, match="too many requests"):
        table.new(3)
    assert table.waiting() == [1, 2]


def test_too_many_bytes_are_refused_until_some_are_answered() -> None:
    table = Table(limit_bytes=100)
    first = table.new(1, size=60)
    with pytest.raises(TooManyRequests):
        table.new(2, size=41)
    table.new(3, size=40)
    table.proposals.settle(first, None)
    table.new(4, size=60)
    assert table.waiting() == [1, 3, 4]


def test_no_flood_keeps_out_what_is_the_members_own() -> None:
    table = Table(limit=1)
    table.new(1)
    table.proposals.add(Proposal(2, Expire(), b"", lambda _: None, 100), is_ours=True)
    assert table.waiting() == [1, 2]
