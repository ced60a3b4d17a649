"""Spread keys against a plain dict, and the tree's children once they are many."""

from __future__ import annotations

from types import FunctionType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.store import spread
from kvstore.store.errors import DirectoryNotEmpty
from kvstore.store.spread import ONE_DICT_KEYS, PARTS, Spread, let_others_run
from kvstore.store.store import Store
from tests.store.steps import NOW, delete, put, run, tree

KEYS = st.integers(0, 30).map(lambda number: b"/%d" % number)


@given(st.dictionaries(KEYS, st.integers()), st.lists(st.tuples(st.sampled_from(("set", "del", "pop")), KEYS)))
def test_it_is_a_dict(model: dict[bytes, int], steps: list[tuple[str, bytes]]) -> None:
    keys = Spread(model.items())
    for number, (step, key) in enumerate(steps):
        if step == "set":
            keys[key] = model[key] = number
        elif step == "pop":
            assert keys.pop(key, -1) == model.pop(key, -1)
        elif key in model:
            del keys[key], model[key]
    assert {key: keys[key] for key in keys} == model
    assert (len(keys), bool(keys)) == (len(model), bool(model))
    for key in (b"/%d" % number for number in range(31)):
        assert (key in keys) == (key in model)
        assert keys.get(key) == model.get(key)


def test_no_dict_holds_more_than_is_quickly_moved() -> None:
    store = Store()
    count = ONE_DICT_KEYS + 1
    run(store, *(put(b"/many/%d" % number) for number in range(count)))
    children = store._tree.children[b"/many"]
    assert isinstance(children, Spread)
    assert len(children) == count
    assert max(map(len, children._parts)) < 100
    run(store, *(put(b"/directories/%d/key" % number) for number in range(count)))
    assert isinstance(store._tree.children, Spread)
    restored = Store.restore(store.freeze().chunks())._tree.children
    assert isinstance(restored, Spread)
    assert isinstance(restored[b"/many"], Spread)


def test_whoever_reads_need_not_wait_until_all_children_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python lets another thread run where an interpreted function begins, and nowhere in what is compiled."""
    store = Store()
    run(store, *(put(b"/%d" % number) for number in range(3 * PARTS)))
    calls: list[int] = []
    assert isinstance(let_others_run, FunctionType)
    monkeypatch.setattr("kvstore.store.tree.let_others_run", lambda: calls.append(1))
    Store.restore(store.freeze().chunks())
    assert len(calls) >= 3


@pytest.mark.parametrize("is_restored", [False, True])
def test_many_children_are_like_few(monkeypatch: pytest.MonkeyPatch, is_restored: bool) -> None:
    few = Store()
    steps = [put(b"/%d/%d" % divmod(number, 10)) for number in range(100)]
    run(few, *steps)
    monkeypatch.setattr(spread, "ONE_DICT_KEYS", 5)
    many = Store()
    run(many, *steps)
    if is_restored:
        many = Store.restore(many.freeze().chunks())
    assert isinstance(many._tree.children, Spread)
    assert isinstance(many._tree.children[b"/7"], Spread)
    assert not isinstance(few._tree.children[b"/7"], Spread)
    assert tree(many) == tree(few)
    for store in (few, many):
        with pytest.raises(DirectoryNotEmpty):
            store.apply(delete(b"/7", is_dir=True), NOW)
        run(store, delete(b"/3", recursive=True), *(delete(b"/7/%d" % number) for number in range(10)))
        run(store, delete(b"/7", is_dir=True), put(b"/new/one"), put(b"/3/again"))
        assert store.is_directory(b"/3")
        assert not store.is_directory(b"/7")
    assert tree(many) == tree(few)
    assert many.get(b"/4", False, True, NOW) == few.get(b"/4", False, True, NOW)
