"""HTTP/1.1 requests as bytes, and whole answers from a stream: what the clients here need of HTTP, and no more."""

from __future__ import annotations

import asyncio

from benchmarks.systems import CannotMeasure

HEAD_END = b"\r\n\r\n"
SUCCESS = b"HTTP/1.1 20"  # 200 and 201: no other answer here begins so


def get(target: str) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % target.encode()


def put(key: bytes, content: bytes) -> bytes:
    return (
        b"PUT /v2/keys/%b HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\nvalue=%b" % (key, 6 + len(content), content)
    )


async def answer(reader: asyncio.StreamReader) -> None:
    """One whole answer. CannotMeasure when it tells of no success; EOFError or OSError when it does not come."""
    head = await reader.readuntil(HEAD_END)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = await reader.readexactly(int(length.partition(b":")[2]))
    if not head.startswith(SUCCESS):
        raise CannotMeasure(f"a request was refused: {head[:40]!r} {body[:100]!r}")
