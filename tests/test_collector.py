from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from kvstore.collector import LATEST_SECONDS, QUIET_SECONDS, Collector, no_collections


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    thresholds = gc.get_threshold()
    yield Collector(now=100.0)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_everything_is_collected_in_a_quiet_moment_and_at_the_latest_in_any(collector: Collector) -> None:
    old = Cycle()
    gc.collect(1)  # to the generation that is left alone
    gone = weakref.ref(old)
    del old
    assert not collector.look(100.0 + QUIET_SECONDS - 1, is_quiet=True)
    assert not collector.look(100.0 + QUIET_SECONDS, is_quiet=False)
    assert gone() is not None
    assert collector.look(100.0 + QUIET_SECONDS, is_quiet=True)
    assert gone() is None
    assert not collector.look(100.0 + LATEST_SECONDS + QUIET_SECONDS - 1, is_quiet=False)
    assert collector.look(100.0 + LATEST_SECONDS + QUIET_SECONDS, is_quiet=False)


def test_everything_is_collected_once_very_much_is_new(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.collector.YOUNG_COLLECTIONS", 5)
    assert not collector.look(101.0, is_quiet=False)
    kept = [[number] for number in range(10_000)]
    assert collector.look(101.0, is_quiet=False)
    assert not collector.look(101.0, is_quiet=False)
    assert kept


def test_young_cycles_go_by_themselves_and_older_objects_are_left_alone(collector: Collector) -> None:
    kept = [[number] for number in range(5_000)]
    before = gc.get_stats()
    gone = weakref.ref(Cycle())
    kept += [[number] for number in range(5_000)]
    after = gc.get_stats()
    assert gone() is None
    assert after[0]["collections"] > before[0]["collections"]
    assert [after[at]["collections"] for at in (1, 2)] == [before[at]["collections"] for at in (1, 2)]


def test_nothing_is_collected_while_a_great_many_objects_are_made() -> None:
    with no_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), no_collections():
        raise KeyError
    assert gc.isenabled()
