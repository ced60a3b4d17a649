"""What the general functions make of the bytes and views that the compiled shortcuts are given (http/shortcut.py).

A shortcut gives exactly this or None. Of `Express` and `Lane` it repeats which functions they call, and no more.
"""

from __future__ import annotations

from unittest.mock import patch

from kvstore.http import reply
from kvstore.http.errors import ApiError
from kvstore.http.heads import LINE, Head, judge
from kvstore.http.reply import CORS_ANY, Answer, Manner, compose, status_line
from kvstore.http.shortcut import Query, compose_event, compose_view, take
from kvstore.http.v2.answers import SUCCESS_HEAD, answer_event, answer_view, success_head
from kvstore.http.v2.parameters import KeyRequest, parse_key_request
from kvstore.limits import Limits
from kvstore.store.events import Event, NodeView

MAX_HEAD = 4_000  # bytes
MAX_BODY = 6_000
LIMITS = Limits(key_bytes=60, key_components=4)
#: What `take` is given after the heads and the queries.
ROOM = (MAX_HEAD, MAX_BODY, LIMITS.key_bytes, LIMITS.key_components)
CLUSTER = 0xC0FFEE
DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
USUAL = Manner(http11=True, keep_alive=True, head_only=False, cors=CORS_ANY)
HEAD, CREATED_HEAD = (status_line(status) + CORS_ANY + SUCCESS_HEAD % CLUSTER for status in (200, 201))

_LINE_END = b"\r\n"


def by_shortcut(rest: bytes, at: int = 0, max_head: int = MAX_HEAD, max_body: int = MAX_BODY) -> object:
    """`take`, with all the heads and queries known that anybody could find in `rest`."""
    return take(rest, at, heads_in(rest), queries_in(rest), max_head, max_body, LIMITS.key_bytes, LIMITS.key_components)


def by_functions(
    rest: bytes, at: int = 0, max_head: int = MAX_HEAD, max_body: int = MAX_BODY
) -> tuple[int, KeyRequest] | None:
    """None where the request is not whole, not the lane's, or has a mistake."""
    begin = rest.find(b"\r\n\r\n", at) + 4
    if at < 0 or begin < 4 or begin - at > max_head:
        return None
    line_end = rest.find(_LINE_END, at)
    line, head = LINE.fullmatch(rest, at, line_end), judge(rest[line_end : begin - 4])
    if line is None or head is None:
        return None
    method, path, query = line.groups()
    end = begin + head.length
    if head.length and (head.length > max_body or not head.is_form or method not in (b"PUT", b"POST")):
        return None
    if end > len(rest):
        return None
    try:
        return end, parse_key_request(method.decode(), path, query or b"", rest[begin:end], LIMITS)
    except ApiError:
        return None


def heads_in(rest: bytes) -> dict[bytes, Head]:
    """Every block of header lines that is good, wherever in `rest` it may begin and end."""
    heads: dict[bytes, Head] = {}
    start = rest.find(_LINE_END)
    while start >= 0:
        end = rest.find(_LINE_END, start + 1)
        while end >= 0 and (head := judge(rest[start:end])) is not None:  # a block with a bad one in front is bad
            heads[rest[start:end]] = head
            end = rest.find(_LINE_END, end + 1)
        start = rest.find(_LINE_END, start + 1)
    return heads


def queries_in(rest: bytes) -> dict[bytes, Query]:
    """What a lane would have learnt of each query."""
    queries: dict[bytes, Query] = {}
    for piece in rest.split(b"?")[1:]:
        query = piece.partition(b" ")[0]
        try:
            asked = parse_key_request("GET", b"/v2/keys/a", query, b"")
        except ApiError:
            continue
        if query:
            queries[query] = (asked.value, asked[3:])
    return queries


def event_by_shortcut(event: Event, raft_index: int, raft_term: int) -> bytes | None:
    return compose_event(event, HEAD, CREATED_HEAD, raft_index, raft_term, DATE)


def event_by_functions(event: Event, raft_index: int, raft_term: int) -> bytes:
    return _composed(answer_event(event, success_head(CLUSTER, event.index, raft_index, raft_term), False))


def view_by_shortcut(view: NodeView, index: int, raft_index: int, raft_term: int) -> bytes | None:
    return compose_view(view, HEAD, index, raft_index, raft_term, DATE)


def view_by_functions(view: NodeView, index: int, raft_index: int, raft_term: int) -> bytes:
    return _composed(answer_view(view, success_head(CLUSTER, index, raft_index, raft_term)))


def _composed(answer: Answer) -> bytes:
    with patch.object(reply, "date_line", lambda: DATE):
        return compose(answer, USUAL)
