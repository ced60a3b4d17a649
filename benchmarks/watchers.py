"""What idle watchers cost one member, and how soon one write reaches all of them.

Every watcher is a connection of its own that long-polls the same key. They are plain sockets behind one epoll. This
side of them takes next to nothing of the time that is measured: it looks every millisecond for sockets at which
something has arrived, so that no send has to wake it, and reads once all of them have something.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from benchmarks.raw import HEAD_END, get, put
from benchmarks.systems import CannotMeasure, resident_bytes
from tests.cluster import Member

AT_ONCE = 200  # connections that are being opened
ROOM_FOR_OTHERS = 100  # file descriptors
DEADLINE_SECONDS = 120.0
LOOK_SECONDS = 0.001  # between two looks for what has arrived

_WATCH = get("/v2/keys/watched?wait=true")
_PUT = put(b"watched", b"v")


class Measured(NamedTuple):
    watchers: int
    bytes_each: float
    seconds_to_all: float


def measure(member: Member, count: int) -> Measured:
    """Opens `count` watches on a member that does nothing else, then writes once. CannotMeasure, OSError."""
    address = (member.address, member.ports.client)
    before = resident_bytes(member)
    watchers: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        while len(watchers) < count:
            more = [
                stack.enter_context(socket.create_connection(address, DEADLINE_SECONDS))
                for _ in range(min(AT_ONCE, count - len(watchers)))
            ]
            for watcher in more:
                watcher.sendall(_WATCH)
                watcher.setblocking(False)
            with _listening(more) as listening:
                _hear(listening, more, HEAD_END)  # the head of the answer comes at once
            watchers += more
        grown = resident_bytes(member) - before
        writer = stack.enter_context(socket.create_connection(address, DEADLINE_SECONDS))
        with _listening(watchers) as listening:
            began = time.perf_counter()
            writer.sendall(_PUT)
            seconds = _hear(listening, watchers, b'"action":"set"') - began
    return Measured(count, grown / count, seconds)


@contextlib.contextmanager
def _listening(sockets: Iterable[socket.socket]) -> Iterator[select.epoll]:
    with select.epoll() as listening:
        for one in sockets:
            listening.register(one, select.EPOLLIN | select.EPOLLET)
        yield listening


def _hear(listening: select.epoll, sockets: list[socket.socket], words: bytes) -> float:
    """Returns when each of the sockets has received the words; gives the time at which the last of them had."""
    waiting = {one.fileno(): one for one in sockets}
    heard = dict.fromkeys(waiting, b"")
    deadline = time.perf_counter() + DEADLINE_SECONDS
    while True:
        silent = set(waiting)
        while True:
            silent.difference_update(number for number, _ in listening.poll(0, len(sockets)))
            looked = time.perf_counter()
            if not silent:
                break
            if looked > deadline:
                raise CannotMeasure(f"{len(silent)} of {len(sockets)} watchers did not hear what they wait for")
            time.sleep(LOOK_SECONDS)
        for number, one in list(waiting.items()):
            with contextlib.suppress(BlockingIOError):  # it was read with what came before
                piece = one.recv(1 << 12)
                if not piece:
                    raise CannotMeasure("the server closes the connection of a watcher")
                heard[number] += piece
            if words in heard[number]:
                del waiting[number]
        if not waiting:
            return looked


def raise_limit(count: int) -> None:
    """Of open files, here and in the servers that are started from here. CannotMeasure where that may not be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + ROOM_FOR_OTHERS
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):
        raise CannotMeasure(f"{wanted} open files are needed; raise the limit: ulimit -n {wanted}") from None
