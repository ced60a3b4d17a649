"""What a command asks of the key space: read once, out of the cache when nobody answers, and followed from there.

A subject is read whole and compared whole. A watch only says that a subject is worth reading again: so nothing is
lost to a dead member or to a cleared history, and an event that was read already does no harm. Watches begin behind
the index of the first read. It does not know what the answers are used for.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable
from time import monotonic
from typing import Literal, NamedTuple

from kvctl.command import Context, Failure
from kvctl.containers.cache import Cache, CacheError
from kvctl.containers.tree import Tree, from_document, tree
from kvctl.containers.words import (
    RETRY_SECONDS,
    connect,
    is_out_of_reach,
    one_line,
    out_of_reach,
    patiently,
    warn,
)
from kvstore.client import Client, ClientError, DeadlineExceeded, Keys, KeyspaceError, Missed, Response, Unreachable
from kvstore.client.errors import EndpointError

#: More are not followed: each is a connection of its own.
MAX_FOLLOWED = 256
#: A watch that was refused is asked for again after this: somebody may change what we may.
REFUSED_SECONDS = 5.0
#: Changes that never pause are answered after this many times the pause that is waited for.
MOST_PAUSES = 10
_KEY_NOT_FOUND = 100
_NO_PERMISSION = 110


class Subject(NamedTuple):
    """A key and how much of it counts: its `value`, the `names` in it too, or `all` below it. Keys are clean."""

    key: str
    extent: Literal["value", "names", "all"]


class Source:
    """`async with await Source.open(context) as source`. `answers` holds what was read: None where there is nothing."""

    def __init__(self, context: Context, client: Client) -> None:
        path = context.flags.text("cache")
        self.answers: dict[Subject, Tree | None] = {}
        self._context = context
        self._client = client
        self._keys = Keys(client)
        self._cache = Cache(path) if path else None
        self._indices: dict[Subject, int] = {}  # where the watch goes on; of what the cluster said only
        self._dirty: set[Subject] = set()
        self._is_dirty = asyncio.Event()
        self._following: dict[Subject, asyncio.Task[None]] = {}
        self._in_trouble: set[str] = set()
        self._offline: ClientError | None = None  # why the cache is used

    @classmethod
    async def open(cls, context: Context) -> Source:
        """Raises Failure."""
        return cls(context, await connect(context))

    async def __aenter__(self) -> Source:
        return self

    async def __aexit__(self, *error: object) -> None:
        tasks = tuple(self._following.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._client.close()

    async def load(self, subjects: Iterable[Subject], patience: float = 0.0) -> None:
        """Reads what is not read yet, from the cluster or, when that stays out of reach, all from the cache.

        `patience` in seconds. Raises Failure, ClientError.
        """
        wanted = [subject for subject in subjects if subject not in self.answers]

        async def ask() -> None:
            for subject in wanted:
                await self._read(subject)

        if self._offline is None:
            try:
                await patiently(ask, patience)
                return
            except ClientError as error:
                if not is_out_of_reach(error):
                    raise
                self._offline = error
        self._load_cached(wanted, self._offline)

    async def load_patiently(self, subjects: Iterable[Subject]) -> None:
        """From the cluster, however long that takes. Raises ClientError."""
        self._offline = None
        await self.load(subjects, math.inf)

    def _load_cached(self, wanted: Iterable[Subject], error: ClientError) -> None:
        if self._cache is None:
            raise out_of_reach(error)
        try:
            cached = _answers(self._cache.load())
            for subject in wanted:
                if subject not in cached:
                    raise CacheError(f"the cache {self._cache.path} does not hold {subject.key}")
                self.answers[subject] = cached[subject]
                self._indices.pop(subject, None)
        except (ValueError, TypeError, RecursionError):
            raise Failure(f"{out_of_reach(error)}; {self._cache.path} is the cache of another command", 2) from None
        except CacheError as problem:
            raise Failure(f"{out_of_reach(error)}; {problem}", 2) from None
        self._say_once(f"{out_of_reach(error)}; {self._cache.path} is used, the last good answer")

    def save(self) -> None:
        """What was read, for a start without the cluster. What came from the cache itself is not saved again."""
        if self._cache is not None and self._offline is None:
            document = [[*subject, answer] for subject, answer in sorted(self.answers.items())]
            try:
                self._cache.save({"answers": document})
            except CacheError as problem:
                warn(self._context, str(problem))

    async def _read(self, subject: Subject) -> None:
        """Raises ClientError."""
        answer, index = await self._fetch(subject)
        self._offline = None
        self.answers[subject] = answer
        self._indices.setdefault(subject, index)

    async def _fetch(self, subject: Subject) -> tuple[Tree | None, int]:
        recursive = subject.extent == "all"
        try:
            try:
                response = await self._keys.get(subject.key, recursive=recursive, quorum=True)
            except (Unreachable, DeadlineExceeded) as error:
                if isinstance(error, Unreachable) and not any(_lacks_leader(one) for one in error.errors):
                    raise
                response = await self._keys.get(subject.key, recursive=recursive)
                self._say_once("the cluster has no leader; what one member holds is used, which may be old")
        except KeyspaceError as refusal:
            if refusal.code != _KEY_NOT_FOUND:
                raise
            return None, refusal.index
        return tree(response.node), response.etcd_index

    def _say_once(self, text: str) -> None:
        if text not in self._in_trouble:
            self._in_trouble.add(text)
            warn(self._context, text)

    async def changes(self, pause: float) -> AsyncGenerator[frozenset[Subject], None]:
        """The subjects whose answers have changed, once no change came for `pause` seconds. Without end."""
        self._follow_all()
        while True:
            await self._is_dirty.wait()
            await self._quiet(pause)
            if changed := await self._read_again():
                self.save()
                yield frozenset(changed)
                self._follow_all()

    def _follow_all(self) -> None:
        if len(self.answers) > MAX_FOLLOWED:
            raise Failure(f"{len(self.answers)} keys are read one by one; more than {MAX_FOLLOWED} are not followed")
        for subject in self.answers:
            if subject not in self._following:
                self._following[subject] = asyncio.create_task(self._follow(subject))

    async def _quiet(self, pause: float) -> None:
        latest = monotonic() + MOST_PAUSES * pause
        while (seconds := min(pause, latest - monotonic())) > 0:
            self._is_dirty.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._is_dirty.wait()
            except TimeoutError:
                break
        self._is_dirty.clear()

    async def _read_again(self) -> set[Subject]:
        dirty, self._dirty = self._dirty, set()
        changed = set()
        for subject in sorted(dirty):
            before = self.answers[subject]
            try:
                await self._read(subject)
            except ClientError as error:
                await self._trouble(error)
                self._mark(subject)
                continue
            self._in_trouble.clear()
            if self.answers[subject] != before:
                changed.add(subject)
        return changed

    def _mark(self, subject: Subject) -> None:
        self._dirty.add(subject)
        self._is_dirty.set()

    async def _follow(self, subject: Subject) -> None:
        """Until it is cancelled. What came out of the cache is read first."""
        recursive = subject.extent != "value"
        while True:
            if subject not in self._indices:
                self._mark(subject)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                watch = self._keys.watch(subject.key, recursive=recursive, after_index=self._indices[subject])
                async for event in watch:
                    self._indices[subject] = _index(event)
                    self._mark(subject)
            except KeyspaceError as error:
                if recursive and error.code == _NO_PERMISSION and subject.extent == "names":
                    recursive = False  # who may read the key alone sees at least that change
                    continue
                await self._trouble(error)
                await asyncio.sleep(REFUSED_SECONDS)
            except ClientError as error:
                await self._trouble(error)

    async def _trouble(self, error: ClientError) -> None:
        """One line an outage, and a rest."""
        words = "cannot follow changes now, and goes on trying"
        if not self._in_trouble:
            self._in_trouble.add(words)
            warn(self._context, f"{words}: {one_line(error)}")
        await asyncio.sleep(RETRY_SECONDS)


def _index(event: Response | Missed) -> int:
    """Behind which the watch goes on."""
    return event.etcd_index if isinstance(event, Missed) else event.node.modified_index


def _lacks_leader(error: EndpointError) -> bool:
    """Or says nothing, which comes to the same: it may still know what it holds."""
    return not error.is_connection and not error.is_tls


def _answers(document: object) -> dict[Subject, Tree | None]:
    """What `_save` wrote. Raises ValueError, TypeError."""
    if not isinstance(document, dict) or not isinstance(document.get("answers"), list):
        raise TypeError
    return {
        Subject(key, extent): None if answer is None else from_document(answer)
        for key, extent, answer in document["answers"]
    }
