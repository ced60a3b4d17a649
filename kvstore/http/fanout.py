"""One piece to many connections: out of as many threads as there are cores, where that is compiled (sockets.py).

Nearly all that such a send costs is the kernel's, and the interpreter is not needed for it. So while the event loop
waits here, as it would if it sent alone, others help. What cannot be sent at once goes the usual way: whoever does not
read, or is gone. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from kvstore.http import sockets

#: Connections from which on it pays to wake other threads.
MANY = 128
#: Threads that send, the event loop's among them.
THREADS = 4


class Receiver(Protocol):
    """A connection."""

    @property
    def file(self) -> int:
        """Its descriptor, if what is sent there at once is what `write` would send; below 0: it is not."""

    def write(self, octets: bytes) -> None: ...


class Fanout:
    """`cores`: that this process may use. The helping threads are started when they are first needed."""

    def __init__(self, cores: int) -> None:
        self._helpers = min(cores, THREADS) - 1 if sockets.is_compiled else 0
        self._pool: ThreadPoolExecutor | None = None

    def send(self, piece: bytes, receivers: Sequence[Receiver]) -> None:
        if not self._helpers or len(receivers) < MANY:
            for receiver in receivers:
                receiver.write(piece)
            return
        for at, sent in self._send(piece, [receiver.file for receiver in receivers]):
            receivers[at].write(piece[sent:])

    def _send(self, piece: bytes, files: list[int]) -> list[tuple[int, int]]:
        """To which of them not all was sent, and how much was."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._helpers, "kvstore-fanout")
        sends = sockets.Sends(piece, files)
        helping = []
        with suppress(RuntimeError):  # the system has no room for another thread
            for _ in range(self._helpers):
                helping.append(self._pool.submit(sends.run))  # noqa: PERF401  # those before it help all the same
        sends.run()
        for helper in helping:
            if not helper.cancel():  # it has begun, and the descriptors are its until it ends
                helper.result()
        return sends.unsent()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
