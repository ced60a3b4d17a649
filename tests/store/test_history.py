"""The history's two limits: how many events, and how many bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.store.errors import HistoryCleared
from kvstore.store.events import SET, Event, NodeView
from kvstore.store.history import EVENT_BYTES, History
from kvstore.store.store import Store
from tests.store.steps import NOW, put


def event(index: int, size: int) -> Event:
    """One that counts as `size` bytes beside the fixed ones."""
    return Event(SET, NodeView(b"/", b"v" * (size - 1), False, index, index, None, None, None), None, index, False)


@given(
    limit=st.integers(1, 8),
    limit_bytes=st.integers(0, 4_000),
    start=st.integers(1, 20),
    sizes=st.lists(st.integers(1, 3_000), max_size=40),
)
def test_the_newest_events_that_fit_are_held(limit: int, limit_bytes: int, start: int, sizes: list[int]) -> None:
    history = History(limit, limit_bytes, start)
    added: list[Event] = []
    for index, size in enumerate(sizes, start):
        added.append(event(index, size))
        history.add(added[-1])
        kept: list[Event] = []
        room = limit_bytes
        for one, one_size in zip(reversed(added), reversed(sizes[: len(added)]), strict=True):
            room -= EVENT_BYTES + one_size
            if kept and (len(kept) == limit or room < 0):
                break
            kept.insert(0, one)
        assert history.since(history.oldest) == kept
        assert (history.oldest, history.newest) == (kept[0].index, index)


def test_the_first_that_is_too_old_says_where_the_history_begins() -> None:
    """Error 401 of the v2 API is made from these fields."""
    store = Store(history_limit=1000, history_bytes=4 * (EVENT_BYTES + 1000))
    for _ in range(10):
        store.apply(put(b"/k", b"v" * 490), NOW)
    with pytest.raises(HistoryCleared) as refused:
        store.watch(b"/k", False, False, 6, lambda event: None)
    assert (refused.value.index, refused.value.oldest, refused.value.asked) == (10, 7, 6)
    heard: list[Event | None] = []
    store.watch(b"/k", False, False, 7, heard.append)
    assert [one.index for one in heard if one] == [7]


def test_both_the_value_and_the_one_before_it_count() -> None:
    store = Store(history_limit=1000, history_bytes=2 * EVENT_BYTES + 1100)
    for _ in range(3):
        store.apply(put(b"/k", b"v" * 400), NOW)
    with pytest.raises(HistoryCleared):
        store.watch(b"/k", False, False, 2, lambda event: None)


def test_a_snapshot_is_read_back_within_the_limit_of_bytes() -> None:
    store = Store()
    for _ in range(10):
        store.apply(put(b"/k", b"v" * 490), NOW)
    restored = Store.restore(store.freeze().chunks(), history_bytes=4 * (EVENT_BYTES + 1000))
    assert restored.index == 10
    with pytest.raises(HistoryCleared):
        restored.watch(b"/k", False, False, 6, lambda event: None)
    restored.watch(b"/k", False, False, 7, lambda event: None)
