"""A client that sends the bytes it is given and takes answers apart, no more."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

DEADLINE = 5.0  # seconds; a test that needs them has failed


class Response(NamedTuple):
    status: int
    head: bytes  # without the final blank line
    body: bytes

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            field, _, value = line.decode("latin-1").partition(": ")
            if field.lower() == name.lower():
                return value
        return None


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> RawClient:
        return cls(*await asyncio.open_connection(host, port))

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def head(self) -> Response:
        """The head of an answer whose body is read apart."""
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
        return Response(int(head.split(b" ", 2)[1]), head, b"")

    async def response(self, without_body: bool = False) -> Response:
        response = await self.head()
        length = response.header("Content-Length")
        async with asyncio.timeout(DEADLINE):
            if without_body or response.status in (100, 204):
                return response
            if length is not None:
                return response._replace(body=await self.reader.readexactly(int(length)))
            if response.header("Transfer-Encoding") == "chunked":
                pieces = []
                while piece := await self.chunk():
                    pieces.append(piece)
                return response._replace(body=b"".join(pieces))
            return response._replace(body=await self.reader.read())

    async def chunk(self) -> bytes:
        """One piece of a chunked body; empty at its end."""
        async with asyncio.timeout(DEADLINE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def ask(self, raw: bytes) -> Response:
        self.send(raw)
        return await self.response(without_body=raw.startswith(b"HEAD"))

    async def is_closed(self) -> bool:
        """Waits for the server to close; false when it has something to say instead."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):  # the server was quicker
            await self.writer.wait_closed()


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """A request with its Host, and with the length of its body if it has one."""
    lines = [f"{line} HTTP/1.1" if " HTTP/" not in line else line, "Host: x", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


FORM = "Content-Type: application/x-www-form-urlencoded"


def put(key: str, form: str) -> bytes:
    return request(f"PUT /v2/keys{key}", FORM, body=form.encode())
