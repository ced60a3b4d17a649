"""A request's body that is JSON: short, since Python reads it in one go and nothing else runs meanwhile."""

from __future__ import annotations

from kvstore.http.request import BodyError, Request
from kvstore.http.v2.form import TOO_LARGE

#: What a role with a thousand patterns takes; Python reads it in some milliseconds.
JSON_BYTES = 128 << 10


class JsonTooLong(BodyError):
    """`cause` names the limit."""


async def json_body(request: Request, limit: int) -> bytes:
    """The whole body; `limit` is --max-request-bytes. Raises JsonTooLong, or BodyError for one that is broken."""
    try:
        return await request.body(min(limit, JSON_BYTES))
    except BodyError as error:
        if error.cause != TOO_LARGE:
            raise
    if limit < JSON_BYTES:
        raise JsonTooLong(b"the body is too long; --max-request-bytes allows %d bytes" % limit)
    raise JsonTooLong(b"the body is too long; JSON may have %d bytes" % JSON_BYTES)
