"""How one configuration follows another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.raft.configuration import enter_joint, leave_joint
from kvstore.raft.errors import ChangeRefused
from kvstore.raft.types import Change, ChangeKind, Configuration

ADD, LEARN, REMOVE = ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER, ChangeKind.REMOVE


def members(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def test_a_new_voter_votes_beside_the_old_majority() -> None:
    joint = enter_joint(Configuration(voters=members(1, 2, 3)), [Change(ADD, 4)])
    assert joint == Configuration(voters=members(1, 2, 3, 4), outgoing=members(1, 2, 3))
    assert leave_joint(joint) == Configuration(voters=members(1, 2, 3, 4))


def test_a_demoted_voter_waits_in_learners_next() -> None:
    joint = enter_joint(Configuration(voters=members(1, 2, 3)), [Change(LEARN, 3), Change(LEARN, 4)])
    assert joint == Configuration(members(1, 2), members(1, 2, 3), learners=members(4), learners_next=members(3))
    assert leave_joint(joint) == Configuration(voters=members(1, 2), learners=members(3, 4))


def test_a_learner_is_promoted() -> None:
    joint = enter_joint(Configuration(voters=members(1), learners=members(2)), [Change(ADD, 2)])
    assert leave_joint(joint) == Configuration(voters=members(1, 2))


def test_replacing_all_voters_at_once() -> None:
    changes = [Change(REMOVE, 1), Change(ADD, 2)]
    assert leave_joint(enter_joint(Configuration(voters=members(1)), changes)) == Configuration(voters=members(2))


@pytest.mark.parametrize(
    ("configuration", "change"),
    [
        (Configuration(voters=members(1), outgoing=members(2)), Change(ADD, 3)),
        (Configuration(voters=members(1)), Change(REMOVE, 1)),
        (Configuration(voters=members(1)), Change(LEARN, 1)),
        (Configuration(voters=members(1)), Change(ADD, 0)),
        (Configuration(voters=members(1)), Change(9, 2)),
    ],
)
def test_impossible_changes_are_refused(configuration: Configuration, change: Change) -> None:
    with pytest.raises(ChangeRefused):
        enter_joint(configuration, [change])


def test_leaving_what_is_not_joint_changes_nothing() -> None:
    configuration = Configuration(voters=members(1), learners=members(2))
    assert leave_joint(configuration) == configuration


@given(
    st.frozensets(st.integers(1, 7), min_size=1),
    st.frozensets(st.integers(1, 7)),
    st.lists(st.builds(Change, st.sampled_from(ChangeKind), st.integers(1, 7))),
)
def test_nobody_votes_and_learns_at_once(
    voters: frozenset[int], learners: frozenset[int], changes: list[Change]
) -> None:
    before = Configuration(voters=voters, learners=learners - voters)
    try:
        joint = enter_joint(before, changes)
    except ChangeRefused:
        return
    for configuration in (joint, leave_joint(joint)):
        assert configuration.voters
        assert not configuration.learners & (configuration.voters | configuration.outgoing)
    assert joint.outgoing == voters
    assert joint.learners_next <= joint.outgoing - joint.voters
    after = leave_joint(joint)
    assert not after.is_joint
    assert after.members == (voters | before.learners | {c.member for c in changes}) - {
        member for member in range(1, 8) if [c.kind for c in changes if c.member == member][-1:] == [ChangeKind.REMOVE]
    }
