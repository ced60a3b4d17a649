"""Answers with large values that are full of escapes: they are made beside the event loop, whole as all others.

A connection serves no other request until its answer is made, so the order of answers stays. Large values that are
plain text are copied in no time, and answered like small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kvstore.http.reply import Answer
from kvstore.http.texts import is_plain
from kvstore.store.events import Event

#: A longer value is looked at before it is answered.
LARGE_BYTES = 256 << 10


class Heavy(NamedTuple):
    """An answer that is still to be made, in any thread."""

    make: Callable[[], Answer]


def is_heavy(value: bytes | None) -> bool:
    return value is not None and len(value) > LARGE_BYTES and not is_plain(value)


def is_heavy_event(event: Event) -> bool:
    previous = event.previous
    return is_heavy(event.node.value) or (previous is not None and is_heavy(previous.value))
