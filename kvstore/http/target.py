"""The request target as etcd's HTTP library reads it: split, percent-decode, tell whether the path is clean.

Works on raw bytes and never re-quotes what the client sent, except in the Location of a redirect. Knows no route.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from kvstore.http.reply import Answer
from kvstore.http.texts import unescape

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_HTML = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&#34;", ord("'"): "&#39;"}


class BadTarget(Exception):
    """Not a URL: the connection is told 400 and closed."""


class Target(NamedTuple):
    path: bytes  # percent-decoded once, not cleaned
    query: bytes  # raw; a `#` has no meaning here


def parse_target(raw: bytes) -> Target:
    """Raises BadTarget for a broken escape, or for what is neither a path nor an absolute URL."""
    if raw[:1] != b"/":
        absolute = _ABSOLUTE.match(raw)
        if absolute is None:
            raise BadTarget(raw)
        raw = raw[absolute.end() :]
    path, _, query = raw.partition(b"?")
    if b"%" in path:
        decoded = unescape(path.replace(b"+", b"%2B"))
        if decoded is None:
            raise BadTarget(raw)
        path = decoded
    return Target(path, query)


def is_clean(path: bytes) -> bool:
    """Whether `clean` would leave the path alone."""
    if b"//" not in path and b"/." not in path and path[:1] == b"/":
        return True
    return clean(path) == path


def clean(path: bytes) -> bytes:
    """Without empty, `.` and `..` components; one trailing slash stays. `..` stops at the root."""
    kept: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            if kept:
                kept.pop()
        elif name not in (b"", b"."):
            kept.append(name)
    cleaned = b"/" + b"/".join(kept)
    if path.endswith(b"/") and kept:
        cleaned += b"/"
    return cleaned


def redirect(method: str, target: Target) -> Answer:
    """Redirect (301) to the clean path, with the query as it was: HTML for GET, empty for other verbs.

    docs/api-v2.md, *Conventions*.
    """
    location = quote_from_bytes(clean(target.path), safe="/$&+,:;=@").encode()
    if target.query:
        location += b"?" + target.query
    line = b"Location: " + re.sub(rb"[\x80-\xff]", lambda byte: b"%%%x" % byte[0][0], location) + b"\r\n"
    if method not in ("GET", "HEAD"):
        return Answer(301, line, b"")
    body = b""
    if method == "GET":
        shown = location.decode("latin-1").translate(_HTML).encode("latin-1")
        body = b'<a href="' + shown + b'">Moved Permanently</a>.\n\n'
    return Answer(301, b"Content-Type: text/html; charset=utf-8\r\n" + line, body)
