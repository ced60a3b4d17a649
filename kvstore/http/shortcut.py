"""The compiled shortcuts of native.pyx; where they were not built, functions that leave all to the general way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.http.v2.parameters import KeyRequest
from kvstore.store.events import Event, NodeView

if TYPE_CHECKING:
    from kvstore.http.heads import Head

__all__ = ["Query", "compose_event", "compose_view", "is_compiled", "take"]

#: What `take` makes of a GET's query: the value and all behind it in the KeyRequest.
Query = tuple[bytes, tuple[object, ...]]


def _take(
    rest: bytes,
    at: int,
    heads: dict[bytes, Head],
    queries: dict[bytes, Query],
    max_head: int,
    max_body: int,
    max_key: int,
    max_components: int,
) -> tuple[int, KeyRequest] | None:
    return None


def _compose_event(
    event: Event, head: bytes, created_head: bytes, raft_index: int, raft_term: int, date: bytes
) -> bytes | None:
    return None


def _compose_view(
    view: NodeView, head: bytes, index: int, raft_index: int, raft_term: int, date: bytes
) -> bytes | None:
    return None


try:
    from kvstore.http.native import compose_event, compose_view, take
except ImportError:
    is_compiled = False
    take, compose_event, compose_view = _take, _compose_event, _compose_view
else:
    is_compiled = True
