"""Passwords against bcrypt hashes, in threads beside the event loop; one that was right is remembered.

A check costs what bcrypt costs, some 60 to 100 ms at cost 10, and no request may wait for another's. So:

- Whoever was right once is recognised by a keyed digest of name and password, in microseconds. The key is random and
  never leaves this process; what is remembered is bound to the user as it was and falls with any change of it.
- The same question asked by many at a time is one job.
- A wrong password costs the full price, a name that nobody has the same. So that guessing does not fill the machine,
  at most `max_waiting` jobs wait, and `max_per_user` under one name, whether there is such a user or not: beyond that
  a check is refused at once (TooManyChecks), while those who are remembered go on undisturbed.

No password is kept, logged, or put into an error.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, sha512
from typing import NamedTuple, TypeVar

import bcrypt

from kvstore.auth import User
from kvstore.settings import MAX_BCRYPT_COST, MIN_BCRYPT_COST

COST = 10  # etcd's
MAX_WAITING = 64
MAX_PER_USER = 4
MAX_REMEMBERED = 10_000  # users
_BCRYPT_BYTES = 72  # bcrypt looks at no more
_UNKNOWN = b"$2b$%02d$" + b"." * 53  # a hash of no password that anybody knows

T = TypeVar("T")


class TooManyChecks(Exception):
    """So many passwords wait to be checked that this one was not looked at."""


class _Remembered(NamedTuple):
    digest: bytes
    user: User


class Passwords:
    """All passwords that pass through one member."""

    def __init__(
        self,
        cost: int = COST,
        max_waiting: int = MAX_WAITING,
        max_per_user: int = MAX_PER_USER,
        max_remembered: int = MAX_REMEMBERED,
    ) -> None:
        """`cost` is bcrypt's logarithm of rounds, for hashes made here."""
        assert MIN_BCRYPT_COST <= cost <= MAX_BCRYPT_COST
        self._cost = cost
        self._max_waiting = max_waiting
        self._max_per_user = max_per_user
        self._max_remembered = max_remembered
        self._secret = os.urandom(blake2b.MAX_KEY_SIZE)
        self._remembered: dict[bytes, _Remembered] = {}  # by name, oldest first
        self._checks: dict[tuple[bytes, User | None], asyncio.Future[bool]] = {}
        self._per_user: Counter[bytes] = Counter()
        self._waiting = 0
        # half of the cores: whoever guesses must not starve the event loop and the disk
        self._threads = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2), "kvstore-bcrypt")

    async def hash(self, password: bytes) -> bytes:
        """A new hash of `password`. Raises TooManyChecks."""
        cost = self._cost
        return await asyncio.shield(self._run(lambda: bcrypt.hashpw(_shortened(password), bcrypt.gensalt(cost))))

    def recalls(self, user: User, password: bytes) -> bool:
        """Whether this was found right before, and `user` has not changed since. Takes microseconds."""
        known = self._remembered.get(user.name)
        if known is None:
            return False
        return hmac.compare_digest(known.digest, self._digest(user.name, password)) and known.user == user

    async def check(self, name: bytes, password: bytes, user: User | None) -> bool:
        """Whether `password` is that of `user`, who is called `name`; None: nobody is called so. Raises
        TooManyChecks."""
        digest = self._digest(name, password)
        question = (digest, user)
        job = self._checks.get(question)
        if job is None:
            job = self._start(name, password, user)
            self._checks[question] = job
            job.add_done_callback(lambda done: self._finished(name, question, done))
        # one who goes away must not take the answer from the others
        return await asyncio.shield(job)

    def forget(self, is_current: Callable[[User], bool]) -> None:
        """Users have changed: drops what no longer holds."""
        self._remembered = {name: known for name, known in self._remembered.items() if is_current(known.user)}

    def close(self) -> None:
        """Drops what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, name: bytes, password: bytes, user: User | None) -> asyncio.Future[bool]:
        if self._per_user[name] >= self._max_per_user:
            raise TooManyChecks
        against = _UNKNOWN % self._cost if user is None else user.password_hash
        secret = _shortened(password)
        job = self._run(lambda: bcrypt.checkpw(secret, against) and user is not None)
        self._per_user[name] += 1
        return job

    def _run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        if self._waiting >= self._max_waiting:
            raise TooManyChecks
        future = asyncio.get_running_loop().run_in_executor(self._threads, job)
        self._waiting += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _job: asyncio.Future[T]) -> None:
        self._waiting -= 1

    def _finished(self, name: bytes, question: tuple[bytes, User | None], job: asyncio.Future[bool]) -> None:
        del self._checks[question]
        self._per_user[name] -= 1
        if not self._per_user[name]:
            del self._per_user[name]
        digest, user = question
        if not job.cancelled() and job.exception() is None and job.result() and user is not None:
            self._remembered.pop(name, None)
            while len(self._remembered) >= self._max_remembered:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[name] = _Remembered(digest, user)

    def _digest(self, name: bytes, password: bytes) -> bytes:
        return blake2b(b"%d:%b%b" % (len(name), name, password), key=self._secret, digest_size=32).digest()


def _shortened(password: bytes) -> bytes:
    """bcrypt heeds 72 bytes: of a longer password a digest stands for the whole, so that no byte is idle."""
    if len(password) <= _BCRYPT_BYTES:
        return password
    return base64.b64encode(sha512(password).digest()[:48])
