"""Who a joiner takes itself for, when the members that it asks are behind, disagree, or do not answer."""

from __future__ import annotations

import pytest

from kvstore.joining import MAX_NAMED, Joined, JoinError, Told, join
from kvstore.membership import Member
from kvstore.settings import Settings, Url, parse_initial_cluster, parse_urls

OURS = "http://n5:1"
OLD, NEW = 50, 55
OTHERS = [Member(number, f"n{number}", (f"http://n{number}:1",)) for number in (1, 2, 3, 4)]
BEFORE = [*OTHERS, Member(OLD, "n5", (OURS,))]
AFTER = [*OTHERS, Member(NEW, "", (OURS,))]
SETTINGS = Settings(
    name="n5",
    initial_cluster=parse_initial_cluster(",".join(f"n{number}=http://n{number}:1" for number in range(1, 6))),
    initial_advertise_peer_urls=parse_urls("initial-advertise-peer-urls", OURS),
    initial_cluster_state="existing",
)
AHEAD = Told(7, AFTER, 100, frozenset({OLD}))
BEHIND = Told(7, BEFORE, 20)


def joined(**answers: Told | tuple[int, list[Member]]) -> Joined:
    """Each member answers as given, by name; the others do not answer."""

    def ask(url: Url) -> Told | tuple[int, list[Member]]:
        if url.host not in answers:
            raise ConnectionRefusedError("refused")
        return answers[url.host]

    return join(SETTINGS, None, ask)


def test_the_member_that_has_applied_most_is_believed() -> None:
    assert joined(n1=BEHIND, n2=BEHIND, n3=AHEAD).member == NEW


def test_an_id_that_any_member_knows_as_removed_is_not_taken() -> None:
    ahead = Told(7, OTHERS, 100, frozenset({OLD}))
    with pytest.raises(JoinError, match=rf"the peer URLs {OURS} \(32 had them and was removed\); add it"):
        joined(n1=BEHIND, n2=ahead)
    with pytest.raises(JoinError, match="add it first"):
        joined(n1=Told(7, BEFORE, 100), n2=Told(7, OTHERS, 90, frozenset({OLD})))


def test_one_member_out_of_four_that_answers_is_not_enough() -> None:
    with pytest.raises(JoinError, match=r"1 of 4 members of the cluster answer, too few .*n2:1: refused"):
        joined(n1=BEHIND)
    assert joined(n1=AHEAD, n4=AHEAD).member == NEW


def test_members_of_an_older_release_answer_without_an_index() -> None:
    assert joined(n1=(7, AFTER), n2=(7, AFTER)) == Joined(7, NEW, AFTER)
    assert joined(n1=(7, BEFORE), n2=(7, BEFORE), n3=AHEAD).member == NEW


def test_members_that_the_flags_do_not_name_are_asked_too() -> None:
    settings = Settings(
        name="n5",
        initial_cluster=parse_initial_cluster(f"n1=http://n1:1,n5={OURS}"),
        initial_advertise_peer_urls=parse_urls("initial-advertise-peer-urls", OURS),
    )
    asked = []

    def ask(url: Url) -> Told:
        asked.append(url.host)
        return BEHIND if url.host == "n1" else AHEAD

    assert join(settings, None, ask).member == NEW
    assert asked == ["n1", "n2", "n3", "n4"]


def test_an_invalid_url_of_another_member_is_no_fault_of_the_flags() -> None:
    wrong = [*AFTER, Member(6, "", ("nonsense",)), Member(8, "", ("http://[:1",))]
    assert joined(n1=Told(7, wrong, 100), n2=AHEAD).member == NEW


def test_one_answer_makes_only_so_many_others_be_asked() -> None:
    asked: list[Url] = []
    many = [*AFTER, *(Member(100 + number, "", (f"http://h{number}:1",)) for number in range(1000))]

    def ask(url: Url) -> Told:
        asked.append(url)
        return Told(7, many, 100)

    assert join(SETTINGS, None, ask).member == NEW
    assert len(asked) <= MAX_NAMED + len(OTHERS)


def test_a_member_that_has_not_started_need_not_answer() -> None:
    members = [OTHERS[0], Member(2, "", ("http://n2:1",)), Member(NEW, "", (OURS,))]
    assert joined(n1=Told(7, members, 9)).member == NEW


def test_members_of_two_clusters_are_told_apart() -> None:
    with pytest.raises(JoinError, match=r"different clusters: http://n1:1 to 7, http://n2:1 to 8"):
        joined(n1=AHEAD, n2=AHEAD._replace(cluster=8))


def test_no_answer_says_why() -> None:
    with pytest.raises(JoinError, match=r"no member of the existing cluster answers \(http://n1:1: refused; .*n4"):
        joined()
