"""When a member stops because its peers are of another cluster, and when it must not."""

from __future__ import annotations

import pytest

from kvstore.newcomer import Newcomer


def refusals(count: int, *peers: int, is_untouched: bool = True) -> list[bool]:
    """For each refusal by a peer, whether member 1 of `count` members stops."""
    newcomer = Newcomer(1, "/d")
    said: set[int] = set()
    stops = []
    for peer in peers:
        said.add(peer)
        stops.append(bool(newcomer.refused(peer, range(1, count + 1), is_untouched, said)))
    return stops


@pytest.mark.parametrize(
    ("count", "peers", "stops"),
    [
        (2, (2,), [True]),  # without it there is no majority
        (3, (2, 2, 2), [False, False, False]),  # one peer, however often it says so
        (3, (2, 3), [False, True]),
        (4, (2, 3), [False, True]),
        (5, (2, 3, 4), [False, False, True]),
        (3, (7, 8, 9), [False, False, False]),  # no members
    ],
)
def test_it_stops_when_the_others_are_no_majority(count: int, peers: tuple[int, ...], stops: list[bool]) -> None:
    assert refusals(count, *peers) == stops


def test_a_member_that_has_a_log_never_stops() -> None:
    assert refusals(3, 2, 3, is_untouched=False) == [False, False]


def test_a_word_that_was_taken_back_does_not_count() -> None:
    """A wrong URL was corrected, or the peer's folder was exchanged, before the second one said it."""
    newcomer = Newcomer(1, "/d")
    voters = (1, 2, 3)
    assert not newcomer.refused(2, voters, True, {2})
    assert not newcomer.refused(3, voters, True, {3})
    assert newcomer.refused(2, voters, True, {2, 3})


def test_the_reason_names_the_flag_and_the_folder() -> None:
    why = Newcomer(1, "/srv/n4").refused(2, (1, 2), True, {2})
    assert "delete /srv/n4, which never held anything of the running cluster" in why
    assert "--initial-cluster-state existing" in why
