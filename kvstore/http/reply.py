"""Answers as plain values, and the bytes they become on a connection.

An `Answer` is what a handler decides: status, its own header lines, body. `compose` adds what every answer on a
connection has (status line, CORS, Date, length). Knows nothing of routes, stores or sockets.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

from kvstore.http.shared import Shared

REASONS = {
    200: b"OK",
    201: b"Created",
    204: b"No Content",
    301: b"Moved Permanently",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    412: b"Precondition Failed",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_LINES = (
    {status: b"HTTP/1.0 %d %s\r\n" % (status, reason) for status, reason in REASONS.items()},
    {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in REASONS.items()},
)

TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
#: Go's http.Error: what its 404 and 405 pages and an unhealthy /health carry.
TEXT_ERROR = TEXT + b"X-Content-Type-Options: nosniff\r\n"
JSON = b"Content-Type: application/json\r\n"
#: On every 503 that says no more than: not now. In seconds.
RETRY_LATER = b"Retry-After: 1\r\n"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answer(NamedTuple):
    """`head` is zero or more whole header lines, each ending in CR LF."""

    status: int
    head: bytes
    body: bytes


class Manner(NamedTuple):
    """How one request wants to be answered, whatever the answer is."""

    http11: bool  # the answer repeats the request's version
    keep_alive: bool
    head_only: bool  # HEAD
    cors: bytes  # header lines


def cors_lines(origin: bytes) -> bytes:
    """The three lines etcd puts on every answer; `origin` is `*` or the request's own allowed Origin."""
    return (
        b"Access-Control-Allow-Headers: accept, content-type, authorization\r\n"
        b"Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
        b"Access-Control-Allow-Origin: " + origin + b"\r\n"
    )


CORS_ANY = cors_lines(b"*")


class _DateLine:
    """The Date header, formatted once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"Date: %s\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


date_line = _DateLine()


def status_line(status: int) -> bytes:
    """Of HTTP/1.1."""
    return _LINES[1][status]


def _connection_line(manner: Manner) -> bytes:
    if manner.keep_alive:
        return b"" if manner.http11 else b"Connection: keep-alive\r\n"
    return b"Connection: close\r\n" if manner.http11 else b""


def compose(answer: Answer, manner: Manner) -> bytes:
    """The whole answer as it goes on the wire."""
    status, head, body = answer
    if manner == _USUAL and status != 204:
        return b"%s%s%s%sContent-Length: %d\r\n\r\n%s" % (
            _LINES[1][status],
            CORS_ANY,
            head,
            date_line(),
            len(body),
            body,
        )
    # Go cannot know the length of a HEAD answer for which nothing was written (a redirect); a 204 has no body at all.
    is_bare = status == 204 or (manner.head_only and not body)
    length = b"" if is_bare else b"Content-Length: %d\r\n" % len(body)
    return b"".join(
        (
            _LINES[manner.http11][status],
            manner.cors,
            head,
            date_line(),
            length,
            _connection_line(manner),
            b"\r\n",
            b"" if manner.head_only else body,
        )
    )


_USUAL = Manner(http11=True, keep_alive=True, head_only=False, cors=CORS_ANY)


def compose_stream_head(head: bytes, manner: Manner, status: int = 200) -> bytes:
    """The head of an answer whose body comes in pieces: chunked, or for HTTP/1.0 until the connection closes."""
    coding = b"Transfer-Encoding: chunked\r\n" if manner.http11 else b""
    closing = b"Connection: close\r\n" if manner.http11 and not manner.keep_alive else b""
    return b"".join((_LINES[manner.http11][status], manner.cors, head, date_line(), closing, coding, b"\r\n"))


LAST_CHUNK = b"0\r\n\r\n"

# Ten thousand watchers that are sent the same piece share one object, also while some of them leave it unread.
_chunks = Shared[bytes](lambda piece: b"%x\r\n%s\r\n" % (len(piece), piece))
_last_pieces = Shared[bytes](lambda piece: b"%x\r\n%s\r\n%s" % (len(piece), piece, LAST_CHUNK))


@lru_cache(maxsize=1)
def chunk(piece: bytes) -> bytes:
    return _chunks(piece)


@lru_cache(maxsize=1)
def last_piece(piece: bytes) -> bytes:
    """As `chunk`, followed by the end of the body, so that both take one send."""
    return _last_pieces(piece)


def part(piece: bytes) -> bytes:
    """As `chunk`, for a piece that one client alone gets; nothing for none, since that would be the last chunk."""
    return b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""


def last_part(piece: bytes) -> bytes:
    return part(piece) + LAST_CHUNK


def refusal(status: int, text: bytes = b"", head: bytes = b"") -> bytes:
    """Go's own answer to a request that it cannot parse: no Date, no CORS; the connection closes after it."""
    line = b"%d %s" % (status, text or REASONS[status])
    head += b"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    return b"HTTP/1.1 %s\r\n%s\r\n%s" % (line, head, line)
