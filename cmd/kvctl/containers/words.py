"""What the commands for containers have in common towards the operator: flags, one-line errors, patience, statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import TypeVar

from kvctl.command import BAD_CONNECTION, Context, Failure
from kvctl.flags import MANY, SECONDS, TEXT, Flag
from kvctl.progress import Progress
from kvstore.client import Client, ClientError, DeadlineExceeded, OutcomeUnknown, Unreachable
from kvstore.client.errors import EndpointError

#: Exit statuses: the lock was lost, the time is up. See also `command.OWN_FAILURE` and `child.CannotRun`.
LOCK_LOST = 123
TIME_IS_UP = 124

#: Why the time was up, where nothing is known of what was waited for.
UNANSWERED = "the cluster has not answered"

#: The pause between two tries while the cluster is out of reach.
RETRY_SECONDS = 0.5
#: How often the line on a terminal is renewed.
SHOW_SECONDS = 1.0

CACHE = Flag("cache", "keep the last good answer in this file, and use it while the cluster is out of reach", TEXT)
PATIENCE = Flag("wait", "go on trying for so long while the cluster is out of reach", SECONDS, 0.0, "0s")
PREFIX = Flag("prefix, p", "a directory of keys; may be given again, later ones win", MANY)

_T = TypeVar("_T")


def warn(context: Context, text: str) -> None:
    context.complain(f"kvctl: {text}")


def one_line(error: Exception) -> str:
    return str(error).strip().replace("\n", "")


def is_out_of_reach(error: ClientError) -> bool:
    """Whether nobody answered, or nobody who has a leader. A refusal by TLS is an operator's error instead."""
    if isinstance(error, Unreachable):
        return not all(one.is_tls for one in error.errors)
    if isinstance(error, OutcomeUnknown):
        return is_out_of_reach(error.reason)
    return isinstance(error, DeadlineExceeded) or (isinstance(error, EndpointError) and not error.is_tls)


async def connect(context: Context) -> Client:
    """A client of the whole cluster; of the endpoints that were given where the members cannot be asked for theirs.

    Raises Failure. Nobody being there is no error yet.
    """
    client = context.client()
    if not context.options.switch("no-sync"):
        with suppress(ClientError):  # what is asked next meets the same, and says so
            await client.sync()
    return client


def out_of_reach(error: ClientError) -> Failure:
    return Failure(f"the cluster is out of reach: {one_line(error)}", BAD_CONNECTION)


class Waiting:
    """`async with Waiting("waiting for the lock web") as waiting`: a line on a terminal, with how long it takes."""

    def __init__(self, what: str) -> None:
        self._progress = Progress(what)
        self._since = monotonic()
        self._task: asyncio.Task[None] | None = None
        self.detail = ""

    async def __aenter__(self) -> Waiting:
        self._progress.__enter__()
        self._task = asyncio.create_task(self._show())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._progress.__exit__(None, None, None)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(SHOW_SECONDS)
            detail = f", {self.detail}" if self.detail else ""
            self._progress.tell(f"{monotonic() - self._since:.0f} s{detail}")


async def patiently(ask: Callable[[], Awaitable[_T]], seconds: float) -> _T:
    """`ask`, again and again for `seconds` while the cluster is out of reach. Raises the last ClientError."""
    deadline = monotonic() + seconds
    async with Waiting("waiting for the cluster"):
        while True:
            try:
                return await ask()
            except ClientError as error:
                if not is_out_of_reach(error) or monotonic() >= deadline:
                    raise
            await asyncio.sleep(RETRY_SECONDS)
