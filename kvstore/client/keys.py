"""The key space: read, write, remove, watch.

Text that is no UTF-8 travels as surrogate escapes, as in sys.argv; what a server answers is UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from kvstore.client.client import Client, Request
from kvstore.client.connection import Answer
from kvstore.client.errors import InvalidAnswer, OutcomeUnknown
from kvstore.client.response import Response, response
from kvstore.client.watch import Watch

_PREFIX = "/v2/keys"
_FORM = "application/x-www-form-urlencoded"


class Keys:
    """Every call raises ClientError: KeyspaceError when the server refuses, Unreachable, DeadlineExceeded, and for
    writes OutcomeUnknown."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def get(self, key: str, *, recursive: bool = False, sort: bool = False, quorum: bool = False) -> Response:
        """A key, or a directory. `quorum`: nothing that was acknowledged before is missed."""
        query = {"quorum": _go(quorum), "recursive": _go(recursive), "sorted": _go(sort)}
        return await self._ask(Request("GET", _path(key), urlencode(query)))

    async def set(
        self,
        key: str,
        value: str = "",
        *,
        ttl: int = 0,
        directory: bool = False,
        prev_exist: bool | None = None,
        prev_value: str = "",
        prev_index: int = 0,
        refresh: bool = False,
    ) -> Response:
        """Writes a key or, with `directory`, makes one. The conditions count where they are given.

        `ttl`: seconds, 0 for ever. `refresh` renews the time to live, keeps the value and wakes no watcher.
        """
        query: dict[str, str] = {}
        form: dict[str, str] = {}
        if directory:
            query["dir"] = "true"
        if prev_exist is not None:
            query["prevExist"] = _go(prev_exist)
        if prev_index:
            query["prevIndex"] = str(prev_index % (1 << 64))
        if prev_value and not directory:
            query["prevValue"] = prev_value
        if refresh:
            form["refresh"] = "true"
        if ttl > 0:
            form["ttl"] = str(ttl)
        if not directory and not refresh:
            form["value"] = value
        one_shot = prev_exist is False
        request = Request("PUT", _path(key), _encode(query), _encode(form).encode(), _FORM, one_shot=one_shot)
        return await self._ask(request)

    async def create_in_order(self, directory: str, value: str, *, ttl: int = 0) -> Response:
        """A new key in `directory`, its name greater than that of all made so before."""
        form = {"ttl": str(ttl)} if ttl > 0 else {}
        form["value"] = value
        return await self._ask(Request("POST", _path(directory), "", _encode(form).encode(), _FORM))

    async def delete(
        self, key: str, *, recursive: bool = False, directory: bool = False, prev_value: str = "", prev_index: int = 0
    ) -> Response:
        """Removes a key; with `directory` also an empty directory, with `recursive` also all below it."""
        query: dict[str, str] = {}
        if directory:
            query["dir"] = "true"
        if prev_index:
            query["prevIndex"] = str(prev_index % (1 << 64))
        if prev_value:
            query["prevValue"] = prev_value
        if recursive:
            query["recursive"] = "true"
        return await self._ask(Request("DELETE", _path(key), _encode(query), None, _FORM, one_shot=True))

    def watch(self, key: str, *, after_index: int = 0, recursive: bool = False) -> Watch:
        """Events of `key`, and with `recursive` of all below, from behind `after_index` on; 0: from now on."""
        return Watch(self, key, after_index=after_index, recursive=recursive)

    async def wait(self, key: str, wait_index: int, recursive: bool, on_index: Callable[[int], None]) -> Answer:
        """One long poll, for `Watch`. `on_index` is told how far the key space was when it began."""
        query = {"recursive": _go(recursive), "wait": "true", "waitIndex": str(wait_index)}
        return await self.client.ask(Request("GET", _path(key), urlencode(query), wait=True, on_index=on_index))

    async def _ask(self, request: Request) -> Response:
        answer = await self.client.ask(request)
        try:
            return response(answer)
        except InvalidAnswer as error:
            if answer.status < 300 and not request.only_reads:
                raise OutcomeUnknown(error) from None  # somebody said that it was done
            raise


def _path(key: str) -> str:
    return _PREFIX + (key if not key or key.startswith("/") else "/" + key)


def _go(value: bool) -> str:
    return "true" if value else "false"


def _encode(fields: dict[str, str]) -> str:
    """The keys are in order already, as Go has them."""
    return urlencode(fields, errors="surrogateescape")
