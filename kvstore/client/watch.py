"""Watching a key across whatever happens to the members.

Each event is one long poll. A poll that dies is asked again of the next endpoint, from behind the last index that is
known: the last event's, or where the key space was when the first poll began. So nothing is lost while the history
reaches back that far; where it no longer does, the key is read and handed out as `Missed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kvstore.client.client import is_connection_failure
from kvstore.client.errors import EVENT_INDEX_CLEARED, ClientError, Interrupted, KeyspaceError, Unreachable
from kvstore.client.response import Response, response

if TYPE_CHECKING:
    from kvstore.client.keys import Keys

KEY_NOT_FOUND = 100
#: A poll that hears nothing is asked again, of another endpoint: a member that froze would keep it for ever.
RENEW_SECONDS = 60.0
#: While nobody answers: the pause before the second try, and the longest one.
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


class Missed(NamedTuple):
    """Events are gone from the history before they were seen. `now` is what the key holds instead (None: it is no
    more); the watch goes on behind `etcd_index`. `error` is what the server said."""

    now: Response | None
    etcd_index: int
    error: KeyspaceError


class Watch:
    """`async for event in watch`: a Response or a Missed, without end. A cancelled wait loses nothing.

    Raises Unreachable when no endpoint answers at the start; once it was there it tries until they are back, and tells
    `on_trouble` once each time. Raises KeyspaceError when the watch is refused, then or later.
    """

    def __init__(
        self,
        keys: Keys,
        key: str,
        *,
        after_index: int = 0,
        recursive: bool = False,
        on_trouble: Callable[[ClientError], None] | None = None,
    ) -> None:
        self.key = key
        self.recursive = recursive
        self.on_trouble = on_trouble
        self._keys = keys
        self._wait_index = (after_index + 1) % (1 << 64) if after_index > 0 else 0
        self._established = False
        self._pause = 0.0

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Response | Missed:
        while True:
            try:
                async with asyncio.timeout(RENEW_SECONDS):
                    answer = await self._keys.wait(self.key, self._wait_index, self.recursive, self._begun)
            except TimeoutError:
                self._keys.client.prefer_next()
                continue
            except Interrupted:
                self._keys.client.prefer_next()
                await asyncio.sleep(FIRST_PAUSE_SECONDS)  # whoever breaks every poll is not asked without a rest
                await self._keys.client.sync_again()
                continue
            except Unreachable as error:
                await self._again(error)
                continue
            if answer.status in (200, 201) and not answer.body:
                continue  # the server closed an idle poll
            try:
                event = response(answer)
            except KeyspaceError as error:
                if error.code != EVENT_INDEX_CLEARED:
                    raise
                return await self._read_again(error)
            self._wait_index = event.node.modified_index + 1
            return event

    def _begun(self, index: int) -> None:
        self._established = True
        self._pause = 0.0
        if not self._wait_index and index:
            self._wait_index = index + 1

    async def _again(self, error: ClientError) -> None:
        if not self._established:
            raise error
        if not self._pause and self.on_trouble is not None:
            self.on_trouble(error)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(self._pause)

    async def _read_again(self, error: KeyspaceError) -> Missed:
        while True:
            now = None
            try:
                now = await self._keys.get(self.key, recursive=self.recursive, quorum=True)
                index = now.etcd_index
            except KeyspaceError as refusal:
                if refusal.code != KEY_NOT_FOUND:
                    raise
                index = refusal.index
            except ClientError as failure:
                if not isinstance(failure, Unreachable) and not is_connection_failure(failure):
                    raise
                await self._again(failure)
                continue
            self._wait_index = index + 1
            return Missed(now, index, error)
