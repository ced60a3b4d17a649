"""Replicated time by two clocks in hand: one that people set, and one that no one does."""

from __future__ import annotations

import logging

import pytest

from kvstore.raft.types import AppendRequest, Entry, ProposeRequest
from kvstore.replicated_clock import FASTER_PART, LATEST_WALL, MAX_AHEAD, SECOND, SLOWER_PART, ReplicatedClock
from kvstore.store.errors import KeyNotFound
from kvstore.store.operations import Set
from kvstore.wire import pack_command, stamp, time_of, unpack_command
from tests.node_bench import ME, SECOND_NS, Bench, entries_of
from tests.node_bench import SECOND as OTHER

EPOCH = 1_800_000_000 * SECOND
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND


class Hands:
    """The clocks of one machine; `passes` moves both and lets the member tick, `wall` alone is a step."""

    def __init__(self, wall: int = EPOCH) -> None:
        self.wall = wall
        self.monotonic = 5 * SECOND
        self.clock = ReplicatedClock(lambda: self.wall, lambda: self.monotonic)

    def passes(self, nanoseconds: int, ticks: int = 100) -> None:
        for _ in range(ticks):
            self.wall += nanoseconds // ticks
            self.monotonic += nanoseconds // ticks
            before = self.clock.now()
            self.clock.tick()
            assert self.clock.now() >= before


@pytest.mark.parametrize("step", [HOUR, -HOUR, DAY, -DAY])
def test_a_step_of_the_wall_clock_changes_the_pace_hardly(step: int) -> None:
    hands = Hands()
    hands.clock.begin_term(0)
    assert hands.clock.now() == EPOCH
    hands.passes(10 * SECOND)
    hands.wall += step
    began = hands.clock.now()
    hands.passes(100 * SECOND)
    passed = hands.clock.now() - began
    assert 100 * SECOND - 100 * SECOND // SLOWER_PART <= passed <= 100 * SECOND + 100 * SECOND // FASTER_PART


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_time_comes_back_to_the_wall_clock_and_stays_there(step: int) -> None:
    hands = Hands()
    hands.clock.begin_term(0)
    hands.wall += step
    part = FASTER_PART if step > 0 else SLOWER_PART
    hands.passes(HOUR * part // 2)
    assert abs(hands.clock.now() - hands.wall) == pytest.approx(HOUR / 2, rel=0.1)
    hands.passes(HOUR * part)
    assert hands.clock.now() == hands.wall


def test_a_member_that_knows_the_time_leads_on_from_there_whatever_its_wall_clock_says() -> None:
    hands = Hands(wall=EPOCH + HOUR)
    hands.clock.passed(EPOCH)
    hands.clock.learned(EPOCH + 2 * SECOND, hands.clock.ask())
    hands.passes(10 * SECOND)
    hands.clock.begin_term(EPOCH)
    assert 0 <= hands.clock.now() - (EPOCH + 12 * SECOND) <= 10 * SECOND // FASTER_PART


def test_leaders_that_follow_each_other_with_wrong_clocks_do_not_push_time_ahead() -> None:
    members = [Hands(wall=EPOCH + skew) for skew in (0, HOUR, -HOUR)]
    for member in members:
        member.clock.learned(EPOCH, member.clock.ask())
    latest = EPOCH
    for round_ in range(300):
        leader = members[round_ % 3]
        leader.clock.begin_term(latest)
        for member in members:
            member.passes(SECOND, ticks=1)
        latest = leader.clock.now()
        for member in members:
            member.clock.passed(latest)
    assert 300 * SECOND * (1 - 1 / SLOWER_PART) <= latest - EPOCH <= 300 * SECOND * (1 + 1 / FASTER_PART)


def test_after_all_were_down_time_goes_on_from_the_wall_clock(caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands(wall=EPOCH + DAY)
    hands.clock.passed(EPOCH)
    hands.clock.begin_term(EPOCH + SECOND)
    assert hands.clock.now() == EPOCH + DAY
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_new_cluster_has_no_time_to_go_on_from_and_warns_of_none(caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands()
    hands.clock.passed(0)
    hands.passes(SECOND)
    hands.clock.begin_term(0)
    assert hands.clock.now() == hands.wall
    assert not caplog.records


@pytest.mark.parametrize("wrong", [DAY, -DAY])
def test_after_all_were_down_the_middle_wall_clock_counts(wrong: int) -> None:
    hands = Hands(wall=EPOCH + wrong)
    hands.clock.passed(EPOCH - 10 * SECOND)
    hands.clock.met(2, EPOCH)
    hands.clock.met(3, EPOCH + SECOND)
    hands.clock.begin_term(0)
    assert hands.clock.now() == (EPOCH + SECOND if wrong > 0 else EPOCH)
    hands.wall -= 5 * DAY  # a step here moves what the others said not at all
    hands.passes(DAY)
    assert hands.clock.now() == pytest.approx(EPOCH + DAY, abs=2 * SECOND)


def test_of_two_wall_clocks_the_earlier_one_counts() -> None:
    hands = Hands(wall=EPOCH + DAY)
    hands.clock.passed(EPOCH - HOUR)
    hands.clock.met(2, EPOCH)
    hands.clock.begin_term(0)
    assert hands.clock.now() == EPOCH


@pytest.mark.parametrize("wall", [0, 3 * DAY, LATEST_WALL + DAY, (1 << 63) + DAY])
def test_a_wall_clock_that_cannot_be_is_refused_with_one_line(wall: int, caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands(wall)
    hands.clock.passed(EPOCH)
    hands.clock.begin_term(EPOCH)
    hands.passes(10 * SECOND)
    assert hands.clock.now() == EPOCH + 10 * SECOND
    assert len(caplog.records) == 1


def test_a_stamp_that_cannot_be_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands()
    hands.clock.learned(EPOCH, hands.clock.ask())
    hands.clock.passed(LATEST_WALL + 1)
    assert hands.clock.now() == EPOCH
    hands.clock.begin_term(EPOCH + MAX_AHEAD + 1)
    assert hands.clock.now() == EPOCH
    hands.clock.begin_term(EPOCH + MAX_AHEAD)
    assert hands.clock.now() == EPOCH + MAX_AHEAD
    assert len(caplog.records) == 2


def test_a_stamp_that_took_long_to_come_is_not_the_time() -> None:
    hands = Hands()
    asked = hands.clock.ask()
    hands.passes(2 * SECOND)
    hands.clock.learned(EPOCH, asked)
    assert not hands.clock.is_set


def test_the_difference_of_a_peers_clock_follows_our_own_steps() -> None:
    hands = Hands()
    assert hands.clock.difference(2) is None
    hands.clock.met(2, EPOCH + HOUR)
    hands.passes(10 * SECOND)
    assert hands.clock.difference(2) == HOUR
    hands.wall += DAY
    assert hands.clock.difference(2) == HOUR - DAY
    hands.clock.forget(2)
    assert hands.clock.difference(2) is None


# --- in the driver ------------------------------------------------------------------------------------------------


def _put(bench: Bench, key: bytes, ttl: int) -> None:
    bench.node.propose(Set(key, b"v", False, ttl, False), lambda outcome: None)
    bench.flush()
    bench.settle_disk()
    if len(bench.node.raft.members) > 1:
        bench.acknowledge()


def _lives(bench: Bench, key: bytes, limit: int) -> float:
    """For how many seconds of true time the key is there."""
    for tick in range(limit * 100):
        try:
            bench.node.machine.store.get(key, False, False, bench.time)
        except KeyNotFound:
            return tick / 100
        bench.pass_time(0.01)
        bench.tick(1)
        bench.settle_disk()
    return float("inf")


@pytest.mark.parametrize("step", [HOUR, -HOUR, DAY, -DAY])
def test_a_step_of_the_leaders_clock_neither_stops_expiry_nor_expires_anything_early(step: int) -> None:
    bench = Bench(1)
    bench.settle_disk()
    _put(bench, b"/lease", 1800)
    _put(bench, b"/before", 2)
    bench.time += step
    assert 1.99 <= _lives(bench, b"/before", 10) <= 2.7
    _put(bench, b"/after", 2)
    assert 1.99 <= _lives(bench, b"/after", 10) <= 2.7
    bench.time -= step  # and back
    _put(bench, b"/back", 2)
    assert 1.99 <= _lives(bench, b"/back", 10) <= 2.7
    assert bench.node.machine.store.get(b"/lease", False, False, bench.node.now()).ttl in (1792, 1793, 1794)


def _append(stamped: int, term: int, prev: int, prev_term: int) -> AppendRequest:
    (payload,) = stamp(stamped, [pack_command(9, Set(b"/x", b"never committed", False, None, False))])
    return AppendRequest(ME, OTHER, term, prev, prev_term, (Entry(prev + 1, term, 0, payload),), 1)


def test_an_append_that_raft_refuses_moves_nothing() -> None:
    bench = Bench()
    bench.follow(7)
    bench.lead()
    _put(bench, b"/lock", 600)
    bench.receive(_append(bench.time + HOUR, bench.node.raft.term - 1, 5, bench.node.raft.term - 1))
    before = bench.time
    _put(bench, b"/after", 600)
    assert bench.node.machine.time == before
    assert _lives(bench, b"/lock", 2) == float("inf")


def test_an_entry_that_was_replaced_moves_nothing() -> None:
    bench = Bench()
    bench.follow()
    bench.receive(_append(bench.time + HOUR, 2, 1, 1))
    bench.settle_disk()
    bench.receive(AppendRequest(ME, OTHER, 5, 1, 1, (Entry(2, 5, 0, b""),), 1))  # a later leader's
    bench.settle_disk()
    bench.lead()
    bench.propose(b"/b")
    assert time_of(entries_of(bench.wire.take(AppendRequest))[-1].payload) == bench.time


def test_a_member_that_has_started_learns_the_time_with_its_first_leader() -> None:
    bench = Bench(knows_time=False)
    bench.follow()
    bench.time += HOUR  # its clock is wrong
    truth = bench.time - HOUR
    bench.tick(50)
    (asked,) = bench.wire.take(ProposeRequest)
    assert isinstance(asked, ProposeRequest)
    (payload,) = stamp(truth, asked.payloads)
    assert unpack_command(payload).time == truth
    bench.receive(AppendRequest(ME, OTHER, 2, 1, 1, (Entry(2, 2, 0, payload),), 2))
    bench.settle_disk()
    assert bench.clock.is_set
    assert bench.clock.now() == truth
    bench.tick(50)
    assert bench.wire.take(ProposeRequest) == []


def test_the_time_it_takes_to_ask_does_not_count_as_an_answer() -> None:
    bench = Bench(knows_time=False)
    bench.follow()
    bench.tick(50)
    (asked,) = bench.wire.take(ProposeRequest)
    assert isinstance(asked, ProposeRequest)
    (payload,) = stamp(bench.time, asked.payloads)
    bench.elapsed += 5 * SECOND_NS
    bench.receive(AppendRequest(ME, OTHER, 2, 1, 1, (Entry(2, 2, 0, payload),), 2))
    bench.settle_disk()
    assert not bench.clock.is_set
