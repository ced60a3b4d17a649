"""A server that answers as a test tells it: for what no real member does on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

#: What becomes of one request: bytes are written as they are (None: the connection breaks), and False closes after it.
Reply = tuple[bytes | None, bool]


def answer(status: int, document: object = None, *, index: int = 0, close: bool = False) -> Reply:
    body = b"" if document is None else json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\nX-Etcd-Index: {index}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body, not close


def node(value: str = "1", index: int = 1, key: str = "/a", action: str = "get") -> dict[str, object]:
    return {"action": action, "node": {"key": key, "value": value, "createdIndex": index, "modifiedIndex": index}}


BREAK: Reply = (None, False)


class Fake:
    """Replies to the requests in turn; the last reply is given for ever. `asked` are the request lines and bodies."""

    def __init__(self, *replies: Reply | Callable[[], Reply]) -> None:
        self.replies = list(replies)
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.url = ""
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._serving: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Fake]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        self._serving.append(asyncio.ensure_future(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next((int(line[15:]) for line in head.splitlines() if line.startswith("Content-Length")), 0)
                body = (await reader.readexactly(length)).decode()
                method, target, _ = head.split(" ", 2)
                self.heads.append(head)
                self.asked.append(f"{method} {target}" + (f" {body}" if body else ""))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                written, goes_on = reply() if callable(reply) else reply
                if written is not None:
                    writer.write(written)
                    await writer.drain()
                if not goes_on:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
