"""The store against the dumb model: any operations, sweeps, watches, snapshots and restores, in any order."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvstore.store.errors import KeyNotFound, NotADirectory, StoreError
from kvstore.store.events import Event
from kvstore.store.operations import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Expire,
    Operation,
    Set,
    Update,
)
from kvstore.store.store import Store
from kvstore.store.watchers import Watcher
from tests.store.model import Model, ModelWatcher
from tests.store.steps import NOW, SECOND

# Few names, so that keys meet: one that is a prefix of another as a string, one hidden.
names = st.sampled_from([b"a", b"ab", b"b", b"_h"])
keys = st.one_of(st.lists(names, min_size=1, max_size=4).map(lambda parts: b"/" + b"/".join(parts)), st.just(b"/"))
values = st.sampled_from([b"", b"1", b"2"])
ttls = st.one_of(st.none(), st.integers(0, 6), st.sampled_from([2**64 - 1, 9_223_372_036, 12_000_000_000]))
flags = st.booleans()
conditions = st.one_of(st.none(), values)
indices = st.integers(0, 12)

operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Set, keys, values, flags, ttls, flags),
    st.builds(Set, keys, values, st.just(False), ttls, st.just(False)),
    st.builds(Create, keys, values, flags, ttls),
    st.builds(CreateInOrder, keys, values, flags, ttls),
    st.builds(Update, keys, values, ttls, flags),
    st.builds(CompareAndSwap, keys, values, conditions, indices, ttls, flags),
    st.builds(Delete, keys, flags, flags),
    st.builds(CompareAndDelete, keys, conditions, indices),
    st.builds(Expire, st.integers(1, 4)),
)

HISTORY_LIMIT = 8


def outcome(apply: Store | Model, operation: Operation, now: int) -> object:
    try:
        return apply.apply(operation, now)
    except StoreError as error:
        return type(error), vars(error)


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.store = Store(HISTORY_LIMIT)
        self.store.begin_unfounded()  # as the model does
        self.model = Model(HISTORY_LIMIT)
        self.pairs: list[tuple[Watcher, list[Event | None], ModelWatcher]] = []

    @rule(operation=operations)
    def apply(self, operation: Operation) -> None:
        assert outcome(self.store, operation, self.now) == outcome(self.model, operation, self.now)

    @rule(operation=st.lists(operations, min_size=5, max_size=12))
    def apply_many(self, operation: list[Operation]) -> None:
        for one in operation:
            self.apply(one)

    @rule(step=st.integers(0, 4 * SECOND))
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(key=keys, recursive=flags, stream=flags, back=st.one_of(st.none(), st.integers(-2, 12)))
    def watch(self, key: bytes, recursive: bool, stream: bool, back: int | None) -> None:
        since = 0 if back is None else max(0, self.store.index - back)
        heard: list[Event | None] = []
        try:
            watcher: object = self.store.watch(key, recursive, stream, since, heard.append)
        except StoreError as error:
            watcher = type(error), vars(error)
        try:
            model_watcher: object = self.model.watch(key, recursive, stream, since)
        except StoreError as error:
            model_watcher = type(error), vars(error)
        if isinstance(watcher, Watcher):
            assert isinstance(model_watcher, ModelWatcher)
            self.pairs.append((watcher, heard, model_watcher))
        else:
            assert watcher == model_watcher

    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        if self.pairs:
            watcher, _, model_watcher = self.pairs[which % len(self.pairs)]
            watcher.cancel()
            model_watcher.waiting = False

    @rule(key=keys, recursive=flags)
    def get(self, key: bytes, recursive: bool) -> None:
        try:
            found: object = self.store.get(key, recursive, True, self.now)
        except (KeyNotFound, NotADirectory) as error:
            found = type(error), vars(error)
        try:
            node = self.model.need(key)
            expected: object = self.model.view(key, node, self.now, 99 if recursive else 1)
        except (KeyNotFound, NotADirectory) as error:
            expected = type(error), vars(error)
        assert found == expected

    @rule()
    def come_back_from_a_snapshot(self) -> None:
        """The store of a member that took a snapshot: nothing may differ, and its watchers live on."""
        restored = Store.restore(self.store.freeze().chunks(3), HISTORY_LIMIT)
        restored.begin_unfounded()
        assert list(restored.freeze().chunks()) == list(self.store.freeze().chunks())
        self.store.adopt(restored)

    @invariant()
    def agrees(self) -> None:
        assert self.store.index == self.model.index
        assert self.store.next_deadline == self.model.next_deadline()
        assert self.store.watcher_count == sum(w.waiting for w in self.model.watchers)
        for _, heard, model_watcher in self.pairs:
            assert heard == model_watcher.heard

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.get(b"/", True)


class AdoptMachine(RuleBasedStateMachine):
    """A member that gets snapshots of another: its watchers hear what they would have heard from the log."""

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.ahead, self.behind = Store(HISTORY_LIMIT), Store(HISTORY_LIMIT)
        self.pairs: list[tuple[list[Event | None], list[Event | None], Watcher]] = []
        self.watchers_ahead: list[Watcher] = []

    @rule(many=st.lists(operations, min_size=1, max_size=6), step=st.integers(0, SECOND))
    def apply(self, many: list[Operation], step: int) -> None:
        self.now += step
        for operation in many:
            outcome(self.ahead, operation, self.now)

    @rule()
    def adopt(self) -> None:
        gap = self.ahead.index - self.behind.index
        waited = [watcher.is_waiting for _, _, watcher in self.pairs]
        before = [list(heard) for _, heard, _ in self.pairs]
        self.behind.adopt(Store.restore(self.ahead.freeze().chunks(), HISTORY_LIMIT))
        assert list(self.behind.freeze().chunks()) == list(self.ahead.freeze().chunks())
        if gap <= HISTORY_LIMIT:
            for would_have, heard, _ in self.pairs:
                assert heard == would_have
            assert self.behind.watcher_count == self.ahead.watcher_count
        else:
            # every watcher that waited was told that it is cut off, and nothing else; then begin anew
            assert self.behind.watcher_count == 0
            for (_, heard, _), so_far, waits in zip(self.pairs, before, waited, strict=True):
                assert heard == so_far + [None] * waits
            for watcher in self.watchers_ahead:
                watcher.cancel()
            self.pairs.clear()

    @rule(watches=st.lists(st.tuples(keys, flags, flags), min_size=1, max_size=4))
    def watch(self, watches: list[tuple[bytes, bool, bool]]) -> None:
        """Only level members can be asked the same question."""
        if self.ahead.index == self.behind.index:
            for key, recursive, stream in watches:
                would_have: list[Event | None] = []
                heard: list[Event | None] = []
                self.watchers_ahead.append(self.ahead.watch(key, recursive, stream, 0, would_have.append))
                watcher = self.behind.watch(key, recursive, stream, 0, heard.append)
                self.pairs.append((would_have, heard, watcher))


quick = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStore = StoreMachine.TestCase
TestStore.settings = quick
TestAdopt = AdoptMachine.TestCase
TestAdopt.settings = quick
