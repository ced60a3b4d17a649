"""Real members for the system tests: started, killed, stopped and frozen as an operator or a power cut would.

Asynchronous, so that clients go on meanwhile (tests/cluster.py is the blocking one, for scripts). Each cluster lives
on a loopback address of its own, so that neither another cluster nor an outgoing connection can take the port of a
member that is down. Nothing here knows what a test is about.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.cluster import environment, free_ports

START_SECONDS = 20.0  # a deadline, for a machine with a lot to do
STOP_SECONDS = 20.0


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = START_SECONDS) -> None:
    """Waits for `condition`, asked every ten milliseconds; TimeoutError says what did not happen."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise TimeoutError(f"after {seconds} s still not so: {what}") from None


def own_address() -> str:
    """A loopback address that nobody else is likely to use (Linux answers on all of 127/8)."""
    return ".".join(["127", *(str(random.randrange(1, 255)) for _ in range(3))])


class Member:
    """One server. `peer_port` is where it listens for the others; they may be told another URL."""

    def __init__(self, name: str, folder: Path, address: str, flags: Sequence[str] = ()) -> None:
        self.name = name
        self.folder = folder / name
        self.log_file = folder / f"{name}.log"
        self.address = address
        self.client_port, self.peer_port = free_ports(address, 2)
        self.peer_url = f"http://{address}:{self.peer_port}"
        self.flags = list(flags)  # may be changed between two starts
        self.initial_cluster = ""
        self.environment: dict[str, str] = {}
        self.process: asyncio.subprocess.Process | None = None

    @property
    def client_url(self) -> str:
        return f"http://{self.address}:{self.client_port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    @property
    def wal_folder(self) -> Path:
        return self.folder / "member" / "wal"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "kvstored"),
            *("--name", self.name, "--data-dir", str(self.folder)),
            *("--listen-client-urls", self.client_url, "--advertise-client-urls", self.client_url),
            *("--listen-peer-urls", f"http://{self.address}:{self.peer_port}"),
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", self.initial_cluster or f"{self.name}={self.peer_url}"),
            *self.flags,
        ]

    async def launch(self, *before: str) -> None:
        """Starts it, under the command `before` if one is given; does not wait until it serves."""
        assert not self.is_running
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *before, *self.command(), stdout=log, stderr=log, env=environment() | self.environment
            )

    async def start(self) -> None:
        """Starts it and waits until it serves clients, with a leader or without."""
        await self.launch()
        await self.serves()

    async def serves(self) -> None:
        async def connects() -> bool:
            assert self.is_running, f"{self.name} ended with {self.exit_status}:\n{self.log}"
            with suppress(OSError):
                _, writer = await asyncio.open_connection(self.address, self.client_port)
                writer.close()
                return True
            return False

        await until(connects, f"{self.name} serves clients")

    @property
    def exit_status(self) -> int | None:
        return self.process.returncode if self.process is not None else None

    async def ends(self) -> int:
        """Waits until it stops by itself; the exit status."""
        assert self.process is not None
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop; the exit status."""
        self.signal(number)
        return await self.ends()

    async def kill(self) -> None:
        """kill -9, and the process is gone on return."""
        if self.is_running:
            self.signal(signal.SIGKILL)
        await self.ends()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def refuses_to_start(self) -> str:
        """Starts a member that must not; what it said."""
        said = len(self.log)
        await self.launch()
        assert await self.ends() == 1, self.log[said:]
        assert "Traceback" not in self.log[said:]
        return self.log[said:]


class Cluster:
    """The members of one cluster, by name and in order; who of them leads changes."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.introduce()

    @classmethod
    def of(cls, count: int, folder: Path, flags: Sequence[str] = ()) -> Cluster:
        folder.mkdir(parents=True, exist_ok=True)
        address = own_address()
        return cls([Member(f"n{number}", folder, address, flags) for number in range(1, count + 1)])

    def introduce(self) -> None:
        """Tells each member of all; again when their peer URLs have changed."""
        for member in self.members:
            member.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in self.members)

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if member.is_running]

    async def start(self) -> None:
        await asyncio.gather(*(member.start() for member in self.members))

    async def kill(self) -> None:
        await asyncio.gather(*(member.kill() for member in self.running))


@asynccontextmanager
async def prepared(count: int, folder: Path, flags: Sequence[str] = ()) -> AsyncIterator[Cluster]:
    """`count` members that are not started yet; whatever runs of them at the end is killed."""
    cluster = Cluster.of(count, folder, flags)
    try:
        yield cluster
    finally:
        await cluster.kill()


@asynccontextmanager
async def running(count: int, folder: Path, flags: Sequence[str] = ()) -> AsyncIterator[Cluster]:
    """`count` members that serve; killed at the end."""
    async with prepared(count, folder, flags) as cluster:
        await cluster.start()
        yield cluster
