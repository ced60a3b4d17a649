"""What idle watchers cost one member, and how soon one write reaches all of them.

Every watcher is a connection of its own that long-polls the same key. They are plain sockets behind one epoll, so that
this side of them costs little of the time that is measured.
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
            _hear(more, HEAD_END)  # the head of the answer comes at once
            watchers += more
        grown = resident_bytes(member) - before
        writer = stack.enter_context(socket.create_connection(address, DEADLINE_SECONDS))
        with _listening(watchers) as listening:
            began = time.perf_counter()
            writer.sendall(_PUT)
            _hear_on(listening, watchers, b'"action":"set"')
            seconds = time.perf_counter() - began
    return Measured(count, grown / count, seconds)


def _hear(sockets: list[socket.socket], words: bytes) -> None:
    with _listening(sockets) as listening:
        _hear_on(listening, sockets, words)


@contextlib.contextmanager
def _listening(sockets: Iterable[socket.socket]) -> Iterator[select.epoll]:
    with select.epoll() as listening:
        for one in sockets:
            listening.register(one, select.EPOLLIN)
        yield listening


def _hear_on(listening: select.epoll, sockets: list[socket.socket], words: bytes) -> None:
    """Returns when each of the sockets has received the words."""
    waiting = {one.fileno(): one for one in sockets}
    heard = dict.fromkeys(waiting, b"")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while waiting:
        ready = listening.poll(max(0.0, deadline - time.monotonic()))
        if not ready:
            raise CannotMeasure(f"{len(waiting)} of {len(sockets)} watchers did not hear what they wait for")
        for number, _ in ready:
            if number not in waiting:
                continue
            piece = waiting[number].recv(1 << 12)
            if not piece:
                raise CannotMeasure("the server closes the connection of a watcher")
            heard[number] += piece
            if words in heard[number]:
                del waiting[number]
                listening.unregister(number)


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
