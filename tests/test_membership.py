"""Who the members are: ids as etcd derives them, and changes that fit or are refused."""

from __future__ import annotations

import pytest

from kvstore.membership import (
    DuplicateMember,
    DuplicatePeerURL,
    Member,
    Membership,
    RemovedMember,
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
