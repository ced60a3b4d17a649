"""Nodes, events and errors as the bytes of etcd's JSON, in the order of its fields and with its escapes.

Written by hand rather than by `json`, since keys and values are bytes that need not be UTF-8, and since this is
on the path of every request. Pure functions; no statuses but those that an event implies, no sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from kvstore.http.errors import ApiError
from kvstore.http.reply import JSON, RETRY_LATER, Answer
from kvstore.http.texts import quote
from kvstore.store.events import COMPARE_AND_SWAP, CREATE, SET, UPDATE, Event, NodeView

_WITHOUT_VALUE = frozenset((SET, CREATE, UPDATE, COMPARE_AND_SWAP))
_EPOCH = datetime(1970, 1, 1)
_SECOND = 1_000_000_000


def format_time(nanoseconds: int) -> bytes:
    """RFC 3339 in UTC, at most nanoseconds, trailing zeros cut. Any signed 64-bit time since the epoch."""
    seconds, fraction = divmod(nanoseconds, _SECOND)
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text.encode() + b"Z"


def opening_of(view: NodeView) -> bytes:
    """The fields before `nodes`, each with a comma behind it, without the brace."""
    key, value, is_dir, _, _, expiration, ttl, _ = view
    fields = b"" if key == b"/" else b'"key":"%s",' % quote(key)
    if value is not None:
        fields += b'"value":"%s",' % quote(value)
    if is_dir:
        fields += b'"dir":true,'
    if expiration is not None:
        fields += b'"expiration":"%s",' % format_time(expiration)
        if ttl:
            fields += b'"ttl":%d,' % ttl
    return fields


def closing_of(view: NodeView) -> bytes:
    return b'"modifiedIndex":%d,"createdIndex":%d' % (view.modified, view.created) if view.created else b""


def encode_node(view: NodeView) -> bytes:
    """The node as a JSON object. A tree of any depth: no recursion."""
    if not view.nodes:
        if view.value is not None and view.expiration is None and view.created:
            return b'{"key":"%s","value":"%s","modifiedIndex":%d,"createdIndex":%d}' % (
                quote(view.key),
                quote(view.value),
                view.modified,
                view.created,
            )
        return b"{%s}" % (opening_of(view) + closing_of(view)).rstrip(b",")
    pieces: list[bytes] = [b"{", opening_of(view), b'"nodes":[']
    open_views: list[tuple[NodeView, Iterator[NodeView]]] = [(view, iter(view.nodes))]
    while open_views:
        parent, children = open_views[-1]
        child = next(children, None)
        if child is None:
            open_views.pop()
            closing = closing_of(parent)
            pieces[-1] = pieces[-1].removesuffix(b",")
            pieces.append(b"],%s}," % closing if closing else b"]},")
        elif child.nodes:
            pieces += (b"{", opening_of(child), b'"nodes":[')
            open_views.append((child, iter(child.nodes)))
        else:
            pieces.append(encode_node(child) + b",")
    pieces[-1] = pieces[-1].removesuffix(b",")
    return b"".join(pieces)


def encode_event(event: Event) -> bytes:
    """One line: the body of an answer to a write, or one event of a watch."""
    if event.previous is None:
        return b'{"action":"%s","node":%s}\n' % (event.action.encode(), encode_node(event.node))
    return b'{"action":"%s","node":%s,"prevNode":%s}\n' % (
        event.action.encode(),
        encode_node(event.node),
        encode_node(event.previous),
    )


def encode_error(error: ApiError) -> bytes:
    cause = b'"cause":"%s",' % quote(error.cause) if error.cause else b""
    return b'{"errorCode":%d,"message":"%s",%s"index":%d}\n' % (error.code, error.message, cause, error.index)


#: What comes before the index in the header lines of a success.
SUCCESS_HEAD = b"Content-Type: application/json\r\nX-Etcd-Cluster-Id: %x\r\nX-Etcd-Index: "
_SUCCESS_HEAD = SUCCESS_HEAD + b"%d\r\nX-Raft-Index: %d\r\nX-Raft-Term: %d\r\n"


def success_head(cluster_id: int, index: int, raft_index: int, raft_term: int) -> bytes:
    """Header lines of a success (docs/api-v2.md, *Conventions*); `index` is what the store shows after the request."""
    return _SUCCESS_HEAD % (cluster_id, index, raft_index, raft_term)


def answer_view(view: NodeView, head: bytes) -> Answer:
    return Answer(200, head, b'{"action":"get","node":%s}\n' % encode_node(view))


def event_status(event: Event) -> int:
    return 201 if event.action == CREATE or (event.action == SET and event.previous is None) else 200


def shows_no_value(event: Event, no_value: bool) -> bool:
    """`no_value`: noValueOnSuccess was asked for; deletions do not heed it."""
    return no_value and event.action in _WITHOUT_VALUE


def answer_event(event: Event, head: bytes, no_value: bool) -> Answer:
    if shows_no_value(event, no_value):
        body = b'{"action":"%s"}\n' % event.action.encode()
    else:
        body = encode_event(event)
    return Answer(event_status(event), head, body)


def answer_error(error: ApiError, cluster_id: int) -> Answer:
    head = JSON + b"X-Etcd-Cluster-Id: %x\r\nX-Etcd-Index: %d\r\n" % (cluster_id, error.index)
    return Answer(error.status, head + RETRY_LATER if error.status == 503 else head, encode_error(error))
