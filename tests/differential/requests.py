"""One request to the key space as the differential test means it, and its bytes on the wire.

Plain values: what may be asked is in strategies.py, what the answer should be in expected.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote_from_bytes

FORM = b"application/x-www-form-urlencoded"
PREFIX = b"/v2/keys"


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is what follows /v2/keys, raw. `query` and `form` are names and values before their encoding.

    `form` None: no body. The blemishes are raw text put at the end of the query and of the form.
    """

    method: str
    path: bytes
    query: tuple[tuple[bytes, bytes], ...] = ()
    form: tuple[tuple[bytes, bytes], ...] | None = None
    content_type: bytes | None = FORM
    query_blemish: bytes = b""
    form_blemish: bytes = b""

    @property
    def target(self) -> bytes:
        query = _encode(self.query, self.query_blemish)
        return PREFIX + self.path + (b"?" + query if query else b"")

    @property
    def body(self) -> bytes:
        return b"" if self.form is None else _encode(self.form, self.form_blemish)

    def __bytes__(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.method.encode(), self.target), b"Host: differential"]
        if self.form is not None:
            lines.append(b"Content-Length: %d" % len(self.body))
            if self.content_type is not None:
                lines.append(b"Content-Type: " + self.content_type)
        elif self.method in ("PUT", "POST"):
            lines.append(b"Content-Length: 0")
        return b"\r\n".join([*lines, b"", self.body])


def _encode(fields: tuple[tuple[bytes, bytes], ...], blemish: bytes) -> bytes:
    pairs = [_escape(name) + b"=" + _escape(value) for name, value in fields]
    return b"&".join([*pairs, blemish] if blemish else pairs)


def _escape(text: bytes) -> bytes:
    return quote_from_bytes(text, safe=" ").replace(" ", "+").encode()
