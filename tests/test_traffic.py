"""What the numbers about other members say, with a clock in hand."""

from __future__ import annotations

import pytest

from kvstore.raft.types import AppendRequest, AppendResponse, Entry, HeartbeatRequest, HeartbeatResponse
from kvstore.traffic import HEARTBEAT_LOST_SECONDS, MAX_UNANSWERED, Traffic

OTHER = 2


class Wire:
    """Messages between this member, 1, and the other; `now` is what the clock says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.traffic = Traffic(lambda: self.now)

    def append(self, first: int, last: int, size: int = 10) -> None:
        entries = tuple(Entry(index, 1, 0, b"") for index in range(first, last + 1))
        self.traffic.sent(AppendRequest(OTHER, 1, 1, first - 1, 1, entries, 0), size)

    def answer(self, index: int, rejected: bool = False) -> None:
        self.traffic.received(AppendResponse(1, OTHER, 1, index, rejected, 0, 0), 5)

    def beat(self) -> None:
        self.traffic.sent(HeartbeatRequest(OTHER, 1, 1, 0, 0), 3)

    def beat_back(self) -> None:
        self.traffic.received(HeartbeatResponse(1, OTHER, 1, 0), 3)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_an_append_is_timed_until_its_last_entry_is_held(wire: Wire) -> None:
    wire.append(1, 3)
    wire.now += 0.001
    wire.append(4, 5)
    wire.now += 0.002
    wire.answer(3)
    latency = wire.traffic.peer(OTHER).latency
    assert (latency.succeeded, latency.failed) == (1, 0)
    assert latency.current == pytest.approx(3.0)
    wire.answer(4)
    assert latency.succeeded == 1
    wire.now += 0.002
    wire.answer(5)
    assert latency.succeeded == 2
    assert latency.current == pytest.approx(4.0)
    assert latency.minimum == pytest.approx(3.0)
    assert latency.maximum == pytest.approx(4.0)


def test_what_was_refused_lost_or_never_sent_has_failed(wire: Wire) -> None:
    latency = wire.traffic.peer(OTHER).latency
    wire.append(1, 1)
    wire.answer(0, rejected=True)
    assert latency.failed == 1
    wire.append(1, 1)
    wire.append(2, 2)
    wire.traffic.lost(OTHER)
    assert latency.failed == 3
    wire.traffic.dropped(AppendRequest(OTHER, 1, 1, 0, 0, (), 0))
    wire.traffic.dropped(HeartbeatRequest(OTHER, 1, 1, 0, 0))
    assert (latency.succeeded, latency.failed) == (0, 4)


def test_no_more_than_so_many_appends_are_timed(wire: Wire) -> None:
    for index in range(1, 2 * MAX_UNANSWERED + 1):
        wire.append(index, index)
    wire.answer(2 * MAX_UNANSWERED)
    assert wire.traffic.peer(OTHER).latency.succeeded == MAX_UNANSWERED


def test_a_round_trip_is_that_of_one_heartbeat(wire: Wire) -> None:
    trips = wire.traffic.peer(OTHER).round_trips
    wire.beat_back()  # to none of ours
    wire.beat()
    wire.now += 0.1
    wire.beat()
    wire.now += 0.1
    wire.beat_back()
    assert sum(trips.counts) == 1
    assert trips.total == pytest.approx(0.2)
    wire.beat_back()
    assert sum(trips.counts) == 1


def test_a_lost_heartbeat_is_timed_no_more(wire: Wire) -> None:
    trips = wire.traffic.peer(OTHER).round_trips
    wire.beat()
    wire.now += HEARTBEAT_LOST_SECONDS + 1
    wire.beat()
    wire.now += 0.25
    wire.beat_back()
    assert trips.total == pytest.approx(0.25)


def test_bytes_and_rates(wire: Wire) -> None:
    for _ in range(3):
        wire.append(1, 1, size=100)
        wire.now += 0.5
    wire.answer(1)
    wire.traffic.received(AppendRequest(1, OTHER, 1, 0, 0, (), 0), 40)
    traffic, peer = wire.traffic, wire.traffic.peer(OTHER)
    assert (peer.sent_bytes, peer.received_bytes) == (300, 45)
    assert (traffic.sent_appends.count, traffic.received_appends.count) == (3, 1)
    assert traffic.sent_appends.per_second(wire.now) == pytest.approx((3.0, 300.0))
    traffic.forget(OTHER)
    assert traffic.peers == {}
