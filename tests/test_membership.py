"""Who the members are: ids as etcd derives them, and changes that fit or are refused."""

from __future__ import annotations

import pytest

from kvstore.membership import (
    DuplicateMember,
    DuplicatePeerURL,
    Member,
    Membership,
    QuorumAtRisk,
    RemovedMember,
    TooManyMembers,
    UnknownMember,
    cluster_id,
    member_id,
)
from kvstore.raft.types import Change, ChangeKind
from kvstore.wire import MembershipChange, Publish, UpdateMember, pack, unpack


def test_ids_are_those_that_etcd_gives() -> None:
    """Every etcd that was ever started without flags has these two."""
    member = member_id(["http://localhost:2380"], "etcd-cluster")
    assert f"{member:x}" == "8e9e05c52164694d"
    assert f"{cluster_id([member]):x}" == "cdf818194e3a8c32"


def test_a_member_that_is_added_again_gets_another_id() -> None:
    urls = ["http://127.0.0.1:1"]
    assert len({member_id(urls, "t"), member_id(urls, "t", 1), member_id(urls, "t", 2)}) == 3


def add(member: int, url: str) -> MembershipChange:
    return MembershipChange(0, (Change(ChangeKind.ADD_VOTER, member),), member, "", (url,))


def remove(member: int) -> MembershipChange:
    return MembershipChange(0, (Change(ChangeKind.REMOVE, member),), member, "", ())


@pytest.fixture
def membership() -> Membership:
    return Membership([Member(1, "n1", ("http://a:1",)), Member(2, "n2", ("http://a:2",))])


def test_a_member_comes_and_goes_for_good(membership: Membership) -> None:
    membership.apply_change(add(3, "http://a:3"))
    assert membership.members[3] == Member(3, "", ("http://a:3",))
    membership.apply_change(remove(3))
    assert 3 not in membership.members
    for change in (add(3, "http://a:3"), remove(3)):
        with pytest.raises(RemovedMember):
            membership.apply_change(change)


def test_what_does_not_fit_is_refused_and_changes_nothing(membership: Membership) -> None:
    before = membership.freeze()
    with pytest.raises(DuplicateMember):
        membership.apply_change(add(1, "http://a:9"))
    with pytest.raises(DuplicatePeerURL, match="http://a:2 belongs to member 2"):
        membership.apply_change(add(3, "http://a:2"))
    with pytest.raises(UnknownMember):
        membership.apply_change(remove(9))
    with pytest.raises(UnknownMember):
        membership.apply(Publish(9, "x", ()))
    with pytest.raises(DuplicatePeerURL):
        membership.apply(UpdateMember(1, ("http://a:2",)))
    assert membership.freeze() == before


def test_a_learner_is_promoted_with_what_is_known_of_it(membership: Membership) -> None:
    learner = MembershipChange(0, (Change(ChangeKind.ADD_LEARNER, 3),), 3, "", ("http://a:3",))
    membership.apply_change(learner)
    membership.apply(Publish(3, "n3", ("http://c:3",)))
    membership.apply_change(add(3, "http://a:3"))
    assert membership.members[3] == Member(3, "n3", ("http://a:3",), ("http://c:3",))


def test_names_and_urls_are_published_and_updated(membership: Membership) -> None:
    membership.apply(Publish(1, "one", ("http://c:1",)))
    membership.apply(UpdateMember(1, ("http://a:1", "http://b:1")))
    assert membership.members[1] == Member(1, "one", ("http://a:1", "http://b:1"), ("http://c:1",))


def test_frozen_and_restored_it_is_the_same(membership: Membership) -> None:
    membership.apply_change(remove(2))
    restored = Membership.restore(unpack(pack(membership.freeze())))
    assert restored.members == membership.members
    assert restored.removed == membership.removed
    assert restored.freeze() == membership.freeze()


# --- changes that could cost the quorum: etcd's --strict-reconfig-check, as a real etcd 3.4 answered ------------------


def cluster_of(started: int, unstarted: int = 0) -> Membership:
    """Members 1, 2, ...; those that have started once come first."""
    count = started + unstarted
    names = {member: f"n{member}" if member <= started else "" for member in range(1, count + 1)}
    return Membership(Member(member, name, (f"http://x:{member}",)) for member, name in names.items())


@pytest.mark.parametrize(
    ("membership", "active", "is_refused"),
    [
        (cluster_of(1), {1}, False),  # there is no other way from one to two
        (cluster_of(1, unstarted=1), {1}, True),
        (cluster_of(2), {1, 2}, False),
        (cluster_of(2), {1}, True),
        (cluster_of(2, unstarted=1), {1, 2}, True),
        (cluster_of(3), {1, 2, 3}, False),
        (cluster_of(3), {1, 2}, True),
        (cluster_of(3, unstarted=1), {1, 2, 3, 4}, False),
    ],
)
def test_adding_one_more(membership: Membership, active: set[int], is_refused: bool) -> None:
    change = add(9, "http://x:9")
    if is_refused:
        with pytest.raises(QuorumAtRisk):
            membership.check_quorum(change, active)
    else:
        membership.check_quorum(change, active)


@pytest.mark.parametrize(
    ("membership", "goes", "active", "is_refused"),
    [
        (cluster_of(1), 1, {1}, True),  # the last one
        (cluster_of(1, unstarted=1), 2, {1}, False),
        (cluster_of(1, unstarted=1), 1, {1}, True),
        (cluster_of(2), 2, {1, 2}, False),
        (cluster_of(2), 2, {1}, False),  # it is down
        (cluster_of(3), 3, {1, 2, 3}, False),
        (cluster_of(3), 3, {1, 2}, False),  # it is down
        (cluster_of(3), 2, {1, 2}, True),
        (cluster_of(3), 1, {1, 2}, True),
        (cluster_of(2, unstarted=1), 2, {1, 2}, True),
        (cluster_of(2, unstarted=1), 3, {1, 2}, False),
        (cluster_of(5), 1, {1, 2, 3, 4}, False),
        (cluster_of(5), 1, {1, 2, 3}, True),
    ],
)
def test_removing_one(membership: Membership, goes: int, active: set[int], is_refused: bool) -> None:
    if is_refused:
        with pytest.raises(QuorumAtRisk):
            membership.check_quorum(remove(goes), active)
    else:
        membership.check_quorum(remove(goes), active)


def test_a_cluster_has_seven_members_at_most() -> None:
    membership = cluster_of(7)
    with pytest.raises(TooManyMembers):
        membership.apply_change(add(9, "http://x:9"))
    membership.apply_change(remove(3))
    membership.apply_change(add(9, "http://x:9"))
    assert len(membership.members) == 7
