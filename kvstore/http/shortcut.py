"""The compiled shortcuts of native.pyx; where they were not built, functions that leave everything to the general way.

With KVSTORE_PURE=1 in the environment they are not looked for, so that both ways can be tested, and compared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvstore.http.v2.parameters import KeyRequest
from kvstore.store.events import Event, NodeView

if TYPE_CHECKING:
    from kvstore.http.heads import Head

__all__ = ["Query", "compose_event", "compose_view", "is_compiled", "take"]

#: What `take` makes of a GET's query: the value and all behind it in the KeyRequest.
Query = tuple[bytes, tuple[object, ...]]


def _take(
    rest: bytes, at: int, heads: dict[bytes, Head], queries: dict[bytes, Query], max_head: int, max_body: int
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
    if os.environ.get("KVSTORE_PURE"):
        raise ImportError
    from kvstore.http.native import compose_event, compose_view, take
except ImportError:
    is_compiled = False
    take, compose_event, compose_view = _take, _compose_event, _compose_view
else:
    is_compiled = True
