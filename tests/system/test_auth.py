"""Users and roles on real members: on all of them at once, after kill -9, out of a snapshot, and nowhere a password."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from tests.http.client import RawClient, Response, put, request
from tests.http.scene import basic
from tests.system.load import healthy
from tests.system.members import Cluster, Member, running, until

PASSWORD = b"swordfish"
QUICK = ("--bcrypt-cost", "4")
ROOT = basic(b"root", PASSWORD)
ALICE = basic(b"alice", PASSWORD)


async def ask(member: Member, raw: bytes, port: int | None = None) -> Response:
    client = await RawClient.connect(port or member.client_port, member.address)
    try:
        return await client.ask(raw)
    finally:
        await client.close()


async def switch_on(member: Member) -> None:
    """Root, alice who may read /app/*, and a guest role that may do nothing."""
    for path, body in (
        ("users/root", {"user": "root", "password": PASSWORD.decode()}),
        ("roles/app", {"role": "app", "permissions": {"kv": {"read": ["/app/*"], "write": []}}}),
        ("users/alice", {"user": "alice", "password": PASSWORD.decode(), "roles": ["app"]}),
        ("roles/guest", {"role": "guest"}),
        ("enable", {}),
    ):
        raw = request(f"PUT /v2/auth/{path}", body=json.dumps(body).encode())
        assert (await ask(member, raw)).status in (200, 201)


async def until_asked(member: Member) -> None:
    """Until a member that was told by another one knows of it."""

    async def refuses() -> bool:
        return (await ask(member, request("GET /v2/keys/app/x"))).status == 401

    await until(refuses, f"{member.name} asks for permission")


async def assert_auth_holds(cluster: Cluster) -> None:
    for member in cluster.members:
        await until_asked(member)
        assert (await ask(member, request("GET /v2/keys/app/x", ALICE))).status == 200
        assert (await ask(member, request("GET /v2/keys/other", ALICE))).status == 401
        assert (await ask(member, request("GET /v2/auth/users", ROOT))).status == 200
        assert (await ask(member, request("GET /v2/auth/users", ALICE))).status == 401


async def test_auth_survives_every_member_and_no_password_is_on_any_disk(tmp_path: Path) -> None:
    async with running(3, tmp_path, ("--snapshot-count", "20", *QUICK)) as cluster:
        await healthy(*cluster.members)
        first = cluster.members[0]
        assert (await ask(first, put("/app/x", "value=1"))).status == 201
        await switch_on(first)
        await assert_auth_holds(cluster)
        client = await RawClient.connect(first.client_port, first.address)
        for number in range(60):  # snapshots are taken on the way
            assert (await client.ask(request(f"PUT /v2/keys/app/{number}", ROOT))).status == 201
        await client.close()
        await cluster.kill()
        await cluster.start()
        await healthy(*cluster.members)
        await assert_auth_holds(cluster)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".snap" for path in files)
    assert not [path for path in files if PASSWORD in path.read_bytes()]


async def test_a_watch_on_one_member_ends_with_a_change_on_another(tmp_path: Path) -> None:
    async with running(3, tmp_path, QUICK) as cluster:
        await healthy(*cluster.members)
        await switch_on(cluster.members[0])
        watches = []
        for member in cluster.members:
            await until_asked(member)
            watch = await RawClient.connect(member.client_port, member.address)
            watch.send(request("GET /v2/keys/app/?wait=true&recursive=true&stream=true", ALICE))
            assert (await watch.head()).status == 200
            watches.append(watch)
        body = b'{"role":"app","revoke":{"kv":{"read":["/app/*"]}}}'
        assert (await ask(cluster.members[1], request("PUT /v2/auth/roles/app", ROOT, body=body))).status == 200
        assert await asyncio.gather(*(watch.chunk() for watch in watches)) == [b""] * 3
        for watch in watches:
            await watch.close()


async def test_bcrypt_is_paid_once(tmp_path: Path) -> None:
    async with running(1, tmp_path, ("--bcrypt-cost", "12")) as cluster:
        (member,) = cluster.members
        await switch_on(member)
        client = await RawClient.connect(member.client_port, member.address)
        seconds = []
        for _ in range(20):
            begin = time.perf_counter()
            assert (await client.ask(request("GET /v2/keys/app/", ALICE))).status == 404
            seconds.append(time.perf_counter() - begin)
        await client.close()
        assert min(seconds[1:]) < seconds[0] / 20


async def test_the_peer_port_says_nothing_of_users(tmp_path: Path) -> None:
    async with running(1, tmp_path) as cluster:
        (member,) = cluster.members
        await switch_on(member)
        listed = json.loads((await ask(member, request("GET /members"), member.peer_port)).body)
        assert [set(one) for one in listed] == [{"id", "name", "peerURLs", "clientURLs"}]
        for path in ("/v2/auth/users", "/v2/auth/enable", "/v2/keys/app/x"):
            assert (await ask(member, request(f"GET {path}"), member.peer_port)).status == 404
