"""Clients for the system tests: single questions, and writers that go on whatever happens to a member.

A writer puts keys of its own, one after the other, and keeps to one member until that fails it; then it turns to the
next one at once and asks again for the same key. It notes what was acknowledged, and when.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, NamedTuple

from tests.http.client import FORM, request
from tests.system.members import Member, until

ASK_SECONDS = 15.0
PACE_SECONDS = 0.004  # between two writes of one writer, so that the members and not the clients are measured


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def etcd_index(self) -> int:
        return int(self.headers["x-etcd-index"])


class Connection:
    """A kept-alive connection to one member."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, member: Member) -> Connection:
        return cls(*await asyncio.open_connection(member.address, member.client_port, limit=1 << 26))

    async def ask(self, line: str, form: str = "", seconds: float = ASK_SECONDS) -> Answer:
        """`line` is method and target. Raises OSError, EOFError or TimeoutError."""
        self.send(line, form)
        async with asyncio.timeout(seconds):
            return await self.answer()

    def send(self, line: str, form: str = "") -> None:
        self._writer.write(request(line, FORM, body=form.encode()) if form else request(line))

    async def answer(self) -> Answer:
        """The next whole answer."""
        answer = await self.head()
        if answer.headers.get("transfer-encoding") == "chunked":
            body = b""
            while piece := await self.chunk():
                body += piece
            return answer._replace(body=body)
        return answer._replace(body=await self._reader.readexactly(int(answer.headers["content-length"])))

    async def head(self) -> Answer:
        first, *rest = (await self._reader.readuntil(b"\r\n\r\n"))[:-4].decode().split("\r\n")
        fields = dict(field.lower().split(": ", 1) for field in rest)
        return Answer(int(first.split(" ")[1]), fields, b"")

    async def chunk(self) -> bytes:
        """One piece of a chunked body; empty at its end."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


async def ask(member: Member, line: str, form: str = "", seconds: float = ASK_SECONDS) -> Answer:
    """One question on a connection of its own."""
    connection = await Connection.to(member)
    try:
        return await connection.ask(line, form, seconds)
    finally:
        await connection.close()


async def put(member: Member, key: str, value: str) -> Answer:
    return await ask(member, f"PUT /v2/keys{key}", f"value={value}")


async def keys_below(member: Member, folder: str) -> dict[str, str]:
    """Keys and values directly below a folder, as a linearizable read of this member sees them."""
    answer = await ask(member, f"GET /v2/keys{folder}?quorum=true")
    if answer.status == 404:
        return {}
    assert answer.status == 200, answer
    return {node["key"]: node.get("value", "") for node in answer.json["node"].get("nodes", ())}


async def healthy(*members: Member) -> None:
    """Waits until each of them serves linearizable reads, and so has caught up with the leader."""

    async def is_healthy(member: Member) -> bool:
        with suppress(OSError, EOFError):
            return (await ask(member, "GET /health")).status == 200
        return False

    for member in members:
        await until(lambda member=member: is_healthy(member), f"{member.name} is healthy")  # type: ignore[misc]


async def term_of(member: Member) -> int:
    return int((await ask(member, "GET /v2/keys/")).headers["x-raft-term"])


async def leader_among(members: Sequence[Member]) -> Member:
    """Who leads in the highest term that any of them says it leads in; waits until all live ones agree on a term."""
    found: list[Member] = []

    async def one_leads() -> bool:
        found.clear()
        terms = {await term_of(member) for member in members}
        words = [f"became leader term={term} " for term in terms]
        found.extend(member for member in members if words and words[0] in member.log)
        return len(terms) == 1 and len(found) == 1

    await healthy(*members)
    await until(one_leads, "one member leads and all know its term")
    return found[0]


class Load:
    """What a number of writers did. Times are seconds of the monotonic clock."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.acknowledged: dict[str, str] = {}
        self.times: list[float] = []  # of each acknowledgement
        self.asked: list[float] = []  # when those were asked for
        self.stalls: list[tuple[float, float]] = []  # when, and for how long, this process itself could not run
        self.stopping = False

    def longest_stall(self, since: float) -> float:
        """What the machine, and not the cluster, may have added to a gap since then: other processes' work."""
        return max((length for moment, length in self.stalls if moment + length > since), default=0.0)

    async def watch_the_clock(self) -> None:
        while not self.stopping:
            before = time.monotonic()
            await asyncio.sleep(PACE_SECONDS)
            self.stalls.append((before, time.monotonic() - before - PACE_SECONDS))

    def longest_gap(self, since: float, to: float | None = None) -> float:
        """Between two acknowledgements, or from `since` to the first, or from the last to `to` (now)."""
        end = time.monotonic() if to is None else to
        moments = [since, *(moment for moment in self.times if since < moment < end), end]
        return max(after - before for before, after in pairwise(moments))

    async def acknowledges_after(self, moment: float, seconds: float = 20.0) -> float:
        """How long after `moment` the first write was acknowledged that was asked for after it; waits for that."""

        async def is_so() -> bool:
            return any(asked > moment for asked in reversed(self.asked[-100:]))

        await until(is_so, "a write is acknowledged", seconds)
        return next(end for asked, end in zip(self.asked, self.times, strict=True) if asked > moment) - moment

    async def write(self, writer: int, members: Sequence[Member], pace: float) -> None:
        """One writer, until it is told to stop."""
        at = writer
        connection: Connection | None = None
        number = 0
        while not self.stopping:
            key, value = f"{self.folder}/{writer}-{number}", f"{writer}.{number}"
            asked = time.monotonic()
            try:
                if connection is None:
                    connection = await Connection.to(members[at % len(members)])
                answer = await connection.ask(f"PUT /v2/keys{key}", f"value={value}")
            except (OSError, EOFError):
                answer = None
            if answer is not None and answer.status in (200, 201):
                self.acknowledged[key] = value
                self.asked.append(asked)
                self.times.append(time.monotonic())
                number += 1
            else:
                if connection is not None:
                    await connection.close()
                connection, at = None, at + 1
            await asyncio.sleep(pace)
        if connection is not None:
            await connection.close()


@asynccontextmanager
async def load(
    members: Sequence[Member], folder: str = "/load", writers: int = 4, pace: float = PACE_SECONDS
) -> AsyncIterator[Load]:
    """Writers to `members` while the block runs. All writes have their answer at its end."""
    made = Load(folder)
    async with asyncio.TaskGroup() as group:
        group.create_task(made.watch_the_clock())
        for writer in range(writers):
            group.create_task(made.write(writer, members, pace))
        try:
            await made.acknowledges_after(0.0)
            yield made
        finally:
            made.stopping = True
