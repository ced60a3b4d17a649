"""What a body costs: nothing where the path alone is refused, and little whatever is in it."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvstore.http.app import Http, Settings
from kvstore.http.json_body import JSON_BYTES
from kvstore.http.request import SHORT_BODY_BYTES
from kvstore.http.v2.parameters import KeyRequest, parse_key_request
from kvstore.limits import Limits
from kvstore.store.operations import Set
from kvstore.wire import CreateRole, CreateUser, SwitchAuth
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, FORM, RawClient, request
from tests.http.conftest import Connect
from tests.http.scene import HASH, basic
from tests.http.waiting import until

PATHS = {"PUT": "/v2/keys/closed", "POST": "/v2/keys/closed"}
TOO_LONG = f"the body is too long; JSON may have {JSON_BYTES} bytes"


def furnish(backend: LocalBackend) -> None:
    backend.apply(CreateRole(b"guest", (), (b"/open",)))
    backend.apply(CreateUser(b"root", HASH, None))
    backend.apply(SwitchAuth(True))


class TestPermission:
    @pytest.fixture
    def settings(self, either_lane: Settings) -> Settings:
        return either_lane

    @pytest.mark.parametrize("method", PATHS)
    @pytest.mark.parametrize("framing", [f"Content-Length: {SHORT_BODY_BYTES + 1}", "Transfer-Encoding: chunked"])
    async def test_a_long_body_is_not_waited_for_where_the_path_is_refused(
        self, client: RawClient, backend: LocalBackend, method: str, framing: str
    ) -> None:
        furnish(backend)
        answer = await client.ask(request(f"{method} {PATHS[method]}", FORM, framing))
        assert (answer.status, json.loads(answer.body)["errorCode"]) == (401, 110)

    async def test_whoever_may_write_is_waited_for_and_judged_again(
        self, client: RawClient, backend: LocalBackend
    ) -> None:
        furnish(backend)
        value = "x" * SHORT_BODY_BYTES
        for form, status in ((f"value={value}", 201), (f"recursive=true&value={value}", 401)):
            answer = await client.ask(request("PUT /v2/keys/open", FORM, body=form.encode()))
            assert answer.status == status
        answer = await client.ask(request("PUT /v2/keys/closed", FORM, basic(b"root"), body=b"value=" + b"x" * 300_000))
        assert answer.status == 201

    async def test_a_mistake_in_a_short_body_is_reported_first_as_etcd_does(
        self, client: RawClient, backend: LocalBackend
    ) -> None:
        furnish(backend)
        assert (await client.ask(request("PUT /v2/keys/closed", FORM, body=b"ttl=x"))).status == 400


class TestForms:
    async def test_a_large_form_is_parsed_beside_the_loop(self, client: RawClient, backend: LocalBackend) -> None:
        form = b"value=" + b"%41" * 200_000
        assert (await client.ask(request("PUT /v2/keys/a", FORM, body=form))).status == 201
        assert backend.store.get(b"/a", False, False, 0).value == b"A" * 200_000
        answer = await client.ask(request("PUT /v2/keys/a", FORM, body=form + b"%zz"))
        assert (answer.status, json.loads(answer.body)["cause"]) == (400, 'invalid URL escape "%zz"')
        assert (await client.ask(request("PUT /v2/keys/a", FORM, body=b"&" * 300_000))).status == 400

    async def test_large_forms_wait_for_nothing_else_that_runs_in_threads(self, client: RawClient) -> None:
        """Neither for name lookups nor for forms that take longer; and lookups wait for no form."""
        loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(1)
        loop.set_default_executor(threads)
        is_over = threading.Event()
        lookup = loop.run_in_executor(None, is_over.wait)
        try:
            answer = await client.ask(request("PUT /v2/keys/a", FORM, body=b"value=" + b"y" * 300_000))
            assert answer.status == 201
            answer = await client.ask(request("PUT /v2/keys/a", FORM, body=b"value=" + b"%41" * 300_000))
            assert answer.status == 200
        finally:
            is_over.set()
        await lookup

    async def test_a_large_form_waits_for_none_with_many_escapes(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        is_over, begun = threading.Event(), threading.Event()

        def parse(method: str, path: bytes, query: bytes, body: bytes, limits: Limits) -> KeyRequest:
            if b"%41" in body:
                begun.set()
                is_over.wait()
            return parse_key_request(method, path, query, body, limits)

        monkeypatch.setattr("kvstore.http.v2.keys.parse_key_request", parse)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        escaped = [await connect() for _ in range(4)]
        plain = await connect()
        try:
            for client in escaped:
                client.send(request("PUT /v2/keys/a", FORM, body=b"value=" + b"y" * 99_000 + b"%41" * 200_000))
            await until(begun.is_set)
            answer = await plain.ask(request("PUT /v2/keys/b", FORM, body=b"value=" + b"y" * 300_000 + b"%42"))
            assert answer.status == 201
        finally:
            is_over.set()
        assert {(await client.response()).status for client in escaped} == {200, 201}

    async def test_requests_behind_a_large_form_keep_their_order(self, client: RawClient) -> None:
        form = b"value=" + b"%41" * 200_000
        client.send(request("PUT /v2/keys/a", FORM, body=form) + request("PUT /v2/keys/a", FORM, body=b"value=last"))
        assert [(await client.response()).status for _ in range(2)] == [201, 200]
        assert json.loads((await client.ask(request("GET /v2/keys/a"))).body)["node"]["value"] == "last"


JSON_ROUTES = {
    "a user": ("PUT /v2/auth/users/u", '{"user":"u","password":"p","x":[%s]}'),
    "a role": ("PUT /v2/auth/roles/r", '{"role":"r","x":[%s]}'),
    "a new member": ("POST /v2/members", '{"peerURLs":["http://127.0.0.1:1"],"x":[%s]}'),
    "a member": ("PUT /v2/members/abc", '{"peerURLs":["http://127.0.0.1:1"],"x":[%s]}'),
    "the log level": ("PUT /config/local/log", '{"Level":"INFO","x":[%s]}'),
}


class TestJson:
    @pytest.mark.parametrize("route", JSON_ROUTES)
    async def test_json_has_a_limit_that_is_named(self, client: RawClient, route: str) -> None:
        line, template = JSON_ROUTES[route]
        longest = template.replace("%s", "1," * ((JSON_BYTES - len(template)) // 2) + "1").encode()
        assert len(longest) <= JSON_BYTES
        answer = await client.ask(request(line, "Content-Type: application/json", body=longest))
        assert answer.status in (200, 201, 204), answer
        answer = await client.ask(request(line, "Content-Type: application/json", body=longest + b" " * 99))
        assert (answer.status, json.loads(answer.body)["message"]) == (400, TOO_LONG)

    async def test_a_long_content_type_is_refused(self, client: RawClient) -> None:
        answer = await client.ask(request("POST /v2/members", "Content-Type: " + "a" * 2000, body=b"{}"))
        assert (answer.status, json.loads(answer.body)["message"]) == (
            415,
            "the Content-Type has 2000 bytes; at most 1024 are read",
        )


class TestShorterLimit:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(request_bytes=100))

    async def test_the_flag_is_named_where_it_is_the_shorter_one(self, client: RawClient) -> None:
        answer = await client.ask(request("PUT /config/local/log", body=b"{" + b" " * 200))
        expected = "the body is too long; --max-request-bytes allows 100 bytes"
        assert (answer.status, json.loads(answer.body)["message"]) == (400, expected)


class TestLargeAnswers:
    """Values whose every byte is escaped, larger than what is answered within a turn of the loop."""

    VALUE = b"\x01<\xff" * 100_000
    SHOWN = "\x01<\ufffd" * 100_000

    @pytest.fixture
    def settings(self, either_lane: Settings) -> Settings:
        return either_lane

    @pytest.fixture(autouse=True)
    def there(self, backend: LocalBackend) -> None:
        backend.apply(Set(b"/a", self.VALUE, False, None, False))

    @pytest.mark.parametrize("query", ["", "?quorum=true"])
    async def test_reads(self, client: RawClient, query: str) -> None:
        answer = await client.ask(request(f"GET /v2/keys/a{query}"))
        assert json.loads(answer.body)["node"]["value"] == self.SHOWN

    async def test_a_directory_with_such_a_value_is_listed(self, client: RawClient) -> None:
        answer = await client.ask(request("GET /v2/keys/"))
        assert json.loads(answer.body)["node"]["nodes"][0]["value"] == self.SHOWN

    @pytest.mark.parametrize(
        ("line", "field"),
        [("PUT /v2/keys/a?value=1", "prevNode"), ("DELETE /v2/keys/a", "prevNode"), ("PUT /v2/keys/a?prevValue=x", "")],
    )
    async def test_writes(self, client: RawClient, line: str, field: str) -> None:
        answer = json.loads((await client.ask(request(line))).body)
        if field:
            assert answer[field]["value"] == self.SHOWN
        else:
            assert answer["cause"] == f"[x != {self.SHOWN}]"

    async def test_requests_that_follow_are_answered_in_order(self, client: RawClient) -> None:
        client.send(b"".join(request(line) for line in ("GET /v2/keys/a", "GET /v2/keys/none", "GET /v2/keys/a")))
        statuses = [(await client.response()).status for _ in range(3)]
        assert statuses == [200, 404, 200]

    async def test_a_client_that_leaves_meanwhile_is_forgotten(self, http: Http, connect: Connect) -> None:
        client = await connect()
        client.send(request("GET /v2/keys/a"))
        await client.close()
        async with asyncio.timeout(DEADLINE):
            while http.connections:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.001)
        assert (await (await connect()).ask(request("GET /v2/keys/a"))).status == 200


async def test_a_long_path_that_is_not_clean_is_refused(client: RawClient) -> None:
    assert (await client.ask(request("GET /v2/keys/a//b"))).status == 301
    answer = await client.ask(request("GET /v2/keys/" + "/a" * 100_000))
    assert (answer.status, "too long to be redirected" in json.loads(answer.body)["message"]) == (400, True)
