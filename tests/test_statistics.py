"""Rates forget, histograms add up, latencies are those of etcd's formulas."""

from __future__ import annotations

from statistics import mean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.statistics import NO_MINIMUM, RATE_EVENTS, Histogram, Latency, Rate

durations = st.lists(st.floats(0.0, 100.0), max_size=50)


@given(durations)
def test_a_histogram_counts_each_duration_once(seconds: list[float]) -> None:
    histogram = Histogram((0.001, 0.01, 10.0))
    for one in seconds:
        histogram.observe(one)
    expected = [(bound, sum(one <= bound for one in seconds)) for bound in (0.001, 0.01, 10.0, float("inf"))]
    assert histogram.cumulative == expected
    assert histogram.total == pytest.approx(sum(seconds))


@given(durations.filter(bool))
def test_a_latency_is_what_the_textbook_says(seconds: list[float]) -> None:
    latency = Latency()
    for one in seconds:
        latency.observe(one)
    milliseconds = [1000 * one for one in seconds]
    assert latency.succeeded == len(seconds)
    assert latency.current == milliseconds[-1]
    assert (latency.minimum, latency.maximum) == (min(milliseconds), max(milliseconds))
    assert latency.average == pytest.approx(mean(milliseconds))
    assert latency.deviation == pytest.approx(pstdev(milliseconds), abs=0.01 * max(milliseconds) + 1e-6)


def test_a_latency_of_nothing() -> None:
    latency = Latency()
    assert (latency.current, latency.average, latency.deviation, latency.maximum) == (0, 0, 0, 0)
    assert latency.minimum == NO_MINIMUM


def test_a_rate_goes_by_the_last_events() -> None:
    rate = Rate()
    for step in range(1000):
        rate.add(step / 100, 7)
    span = (RATE_EVENTS - 1) / 100
    assert rate.count == 1000
    assert rate.per_second(10.0) == pytest.approx((RATE_EVENTS / span, 7 * RATE_EVENTS / span))


def test_a_rate_ends_a_second_after_the_last_event() -> None:
    rate = Rate()
    assert rate.per_second(0.0) == (0, 0)
    rate.add(1.0, 10)
    assert rate.per_second(1.5) == (0, 0)  # one event is no rate
    rate.add(1.5, 10)
    assert rate.per_second(2.5) == (4, 40)
    assert rate.per_second(2.6) == (0, 0)
    rate.add(2.7, 10)
    rate.add(2.8, 30)
    assert rate.per_second(2.8) == pytest.approx((20, 400))  # what was before is forgotten
