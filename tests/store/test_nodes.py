"""The nodes against a plain dict, with pictures taken on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.store.nodes import PACKED_VALUE_BYTES, FrozenNodes, Node, Nodes, packed

KEYS = st.integers(0, 30).map(lambda number: b"/%d" % number)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(1, 9)),
        st.tuples(st.just("pack"), KEYS, st.integers(0, 2**64 - 1)),
        st.tuples(st.just("pop"), KEYS, st.just(0)),
        st.tuples(st.just("freeze"), st.just(b""), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_they_are_a_dict_and_no_picture_ever_changes(steps: list[tuple[str, bytes, int]]) -> None:
    nodes = Nodes()
    model: dict[bytes, Node] = {}
    pictures: list[tuple[FrozenNodes, dict[bytes, Node]]] = []
    for step, key, number in steps:
        if step == "set":
            model[key] = (b"v", number, number, None)
            nodes.put(key, model[key])
        elif step == "pack":
            model[key] = (b"p", number, number, None)
            nodes.put(key, packed(*model[key]))
        elif step == "freeze":
            pictures.append((nodes.freeze(), model.copy()))
        elif key in model:
            assert nodes.pop(key) == model.pop(key)
        assert len(nodes) == len(model)
    for key in (b"/%d" % number for number in range(31)):
        assert nodes.get(key) == model.get(key)
        assert (key in nodes) == (key in model)
        assert key not in model or nodes[key] == model[key]
    assert set(nodes) == set(model)
    for picture, expected in pictures:
        assert dict(picture) == expected
        assert len(picture) == len(expected)


def test_a_picture_copies_nothing_and_a_change_after_it_one_part() -> None:
    nodes = Nodes()
    for number in range(5_000):
        nodes.put(b"/%d" % number, (b"", number, number, None))
    before = list(nodes._parts)
    nodes.freeze()
    assert all(now is then for now, then in zip(nodes._parts, before, strict=True))
    nodes.put(b"/7", (b"new", 7, 8, None))
    nodes.put(b"/7", (b"newer", 7, 9, None))
    assert sum(now is not then for now, then in zip(nodes._parts, before, strict=True)) == 1


PLAIN: Node = (b"v", 7, 7, None)
NODES: list[tuple[Node, bool]] = [
    (PLAIN, True),
    ((b"", 0, 0, None), True),
    ((b"v" * PACKED_VALUE_BYTES, 7, 7, None), True),
    ((b"v" * (PACKED_VALUE_BYTES + 1), 7, 7, None), False),
    ((b"v", 7, 8, None), False),
    ((b"v", 7, 7, 0), False),
    ((None, 7, 7, None), False),
]


@pytest.mark.parametrize(("node", "is_packed"), NODES)
def test_what_can_be_packed_is_the_same_when_it_is_taken_out(node: Node, is_packed: bool) -> None:
    nodes = Nodes()
    nodes.put(b"/k", packed(*node))
    assert (type(packed(*node)) is bytes) == is_packed
    assert nodes[b"/k"] == nodes.get(b"/k") == dict(nodes.freeze())[b"/k"] == nodes.pop(b"/k") == node


def test_a_node_that_is_put_anew_is_no_longer_packed() -> None:
    nodes = Nodes()
    nodes.put(b"/k", packed(*PLAIN))
    picture = nodes.freeze()
    nodes.put(b"/k", (b"new", 8, 8, None))
    assert nodes[b"/k"] == (b"new", 8, 8, None)
    assert dict(picture) == {b"/k": PLAIN}
