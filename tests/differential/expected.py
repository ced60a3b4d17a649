"""What a server has to answer: a request is read, checked and done to the tree, as docs/api-v2.md has it.

Knows no server and no socket. Imports nothing of the project, like tree.py.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from tests.differential.requests import FORM, Request
from tests.differential.tree import SECOND, Json, Names, Refused, Tree, Watch

ERRORS = {
    100: (404, "Key not found"),
    101: (412, "Compare failed"),
    102: (403, "Not a file"),
    104: (400, "Not a directory"),
    105: (412, "Key already exists"),
    107: (400, "Root is read only"),
    108: (403, "Directory not empty"),
    201: (400, "PrevValue is Required in POST form"),
    202: (400, "The given TTL in POST form is not a number"),
    203: (400, "The given index in POST form is not a number"),
    209: (400, "Invalid field"),
    210: (400, "Invalid POST form"),
    211: (400, "Value provided on refresh"),
    212: (400, "A TTL must be provided on refresh"),
    401: (400, "The event in requested index is outdated and cleared"),
}
METHODS = ("HEAD", "GET", "PUT", "POST", "DELETE")
TRUE = (b"1", b"t", b"T", b"TRUE", b"true", b"True")
FALSE = (b"0", b"f", b"F", b"FALSE", b"false", b"False")
ALL_LEVELS = 1000


class Answer(NamedTuple):
    """`body` None: only the other server can tell."""

    status: int
    content_type: bytes | None
    body: bytes | None
    etcd_index: int | None = None  # None: no such header
    of_cluster: bool = False  # X-Etcd-Cluster-Id is there
    of_raft: bool = False  # X-Raft-Index and X-Raft-Term are there


class Asked(NamedTuple):
    """The checked parameters of one request."""

    value: bytes
    old_value: bytes
    old_index: int
    exists: bool | None
    ttl: int | None
    refresh: bool
    is_dir: bool
    recursive: bool
    quorum: bool
    wait: bool
    wait_index: int
    stream: bool
    no_value: bool


def expect(request: Request, tree: Tree, now: int) -> Answer | Watch:
    """The answer, or the watch that the request begins. The tree changes as the servers should."""
    answer = _before_the_store(request)
    if answer is not None:
        return answer
    try:
        found = _do(request, tree, now)
    except Refused as refused:
        status, message = ERRORS[refused.code]
        index = refused.index or 0
        cause = {"cause": refused.cause} if refused.cause else {}
        body: Json = {"errorCode": refused.code, "message": message, **cause, "index": index}
        return Answer(status, b"application/json", _for(request, go_json(body)), index, of_cluster=True)
    if isinstance(found, Watch):
        return found
    status, body = found
    return Answer(status, b"application/json", _for(request, go_json(body)), tree.index, of_cluster=True, of_raft=True)


def names_of(path: bytes) -> Names:
    """The components of a clean path, decoded."""
    return tuple(name for name in unquote_to_bytes(path).split(b"/") if name)


def _for(request: Request, body: bytes) -> bytes:
    return b"" if request.method == "HEAD" else body


def _before_the_store(request: Request) -> Answer | None:
    if request.method == "OPTIONS":
        return Answer(200, None, b"")
    path = unquote_to_bytes(request.path)
    if b"//" in path or any(name in (b".", b"..") for name in path.split(b"/")):
        kind = b"text/html; charset=utf-8" if request.method in ("GET", "HEAD") else None
        return Answer(301, kind, None if request.method == "GET" else b"")
    if request.method not in METHODS:
        return Answer(405, b"text/plain; charset=utf-8", b"Method Not Allowed\n")
    return None


def _do(request: Request, tree: Tree, now: int) -> tuple[int, Json] | Watch:
    asked = _check(request)
    names = names_of(request.path)
    if request.method in ("GET", "HEAD"):
        if asked.wait and not asked.quorum:
            return tree.watch(names, asked.recursive, asked.stream, asked.wait_index)
        node = tree.get(names)
        shown = tree.show(names, node, now, ALL_LEVELS if asked.recursive else 1)
        return 200, {"action": "get", "node": shown}
    if request.method == "DELETE":
        if asked.old_value or asked.old_index:
            event = tree.compare_and_delete(names, asked.old_value, asked.old_index, now)
        else:
            event = tree.delete(names, asked.is_dir or asked.recursive, asked.recursive, now)
        return 200, event.body
    if request.method == "POST":
        event = tree.create_in_order(names, asked.value, asked.is_dir, asked.ttl, now)
    elif asked.exists is False:
        event = tree.create(names, asked.value, asked.is_dir, asked.ttl, now)
    elif asked.old_value or asked.old_index:
        event = tree.compare_and_swap(
            names, asked.value, asked.old_value, asked.old_index, asked.ttl, asked.refresh, now
        )
    elif asked.exists:
        event = tree.update(names, asked.value, asked.ttl, asked.refresh, now)
    else:
        event = tree.set(names, asked.value, asked.is_dir, asked.ttl, asked.refresh, now)
    is_new = event.action == "create" or (event.action == "set" and "prevNode" not in event.body)
    return 201 if is_new else 200, {"action": event.action} if asked.no_value else event.body


def _check(request: Request) -> Asked:
    fields = _fields(request)
    old_index, wait_index = _number(fields, b"prevIndex"), _number(fields, b"waitIndex")
    flags = {name: _flag(fields, name) for name in (b"recursive", b"sorted", b"wait", b"dir", b"quorum", b"stream")}
    if flags[b"wait"] and request.method != "GET":
        raise Refused(209, b'"wait" can only be used with GET requests')
    if fields.get(b"prevValue") == b"":
        raise Refused(201, b'"prevValue" cannot be empty')
    no_value = _flag(fields, b"noValueOnSuccess")
    ttl = _number(fields, b"ttl", 202) if fields.get(b"ttl") else None
    exists = _flag(fields, b"prevExist", b"prevExist") if b"prevExist" in fields else None
    refresh = _flag(fields, b"refresh", b"refresh")
    value = fields.get(b"value", b"")
    if refresh and value:
        raise Refused(211, b"A value was provided on a refresh")
    if refresh and ttl is None:
        raise Refused(212, b"No TTL value set")
    return Asked(
        value=value,
        old_value=fields.get(b"prevValue", b""),
        old_index=old_index,
        exists=exists,
        ttl=ttl,
        refresh=refresh,
        is_dir=flags[b"dir"],
        recursive=flags[b"recursive"],
        quorum=flags[b"quorum"],
        wait=flags[b"wait"],
        wait_index=wait_index,
        stream=flags[b"stream"],
        no_value=no_value,
    )


def _fields(request: Request) -> dict[bytes, bytes]:
    """Body before query, first value wins; what cannot be parsed is reported in the same order."""
    pairs, blemishes = list(request.query), [request.query_blemish]
    if request.method in ("PUT", "POST") and request.form is not None:
        kind = (request.content_type or b"").partition(b";")[0].strip().lower()
        if kind == b"" and request.content_type:
            raise Refused(210, b"mime: no media type")
        if kind == FORM:
            pairs, blemishes = [*request.form, *pairs], [request.form_blemish, *blemishes]
    for blemish in filter(None, blemishes):
        bad_escape = re.search(rb"%..?", blemish)
        if bad_escape is not None:
            raise Refused(210, b'invalid URL escape "%s"' % bad_escape[0])
        raise Refused(210, b"invalid semicolon separator in query")
    return dict(reversed(pairs))


def _number(fields: dict[bytes, bytes], name: bytes, code: int = 203) -> int:
    text = fields.get(name, b"0")
    if re.fullmatch(rb"[0-9]+", text) is None or int(text) >= 2**64:
        raise Refused(code, b'invalid value for "%s"' % name)
    return int(text)


def _flag(fields: dict[bytes, bytes], name: bytes, shown: bytes | None = None) -> bool:
    text = fields.get(name, b"false")
    if text not in TRUE + FALSE:
        raise Refused(209, b"invalid value for " + (shown or b'"%s"' % name))
    return text in TRUE


def go_json(document: Json) -> bytes:
    """As Go's encoder writes it, with a newline behind it."""
    return _encode(document).encode() + b"\n"


def _encode(item: Any, name: str = "") -> str:
    if isinstance(item, dict):
        return "{" + ",".join(f'"{key}":{_encode(value, key)}' for key, value in item.items()) + "}"
    if isinstance(item, list):
        return "[" + ",".join(map(_encode, item)) + "]"
    if isinstance(item, bool):
        return "true" if item else "false"
    if name == "expiration":
        return f'"{(datetime.fromtimestamp(0, UTC) + timedelta(seconds=item // SECOND)):%Y-%m-%dT%H:%M:%SZ}"'
    if isinstance(item, bytes):
        item = item.decode("utf-8", "surrogateescape")
    return str(item) if isinstance(item, int) else '"' + "".join(map(_character, item)) + '"'


def _character(one: str) -> str:
    if one in '"\\':
        return "\\" + one
    if one in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[one]
    if "\udc80" <= one <= "\udcff":  # a byte that is not UTF-8
        return "\\ufffd"
    return f"\\u{ord(one):04x}" if one < " " or one in "<>&\u2028\u2029" else one
