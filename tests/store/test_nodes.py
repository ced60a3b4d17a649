"""The nodes against a plain dict, with pictures taken on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.store.nodes import FrozenNodes, Node, Nodes

KEYS = st.integers(0, 30).map(lambda number: b"/%d" % number)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(1, 9)),
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
            nodes[key] = model[key] = (b"v", number, number, None)
        elif step == "freeze":
            pictures.append((nodes.freeze(), model.copy()))
        elif key in model:
            assert nodes.pop(key) == model.pop(key)
        assert len(nodes) == len(model)
    for key in (b"/%d" % number for number in range(31)):
        assert nodes.get(key) == model.get(key)
        assert (key in nodes) == (key in model)
        assert key not in model or nodes[key] == model[key]
    for picture, expected in pictures:
        assert dict(picture) == expected
        assert len(picture) == len(expected)


def test_a_picture_copies_nothing_and_a_change_after_it_one_part() -> None:
    nodes = Nodes()
    for number in range(5_000):
        nodes[b"/%d" % number] = (b"", number, number, None)
    before = list(nodes._parts)
    nodes.freeze()
    assert all(now is then for now, then in zip(nodes._parts, before, strict=True))
    nodes[b"/7"] = (b"new", 7, 8, None)
    nodes[b"/7"] = (b"newer", 7, 9, None)
    assert sum(now is not then for now, then in zip(nodes._parts, before, strict=True)) == 1
