"""`/health`: whether this member serves. The express lane and aiohttp's server both answer it with `probe`.

It is what load balancers and `kvctl` ask first after a start, so it loads nothing that keys do not need.
"""

from __future__ import annotations

import asyncio
import json

from kvstore.http.backend import Backend, Unavailable
from kvstore.http.reply import TEXT, TEXT_ERROR, Answer

HEALTH = b"/health"
HEALTH_SECONDS = 1.0  # etcd's limit for its own probe

_HEALTHY = Answer(200, TEXT, b'{"health":"true"}')
_UNHEALTHY = Answer(503, TEXT_ERROR, b'{"health":"false"}\n')


async def probe(backend: Backend) -> Answer:
    """Whether this member can reach a quorum, by a linearizable read of nothing, and accepts writes.

    With a reason where snapshots fail, also while writes are still accepted.
    """
    if backend.has_leader:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await backend.read_barrier()
        except (TimeoutError, Unavailable):
            return _UNHEALTHY
        snapshots = backend.numbers().snapshots
        if snapshots.refusing:
            return Answer(503, TEXT_ERROR, _health("false", f"writes are refused: {snapshots.refusing}") + b"\n")
        if snapshots.failing:
            return Answer(200, TEXT, _health("true", f"snapshots fail: {snapshots.failing}"))
        return _HEALTHY
    return _UNHEALTHY


def _health(healthy: str, reason: str) -> bytes:
    """As etcd 3.5 writes it; 3.4 has no reason."""
    return json.dumps({"health": healthy, "reason": reason}, separators=(",", ":")).encode()
