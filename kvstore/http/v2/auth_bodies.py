"""The JSON bodies of `/v2/auth`, read as etcd's decoder reads them into its structures.

Field names count in any case, the last of a repeated one wins, unknown ones and whatever follows the first value are
ignored, `null` is as good as absent. Texts become bytes; what is no valid text in it becomes U+FFFD. Knows no rule
about users and roles.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

from kvstore.auth import Listed

_SURROGATES = re.compile("[\ud800-\udfff]")


class BadBody(Exception):
    """Not JSON, or not of the right form. Says nothing of what was in it: that may be a password."""


class UserBody(NamedTuple):
    """What a PUT of a user says; an empty password is none."""

    name: bytes
    password: bytes
    roles: tuple[bytes, ...]
    grant: tuple[bytes, ...]
    revoke: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"UserBody({self.name!r}, ...)"


class Patterns(NamedTuple):
    read: Listed
    write: Listed


class RoleBody(NamedTuple):
    """What a PUT of a role says; `grant` and `revoke` are None where they are not mentioned."""

    name: bytes
    permissions: Patterns
    grant: Patterns | None
    revoke: Patterns | None


class _Object(list[tuple[str, Any]]):
    """A JSON object: its pairs as they came."""


def parse_user(body: bytes) -> UserBody:
    """Raises BadBody."""
    fields = _fields(_decode(body), ("user", "password", "roles", "grant", "revoke"))
    return UserBody(
        _text(fields["user"]),
        _text(fields["password"]),
        _texts(fields["roles"]) or (),
        _texts(fields["grant"]) or (),
        _texts(fields["revoke"]) or (),
    )


def parse_role(body: bytes) -> RoleBody:
    """Raises BadBody."""
    fields = _fields(_decode(body), ("role", "permissions", "grant", "revoke"))
    grant, revoke = fields["grant"], fields["revoke"]
    return RoleBody(
        _text(fields["role"]),
        _patterns(fields["permissions"]),
        None if grant is None else _patterns(grant),
        None if revoke is None else _patterns(revoke),
    )


def _refuse_constant(_name: str) -> NoReturn:
    raise BadBody  # NaN and the like are Python's, not JSON's


_decoder = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse_constant, parse_int=lambda digits: 0)


def _decode(body: bytes) -> Any:
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    try:
        return _decoder.raw_decode(text)[0]
    except (ValueError, RecursionError):
        raise BadBody from None


def _fields(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if value is None:
        value = _Object()
    if not isinstance(value, _Object):
        raise BadBody
    found: dict[str, Any] = dict.fromkeys(names)
    for name, field in value:
        if name.lower() in found:
            found[name.lower()] = field
    return found


def _text(value: Any) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise BadBody
    return _SURROGATES.sub("\ufffd", value).encode()


def _texts(value: Any) -> Listed:
    if value is None:
        return None
    if not isinstance(value, list) or isinstance(value, _Object):
        raise BadBody
    return tuple([_text(item) for item in value])


def _patterns(value: Any) -> Patterns:
    lists = _fields(_fields(value, ("kv",))["kv"], ("read", "write"))
    return Patterns(_texts(lists["read"]), _texts(lists["write"]))
