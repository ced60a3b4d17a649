"""`register`: a service that is announced while it lives.

Heartbeats are refreshes, which wake no watcher. They and the removal count only while the key is still ours: who
started last has it, and is not disturbed.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from kvctl.command import BAD_CONNECTION, Command, Context, Failure
from kvctl.containers.cache import Cache, CacheError
from kvctl.containers.child import Child, Signals
from kvctl.containers.shell import run
from kvctl.containers.tree import clean
from kvctl.containers.words import (
    CACHE,
    PATIENCE,
    RETRY_SECONDS,
    connect,
    is_out_of_reach,
    one_line,
    out_of_reach,
    patiently,
    warn,
)
from kvctl.flags import NUMBER, TEXT, Flag
from kvstore.client import ClientError, Keys, KeyspaceError, OutcomeUnknown

TTL_SECONDS = 60
LEAST_TTL_SECONDS = 2
#: Heartbeats within one time to live.
HEARTBEATS = 3
#: A check that takes longer has failed.
MAX_CHECK_SECONDS = 10.0
_KEY_NOT_FOUND, _COMPARE_FAILED, _EXISTS = 100, 101, 105


class Announcement:
    """A key of ours with its value. Every call raises ClientError, and may be repeated then."""

    def __init__(self, keys: Keys, key: str, value: str, ttl: int) -> None:
        self.key = key
        self.value = value
        self.keys = keys
        self._ttl = ttl
        self._was_made = False
        self._index: int | None = None  # of our last write; 0: it is not known. None: we have no key

    @property
    def is_out(self) -> bool:
        """Whether the key is, or may be, there and ours."""
        return self._index is not None

    async def beat(self) -> None:
        """Makes or renews the key. Afterwards it is ours, unless somebody else has it."""
        try:
            if not self._was_made:
                response = await self.keys.set(self.key, self.value, ttl=self._ttl)
            elif self._index is None:
                response = await self.keys.set(self.key, self.value, ttl=self._ttl, prev_exist=False)
            else:
                response = await self.keys.set(
                    self.key, ttl=self._ttl, refresh=True, prev_exist=True, prev_value=self.value
                )
        except OutcomeUnknown:
            self._index = 0
            raise
        except KeyspaceError as error:
            await self._again(error)
            return
        self._was_made = True
        self._index = response.node.modified_index

    async def _again(self, error: KeyspaceError) -> None:
        """After a heartbeat was refused: a key that ran out is made anew; one of somebody else's is left to them."""
        if error.code not in (_KEY_NOT_FOUND, _COMPARE_FAILED, _EXISTS) or not self._was_made:
            raise error
        had, self._index = self._index, None
        if error.code == _KEY_NOT_FOUND and had is not None:
            await self.beat()

    async def remove(self) -> None:
        """The key, if it is still ours."""
        if self._index is None:
            return
        try:
            if self._index:
                await self.keys.delete(self.key, prev_index=self._index)
            else:
                await self.keys.delete(self.key, prev_value=self.value)
        except KeyspaceError as error:
            if error.code not in (_KEY_NOT_FOUND, _COMPARE_FAILED):
                raise
        self._index = None


class _Plan(NamedTuple):
    """Seconds; `check` is a command or empty."""

    key: str
    value: str
    ttl: int
    check: str

    @property
    def pause(self) -> float:
        return self.ttl / HEARTBEATS


async def _register(context: Context) -> int:
    plan = _plan(context)
    with Signals() as signals:
        async with await connect(context) as client:
            announcement = Announcement(Keys(client), plan.key, plan.value, plan.ttl)
            await _first_contact(context, announcement)
            child = None
            if context.command_line:
                child = await Child.start(context.command_line, context.environment)
                signals.attach(child)
            beating = asyncio.create_task(_keep(context, announcement, plan))
            end = asyncio.create_task(signals.ended() if child is None else child.wait())
            try:
                await asyncio.wait((beating, end), return_when=asyncio.FIRST_COMPLETED)
                if not end.done():
                    beating.result()  # without a command, a refusal ends it
                return 0 if child is None else await end
            finally:
                for task in (beating, end):
                    task.cancel()
                await asyncio.gather(beating, end, return_exceptions=True)
                await _withdraw(context, announcement)


def _plan(context: Context) -> _Plan:
    if len(context.words) != 2:
        raise Failure("a key and a value are needed")
    key, value = clean(context.words[0]), context.words[1]
    if not value:
        raise Failure("the value must not be empty: it is how a key is known to be ours")
    ttl = context.flags.number("ttl")
    if ttl < LEAST_TTL_SECONDS:
        raise Failure(f"--ttl must be at least {LEAST_TTL_SECONDS}")
    return _Plan(key, value, ttl, context.flags.text("check"))


async def _first_contact(context: Context, announcement: Announcement) -> None:
    """The cluster must be there, unless the cache says that this was announced before. Raises Failure."""
    path = context.flags.text("cache")

    async def ask() -> None:
        try:
            response = await announcement.keys.get(announcement.key, quorum=True)
        except KeyspaceError:
            return  # not there yet, or to be written and not to be read: it is an answer
        if response.node.is_dir:
            raise Failure(f"{announcement.key} is a directory")

    try:
        await patiently(ask, context.flags.seconds("wait"))
    except ClientError as error:
        if not is_out_of_reach(error):
            raise
        if not path:
            raise out_of_reach(error) from None
        _check_cache(Cache(path), announcement, error)
        warn(context, f"{out_of_reach(error)}; {announcement.key} is announced as soon as it can be")


def _check_cache(cache: Cache, announcement: Announcement, error: ClientError) -> None:
    try:
        if cache.load() != _document(announcement):
            raise CacheError(f"the cache {cache.path} is not of this key and value")
    except CacheError as problem:
        raise Failure(f"{out_of_reach(error)}; {problem}", BAD_CONNECTION) from None


def _document(announcement: Announcement) -> dict[str, str]:
    return {"registered": announcement.key, "value": announcement.value}


async def _keep(context: Context, announcement: Announcement, plan: _Plan) -> None:
    """Without end, unless there is no command that has to go on and the cluster refuses."""
    teller = _Teller(context)
    is_cached = False
    while True:
        failed = await run(plan.check, min(plan.pause, MAX_CHECK_SECONDS), is_shown=False) if plan.check else ""
        teller.tell("check", f"{plan.key} is not announced while --check fails: {failed}" if failed else "")
        pause = plan.pause
        try:
            if failed:
                await announcement.remove()
            else:
                await announcement.beat()
                teller.tell("taken", "" if announcement.is_out else f"{plan.key} is announced by somebody else")
                if not is_cached and announcement.is_out:
                    is_cached = True
                    _save(context, announcement)
            teller.tell("trouble", "")
        except ClientError as error:
            if not is_out_of_reach(error) and not context.command_line:
                raise
            teller.tell("trouble", f"{plan.key} cannot be kept now, and is tried again: {one_line(error)}")
            pause = min(pause, RETRY_SECONDS) if is_out_of_reach(error) else pause
        await asyncio.sleep(pause)


def _save(context: Context, announcement: Announcement) -> None:
    if path := context.flags.text("cache"):
        try:
            Cache(path).save(_document(announcement))
        except CacheError as problem:
            warn(context, str(problem))


class _Teller:
    """Says each thing once, and again when it was over in between."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._said: set[str] = set()

    def tell(self, topic: str, text: str) -> None:
        if not text:
            self._said.discard(topic)
        elif topic not in self._said:
            self._said.add(topic)
            warn(self._context, text)


async def _withdraw(context: Context, announcement: Announcement) -> None:
    try:
        await announcement.remove()
    except ClientError as error:
        warn(context, f"{announcement.key} may not be removed, and runs out with its time to live: {one_line(error)}")


REGISTER = Command(
    _register,
    usage="<key> <value> [-- <command> [args...]]",
    flags=(
        Flag("ttl", "seconds after which the key is gone when this machine is lost", NUMBER, TTL_SECONDS, "60"),
        Flag("check", "a command for sh: while it fails, the key is removed", TEXT),
        CACHE,
        PATIENCE,
    ),
    description="Heartbeats wake no watcher. The key is removed when the command ends, or when kvctl is ended.",
    example="kvctl register /services/web/a 10.0.0.7:80 --check 'curl -fs localhost:80' -- ./web",
    is_ours=True,
    runs_command=True,
)
