"""Changes of users and roles that overtake a request, and floods of guesses."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import bcrypt
import pytest

from kvstore.passwords import MAX_PER_USER
from kvstore.store.operations import Delete, Set
from kvstore.wire import Checked, DeleteRole, DeleteUser, SwitchAuth, UpdateRole, UpdateUser
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, RawClient, request
from tests.http.conftest import Connect
from tests.http.scene import HASH, SECRET, WHO, ask, basic, change, furnish


@pytest.fixture
def backend() -> LocalBackend:
    return furnish(LocalBackend())


class RacingBackend(LocalBackend):
    """Another member's change takes its place in the log just before the next command, or the next read."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Checked] = []

    def execute(self, command: Any) -> asyncio.Future[Any]:
        self._overtake()
        return super().execute(command)

    def read_barrier(self) -> asyncio.Future[None]:
        self._overtake()
        return super().read_barrier()

    def _overtake(self) -> None:
        now, self.before = self.before, []
        for overtaking in now:
            if self.auth.enabled:
                change(self, overtaking)
            else:
                self.apply(overtaking)


class TestRaces:
    """The users and roles that count are those at the command's place in the log, whatever was looked at before."""

    @pytest.fixture
    def backend(self) -> RacingBackend:
        backend = RacingBackend()
        furnish(backend)
        return backend

    @pytest.mark.parametrize(
        ("who", "line", "overtaking", "status"),
        [
            ("alice", "PUT /v2/keys/app/w/k", UpdateRole(b"app", (), (), (), (b"/app/w/*",)), 401),
            ("alice", "DELETE /v2/keys/app/w/k", DeleteUser(b"alice"), 401),
            ("alice", "PUT /v2/keys/app/w/k", UpdateUser(b"alice", HASH[:-1] + b"x", (), ()), 401),
            ("alice", "PUT /v2/keys/app/w/k", DeleteUser(b"bob"), 200),
            ("alice", "PUT /v2/keys/app/w/k", SwitchAuth(False), 200),
            ("guest", "PUT /v2/keys/pub/x", SwitchAuth(False), 401),  # refused before anything overtakes it
            ("guest", "GET /v2/keys/pub?quorum=true", DeleteRole(b"guest"), 401),
            ("alice", "GET /v2/keys/app/a?quorum=true", UpdateRole(b"app", (), (), (b"/app/*",), ()), 401),
            ("alice", "GET /v2/keys/app/a?quorum=true", DeleteUser(b"bob"), 200),
            ("bob", "PUT /v2/keys/exact?prevExist=true&ttl=1", Delete(b"/exact", False, False), 404),
        ],
    )
    async def test_overtaken(
        self, who: str, line: str, overtaking: Checked, status: int, client: RawClient, backend: RacingBackend
    ) -> None:
        await ask(client, who, "GET /v2/keys/open/nothing")  # the password is remembered from here on
        backend.before = [overtaking]
        index = backend.store.index + isinstance(overtaking, Delete)
        response = await ask(client, who, line)
        assert response.status == status
        if status != 200:
            assert SECRET not in response.body
            assert backend.store.index == index

    async def test_a_file_that_becomes_a_directory_on_the_way(self, client: RawClient, backend: RacingBackend) -> None:
        backend.before = [Delete(b"/exact", False, False), Set(b"/exact/x", SECRET, False, None, False)]
        response = await ask(client, "bob", "PUT /v2/keys/exact?prevExist=true&ttl=1")
        assert response.status == 401
        assert backend.store.next_deadline is None

    async def test_a_write_from_before_auth_was_switched_on(self, client: RawClient, backend: RacingBackend) -> None:
        change(backend, SwitchAuth(False))
        backend.before = [SwitchAuth(True)]
        index = backend.store.index
        response = await ask(client, "guest", "PUT /v2/keys/app/a", "value=v")
        assert response.status == 401
        assert backend.store.index == index

    @pytest.mark.parametrize(
        "line", ["DELETE /v2/auth/enable", "DELETE /v2/auth/users/alice", "DELETE /v2/auth/roles/app"]
    )
    async def test_a_root_who_is_none_any_more(self, line: str, client: RawClient, backend: RacingBackend) -> None:
        change(backend, UpdateUser(b"max", None, (b"root",), ()))
        await ask(client, "max", "GET /v2/auth/users")
        backend.before = [UpdateUser(b"max", None, (), (b"root",))]
        response = await ask(client, "max", line)
        assert response.status == 401
        assert backend.auth.enabled
        assert backend.auth.user(b"alice") is not None
        assert backend.auth.role(b"app") is not None

    async def test_changes_without_end(self, client: RawClient, backend: RacingBackend) -> None:
        """A write that is overtaken again and again gives up, and has not happened."""
        index = backend.store.index

        def again() -> None:
            backend.before = [UpdateRole(b"app", (b"/%d" % backend.auth.revision,), (), (), ())]

        backend.auth.observe(again)
        again()
        response = await ask(client, "alice", "PUT /v2/keys/app/w/k", "value=v")
        assert (response.status, json.loads(response.body)["errorCode"]) == (500, 300)
        assert backend.store.index == index

    async def test_a_password_that_changes_while_it_is_looked_at(
        self, client: RawClient, backend: RacingBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked_at = asyncio.Event()
        loop = asyncio.get_running_loop()
        gate = threading.Event()
        check = bcrypt.checkpw

        def slow(password: bytes, hashed: bytes) -> bool:
            loop.call_soon_threadsafe(looked_at.set)
            assert gate.wait(DEADLINE)
            return check(password, hashed)

        monkeypatch.setattr(bcrypt, "checkpw", slow)
        client.send(request("GET /v2/keys/app/a", *WHO["alice"]))
        async with asyncio.timeout(DEADLINE):
            await looked_at.wait()
        change(backend, UpdateUser(b"alice", bcrypt.hashpw(b"new", bcrypt.gensalt(4)), (), ()))
        gate.set()
        assert (await client.response()).status == 401


class TestFlood:
    async def test_guesses_beyond_the_limit_are_told_to_come_again(
        self, connect: Connect, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = await connect()
        assert (await ask(known, "alice", "GET /v2/keys/app/a")).status == 200
        gate = threading.Event()
        monkeypatch.setattr(bcrypt, "checkpw", lambda password, hashed: not gate.wait(DEADLINE))
        guessers = [await connect() for _ in range(MAX_PER_USER)]
        for number, guesser in enumerate(guessers):
            guesser.send(request("GET /v2/keys/pub", basic(b"root", b"%d" % number)))
        one_more = await connect()
        async with asyncio.timeout(DEADLINE):
            while True:
                response = await one_more.ask(request("GET /v2/keys/pub", basic(b"root", b"last")))
                if response.status == 503:
                    break
        assert response.header("Retry-After") == "1"
        assert (await one_more.ask(request("GET /v2/auth/users", basic(b"root", b"last")))).status == 503
        assert (await ask(known, "alice", "GET /v2/keys/app/a")).status == 200
        gate.set()
        for guesser in guessers:
            assert (await guesser.response()).status == 401
