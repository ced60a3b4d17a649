"""Passwords: what is remembered and when it falls, one job for many, and how little a flood of guesses can do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import bcrypt
import pytest

from kvstore.auth import User
from kvstore.passwords import Passwords, TooManyChecks

DEADLINE = 5.0


def user_of(hashed: bytes, name: bytes = b"alice", roles: tuple[bytes, ...] = ()) -> User:
    return User(name, hashed, roles)


class SlowBcrypt:
    """bcrypt behind a gate that the test opens; counts its calls."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.hashes: list[bytes] = []

    def checkpw(self, password: bytes, hashed: bytes) -> bool:
        self.hashes.append(hashed)
        assert self.gate.wait(DEADLINE)
        return hashed == b"hash of " + password


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    one = Passwords(cost=4)
    yield one
    one.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowBcrypt:
    one = SlowBcrypt()
    monkeypatch.setattr(bcrypt, "checkpw", one.checkpw)
    return one


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # threads tell nobody
            await asyncio.sleep(0)


async def test_right_and_wrong(passwords: Passwords) -> None:
    alice = user_of(await passwords.hash(b"pw"))
    assert alice.password_hash.startswith(b"$2b$04$")
    assert await passwords.check(b"alice", b"pw", alice)
    assert not await passwords.check(b"alice", b"PW", alice)
    assert not await passwords.check(b"alice", b"", alice)
    assert not await passwords.check(b"nobody", b"pw", None)


async def test_every_hash_is_another_one(passwords: Passwords) -> None:
    assert await passwords.hash(b"pw") != await passwords.hash(b"pw")


@pytest.mark.parametrize("length", [71, 72, 73, 100, 1000])
async def test_no_byte_of_a_long_password_is_idle(passwords: Passwords, length: int) -> None:
    password = b"p" * length
    alice = user_of(await passwords.hash(password))
    assert await passwords.check(b"alice", password, alice)
    assert not await passwords.check(b"alice", password[:-1], alice)
    assert not await passwords.check(b"alice", password[:-1] + b"q", alice)


async def test_a_zero_byte_does_not_end_a_password(passwords: Passwords) -> None:
    alice = user_of(await passwords.hash(b"a\0b"))
    assert not await passwords.check(b"alice", b"a\0c", alice)
    assert not await passwords.check(b"alice", b"a", alice)


class TestRemembered:
    async def test_only_what_was_right(self, passwords: Passwords) -> None:
        alice = user_of(await passwords.hash(b"pw"))
        await passwords.check(b"alice", b"wrong", alice)
        await passwords.check(b"nobody", b"pw", None)
        assert not passwords.recalls(alice, b"wrong")
        assert not passwords.recalls(alice, b"pw")
        assert not passwords.recalls(user_of(b"", b"nobody"), b"pw")
        await passwords.check(b"alice", b"pw", alice)
        assert passwords.recalls(alice, b"pw")
        await passwords.check(b"alice", b"wrong", alice)
        assert passwords.recalls(alice, b"pw")
        assert not passwords.recalls(alice, b"wrong")

    async def test_falls_with_any_change_of_the_user(self, passwords: Passwords) -> None:
        alice = user_of(await passwords.hash(b"pw"))
        await passwords.check(b"alice", b"pw", alice)
        assert not passwords.recalls(user_of(await passwords.hash(b"pw")), b"pw")
        assert not passwords.recalls(alice._replace(roles=(b"r",)), b"pw")
        passwords.forget(lambda user: user == alice)
        assert passwords.recalls(alice, b"pw")
        passwords.forget(lambda user: False)
        assert not passwords.recalls(alice, b"pw")

    async def test_name_and_password_cannot_be_shifted(self, passwords: Passwords) -> None:
        hashed = await passwords.hash(b"bc")
        await passwords.check(b"a", b"bc", user_of(hashed, b"a"))
        assert not passwords.recalls(user_of(hashed, b"ab"), b"c")
        assert not passwords.recalls(user_of(hashed, b"a"), b"bc:")

    async def test_is_bounded_and_the_oldest_goes_first(self) -> None:
        passwords = Passwords(cost=4, max_remembered=2)
        hashed = await passwords.hash(b"pw")
        users = [user_of(hashed, b"%d" % number) for number in range(3)]
        for user in users:
            assert await passwords.check(user.name, b"pw", user)
        assert [passwords.recalls(user, b"pw") for user in users] == [False, True, True]
        passwords.close()

    async def test_costs_microseconds(self, passwords: Passwords) -> None:
        alice = user_of(await passwords.hash(b"pw"))
        await passwords.check(b"alice", b"pw", alice)
        best = min(_seconds(lambda: passwords.recalls(alice, b"pw")) for _ in range(1000))
        assert best < 0.000_1


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


class TestJobs:
    async def test_many_who_ask_the_same_share_one(self, passwords: Passwords, slow: SlowBcrypt) -> None:
        alice = user_of(b"hash of pw")
        checks = [asyncio.ensure_future(passwords.check(b"alice", b"pw", alice)) for _ in range(50)]
        await until(lambda: bool(slow.hashes))
        checks[0].cancel()  # its client went away; the others still want to know
        slow.gate.set()
        assert all(await asyncio.gather(*checks[1:]))
        assert len(slow.hashes) == 1

    async def test_a_name_that_nobody_has_costs_the_same(self, passwords: Passwords, slow: SlowBcrypt) -> None:
        slow.gate.set()
        assert not await passwords.check(b"nobody", b"pw", None)
        (hashed,) = slow.hashes
        assert hashed.startswith(b"$2b$04$")
        assert len(hashed) == 60

    async def test_a_user_that_changes_is_another_question(self, passwords: Passwords, slow: SlowBcrypt) -> None:
        old = asyncio.ensure_future(passwords.check(b"alice", b"pw", user_of(b"hash of pw")))
        new = asyncio.ensure_future(passwords.check(b"alice", b"pw", user_of(b"hash of other")))
        slow.gate.set()
        assert await old
        assert not await new

    @pytest.mark.parametrize("exists", [True, False])
    async def test_guesses_at_one_name_are_bounded_whether_it_is_known_or_not(
        self, slow: SlowBcrypt, exists: bool
    ) -> None:
        passwords = Passwords(cost=4, max_per_user=2)
        user = user_of(b"hash of pw") if exists else None
        guesses = [asyncio.ensure_future(passwords.check(b"alice", b"%d" % n, user)) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyChecks):
            await passwords.check(b"alice", b"pw", user)
        other = asyncio.ensure_future(passwords.check(b"bob", b"pw", user_of(b"hash of pw", b"bob")))
        slow.gate.set()
        assert await other
        assert not any(await asyncio.gather(*guesses))
        assert await passwords.check(b"alice", b"pw", user) is exists
        passwords.close()

    async def test_all_together_are_bounded_and_who_is_remembered_goes_on(self, slow: SlowBcrypt) -> None:
        passwords = Passwords(cost=4, max_waiting=3)
        alice = user_of(b"hash of pw")
        slow.gate.set()
        assert await passwords.check(b"alice", b"pw", alice)
        slow.gate.clear()
        guesses = [asyncio.ensure_future(passwords.check(b"%d" % n, b"x", None)) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyChecks):
            await passwords.check(b"carol", b"pw", None)
        with pytest.raises(TooManyChecks):
            await passwords.hash(b"pw")
        assert passwords.recalls(alice, b"pw")
        slow.gate.set()
        await asyncio.gather(*guesses)
        assert await passwords.check(b"alice", b"pw", alice)
        passwords.close()

    async def test_the_event_loop_goes_on_meanwhile(self, passwords: Passwords, slow: SlowBcrypt) -> None:
        check = asyncio.ensure_future(passwords.check(b"alice", b"pw", user_of(b"hash of pw")))
        await until(lambda: bool(slow.hashes))
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not check.done()
        slow.gate.set()
        assert await check
