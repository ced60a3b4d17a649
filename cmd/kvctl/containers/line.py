"""A line of in-order keys, as ZooKeeper's lock has it: who is among the first `limit` may go.

Each waits for the key in front of its own, so one that leaves wakes one. With a limit above one any of those in front
may make room, so there the whole directory is watched. A key of ours whose making was not confirmed is known by its
value, which is unique; one that appears late is removed when it is seen, or else runs out.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from kvctl.command import Failure
from kvctl.containers.session import Session, gone, now
from kvctl.containers.words import RETRY_SECONDS, is_out_of_reach, out_of_reach
from kvstore.client import ClientError, Keys, KeyspaceError, Missed, Node, OutcomeUnknown

_KEY_NOT_FOUND = 100
_GONE = frozenset({"delete", "expire", "compareAndDelete"})


class Entry(NamedTuple):
    """Somebody in the line. `limit` and `owner` are what they say themselves."""

    key: str
    value: str
    created_index: int
    limit: object
    owner: str


class _PlaceLost(Exception):
    """Our key is no more."""


class Line:
    """`limit` of those in `directory` may go at once. `reserve`: seconds that are needed to end before the key does.

    `on_wait` is told who is in front, and `on_trouble` what goes wrong while it goes on.
    """

    def __init__(
        self,
        keys: Keys,
        directory: str,
        *,
        limit: int,
        ttl: int,
        reserve: float,
        on_wait: Callable[[str], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.limit = limit
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self.value = json.dumps({"owner": self.owner, "limit": limit, "id": os.urandom(8).hex()})
        self.session: Session | None = None
        self.created_index = 0
        self._may_have_keys = False
        self._is_cut_off = False  # and told so
        self._keys = keys
        self._ttl = ttl
        self._reserve = reserve
        self._on_wait = on_wait
        self._on_trouble = on_trouble

    @property
    def key(self) -> str:
        return "" if self.session is None else self.session.key

    async def turn(self) -> asyncio.Task[str]:
        """Joins, and waits until it is our turn; who holds the place then is told by the task when it is lost, and why.

        Cancelled, it leaves our key behind: see `leave`. Raises Failure, ClientError.
        """
        while True:
            session = await self._join()
            keeping = asyncio.create_task(session.keep(self._reserve))
            coming = asyncio.create_task(self._until_first())
            try:
                await asyncio.wait((keeping, coming), return_when=asyncio.FIRST_COMPLETED)
                if coming.done() and not keeping.done():
                    coming.result()
                    return keeping
                self._on_trouble(f"the place in the line is lost, and taken again at its end: {keeping.result()}")
            except _PlaceLost:
                self._on_trouble(f"the place in the line is lost, and taken again at its end: {self.key} is gone")
                await self._stop(keeping)
            except BaseException:
                await self._stop(keeping)
                raise
            finally:
                await self._stop(coming)

    async def _stop(self, task: asyncio.Task[str] | asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def removed(self) -> str:
        """Returns, in words, once our key is gone: at once, where a renewal would meet it only when it is due."""
        while True:
            try:
                await self._until_gone(self.key, self.created_index)
            except ClientError:  # whether we still have it is for the renewals to say
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return gone(self.key)

    async def leave(self) -> None:
        """Removes our key, and any that we made without knowing. Raises ClientError."""
        entries = (await self._entries())[0] if self._may_have_keys else ()
        for entry in entries:
            if entry.value == self.value:
                await self._remove(entry)

    async def _remove(self, entry: Entry) -> None:
        try:
            await self._keys.delete(entry.key)
        except KeyspaceError as error:
            if error.code != _KEY_NOT_FOUND:
                raise

    async def _join(self) -> Session:
        while True:
            sent, is_certain = now(), not self._may_have_keys
            self._may_have_keys = True
            try:
                node = (await self._keys.create_in_order(self.directory, self.value, ttl=self._ttl)).node
                found: Entry | None = _entry(node)
                self._is_cut_off = False
            except OutcomeUnknown as error:
                self._on_wait(str(error))
                found = await self._find_ours()
            except ClientError as error:  # it was not made
                self._may_have_keys = not is_certain
                await self._rest(error)
                continue
            if found is not None:
                self.created_index = found.created_index
                self.session = Session(self._keys, found.key, self._ttl, sent)
                return self.session

    async def _find_ours(self) -> Entry | None:
        while True:
            try:
                entries, _ = await self._entries()
            except ClientError as error:
                await self._rest(error)
                continue
            return next((entry for entry in entries if entry.value == self.value), None)

    async def _until_first(self) -> None:
        while True:
            try:
                entries, index = await self._entries()
                await self._remove_orphans(entries)
                if not any(entry.key == self.key for entry in entries):
                    raise _PlaceLost
                ahead = [
                    entry for entry in entries if entry.created_index < self.created_index and entry.value != self.value
                ]
                self._agree(ahead)
                if len(ahead) < self.limit:
                    return
                self._on_wait(f"{len(ahead)} in front, {ahead[-1].owner} the last of them")
                await self._change(ahead[-1].key, index)
            except ClientError as error:
                await self._rest(error)

    async def _entries(self) -> tuple[list[Entry], int]:
        """In the order in which they came."""
        try:
            response = await self._keys.get(self.directory, sort=True, quorum=True)
        except KeyspaceError as error:
            if error.code != _KEY_NOT_FOUND:
                raise
            self._is_cut_off = False
            return [], error.index
        self._is_cut_off = False
        nodes = (node for node in response.node.nodes or () if not node.is_dir)
        return sorted(map(_entry, nodes), key=lambda entry: entry.created_index), response.etcd_index

    async def _remove_orphans(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.value == self.value and entry.key != self.key:
                await self._remove(entry)

    def _agree(self, ahead: list[Entry]) -> None:
        for entry in ahead:
            if entry.limit != self.limit:
                raise Failure(
                    f"{entry.owner} goes by another limit for {self.directory}: {entry.limit}, not {self.limit}"
                )

    async def _change(self, key: str, index: int) -> None:
        """Until the one in front is gone, or with a limit above one, until anything changed."""
        if self.limit == 1:
            await self._until_gone(key, index)
            return
        async for _ in self._keys.watch(self.directory, recursive=True, after_index=index):
            return

    async def _until_gone(self, key: str, index: int) -> None:
        async for event in self._keys.watch(key, after_index=index):
            if event.now is None if isinstance(event, Missed) else event.action in _GONE:
                return

    async def _rest(self, error: ClientError) -> None:
        """Raises the error again where trying on would not help."""
        if not is_out_of_reach(error):
            raise error
        if not self._is_cut_off:
            self._is_cut_off = True
            self._on_trouble(f"{out_of_reach(error)}; waiting for it")
        self._on_wait("the cluster is out of reach")
        await asyncio.sleep(RETRY_SECONDS)


def _entry(node: Node) -> Entry:
    """Who did not come by this program has no limit of its own, and counts all the same."""
    try:
        said = json.loads(node.value)
        owner, limit = str(said["owner"]), said["limit"]
    except (ValueError, TypeError, KeyError, RecursionError):
        owner, limit = node.key, None
    return Entry(node.key, node.value, node.created_index, limit, owner)
