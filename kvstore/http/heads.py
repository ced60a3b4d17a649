"""Heads of requests that leave no doubt: the only ones that the express lane takes.

A pattern for the request line, and a judgement of the block of header lines, which is remembered: a client sends the
same block again and again. Knows no connection.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kvstore.http.v2.form import FORM_TYPE

#: Different blocks that are remembered. One more, and all are forgotten and learnt anew.
HEADS = 4096
HEAD_BYTES = 2048  # of a block that is worth remembering

#: Method, path and query. No component of the path is empty or begins with a dot, nothing is percent-encoded: such a
#: path is clean (target.py) as it is.
LINE = re.compile(
    rb"(GET|PUT|POST|DELETE) (/v2/keys(?:/(?![/.])[!$&-.0-;=@-Z_a-z~]*)*)(?:\?([!$%&-;=?@-Z_a-z~]*))? HTTP/1\.1"
)

#: The other request that is taken; of its method only GET, and no query.
HEALTH_LINE = b"GET /health HTTP/1.1"

_HEADER = re.compile(rb"\r\n([A-Za-z-]+):[ ]*([!-~](?:[ -~]*[!-~])?)?")
_HARMLESS = frozenset((b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"pragma", b"user-agent"))
_HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]+")
_LENGTH = re.compile(rb"[0-9]{1,9}")


class Head(NamedTuple):
    """What a block of header lines says about its request."""

    length: int  # of the body
    is_form: bool


NO_BODY = Head(0, False)


def judge(lines: bytes) -> Head | None:
    """The header lines of a request, each with a CR LF in front; None: not for this lane."""
    values: dict[bytes, bytes] = {}
    at = 0
    while at < len(lines):
        header = _HEADER.match(lines, at)
        if header is None or header[1].lower() in values:
            return None
        values[header[1].lower()] = header[2] or b""
        at = header.end()
    length = values.pop(b"content-length", b"0")
    content_type = values.pop(b"content-type", None)
    is_known = (
        _HOST.fullmatch(values.pop(b"host", b""))
        and _LENGTH.fullmatch(length)
        and content_type in (None, FORM_TYPE)
        and values.pop(b"connection", b"keep-alive").lower() == b"keep-alive"
        and _HARMLESS.issuperset(values)
    )
    return Head(int(length), content_type is not None) if is_known else None


class Heads:
    """Judgements that were made before."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[bytes, Head] = {}

    def __len__(self) -> int:
        return len(self.known)

    def judge(self, lines: bytes) -> Head | None:
        head = self.known.get(lines)
        if head is None:
            head = judge(lines)
            if head is not None and len(lines) <= HEAD_BYTES:
                if len(self.known) >= HEADS:
                    self.known.clear()
                self.known[lines] = head
        return head
