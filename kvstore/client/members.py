"""The members of a cluster: who they are, who leads, and changes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from kvstore.client.client import Client, Request
from kvstore.client.connection import Answer
from kvstore.client.document import array, checked, read, text, texts
from kvstore.client.errors import Refused
from kvstore.client.gojson import go_json

_PREFIX = "/v2/members"
_JSON = "application/json"


class Member(NamedTuple):
    """`id` is hexadecimal; a member that has not started has no name and no client URLs."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


class MemberLevel(NamedTuple):
    """`highest` is 0 and `version` empty where that is not known."""

    id: str
    name: str
    version: str
    highest: int
    holds_back: bool


class Levels(NamedTuple):
    level: int
    highest: int  # that the member which answered knows
    members: tuple[MemberLevel, ...]


class Members:
    """Every call raises ClientError; Refused with the server's reason."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def all(self) -> tuple[Member, ...]:
        answer = await self.client.ask(Request("GET", _PREFIX))
        return tuple(_member(checked(fields)) for fields in array(_read(answer, 200), "members") or ())

    async def leader(self) -> Member:
        return _member(_read(await self.client.ask(Request("GET", _PREFIX + "/leader")), 200))

    async def levels(self) -> Levels:
        fields = _read(await self.client.ask(Request("GET", "/levels")), 200)
        members = tuple(_member_level(checked(one)) for one in array(fields, "members") or ())
        return Levels(_number(fields, "level"), _number(fields, "highestLevel"), members)

    async def add(self, peer_url: str) -> Member:
        request = Request("POST", _PREFIX, "", _urls([peer_url]), _JSON)
        return _member(_read(await self.client.ask(request), 201, explained=(409,)))

    async def remove(self, member: str) -> None:
        answer = await self.client.ask(Request("DELETE", f"{_PREFIX}/{member}"))
        if answer.status not in (204, 410):
            raise _unexpected(answer)

    async def update(self, member: str, peer_urls: list[str]) -> None:
        answer = await self.client.ask(Request("PUT", f"{_PREFIX}/{member}", "", _urls(peer_urls), _JSON))
        if answer.status != 204:
            _read(answer, 204, explained=(404, 409))


def _urls(urls: list[str]) -> bytes:
    return go_json({"peerURLs": urls}).encode(errors="surrogateescape")


def _unexpected(answer: Answer) -> Refused:
    return Refused(answer.status, f"unexpected status code {answer.status}")


def _read(answer: Answer, wanted: int, explained: tuple[int, ...] = ()) -> dict[str, Any]:
    """Only an answer of a status in `explained` is read for its reason, as etcdctl does."""
    if answer.status != wanted and answer.status not in explained:
        raise _unexpected(answer)
    document = read(answer.body)
    if answer.status != wanted:
        raise Refused(answer.status, text(document, "message"))
    return document


def _number(fields: dict[str, Any], name: str) -> int:
    number = fields.get(name)
    return number if type(number) is int else 0


def _member_level(fields: dict[str, Any]) -> MemberLevel:
    holds_back = fields.get("holdsBack") is True
    version = text(fields, "version")
    return MemberLevel(text(fields, "id"), text(fields, "name"), version, _number(fields, "highestLevel"), holds_back)


def _member(fields: dict[str, Any]) -> Member:
    return Member(text(fields, "id"), text(fields, "name"), texts(fields, "peerURLs"), texts(fields, "clientURLs"))
