"""What watchers and plain readers must see: each rule is broken once, by hand, and must be named."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from kvstore.store.operations import Delete, Set
from kvstore.store.store import Store
from tests.sim.scheduler import Scheduler
from tests.sim.trace import Trace, Violation
from tests.sim.watching import EVENTS, Events, Watching, Witness

HISTORY = 5


def broken(rule: str, step: Callable[[], object]) -> None:
    with pytest.raises(Violation) as caught:
        step()
    assert caught.value.rule == rule


def write(store: Store, value: bytes) -> None:
    store.apply(Set(b"/a", value, False, None, False), 1)


def watching(events: Events) -> Watching:
    """Of everything, whatever it draws."""
    client = Watching("w", Random(1), Scheduler(), events, HISTORY, list)
    client._key, client._recursive = b"/", True
    return client


def test_a_witness_follows_a_store_and_a_snapshot() -> None:
    events, store, ahead = Events(Trace(None)), Store(HISTORY), Store(HISTORY)
    witness = Witness("a", store, events, HISTORY)
    leading = Witness("b", ahead, events, HISTORY)
    for number in range(20):
        write(ahead, b"%d" % number)
        leading.look()
        if number < 2:
            write(store, b"%d" % number)
            witness.look()
    store.adopt(Store.restore([*ahead.freeze().chunks()], HISTORY))
    witness.look()
    write(store, b"20")
    witness.look()
    assert events.value_at(b"/a", 2) == b"1"
    assert events.value_at(b"/a", 21) == b"20"


def test_a_watch_on_a_member_that_joined_ends_where_the_history_begins_after_the_founding() -> None:
    events, store, ahead = Events(Trace(None)), Store(HISTORY), Store(HISTORY)
    witness = Witness("a", store, events, HISTORY)
    ahead.found()
    for number in range(HISTORY):
        write(ahead, b"%d" % number)
    store.adopt(Store.restore([*ahead.freeze().chunks()], HISTORY, is_founded=True))
    witness.look()


def test_an_event_that_no_watcher_was_shown() -> None:
    store = Store(HISTORY)
    witness = Witness("a", store, Events(Trace(None)), HISTORY)
    store.index = 1
    broken(EVENTS, witness.look)


def test_one_index_with_two_events() -> None:
    events = Events(Trace(None))
    stores = Store(HISTORY), Store(HISTORY)
    witnesses = [Witness("ab"[number], store, events, HISTORY) for number, store in enumerate(stores)]
    write(stores[0], b"x")
    write(stores[1], b"y")
    witnesses[0].look()
    broken(EVENTS, witnesses[1].look)


def test_a_client_that_comes_back_sees_what_is_left_and_a_gap_where_the_history_has_one() -> None:
    events, store = Events(Trace(None)), Store(HISTORY)
    witness, client = Witness("a", store, events, HISTORY), watching(events)
    for number in range(8):
        write(store, b"%d" % number)
    store.apply(Delete(b"/a", False, False), 1)
    witness.look()
    client.finish(store)


def test_a_history_that_forgets_too_early() -> None:
    events, store = Events(Trace(None)), Store(HISTORY - 3)
    client = watching(events)
    for number in range(4):
        write(store, b"%d" % number)
    broken(EVENTS, lambda: client.finish(store))


def test_an_event_that_a_client_missed() -> None:
    events, store, other = Events(Trace(None)), Store(HISTORY), Store(HISTORY)
    witness, client = Witness("a", store, events, HISTORY), watching(events)
    write(store, b"x")
    witness.look()
    broken(EVENTS, lambda: client.finish(other))
