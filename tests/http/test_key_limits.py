"""No key is deeper or longer than its limits, whatever is asked of it and whichever way the request takes."""

from __future__ import annotations

import json

import pytest

from kvstore.http.app import Settings
from kvstore.limits import Limits
from tests.http.backend import LocalBackend
from tests.http.client import FORM, RawClient, request

VERBS = {
    "GET": "GET {}",
    "HEAD": "HEAD {}",
    "quorum": "GET {}?quorum=true",
    "wait": "GET {}?wait=true",
    "PUT": "PUT {}",
    "PUT a directory": "PUT {}?dir=true",
    "create": "PUT {}?prevExist=false",
    "update": "PUT {}?prevExist=true",
    "swap": "PUT {}?prevIndex=7",
    "POST": "POST {}",
    "DELETE": "DELETE {}",
    "DELETE recursive": "DELETE {}?recursive=true",
}
#: What a POST adds to its key: a slash and 20 digits.
IN_ORDER = 21


@pytest.fixture
def settings(either_lane: Settings) -> Settings:
    return either_lane


def whole(verb: str, key: str, body: bytes = b"value=x") -> bytes:
    line = VERBS[verb].format("/v2/keys" + key)
    return request(line, FORM, body=body) if line.startswith(("PUT", "POST")) else request(line)


@pytest.mark.parametrize("verb", VERBS)
async def test_one_component_or_byte_too_many_is_refused_with_the_flag(
    client: RawClient, backend: LocalBackend, verb: str
) -> None:
    added = 1 if verb == "POST" else 0
    deep, long = "/a" * (257 - added), "/" + "a" * (32_768 - added * IN_ORDER)
    causes = {
        deep: "the key has 257 components; --max-key-components allows 256",
        long: "the key has 32769 bytes; --max-key-bytes allows 32768",
    }
    for key, cause in causes.items():
        for written in (key, key + "/", key.replace("a", "%61", 1)):
            answer = await client.ask(whole(verb, written))
            assert (answer.status, answer.header("X-Etcd-Index")) == (400, "0"), written[-9:]
            if verb != "HEAD":
                assert json.loads(answer.body) == {
                    "errorCode": 209,
                    "message": "Invalid field",
                    "cause": cause,
                    "index": 0,
                }
    assert (backend.store.index, backend.store.watcher_count) == (0, 0)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "wait"])
async def test_the_deepest_and_the_longest_key_are_served(client: RawClient, backend: LocalBackend, verb: str) -> None:
    added = 1 if verb == "POST" else 0
    for key in ("/a" * (256 - added), "/" + "b" * (32_767 - added * IN_ORDER)):
        if verb not in ("PUT", "PUT a directory", "create", "POST"):
            assert (await client.ask(whole("PUT", key))).status == 201
        answer = await client.ask(whole(verb, key))
        assert answer.status in (200, 201, 412), answer
        if verb == "POST":
            created = json.loads(answer.body)["node"]["key"]
            assert len(created) == 32_768 or created.count("/") == 256
            assert (await client.ask(whole("GET", created))).status == 200


async def test_a_key_is_judged_before_its_body_is_waited_for(client: RawClient) -> None:
    head = whole("PUT", "/a" * 300, body=b"value=" + b"x" * 100_000).partition(b"\r\n\r\n")[0]
    assert (await client.ask(head + b"\r\n\r\n")).status == 400


class TestOtherLimits:
    @pytest.fixture
    def settings(self, either_lane: Settings) -> Settings:
        return either_lane._replace(limits=Limits(key_components=2, key_bytes=10))

    async def test_the_settings_count(self, client: RawClient) -> None:
        for key, status in (("/a/b", 201), ("/a/b/c", 400), ("/123456789", 201), ("/1234567890", 400)):
            assert (await client.ask(whole("PUT", key))).status == status, key
