"""A key that says that we are alive: renewed in time, and counted as lost before the cluster can count it so.

The cluster removes the key a time to live after it *handled* the last renewal, and we count from when we *sent* it. So
when `keep` returns for want of an answer, nobody else has the key's place yet. The clock goes on while the machine
sleeps. It does not know what the key stands for.
"""

from __future__ import annotations

import asyncio
import time

from kvstore.client import ClientError, Keys, KeyspaceError

#: Between two renewals: this part of the time to live; a failed one is repeated after a tenth of that.
RENEWALS = 3
#: The clock is looked at this often, since no timer rings while a machine sleeps.
TICK_SECONDS = 0.5
_KEY_NOT_FOUND = 100


def now() -> float:
    """Seconds, from some time on; never set, and going on while the machine sleeps (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def gone(key: str) -> str:
    return f"{key} is gone: it was removed, or ran out"


class Session:
    """`ttl` in seconds. `sent`: when the request that made the key was sent, as `now` has it."""

    def __init__(self, keys: Keys, key: str, ttl: int, sent: float) -> None:
        self.key = key
        self.ttl = ttl
        self.ends_at = sent + ttl
        self._keys = keys

    async def keep(self, reserve: float) -> str:
        """Renews the key; returns, with the reason in words, when it is gone or `reserve` seconds before it may be."""
        renewed = self.ends_at - self.ttl
        next_try = renewed + self.ttl / RENEWALS
        while (left := self.ends_at - reserve - now()) > 0:
            if now() >= next_try:
                try:
                    await self._renew(min(self.ttl / RENEWALS, left))
                    next_try = self.ends_at - self.ttl + self.ttl / RENEWALS
                except KeyspaceError as error:
                    if error.code == _KEY_NOT_FOUND:
                        return gone(self.key)
                    next_try = now() + self.ttl / RENEWALS / 10
                except (ClientError, TimeoutError):
                    next_try = now() + self.ttl / RENEWALS / 10
            else:
                await asyncio.sleep(max(min(TICK_SECONDS, next_try - now(), left), 0.0))
        return f"{self.key} could not be renewed in time: the cluster is out of reach"

    async def _renew(self, seconds: float) -> None:
        sent = now()
        async with asyncio.timeout(seconds):
            await self._keys.set(self.key, ttl=self.ttl, refresh=True, prev_exist=True)
        self.ends_at = sent + self.ttl
