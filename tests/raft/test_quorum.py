"""The majority rules against a dumb model: try every index, count every set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.raft.quorum import Quorum, Tally
from kvstore.raft.types import Configuration

MEMBERS = range(1, 8)
voter_sets = st.frozensets(st.sampled_from(MEMBERS), min_size=1)
configurations = st.builds(Configuration, voters=voter_sets, outgoing=st.one_of(st.just(frozenset()), voter_sets))
Halves = list[frozenset[int]]


def halves(configuration: Configuration) -> Halves:
    return [half for half in (configuration.voters, configuration.outgoing) if half]


def in_all_halves(configuration: Configuration, members: set[int]) -> bool:
    return all(2 * len(half & members) > len(half) for half in halves(configuration))


@given(configurations, st.dictionaries(st.sampled_from(MEMBERS), st.integers(0, 9)))
def test_committed_is_the_highest_index_that_every_majority_holds(
    configuration: Configuration, match: dict[int, int]
) -> None:
    held = [
        index
        for index in range(10)
        if in_all_halves(configuration, {member for member in MEMBERS if match.get(member, 0) >= index})
    ]
    assert Quorum(configuration).committed(match) == max(held)


@given(configurations, st.dictionaries(st.sampled_from(MEMBERS), st.booleans()))
def test_tally(configuration: Configuration, votes: dict[int, bool]) -> None:
    granted = {member for member, vote in votes.items() if vote}
    missing = set(MEMBERS) - set(votes)
    if in_all_halves(configuration, granted):
        expected = Tally.WON
    elif in_all_halves(configuration, granted | missing):
        expected = Tally.PENDING
    else:
        expected = Tally.LOST
    assert Quorum(configuration).tally(votes) is expected


@given(configurations, st.sets(st.sampled_from(MEMBERS)))
def test_reached_by(configuration: Configuration, members: set[int]) -> None:
    assert Quorum(configuration).reached_by(members) == in_all_halves(configuration, members)


@given(configurations, st.sets(st.sampled_from(MEMBERS)), st.sets(st.sampled_from(MEMBERS)))
def test_two_quorums_share_a_member(configuration: Configuration, one: set[int], other: set[int]) -> None:
    quorum = Quorum(configuration)
    if quorum.reached_by(one) and quorum.reached_by(other):
        assert one & other


def test_without_voters_nothing_is_decided() -> None:
    quorum = Quorum(Configuration())
    assert quorum.committed({1: 5}) == 0
    assert quorum.tally({1: True}) is Tally.LOST
    assert not quorum.reached_by({1})
