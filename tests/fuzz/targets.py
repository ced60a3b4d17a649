"""All targets, and how often each gets an input for one that a slow one gets."""

from __future__ import annotations

from tests.fuzz import http_targets, peer_target, shortcut_target, storage_targets, wire_targets
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (
    *wire_targets.TARGETS,
    *peer_target.TARGETS,
    *storage_targets.TARGETS,
    *http_targets.TARGETS,
    *shortcut_target.TARGETS,
)
#: By name; a socket or a disk takes its time, a parser none.
SHARES = {
    "message": 25,
    "command": 20,
    "forwarded": 10,
    "peer": 10,
    "wal": 5,
    "wal records": 5,
    "snapshot": 5,
    "snapshot chunks": 5,
    "http": 7,
    "http sockets": 2,
    "http parts": 20,
    "shortcut": 10,
}
assert SHARES.keys() == {target.name for target in TARGETS}


def counts(total: int) -> dict[str, int]:
    """How many of `total` inputs each target gets."""
    return {name: max(1, total * share // sum(SHARES.values())) for name, share in SHARES.items()}
