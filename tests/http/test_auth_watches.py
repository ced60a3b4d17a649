"""Watches that outlive the grant they live on, and what they must not hear even while they have it."""

from __future__ import annotations

import asyncio
import json

import pytest

from kvstore.store.operations import Delete, Set
from kvstore.wire import Checked, CreateUser, DeleteRole, DeleteUser, SwitchAuth, UpdateRole, UpdateUser
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, RawClient, Response, request
from tests.http.conftest import Connect
from tests.http.scene import HASH, SECRET, WHO, ask, change, furnish

RECURSIVE = "recursive=true"


@pytest.fixture
def backend() -> LocalBackend:
    return furnish(LocalBackend())


WATCHES = {
    "plain": "GET /v2/keys/app/w/k?wait=true",
    "recursive": f"GET /v2/keys/app/?wait=true&{RECURSIVE}",
    "stream": "GET /v2/keys/app/w/k?wait=true&stream=true",
    "recursive stream": f"GET /v2/keys/app/w?wait=true&stream=true&{RECURSIVE}",
    "from the future": "GET /v2/keys/app/w/k?wait=true&stream=true&waitIndex=20",
    "answered from history": "GET /v2/keys/app/w/k?wait=true&stream=true&waitIndex=2",
}
REVOCATIONS: dict[str, tuple[Checked, ...]] = {
    "pattern": (UpdateRole(b"app", (), (), (b"/app/*",), ()),),
    "role deleted": (DeleteRole(b"app"),),
    "password changed": (UpdateUser(b"alice", HASH[:-1] + b"x", (), ()),),
    "user deleted": (DeleteUser(b"alice"),),
    "user made again": (DeleteUser(b"alice"), CreateUser(b"alice", HASH[:-1] + b"x", (b"app",))),
}


class TestWatches:
    async def begin(self, client: RawClient, who: str, line: str) -> Response:
        client.send(request(line, *WHO[who]))
        return await client.head()

    async def ends(self, client: RawClient) -> bool:
        async with asyncio.timeout(DEADLINE):
            return await client.chunk() == b""

    @pytest.mark.parametrize("revocation", list(REVOCATIONS))
    @pytest.mark.parametrize("kind", list(WATCHES))
    async def test_a_watch_does_not_outlive_its_grant(
        self, kind: str, revocation: str, client: RawClient, backend: LocalBackend
    ) -> None:
        assert (await self.begin(client, "alice", WATCHES[kind])).status == 200
        if kind == "answered from history":
            assert b'"set"' in await client.chunk()
        for command in REVOCATIONS[revocation]:
            change(backend, command)
        backend.store.apply(Set(b"/app/w/k", b"news", False, None, False), 0)
        assert await self.ends(client)
        assert backend.store.watcher_count == 0

    async def test_one_that_is_not_concerned_goes_on(self, client: RawClient, backend: LocalBackend) -> None:
        await self.begin(client, "alice", WATCHES["recursive stream"])
        change(backend, UpdateRole(b"app", (), (), (), (b"/app/w/*",)))  # the right to write
        change(backend, DeleteUser(b"bob"))
        backend.store.apply(Set(b"/app/w/k", b"news", False, None, False), 0)
        assert b"news" in await client.chunk()

    async def test_switching_on_ends_what_was_open_to_all_before(self, connect: Connect, backend: LocalBackend) -> None:
        change(backend, SwitchAuth(False))
        line = "GET /v2/keys/{}?wait=true&stream=true"
        secret, public, unproven, outsider = [await connect() for _ in range(4)]
        await self.begin(secret, "guest", line.format("app/w/k"))
        await self.begin(public, "guest", line.format("open/a"))
        await self.begin(unproven, "alice", line.format("app/w/k"))
        await self.begin(outsider, "wrong password", line.format("open/a"))  # nobody looked at it
        backend.apply(SwitchAuth(True))
        for key in (b"/app/w/k", b"/open/a"):
            backend.store.apply(Set(key, b"news", False, None, False), 0)
        assert await self.ends(secret)
        assert await self.ends(unproven)
        assert await self.ends(outsider)
        assert b"news" in await public.chunk()

    async def test_a_user_who_is_gone_is_no_guest(self, client: RawClient, backend: LocalBackend) -> None:
        await self.begin(client, "max", "GET /v2/keys/open/a?wait=true")
        change(backend, DeleteUser(b"max"))
        assert await self.ends(client)

    async def test_a_look_back_shows_no_sibling_s_name(self, client: RawClient, backend: LocalBackend) -> None:
        """A removed /di is reported for /dir, as in etcd, but not to one who may read /dir alone."""
        index = backend.store.index
        for operation in (Set(b"/di/x", SECRET, False, None, False), Delete(b"/di", True, True)):
            backend.store.apply(operation, 0)
        backend.store.apply(Delete(b"/dir", True, True), 0)
        response = await ask(client, "max", f"GET /v2/keys/dir?wait=true&waitIndex={index + 1}")
        assert json.loads(response.body)["node"]["modifiedIndex"] == index + 3
        change(backend, SwitchAuth(False))
        response = await ask(client, "max", f"GET /v2/keys/dir?wait=true&waitIndex={index + 1}")
        assert json.loads(response.body)["node"]["modifiedIndex"] == index + 2

    async def test_a_directory_s_watch_hears_nothing_of_a_file_in_its_place(
        self, client: RawClient, backend: LocalBackend
    ) -> None:
        """`/only/*` covers what is below /only: that /only is a file is none of olga's business."""
        index = backend.store.index
        line = f"GET /v2/keys/only/?wait=true&stream=true&{RECURSIVE}&waitIndex="
        assert (await self.begin(client, "olga", line + "1")).status == 200
        backend.store.apply(Set(b"/only", SECRET, False, None, False), 0)
        backend.store.apply(Set(b"/only", b"", True, None, False), 0)
        backend.store.apply(Set(b"/only/x", b"news", False, None, False), 0)
        chunk = await client.chunk()
        assert SECRET not in chunk
        assert json.loads(chunk)["node"]["modifiedIndex"] == index + 3
