"""Members whose clocks or timings differ: one line each, and a number."""

from __future__ import annotations

import pytest

from kvstore.hello import PEER_VERSION, Facts, Hello
from kvstore.peer_facts import PeerFacts
from kvstore.replicated_clock import SECOND, ReplicatedClock

EPOCH = 1_800_000_000 * SECOND
MEMBERS = {1, 2, 3}


@pytest.fixture
def facts() -> PeerFacts:
    return PeerFacts(ReplicatedClock(lambda: EPOCH, lambda: 0), 100, 1000)


def hello(sender: int = 2, clock: int = EPOCH, timings: tuple[int, int] = (100, 1000), version: int = 2) -> Hello:
    return Hello(version, 7, sender, 1, bytes(16), (), Facts(clock, *timings))


def test_members_that_agree_have_no_line(facts: PeerFacts, caplog: pytest.LogCaptureFixture) -> None:
    assert PEER_VERSION >= 2
    facts.met(hello(clock=EPOCH + SECOND // 2), MEMBERS)
    assert caplog.records == []
    assert facts.differences() == {2: 0.5}


def test_another_clock_has_one_line_until_it_is_right_again(facts: PeerFacts, caplog: pytest.LogCaptureFixture) -> None:
    for clock in (EPOCH + 3600 * SECOND, EPOCH + 3600 * SECOND, EPOCH, EPOCH - 2 * SECOND):
        facts.met(hello(clock=clock), MEMBERS)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert facts.differences() == {2: -2.0}


def test_other_timings_have_one_line(facts: PeerFacts, caplog: pytest.LogCaptureFixture) -> None:
    for timings in ((1000, 10_000), (1000, 10_000), (100, 2000), (100, 1000)):
        facts.met(hello(timings=timings), MEMBERS)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


@pytest.mark.parametrize("one", [hello(sender=9, clock=1), hello(version=1, clock=1), hello(clock=0, timings=(0, 0))])
def test_strangers_and_earlier_releases_say_nothing(
    facts: PeerFacts, one: Hello, caplog: pytest.LogCaptureFixture
) -> None:
    facts.met(one, MEMBERS)
    assert caplog.records == []
    assert facts.differences() == {}


def test_a_member_that_was_removed_is_forgotten(facts: PeerFacts) -> None:
    facts.met(hello(), MEMBERS)
    facts.met(hello(sender=3), {1, 3})
    assert facts.differences().keys() == {3}
