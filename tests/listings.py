"""`make listings`: what long listings and wide fan-outs take of everybody else, on real members, with bounds.

Four scenes: clients that list a directory again and again beside a writer; one listing of very large values; thousands
of streams and one large event; many keys that expire together, with streams that do not read. In each, one PUT after
the other and one `/health` after the other are timed on connections of their own. tests/system/test_listings.py plays
them small.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.filling import fill
from benchmarks.raw import HEAD_END, get, put
from benchmarks.systems import resident_bytes
from benchmarks.watchers import raise_limit
from tests.cluster import Cluster, Member

LONGEST_SECONDS = 0.25  # of a PUT or a /health meanwhile
WRITES_KEPT = 1 / 3
IDLE_SECONDS = 1.0  # after the clients left
IDLE_CPU = 0.15  # of one core, at most, for the second that follows
LISTING_BYTES = 50e6  # more resident memory than before, for a listing of any length
DEADLINE_SECONDS = 120.0

_LIST = get("/v2/keys/many?sorted=true")
_LIST_LARGE = get("/v2/keys/large")
_STREAM = get("/v2/keys/?wait=true&recursive=true&stream=true")


class Sizes(NamedTuple):
    keys: int = 200_000
    listers: int = 10
    values: int = 60  # of 10 MB
    streams: int = 15_000
    event_bytes: int = 1_000_000
    expiring: int = 100_000
    deaf: int = 500
    seconds: float = 10.0
    members: int = 3


class Figure(NamedTuple):
    what: str
    value: float
    bound: float
    is_least: bool = False  # of the bound

    @property
    def is_kept(self) -> bool:
        return self.value >= self.bound if self.is_least else self.value <= self.bound

    def __str__(self) -> str:
        word = "at least" if self.is_least else "at most"
        return f"{'ok  ' if self.is_kept else 'OVER'} {self.what}: {self.value:.3f} ({word} {self.bound:.3f})"


def connect(member: Member, receive_bytes: int = 0) -> socket.socket:
    plain = socket.socket()
    if receive_bytes:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.settimeout(DEADLINE_SECONDS)
    plain.connect((member.address, member.ports.client))
    return plain


def ask(connection: socket.socket, raw: bytes) -> bytes:
    """The head and what came with it, of an answer that is short."""
    connection.sendall(raw)
    heard = b""
    while HEAD_END not in heard:
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionError("the member closes the connection")
        heard += piece
    return heard


class Probe(threading.Thread):
    """Asks the same again and again, and knows how long each answer took."""

    def __init__(self, member: Member, raw: bytes, pause: float = 0.01) -> None:
        super().__init__(daemon=True)
        self._member = member
        self._raw = raw
        self._pause = pause
        self._is_over = threading.Event()
        self.took: list[float] = []
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            with contextlib.closing(connect(self._member)) as connection:
                while not self._is_over.wait(self._pause):
                    began = time.perf_counter()
                    if not ask(connection, self._raw).startswith(b"HTTP/1.1 20"):
                        raise ConnectionError("a probe was refused")
                    self.took.append(time.perf_counter() - began)
        except Exception as problem:
            self.problem = problem

    def end(self) -> list[float]:
        self._is_over.set()
        self.join()
        if self.problem is not None:
            raise self.problem
        return self.took


@contextmanager
def probed(member: Member, figures: list[Figure], scene: str) -> Iterator[None]:
    probes = {"PUT": Probe(member, put(b"probe", b"v")), "/health": Probe(member, get("/health"))}
    for probe in probes.values():
        probe.start()
    try:
        yield
    finally:
        longest = {what: max(probe.end(), default=DEADLINE_SECONDS) for what, probe in probes.items()}
    figures += [
        Figure(f"{scene}: longest {what} meanwhile, s", took, LONGEST_SECONDS) for what, took in longest.items()
    ]


def write_rate(member: Member, seconds: float) -> float:
    """Acknowledged writes in a second, of one client that writes one after the other."""
    writer = Probe(member, put(b"written", b"v"), pause=0.0)
    writer.start()
    time.sleep(seconds)
    return len(writer.end()) / seconds


def cpu_seconds(member: Member) -> float:
    assert member.process is not None
    fields = Path(f"/proc/{member.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def draining(member: Member, clients: int) -> Iterator[subprocess.Popen[bytes]]:
    """Clients in a process of their own that list again and again and throw away what they read; killed at the end."""
    port = str(member.ports.client)
    command = [sys.executable, "-m", "tests.listings", "--drain", member.address, port, str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # the first bytes have come
            yield process
        finally:
            process.kill()


def drain(address: str, port: int, clients: int) -> None:
    """For ever. Says a word when the first bytes have come."""
    heard = threading.Event()

    def one() -> None:
        with socket.create_connection((address, port)) as connection:
            room = bytearray(1 << 20)
            tail = b""
            connection.sendall(_LIST)
            while got := connection.recv_into(room):
                heard.set()
                tail = (tail + room[max(0, got - 8) : got])[-7:]
                if tail == b"\r\n0\r\n\r\n":
                    connection.sendall(_LIST)

    for _ in range(clients):
        threading.Thread(target=one, daemon=True).start()
    heard.wait()
    sys.stdout.write("reading\n")
    sys.stdout.flush()
    threading.Event().wait()


def listers(leader: Member, sizes: Sizes) -> list[Figure]:
    """Clients that list beside a writer."""
    figures: list[Figure] = []
    fill(leader, (put(b"many/key-%d" % number, b"a value of some length %d" % number) for number in range(sizes.keys)))
    alone = write_rate(leader, sizes.seconds / 2)
    with draining(leader, sizes.listers), probed(leader, figures, "listing"):
        meanwhile = write_rate(leader, sizes.seconds)
    time.sleep(IDLE_SECONDS)
    before = cpu_seconds(leader)
    time.sleep(1.0)
    idle = cpu_seconds(leader) - before
    what = f"listing: writes a second, {alone:.0f} alone, kept"
    return [
        Figure(what, meanwhile / alone, WRITES_KEPT, is_least=True),
        *figures,
        Figure("listing: CPU of the second after the clients are gone for one, s", idle, IDLE_CPU),
    ]


def large_values(leader: Member, sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    for number in range(sizes.values):
        with contextlib.closing(connect(leader)) as connection:
            ask(connection, put(b"large/%d" % number, b"%d" % (number % 10) * 10_000_000))
    _settle(lambda: resident_bytes(leader))
    before = most = resident_bytes(leader)
    total = 0
    with probed(leader, figures, "large values"), contextlib.closing(connect(leader)) as connection:
        connection.sendall(_LIST_LARGE)
        room = bytearray(1 << 20)
        tail = b""
        while tail != b"\r\n0\r\n\r\n" and (got := connection.recv_into(room)):
            total += got
            tail = (tail + room[max(0, got - 8) : got])[-7:]
            most = max(most, resident_bytes(leader))
    assert total > sizes.values * 10_000_000
    return [
        *figures,
        Figure(f"large values: more memory for {total / 1e6:.0f} MB, MB", (most - before) / 1e6, LISTING_BYTES / 1e6),
    ]


def streams(leader: Member, sizes: Sizes) -> list[Figure]:
    """One large event to thousands of streams."""
    figures: list[Figure] = []
    with contextlib.ExitStack() as stack:
        for _ in range(sizes.streams):
            ask(stack.enter_context(contextlib.closing(connect(leader, 2048))), _STREAM)
        writer = stack.enter_context(contextlib.closing(connect(leader)))
        with probed(leader, figures, f"{sizes.streams} streams"):
            ask(writer, put(b"event", b"x" * sizes.event_bytes))
            _settle(lambda: cpu_seconds(leader), least=sizes.seconds / 3)
    return figures


def expiry(leader: Member, sizes: Sizes) -> list[Figure]:
    """Keys that expire together, with streams that do not read."""
    figures: list[Figure] = []
    ttl = 12 if sizes.expiring > 10_000 else 3
    until = time.time() + ttl
    with contextlib.ExitStack() as stack:
        for _ in range(sizes.deaf):
            ask(stack.enter_context(contextlib.closing(connect(leader, 2048))), _STREAM.replace(b"/?", b"/short?"))

        def requests() -> Iterator[bytes]:
            for number in range(sizes.expiring):
                left = max(1, round(until - time.time()))
                yield put(b"short/%d" % number, b"v&ttl=%d" % left)

        fill(leader, requests())
        with probed(leader, figures, "expiry"):
            deadline = time.monotonic() + DEADLINE_SECONDS
            while _has_nodes(leader, "/v2/keys/short") and time.monotonic() < deadline:
                time.sleep(0.1)
    return figures


def _has_nodes(member: Member, target: str) -> bool:
    """Whether a directory has children; the rest of the answer is thrown away with its connection."""
    with contextlib.closing(connect(member)) as connection:
        heard = ask(connection, get(target))
        while b'"nodes":' not in heard and not heard.endswith(b"}\n"):
            heard += connection.recv(1 << 16)
        return b'"nodes":' in heard


def _settle(measure: Callable[[], float], least: float = 0.0) -> None:
    """Waits until a figure hardly changes in a second."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    began = time.monotonic()
    last = measure()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = measure()
        if abs(now - last) <= 0.1 * max(1.0, abs(last)) * 0.5 and time.monotonic() - began >= least:
            return
        last = now


SCENES = {"listers": listers, "large_values": large_values, "streams": streams, "expiry": expiry}


def play(folder: Path, sizes: Sizes, scene: str) -> list[Figure]:
    raise_limit(max(sizes.streams, sizes.deaf) + 100)
    with Cluster.of(sizes.members, folder) as cluster:
        return SCENES[scene](cluster.leader(), sizes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drain", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--scene", choices=SCENES, action="append", help="one of them alone")
    parser.add_argument("--members", type=int, default=Sizes().members)
    parser.add_argument("--small", action="store_true", help="as `make test` plays them")
    arguments = parser.parse_args()
    if arguments.drain:
        address, port, clients = arguments.drain
        drain(address, int(port), int(clients))
    sizes = (SMALL if arguments.small else Sizes())._replace(members=arguments.members)
    is_kept = True
    for scene in arguments.scene or SCENES:
        with tempfile.TemporaryDirectory() as folder:
            for figure in play(Path(folder), sizes, scene):
                sys.stdout.write(f"{figure}\n")
                sys.stdout.flush()
                is_kept = is_kept and figure.is_kept
    return 0 if is_kept else 1


SMALL = Sizes(
    keys=10_000,
    listers=4,
    values=5,
    streams=400,
    event_bytes=1_000_000,
    expiring=3_000,
    deaf=50,
    seconds=1.5,
    members=1,
)

if __name__ == "__main__":
    sys.exit(main())
