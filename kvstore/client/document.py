"""The JSON that a server answers, checked as it is read: nobody else has to doubt what is in it."""

from __future__ import annotations

import json
from typing import Any

from kvstore.client.errors import InvalidAnswer

NO_ETCD = "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint"
TOO_DEEP = "the keys are nested too deeply to be read as one tree; list them directory by directory"


def read(body: bytes) -> dict[str, Any]:
    """An object; all text in it can be written as UTF-8. Raises InvalidAnswer, as all of these do."""
    try:
        document = json.loads(body)
        if b"\\ud" in body or b"\\uD" in body:  # half a surrogate pair is no text; Go reads it as U+FFFD
            whole = json.dumps(document, ensure_ascii=False).encode("utf-16", "surrogatepass")
            document = json.loads(whole.decode("utf-16", "replace"))
    except ValueError:
        raise InvalidAnswer(NO_ETCD) from None
    except RecursionError:
        raise InvalidAnswer(TOO_DEEP) from None
    return checked(document)


def checked(document: object) -> dict[str, Any]:
    """`document`, if it is an object."""
    if not isinstance(document, dict):
        raise InvalidAnswer(NO_ETCD)
    return document


def text(fields: dict[str, Any], name: str) -> str:
    """Empty when it is not there."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidAnswer(NO_ETCD)
    return value or ""


def number(fields: dict[str, Any], name: str) -> int:
    """0 when it is not there."""
    value = fields.get(name)
    if value is not None and type(value) is not int:
        raise InvalidAnswer(NO_ETCD)
    return value or 0


def array(fields: dict[str, Any], name: str) -> list[Any] | None:
    """None when it is not there, or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, list):
        raise InvalidAnswer(NO_ETCD)
    return value


def texts(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    """Empty when it is not there."""
    values = array(fields, name) or ()
    if not all(isinstance(value, str) for value in values):
        raise InvalidAnswer(NO_ETCD)
    return tuple(values)
