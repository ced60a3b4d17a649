"""A look inside, and the level of the logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from kvstore import logs
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, request


@pytest.fixture
def levels() -> Iterator[None]:
    ours, root = logging.getLogger(logs.ROOT), logging.getLogger()
    before = ours.level, root.level
    yield
    ours.setLevel(before[0])
    root.setLevel(before[1])


def put_level(body: bytes) -> bytes:
    return request("PUT /config/local/log", body=body)


async def test_variables_are_one_json_object(client: RawClient, backend: LocalBackend) -> None:
    answer = await client.ask(request("GET /debug/vars"))
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    shown = json.loads(answer.body)
    assert shown["raft.status"]["id"] == shown["raft.status"]["lead"] == f"{backend.member:x}"
    assert shown["file_descriptor_limit"] > 0


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize(
    ("body", "level"),
    [
        (b'{"Level":"DEBUG"}', logging.DEBUG),
        (b'{"level":"trace"} and more', logging.DEBUG),
        (b'{"LEVEL":"Notice"}', logging.INFO),
        (b' {"Level":"WARNING"}', logging.WARNING),
        (b'{"Level":"critical"}', logging.ERROR),
    ],
)
async def test_the_level_changes_for_real(client: RawClient, body: bytes, level: int) -> None:
    client.send(put_level(body))
    head = await client.head()
    assert (head.status, head.header("Content-Type")) == (204, None)
    assert logging.getLogger(logs.ROOT).level == level
    log = logs.get("test")
    assert log.is_debug() == (level == logging.DEBUG)


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"Level":"loud"}', b'{"message":"Invalid log level loud"}'),
        (b'{"Level":"<\xff"}', '{"message":"Invalid log level \\u003c\N{REPLACEMENT CHARACTER}"}'.encode()),
        (b"{}", b'{"message":"Invalid log level "}'),
        (b"null", b'{"message":"Invalid log level "}'),
        (b'{"Level":1}', b'{"message":"Invalid json body"}'),
        (b"[]", b'{"message":"Invalid json body"}'),
        (b"", b'{"message":"Invalid json body"}'),
        (b"[" * 100_000, b'{"message":"Invalid json body"}'),
    ],
)
async def test_a_level_that_there_is_not_changes_nothing(client: RawClient, body: bytes, answer: bytes) -> None:
    before = logging.getLogger(logs.ROOT).level
    refused = await client.ask(put_level(body))
    assert (refused.status, refused.body) == (400, answer)
    assert logging.getLogger(logs.ROOT).level == before
