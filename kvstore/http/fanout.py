"""One piece to many connections: out of as many threads as there are cores, where that is compiled (sockets.py).

Nearly all that such a send costs is the kernel's, and the interpreter is not needed for it. So while the event loop
waits here, as it would if it sent alone, others help. What cannot be sent at once goes the usual way, by the transport:
whoever does not read, or is gone. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from kvstore.http import sockets

#: Connections from which on it pays to wake other threads.
MANY = 128
#: Threads that send, the event loop's among them.
THREADS = 4


class Fanout:
    """`cores`: that this process may use. The helping threads are started when they are first needed."""

    def __init__(self, cores: int) -> None:
        self._helpers = min(cores, THREADS) - 1 if sockets.is_compiled else 0
        self._pool: ThreadPoolExecutor | None = None

    def send(self, piece: bytes, transports: list[asyncio.Transport]) -> None:
        if not self._helpers or len(transports) < MANY:
            for transport in transports:
                transport.write(piece)
            return
        ready, files = [], []
        for transport in transports:
            file = sockets.file_of(transport)
            if file < 0:
                transport.write(piece)
            else:
                ready.append(transport)
                files.append(file)
        for at, sent in self._send(piece, files):
            ready[at].write(piece[sent:])

    def _send(self, piece: bytes, files: list[int]) -> list[tuple[int, int]]:
        """To which of them not all was sent, and how much was."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._helpers, "kvstore-fanout")
        sends = sockets.Sends(piece, files)
        helping = [self._pool.submit(sends.run) for _ in range(self._helpers)]
        sends.run()
        for helper in helping:
            if not helper.cancel():  # it has begun, and the descriptors are its until it ends
                helper.result()
        return sends.unsent()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
