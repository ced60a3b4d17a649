"""The compiled shortcuts: whatever they take, the general functions take alike. Without them, it finds nothing."""

from __future__ import annotations

from kvstore.store.events import ACTIONS, Event, NodeView
from tests.fuzz.http_targets import TOKENS
from tests.fuzz.target import Broken, Target
from tests.http.client import FORM, put, request
from tests.http.general import (
    by_functions,
    by_shortcut,
    event_by_functions,
    event_by_shortcut,
    view_by_functions,
    view_by_shortcut,
)

SEEDS = (
    request("GET /v2/keys/a"),
    request("GET /v2/keys/a/b.c?recursive=true&sorted=true", "Accept: */*"),
    request("GET /v2/keys/a?quorum=true&value=%41+b") + request("DELETE /v2/keys/a"),
    put("/a", "value=hello") + request("GET /v2/keys/a"),
    put("/a/b", "value=%7b%22x%22%3a+1%7D%00%ff"),
    request("PUT /v2/keys/\x7f", FORM, body=b"value=\xff<&>\r\n\r\n"),
    request("PUT /v2/keys/a"),
    request("POST /v2/keys/q", FORM, "User-Agent: x", body=b"value="),
    request("DELETE /v2/keys/a/b"),
)


def take_both_ways(octets: bytes) -> None:
    """Whatever may be a request in it, and views with its bytes as keys, values and numbers."""
    for at in {0, 1, *(octets.find(word) for word in (b"GET ", b"PUT ", b"POST ", b"DELETE "))}:
        taken, expected = by_shortcut(octets, at), by_functions(octets, at)
        if taken is not None and (taken != expected or repr(taken) != repr(expected)):
            raise Broken(f"at {at} it takes {taken!r} for {expected!r}")
    key, _, value = octets.partition(b" ")
    numbers = [int.from_bytes(octets[at : at + 1 + octets[at] % 9], "little") for at in range(min(5, len(octets)))]
    created, modified, index, raft_index, raft_term = numbers + [1] * (5 - len(numbers))
    view = NodeView(key, value, False, created, modified, None, None, None)
    event = Event(ACTIONS[len(octets) % len(ACTIONS)], view, None if len(key) % 2 else view, index, False)
    if view_by_shortcut(view, index, raft_index, raft_term) not in (
        None,
        view_by_functions(view, index, raft_index, raft_term),
    ):
        raise Broken(f"{view!r} is answered otherwise")
    if event_by_shortcut(event, raft_index, raft_term) not in (None, event_by_functions(event, raft_index, raft_term)):
        raise Broken(f"{event!r} is answered otherwise")


TARGETS = (Target("shortcut", SEEDS, TOKENS, take_both_ways),)
