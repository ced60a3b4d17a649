"""A folder that was healthy starts: after each operation on the members, with the flags of any day, twice in a row.

`make restarts` runs the whole table, `make test` a diagonal of it: each operation, each kind of flags, before and after
a snapshot.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cluster import environment, free_ports
from tests.system.load import ask, healthy, keys_below, put
from tests.system.members import Cluster, Member, own_address, until
from tests.system.test_reconfiguration import id_of, introduced, members_api, published

TIMINGS = ("--heartbeat-interval", "50", "--election-timeout", "500")
MANY = ("--snapshot-count", "20")
KINDS = ("first", "today", "none")


class Machine(Member):
    """A member whose `--initial-` flags are those of its first start, of today, or left out."""

    def __init__(self, name: str, folder: Path, address: str, flags: Sequence[str]) -> None:
        super().__init__(name, folder, address, flags)
        self.kind = "today"
        self.state = "new"
        self.first: list[str] = []
        self.listens = [self.peer_url]

    def initial(self) -> list[str]:
        if self.kind == "none":
            return []
        if self.kind == "first":
            return self.first
        return [
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", self.initial_cluster, "--initial-cluster-token", "prod-1"),
            *("--initial-cluster-state", self.state),
        ]

    def command(self) -> list[str]:
        self.first = self.first or self.initial()
        return [
            *(sys.executable, "-m", "kvstored", "--name", self.name, "--data-dir", str(self.folder)),
            *("--listen-client-urls", self.client_url, "--advertise-client-urls", self.client_url),
            *("--listen-peer-urls", ",".join(self.listens)),
            *self.initial(),
            *self.flags,
        ]

    def another_url(self, scheme: str = "http") -> str:
        (port,) = free_ports(self.address, 1)
        return f"{scheme}://{self.address}:{port}"


class Scene:
    """Three machines of one cluster; `cluster.members` are those that belong to it at the moment."""

    def __init__(self, folder: Path, flags: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.flags = (*TIMINGS, *flags)
        self.address = own_address()
        self.machines = [self.machine(f"n{number}") for number in (1, 2, 3)]
        self.cluster = Cluster(self.machines)

    def machine(self, name: str) -> Machine:
        return Machine(name, self.folder, self.address, self.flags)

    @property
    def members(self) -> list[Machine]:
        return [member for member in self.cluster.members if isinstance(member, Machine)]

    async def move(self, member: Machine, url: str) -> None:
        first = self.members[0]
        assert (await members_api(first, f"PUT /v2/members/{await id_of(member, first)}", url)).status == 204
        member.peer_url = url
        self.cluster.introduce()

    async def join(self, member: Machine) -> None:
        first = self.members[0]

        async def is_added() -> bool:
            """Refused, with 500, as long as not every member is connected with the one that is asked."""
            added = await members_api(first, "POST /v2/members", member.peer_url)
            assert added.status in (201, 500), added.body
            return added.status == 201

        await until(is_added, f"{member.name} is added")
        if member not in self.cluster.members:
            self.cluster.members.append(member)
        self.cluster.introduce()
        member.state = "existing"
        await member.start()
        await healthy(member)
        await published(member, first)

    async def leave(self, member: Machine) -> None:
        first = self.members[0]
        assert (await members_api(first, f"DELETE /v2/members/{await id_of(member, first)}")).status == 204
        self.cluster.members.remove(member)
        if member.is_running:
            await member.ends()

    async def restart_each(self) -> None:
        for member in self.members:
            assert await member.stop() == 0
            await member.start()
            await healthy(*self.members)


async def replace(scene: Scene) -> None:
    lost = scene.members[2]
    await lost.kill()
    shutil.rmtree(lost.folder)
    await scene.leave(lost)
    lost.first = []
    await scene.join(lost)


async def move(scene: Scene) -> None:
    for member in scene.members:
        url = member.another_url()
        await scene.move(member, url)
        assert await member.stop() == 0
        member.listens = [url]
        await member.start()
        await healthy(*scene.members)


async def plain_to_tls(scene: Scene) -> None:
    """As docs/operations.md has it: both, then the new URL, then the new one alone."""
    for member in scene.members:
        member.flags = [*member.flags, "--peer-auto-tls"]
        member.listens.append(member.another_url("https"))
    await scene.restart_each()
    for member in scene.members:
        await scene.move(member, member.listens[1])
    for member in scene.members:
        del member.listens[0]
    await scene.restart_each()


async def add(scene: Scene) -> None:
    await scene.join(scene.machine("n4"))


async def remove(scene: Scene) -> None:
    await scene.leave(scene.members[2])
    scene.cluster.introduce()


async def restore(scene: Scene) -> None:
    """Of three that are lost, one folder is left; it becomes a cluster of one, which grows again."""
    survivor, second, third = scene.members
    await scene.cluster.kill()
    copy = scene.folder / "copy"
    backup = [sys.executable, "-m", "kvctl", "backup", "--data-dir", str(survivor.folder), "--backup-dir", str(copy)]
    await asyncio.to_thread(subprocess.run, backup, env=environment(), check=True, capture_output=True)
    for machine in (survivor, second, third):
        shutil.rmtree(machine.folder)
    copy.rename(survivor.folder)
    scene.cluster.members = [survivor]
    scene.cluster.introduce()
    await survivor.start()
    await healthy(survivor)
    await published(survivor, survivor)
    second.first = []
    await scene.join(second)


OPERATIONS: list[Callable[[Scene], Awaitable[None]]] = [replace, move, plain_to_tls, add, remove, restore]


@asynccontextmanager
async def changed(
    operation: Callable[[Scene], Awaitable[None]], with_snapshot: bool, folder: Path
) -> AsyncIterator[Scene]:
    """A cluster on which the operation was done, and whose members have a snapshot of that, if they are to."""
    scene = Scene(folder, MANY if with_snapshot else ())
    try:
        await scene.cluster.start()
        await introduced(*scene.members)
        assert (await put(scene.members[0], "/before", "1")).status == 201
        await operation(scene)
        if with_snapshot:
            for number in range(50):
                assert (await put(scene.members[0], f"/keys/{number}", "1")).status == 201
            for member in scene.members:
                await until(lambda member=member: has_saved(member), f"{member.name} has a snapshot")  # type: ignore[misc]
        yield scene
    finally:
        for machine in (*scene.machines, *scene.members):
            if machine.is_running:
                await machine.kill()


async def has_saved(member: Machine) -> bool:
    """Whether a snapshot is on its disk that was taken after the operation."""
    applied = int((await ask(member, "GET /v2/keys/")).headers["x-raft-index"])
    newest = max(int(name.stem.split("-")[1], 16) for name in (member.folder / "member" / "snap").glob("*.snap"))
    return newest > applied - 45


async def start_again(scene: Scene, kind: str) -> None:
    """All of them stop, and start with flags of this kind: each is healthy, and none has forgotten anything."""
    before = {member.name: await id_of(member, scene.members[0]) for member in scene.members}
    await asyncio.gather(*(member.stop() for member in scene.members))
    for member in scene.members:
        member.kind = kind
    await scene.cluster.start()
    await healthy(*scene.members)
    for member in scene.members:
        assert (await keys_below(member, "/"))["/before"] == "1"
        assert (await put(member, f"/after/{member.name}", kind)).status in (200, 201)
        await published(member, scene.members[0])
    assert {member.name: await id_of(member, scene.members[0]) for member in scene.members} == before


WHOLE = "KVSTORE_RESTARTS" in os.environ  # `make restarts`
TABLE: list[tuple[Callable[[Scene], Awaitable[None]], bool, Sequence[str], int]]
if WHOLE:
    TABLE = [(operation, saved, KINDS, 2) for operation in OPERATIONS for saved in (False, True)]
else:  # each operation once, half of them with a snapshot, and two kinds of flags after each
    TABLE = [
        (operation, number % 2 == 0, (KINDS[number % 3], KINDS[(number + 1) % 3]), 1)
        for number, operation in enumerate(OPERATIONS)
    ]


@pytest.mark.parametrize(("operation", "with_snapshot", "kinds", "times"), TABLE)
async def test_every_member_starts_again_after(
    operation: Callable[[Scene], Awaitable[None]],
    with_snapshot: bool,
    kinds: Sequence[str],
    times: int,
    tmp_path: Path,
) -> None:
    async with changed(operation, with_snapshot, tmp_path) as scene:
        for kind in kinds:
            for _ in range(times):
                await start_again(scene, kind)


@pytest.mark.parametrize("kind", ["first", "today"] if WHOLE else ["first"])
async def test_a_member_that_was_down_while_the_others_moved_finds_them(kind: str, tmp_path: Path) -> None:
    scene = Scene(tmp_path, ())
    first, second, third = scene.members
    try:
        await scene.cluster.start()
        await introduced(first, second, third)
        await third.stop()
        for member in (first, second):
            await scene.move(member, member.another_url())
            assert await member.stop() == 0
            member.listens = [member.peer_url]
            await member.start()
            await healthy(first, second)
        assert (await put(first, "/a", "1")).status == 201
        third.kind = kind
        await third.start()
        await healthy(third)
        assert (await keys_below(third, "/"))["/a"] == "1"
        await first.kill()  # so the third is needed
        assert (await put(second, "/b", "1")).status == 201
    finally:
        await scene.cluster.kill()
