"""What the key space answers, as values."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kvstore.client.connection import Answer
from kvstore.client.errors import InvalidAnswer, KeyspaceError

NO_ETCD = "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint"

TOO_DEEP = "the keys are nested too deeply to be read as one tree; list them directory by directory"


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
    if answer.status in (200, 201):
        if not answer.body:
            raise InvalidAnswer("client: response body is empty")
        document = _document(answer.body)
        try:
            prev = document.get("prevNode")
            return Response(document["action"], _node(document["node"]), _node(prev) if prev else None, answer.index)
        except RecursionError:
            raise InvalidAnswer(TOO_DEEP) from None
        except (KeyError, TypeError, AttributeError):
            raise InvalidAnswer(NO_ETCD) from None
    document = _document(answer.body)
    code, index = document.get("errorCode", 0), document.get("index", 0)
    raise KeyspaceError(code, document.get("message", ""), document.get("cause", ""), index, answer.status)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
        if b"\\ud" in body or b"\\uD" in body:  # half a surrogate pair is no text; Go reads it as U+FFFD
            text = json.dumps(document, ensure_ascii=False).encode("utf-16", "surrogatepass")
            document = json.loads(text.decode("utf-16", "replace"))
    except ValueError:
        raise InvalidAnswer(NO_ETCD) from None
    except RecursionError:
        raise InvalidAnswer(TOO_DEEP) from None
    if not isinstance(document, dict):
        raise InvalidAnswer(NO_ETCD)
    return document


def _node(fields: dict[str, Any]) -> Node:
    nodes = fields.get("nodes")
    return Node(
        fields.get("key", ""),
        fields.get("value", ""),
        fields.get("dir", False),
        None if nodes is None else tuple(_node(child) for child in nodes),
        fields.get("createdIndex", 0),
        fields.get("modifiedIndex", 0),
        fields.get("expiration", ""),
        fields.get("ttl", 0),
    )
