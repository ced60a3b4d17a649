"""What the key space answers, as values."""

from __future__ import annotations

from typing import Any, NamedTuple

from kvstore.client.connection import Answer
from kvstore.client.document import TOO_DEEP, array, checked, number, read, text
from kvstore.client.errors import InvalidAnswer, KeyspaceError


class Node(NamedTuple):
    """A key with its value, or a directory with its `nodes`. `ttl` is in seconds, 0: it never expires.

    `nodes` is None for a file and for a directory whose nodes were not asked for, or are none.
    """

    key: str
    value: str
    is_dir: bool
    nodes: tuple[Node, ...] | None
    created_index: int
    modified_index: int
    expiration: str
    ttl: int


class Response(NamedTuple):
    """`action`: get, set, create, update, delete, expire, compareAndSwap or compareAndDelete.

    `etcd_index`: how far the key space had come when this was answered.
    """

    action: str
    node: Node
    prev_node: Node | None
    etcd_index: int


def response(answer: Answer) -> Response:
    """Raises KeyspaceError, InvalidAnswer."""
    if answer.status not in (200, 201):
        fields = read(answer.body)
        code, index = number(fields, "errorCode"), number(fields, "index")
        raise KeyspaceError(code, text(fields, "message"), text(fields, "cause"), index, answer.status)
    if not answer.body:
        raise InvalidAnswer("client: response body is empty")
    fields = read(answer.body)
    try:
        node = _node(checked(fields.get("node")))
        prev = fields.get("prevNode")
        return Response(text(fields, "action"), node, None if prev is None else _node(checked(prev)), answer.index)
    except RecursionError:
        raise InvalidAnswer(TOO_DEEP) from None


def _node(fields: dict[str, Any]) -> Node:
    nodes = array(fields, "nodes")
    return Node(
        text(fields, "key"),
        text(fields, "value"),
        bool(fields.get("dir", False)),
        None if nodes is None else tuple(_node(checked(child)) for child in nodes),
        number(fields, "createdIndex"),
        number(fields, "modifiedIndex"),
        text(fields, "expiration"),
        number(fields, "ttl"),
    )
