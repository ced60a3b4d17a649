"""Users, roles, and whether they count. The server says why it refuses; a password is sent as it is: use https."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kvstore.client.client import Client, Request
from kvstore.client.connection import Answer
from kvstore.client.document import array, checked, read, text, texts
from kvstore.client.errors import Refused
from kvstore.client.gojson import go_json

_PREFIX = "/v2/auth"
_JSON = "application/json"


class User(NamedTuple):
    name: str
    roles: tuple[str, ...]


class Role(NamedTuple):
    """The patterns that it lets read and write: a key, or a prefix with `*` behind it."""

    name: str
    read: tuple[str, ...]
    write: tuple[str, ...]


class Auth:
    """Every call raises ClientError; Refused with the server's reason."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def enable(self) -> None:
        _accept(await self.client.ask(Request("PUT", _PREFIX + "/enable")))

    async def disable(self) -> None:
        _accept(await self.client.ask(Request("DELETE", _PREFIX + "/enable")))

    async def users(self) -> list[str]:
        answer = await self.client.ask(Request("GET", f"{_PREFIX}/users", content_type=_JSON))
        return _names(_read(answer), "users", "user")

    async def roles(self) -> list[str]:
        answer = await self.client.ask(Request("GET", f"{_PREFIX}/roles", content_type=_JSON))
        if answer.status != 200:  # here alone, etcdctl does not read why
            raise Refused(answer.status, f"unexpected status code {answer.status}")
        return _names(_read(answer), "roles", "role")

    async def user(self, name: str) -> User:
        return _user(_read(await self.client.ask(Request("GET", f"{_PREFIX}/users/{name}"))))

    async def role(self, name: str) -> Role:
        return _role(_read(await self.client.ask(Request("GET", f"{_PREFIX}/roles/{name}"))))

    async def add_user(self, name: str, password: str) -> None:
        _accept(await self._put("users", name, {"user": name, "password": password, "roles": None}))

    async def remove_user(self, name: str) -> None:
        _accept(await self.client.ask(Request("DELETE", f"{_PREFIX}/users/{name}")))

    async def change_password(self, name: str, password: str) -> User:
        return _user(_read(await self._put("users", name, {"user": name, "password": password, "roles": None})))

    async def grant_roles(self, name: str, roles: Sequence[str]) -> User:
        return _user(_read(await self._put("users", name, {"user": name, "roles": None, "grant": list(roles)})))

    async def revoke_roles(self, name: str, roles: Sequence[str]) -> User:
        return _user(_read(await self._put("users", name, {"user": name, "roles": None, "revoke": list(roles)})))

    async def add_role(self, name: str) -> None:
        _accept(await self._put("roles", name, {"role": name, "permissions": _patterns((), ())}))

    async def remove_role(self, name: str) -> None:
        _accept(await self.client.ask(Request("DELETE", f"{_PREFIX}/roles/{name}")))

    async def grant_patterns(self, name: str, read: Sequence[str], write: Sequence[str]) -> Role:
        return await self._change_role(name, "grant", read, write)

    async def revoke_patterns(self, name: str, read: Sequence[str], write: Sequence[str]) -> Role:
        return await self._change_role(name, "revoke", read, write)

    async def _change_role(self, name: str, change: str, read: Sequence[str], write: Sequence[str]) -> Role:
        fields = {"role": name, "permissions": _patterns((), ()), change: _patterns(read, write)}
        return _role(_read(await self._put("roles", name, fields)))

    async def _put(self, kind: str, name: str, fields: dict[str, Any]) -> Answer:
        body = go_json(fields).encode(errors="surrogateescape")
        return await self.client.ask(Request("PUT", f"{_PREFIX}/{kind}/{name}", "", body, _JSON))


def _names(document: dict[str, Any], kind: str, field: str) -> list[str]:
    return [text(checked(entry), field) for entry in array(document, kind) or ()]


def _patterns(read: Sequence[str], write: Sequence[str]) -> dict[str, Any]:
    return {"kv": {"read": list(read) or None, "write": list(write) or None}}


def _accept(answer: Answer) -> None:
    if answer.status not in (200, 201):
        raise Refused(answer.status, text(read(answer.body), "message"))


def _read(answer: Answer) -> dict[str, Any]:
    document = read(answer.body)
    if answer.status != 200:
        raise Refused(answer.status, text(document, "message"))
    return document


def _user(fields: dict[str, Any]) -> User:
    """A changed user comes with the names of its roles, one that is asked for with the roles themselves."""
    roles = array(fields, "roles") or ()
    return User(
        text(fields, "user"), tuple(role if isinstance(role, str) else text(checked(role), "role") for role in roles)
    )


def _role(fields: dict[str, Any]) -> Role:
    patterns = checked(checked(fields.get("permissions")).get("kv"))
    return Role(text(fields, "role"), texts(patterns, "read"), texts(patterns, "write"))
