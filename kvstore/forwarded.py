"""Commands that another member forwards to this leader: what it refuses before they can get into the log.

A refusal reaches the client of the member that forwarded them; a broken connection would not. Entries that are in a log
already are not judged here: they were good once, and every member must apply them alike. Pure functions of bytes that
were checked when they came in (wire.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from kvstore.limits import MOST_KEY_BYTES, MOST_KEY_COMPONENTS
from kvstore.store.operations import Expire
from kvstore.wire import Checked, Guarded, unpack_forwarded

#: No shorter payload holds a key that is too deep: a component takes two bytes at least.
_HARMLESS_BYTES = 2 * MOST_KEY_COMPONENTS

#: What clients ask for: refused while no snapshot succeeds, unlike what members need among themselves.
REFUSABLE = frozenset((*get_args(Checked), Guarded)) - {Expire}


def has_key_too_long(payloads: Iterable[bytes]) -> bool:
    """Whether a command holds a key that no member of this version would forward: those refuse it themselves, but one
    of an earlier version passes on what clients ask."""
    return any(len(payload) > _HARMLESS_BYTES and _is_key_too_long(payload) for payload in payloads)


def has_refusable(payloads: Iterable[bytes]) -> bool:
    """Whether one of the commands is a client's."""
    return any(type(unpack_forwarded(payload)) in REFUSABLE for payload in payloads)


def _is_key_too_long(payload: bytes) -> bool:
    command = unpack_forwarded(payload)
    if type(command) is Guarded:
        command = command.command
    key: bytes = getattr(command, "key", b"")
    return len(key) > MOST_KEY_BYTES or key.count(b"/") > MOST_KEY_COMPONENTS
