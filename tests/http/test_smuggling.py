"""Bytes that two servers might cut into requests differently: none of them brings a second request to life."""

from __future__ import annotations

import asyncio

import pytest

from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, RawClient
from tests.http.conftest import Connect

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
HIDDEN = b"PUT /v2/keys/hidden?value=1 HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def put(lines: bytes, body: bytes) -> bytes:
    return b"PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n" + FORM + lines + b"\r\n" + body


ODD = {
    "both lengths": put(LENGTH + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "both lengths, the other way round": put(CHUNKED + LENGTH, b"0\r\n\r\n" + HIDDEN),
    "two lengths": put(b"Content-Length: 0\r\n" + LENGTH, HIDDEN),
    "two lengths in one line": put(b"Content-Length: 0, %d\r\n" % len(HIDDEN), HIDDEN),
    "the same length twice": put(LENGTH + LENGTH, HIDDEN),
    "a length with a sign": put(b"Content-Length: +0\r\n", HIDDEN),
    "a length below zero": put(b"Content-Length: -1\r\n", HIDDEN),
    "a hexadecimal length": put(b"Content-Length: 0x0\r\n", HIDDEN),
    "a length with a blank": put(b"Content-Length: 0 0\r\n", HIDDEN),
    "a length in other digits": put(b"Content-Length: \xd9\xa0\r\n", HIDDEN),
    "a length beyond 64 bits": put(b"Content-Length: 18446744073709551616\r\n", HIDDEN),
    "a blank before the colon": put(b"Content-Length : 0\r\n", HIDDEN),
    "a coding that is none": put(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "chunked is not the last coding": put(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + HIDDEN),
    "chunked twice": put(CHUNKED + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "a tab in the name": put(b"Transfer-\tEncoding: chunked\r\n", b"0\r\n\r\n" + HIDDEN),
    "a folded line": put(b"X: y\r\n " + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "a folded length": put(b"Content-Length:\r\n 0\r\n", HIDDEN),
    "a bare LF behind a line": put(b"X: y\n" + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "a bare LF at the end of the head": b"PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\n\n" + HIDDEN,
    "a bare CR in a line": put(b"X: y\r" + CHUNKED, b"0\r\n\r\n" + HIDDEN),
    "a NUL in a line": put(b"X: \x00\r\n", HIDDEN),
    "a NUL in a name": put(b"X\x00: y\r\n", HIDDEN),
    "a NUL in the target": b"PUT /v2/keys/\x00 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "a line without a colon": put(b"nonsense\r\n", HIDDEN),
    "a chunk size that is none": put(CHUNKED, b"g\r\n" + HIDDEN),
    "a chunk size with a sign": put(CHUNKED, b"+0\r\n\r\n" + HIDDEN),
    "a chunk size beyond 64 bits": put(CHUNKED, b"10000000000000000\r\n" + HIDDEN),
    "a chunk size that ends in a bare LF": put(CHUNKED, b"0\n\n" + HIDDEN),
    "a chunk longer than it says": put(CHUNKED, b"1\r\nvalue\r\n0\r\n\r\n" + HIDDEN),
    "two hosts": b"PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + HIDDEN,
    "a second version": b"PUT /v2/keys/a HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /v2/keys/a\r\n" + HIDDEN,
    "a version of three digits": b"PUT /v2/keys/a HTTP/1.10\r\nHost: x\r\n\r\n" + HIDDEN,
    "a space in front": b" " + put(b"Content-Length: 0\r\n", HIDDEN),
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD.keys())
async def test_what_may_be_read_in_two_ways_is_refused_and_ends_the_connection(
    raw: bytes, connect: Connect, backend: LocalBackend
) -> None:
    for pieces in ([raw], [raw[:40], raw[40:]], [raw[: raw.index(HIDDEN)], HIDDEN]):
        client = await connect()
        for piece in pieces:
            client.send(piece)
            await client.writer.drain()
        answered = await everything(client)
        statuses = [line.split(b" ")[1] for line in answered.split(b"\r\n") if line.startswith(b"HTTP/1.")]
        assert statuses[-1:] == [b"400"], answered
        assert backend.store.index == 0 or b"hidden" not in repr(backend.store.get(b"/", True, True, 0)).encode()


async def everything(client: RawClient) -> bytes:
    try:
        async with asyncio.timeout(DEADLINE):
            return await client.reader.read()
    except ConnectionError:  # what it had to say was lost
        return b"HTTP/1.1 400"


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\r\n",
        b"0;ext=1\r\n\r\n",
        b"00\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"7\r\nvalue=1\r\n0\r\n\r\n",
    ],
)
async def test_a_request_behind_a_chunked_body_is_answered_once(
    body: bytes, client: RawClient, backend: LocalBackend
) -> None:
    client.send(put(CHUNKED, body) + b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answered = await everything(client)
    assert answered.count(b"HTTP/1.1 20") == 2
