"""Values to bytes: etcd's field order and Go's escapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.http.errors import ApiError, api_error
from kvstore.http.texts import quote
from kvstore.http.v2.answers import answer_event, encode_error, encode_event, encode_node, format_time
from kvstore.store.errors import CompareFailed, NotAFile, RootReadOnly, StoreError
from kvstore.store.events import Event, NodeView

FILE = NodeView(b"/a", b"1", False, 3, 4, None, None, None)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (b"plain / 'text' \x7f", b"plain / 'text' \x7f"),
        (b'"\\', b'\\"\\\\'),
        (b"\n\r\t\b\f\x00", b"\\n\\r\\t\\u0008\\u000c\\u0000"),
        (b"<>&", b"\\u003c\\u003e\\u0026"),
        ("é\u2028\u2029\ufffd😀".encode(), "é\\u2028\\u2029\ufffd😀".encode()),
        (b"\xf0\x9f\x98", b"\\ufffd\\ufffd\\ufffd"),
        (b"\xc3(\xff\xed\xa0\x80", b"\\ufffd(\\ufffd\\ufffd\\ufffd\\ufffd"),
    ],
)
def test_strings(text: bytes, quoted: bytes) -> None:
    assert quote(text) == quoted


@given(st.text())
def test_any_text_comes_back_from_json(text: str) -> None:
    assert json.loads(b'"%s"' % quote(text.encode("utf-8", "replace"))) == text.encode("utf-8", "replace").decode()


@given(st.binary())
def test_any_bytes_are_valid_json_in_utf8(raw: bytes) -> None:
    shown: str = json.loads((b'"%s"' % quote(raw)).decode())
    assert shown == "".join(
        "\ufffd" if "\udc80" <= c <= "\udcff" else c for c in raw.decode("utf-8", "surrogateescape")
    )


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, b"1970-01-01T00:00:00Z"),
        (1_500_000_000, b"1970-01-01T00:00:01.5Z"),
        (1_700_000_000_000_000_001, b"2023-11-14T22:13:20.000000001Z"),
        (-1, b"1969-12-31T23:59:59.999999999Z"),
        (-(1 << 63), b"1677-09-21T00:12:43.145224192Z"),
        ((1 << 63) - 1, b"2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_times(nanoseconds: int, text: bytes) -> None:
    assert format_time(nanoseconds) == text


@pytest.mark.parametrize(
    ("view", "encoded"),
    [
        (FILE, b'{"key":"/a","value":"1","modifiedIndex":4,"createdIndex":3}'),
        (FILE._replace(value=b""), b'{"key":"/a","value":"","modifiedIndex":4,"createdIndex":3}'),
        (FILE._replace(value=None), b'{"key":"/a","modifiedIndex":4,"createdIndex":3}'),
        (NodeView(b"/", None, True, 0, 0, None, None, None), b'{"dir":true}'),
        (NodeView(b"/", None, True, 0, 0, None, None, ()), b'{"dir":true}'),
        (
            NodeView(b"/", None, True, 0, 0, None, None, (FILE, FILE)),
            b'{"dir":true,"nodes":['
            b'{"key":"/a","value":"1","modifiedIndex":4,"createdIndex":3},'
            b'{"key":"/a","value":"1","modifiedIndex":4,"createdIndex":3}]}',
        ),
        (
            NodeView(b"/d", None, True, 1, 2, 0, 5, (NodeView(b"/d/e", None, True, 3, 3, None, None, ()),)),
            b'{"key":"/d","dir":true,"expiration":"1970-01-01T00:00:00Z","ttl":5,'
            b'"nodes":[{"key":"/d/e","dir":true,"modifiedIndex":3,"createdIndex":3}],'
            b'"modifiedIndex":2,"createdIndex":1}',
        ),
        (
            FILE._replace(expiration=0, ttl=0),
            b'{"key":"/a","value":"1","expiration":"1970-01-01T00:00:00Z","modifiedIndex":4,"createdIndex":3}',
        ),
        (
            FILE._replace(expiration=0, ttl=-9),
            b'{"key":"/a","value":"1","expiration":"1970-01-01T00:00:00Z","ttl":-9,"modifiedIndex":4,"createdIndex":3}',
        ),
    ],
)
def test_nodes(view: NodeView, encoded: bytes) -> None:
    assert encode_node(view) == encoded


def _views() -> st.SearchStrategy[NodeView]:
    def node(value: bytes | None, nodes: tuple[NodeView, ...] | None) -> NodeView:
        return NodeView(b"/k", value, value is None, 1, 2, None, None, nodes)

    files = st.builds(node, st.binary(max_size=3), st.none())
    return st.recursive(
        files, lambda inner: st.builds(node, st.none(), st.none() | st.lists(inner, max_size=3).map(tuple))
    )


def _plain(view: NodeView) -> dict[str, Any]:
    """The dumb model: a dict, in the order of the fields."""
    out: dict[str, Any] = {"key": "/k"}
    if view.value is not None:
        out["value"] = json.loads(b'"%s"' % quote(view.value))
    else:
        out["dir"] = True
    if view.nodes:
        out["nodes"] = [_plain(child) for child in view.nodes]
    return out | {"modifiedIndex": 2, "createdIndex": 1}


@given(_views())
def test_trees_agree_with_a_dumb_model(view: NodeView) -> None:
    decoded = json.loads(encode_node(view))
    assert decoded == _plain(view)
    assert json.dumps(decoded) == json.dumps(_plain(view))  # the order too


def test_a_tree_may_be_deeper_than_the_stack() -> None:
    view = FILE
    for _ in range(20_000):
        view = NodeView(b"/d", None, True, 1, 1, None, None, (view,))
    assert encode_node(view).count(b'"nodes":[') == 20_000


def test_events_and_their_answers() -> None:
    event = Event("set", FILE, None, 4, False)
    node = encode_node(FILE)
    assert encode_event(event) == b'{"action":"set","node":%s}\n' % node
    assert answer_event(event, b"", False).status == 201
    replaced = event._replace(previous=FILE)
    assert encode_event(replaced) == b'{"action":"set","node":%s,"prevNode":%s}\n' % (node, node)
    assert answer_event(replaced, b"", False).status == 200
    assert answer_event(replaced._replace(action="create"), b"", False).status == 201
    assert answer_event(replaced, b"", True).body == b'{"action":"set"}\n'
    assert answer_event(replaced._replace(action="delete"), b"", True).body.count(b"node") == 1


def test_errors() -> None:
    assert encode_error(ApiError(209, b'a "<b>"', 7)) == (
        b'{"errorCode":209,"message":"Invalid field","cause":"a \\"\\u003cb\\u003e\\"","index":7}\n'
    )


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (CompareFailed(5, b"/a", (b"x", b"y"), None), 101, b"[x != y]"),
        (CompareFailed(5, b"/a", None, (1, 2)), 101, b"[1 != 2]"),
        (CompareFailed(5, b"/a", (b"x", b"y"), (1, 2)), 101, b"[x != y] [1 != 2]"),
        (NotAFile(5, b"/a"), 102, b"/a"),
        (NotAFile(5, b"/"), 102, b""),
        (RootReadOnly(5), 107, b"/"),
    ],
)
def test_store_errors(error: StoreError, code: int, cause: bytes) -> None:
    translated = api_error(error)
    assert (translated.code, translated.cause, translated.index) == (code, cause, 5)


def test_every_store_error_has_a_code() -> None:
    from kvstore.http.errors import _TRANSLATIONS

    def leaves(kind: type[StoreError]) -> set[type[StoreError]]:
        below = kind.__subclasses__()
        return {kind} if not below else set().union(*map(leaves, below))

    assert set(_TRANSLATIONS) == leaves(StoreError)
