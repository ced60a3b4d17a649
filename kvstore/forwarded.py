"""Commands that another member forwards to this leader: what it refuses before they can get into the log.

A refusal reaches the client of the member that forwarded them; a broken connection would not. Entries that are in a log
already are not judged here: they were good once, and every member must apply them alike. Pure functions.
"""

from __future__ import annotations

from kvstore.limits import MOST_KEY_BYTES, MOST_KEY_COMPONENTS
from kvstore.raft.types import ProposeRefusal, ProposeRequest, Refusal
from kvstore.wire import TIME_BYTES, Guarded, unpack_command

#: No shorter payload holds a key that is too deep: a component takes two bytes at least.
_HARMLESS_BYTES = 2 * MOST_KEY_COMPONENTS
_NO_TIME = bytes(TIME_BYTES)


def refusal_of(request: ProposeRequest) -> ProposeRefusal | None:
    """Why the leader does not append `request`, which is about commands; None if raft may judge it.

    Members of this version refuse such keys themselves; one of an earlier version passes on what clients ask.
    """
    for payload in request.payloads:
        if len(payload) > _HARMLESS_BYTES and _is_key_too_long(payload):
            return ProposeRefusal(
                request.sender,
                request.to,
                request.term,
                request.session,
                request.sequence,
                int(Refusal.ENTRY_TOO_LARGE),
            )
    return None


def _is_key_too_long(payload: bytes) -> bool:
    command = unpack_command(_NO_TIME + payload)[2]
    if type(command) is Guarded:
        command = command.command
    key: bytes = getattr(command, "key", b"")
    return len(key) > MOST_KEY_BYTES or key.count(b"/") > MOST_KEY_COMPONENTS
