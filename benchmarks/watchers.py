"""What idle watchers cost one member, and how soon one write reaches all of them.

    python -m benchmarks.watchers [--count 10000]

Every watcher is a connection of its own that long-polls the same key. Prints the memory of the server for each, and the
time from the write to the last event.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.cluster import Cluster, Member

COUNT = 10_000
AT_ONCE = 200  # connections that are being opened
ROOM_FOR_OTHERS = 100  # file descriptors
DEADLINE_SECONDS = 120.0

_WATCH = b"GET /v2/keys/bench/watched?wait=true HTTP/1.1\r\nHost: x\r\n\r\n"
_PUT = (
    b"PUT /v2/keys/bench/watched HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 7\r\n\r\nvalue=v"
)


class Measured(NamedTuple):
    watchers: int
    bytes_each: float
    seconds_to_all: float


class _Watcher(asyncio.Protocol):
    """Counts what comes: the head of the answer, and later the event."""

    def __init__(self, headed: asyncio.Semaphore, told: asyncio.Semaphore) -> None:
        self._headed = headed
        self._told = told
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_WATCH)

    def data_received(self, octets: bytes) -> None:
        before = self._heard
        self._heard += octets
        if b"\r\n\r\n" not in before and b"\r\n\r\n" in self._heard:
            self._headed.release()
        if b'"action":"set"' not in before and b'"action":"set"' in self._heard:
            self._told.release()


async def measure(member: Member, count: int) -> Measured:
    """Opens `count` watches on a member that does nothing else, then writes once."""
    loop = asyncio.get_running_loop()
    headed, told, opening = asyncio.Semaphore(0), asyncio.Semaphore(0), asyncio.Semaphore(AT_ONCE)
    before = resident_bytes(member)
    transports = []

    async def watch() -> None:
        async with opening:
            transport, _ = await loop.create_connection(
                lambda: _Watcher(headed, told), member.address, member.ports.client
            )
            transports.append(transport)
            await headed.acquire()

    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*(watch() for _ in range(count)))
        grown = resident_bytes(member) - before
        reader, writer = await asyncio.open_connection(member.address, member.ports.client)
        began = time.perf_counter()
        writer.write(_PUT)
        for _ in range(count):
            await told.acquire()
        seconds = time.perf_counter() - began
        await reader.readuntil(b"\r\n\r\n")
    writer.close()
    for transport in transports:
        transport.abort()
    return Measured(count, grown / count, seconds)


def resident_bytes(member: Member) -> int:
    assert member.process is not None
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def raise_limit(count: int) -> None:
    """Of open files, here and in the servers that are started from here. ValueError where that cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + ROOM_FOR_OTHERS
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT)
    count = parser.parse_args().count
    raise_limit(count)
    with tempfile.TemporaryDirectory() as folder, Cluster.of(1, Path(folder)) as cluster:
        measured = asyncio.run(measure(cluster.members[0], count))
    print(f"{measured.watchers} idle watchers: {measured.bytes_each / 1024:.1f} KiB each")
    print(f"one write reached all of them in {measured.seconds_to_all:.3f} s")


if __name__ == "__main__":
    main()
