"""`/v2/auth` beyond the recordings: bodies as etcd 3.4.23 reads them (asked one by one), and what is never shown."""

from __future__ import annotations

import json
import logging

import pytest

from kvstore.http.v2.auth_bodies import BadBody, Patterns, RoleBody, UserBody, parse_role, parse_user
from kvstore.wire import CreateUser, SwitchAuth
from tests.http.backend import LocalBackend
from tests.http.client import RawClient, Response, request
from tests.http.scene import HASH, basic

NO_LISTS = Patterns(None, None)


class TestUserBodies:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (b'{"user":"a","password":"pw"} trailing', UserBody(b"a", b"pw", (), (), ())),
            (b' \r\n\t{"USER":"a","Password":"pw"}', UserBody(b"a", b"pw", (), (), ())),
            (b'{"user":"a","user":"b"}', UserBody(b"b", b"", (), (), ())),
            (b"null", UserBody(b"", b"", (), (), ())),
            (b'{"user":null,"roles":null}', UserBody(b"", b"", (), (), ())),
            (b'{"user":"a","grant":[null],"revoke":["b"]}', UserBody(b"a", b"", (), (b"",), (b"b",))),
            (b'{"user":"a","roles":["r"],"other":{"x":[1e999]}}', UserBody(b"a", b"", (b"r",), (), ())),
            (b'{"user":"a","n":' + b"9" * 5000 + b"}", UserBody(b"a", b"", (), (), ())),
            (b'{"user":"\\ud800\xff\\u00e4"}', UserBody("\ufffd\ufffdä".encode(), b"", (), (), ())),
            (b'{"user":"a","password":"p\\u0000q"}', UserBody(b"a", b"p\0q", (), (), ())),
        ],
    )
    def test_read(self, body: bytes, expected: UserBody) -> None:
        assert parse_user(body) == expected

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b'"a"',
            b'{"user":5}',
            b'{"user":"a","roles":{}}',
            b'{"user":"a","roles":"r"}',
            b'{"user":"a","grant":[1]}',
            b'{"user":"a","other":NaN}',
            b'{"user":"a\n"}',
            b'{"user":"a"',
            b"[" * 100_000,
        ],
    )
    def test_refused_without_a_word_of_it(self, body: bytes) -> None:
        with pytest.raises(BadBody) as caught:
            parse_user(body)
        assert caught.value.args == ()
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"role":"r"}', RoleBody(b"r", NO_LISTS, None, None)),
        (b'{"role":"r","permissions":null,"grant":{},"revoke":null}', RoleBody(b"r", NO_LISTS, NO_LISTS, None)),
        (
            b'{"role":"r","permissions":{"KV":{"read":["/a/*"],"WRITE":[]}}}',
            RoleBody(b"r", Patterns((b"/a/*",), ()), None, None),
        ),
        (b'{"role":"r","grant":{"kv":null}}', RoleBody(b"r", NO_LISTS, NO_LISTS, None)),
    ],
)
def test_role_bodies(body: bytes, expected: RoleBody) -> None:
    assert parse_role(body) == expected


@pytest.mark.parametrize("body", [b'{"role":"r","grant":[]}', b'{"role":"r","permissions":{"kv":{"read":"/x"}}}'])
def test_role_bodies_that_are_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        parse_role(body)


async def put(client: RawClient, path: str, body: str) -> Response:
    return await client.ask(request(f"PUT /v2/auth/{path}", body=body.encode()))


async def test_names_of_any_kind(client: RawClient) -> None:
    for path, name in (("x%20y", "x y"), ("a:b", "a:b"), ("%c3%a4", "ä"), ("_h", "_h"), ("%3Cb%3E", "<b>")):
        response = await put(client, f"users/{path}", json.dumps({"user": name, "password": "pw"}))
        assert (response.status, json.loads(response.body)) == (201, {"user": name, "roles": None})
        response = await client.ask(request(f"GET /v2/auth/users/{path}"))
        assert json.loads(response.body) == {"user": name}
    listed = json.loads((await client.ask(request("GET /v2/auth/users"))).body)["users"]
    assert [user["user"] for user in listed] == ["<b>", "_h", "a:b", "x y", "ä"]  # etcd hides _h, who may log in


async def test_a_name_that_is_no_text_is_nobodys(client: RawClient) -> None:
    response = await put(client, "users/%ff", '{"user":"\ufffd","password":"pw"}')
    assert response.body == b'{"message":"User JSON name does not match the name in the URL"}'
    assert (await client.ask(request("DELETE /v2/auth/users/%ff"))).status == 404


async def test_what_etcd_answers_beyond_the_recordings(client: RawClient) -> None:
    asked = [
        ("users/x%2Fy", '{"user":"x/y","password":"pw"}', 400, '{"message":"Invalid path"}'),
        ("users/alice", '{"user":"alice","password":"pw"}', 201, '{"user":"alice","roles":null}\n'),
        ("users/alice", '{"user":"alice","grant":["",null]}', 409, None),
        ("users/alice", '{"user":"alice","grant":[null,"a"]}', 200, '{"user":"alice","roles":["","a"]}\n'),
        ("users/root", '{"user":"root","grant":["x"]}', 404, '{"message":"auth: User root does not exist."}'),
        (
            "users/root",
            '{"user":"root","password":"a","roles":["root","x"]}',
            200,
            '{"user":"root","roles":["root","x"]}\n',
        ),
        ("users/dupe", '{"user":"dupe","password":"a","roles":["z","y","z"]}', 200, None),
        ("users/dupe", '{"user":"dupe"}', 200, '{"user":"dupe","roles":["y","z"]}\n'),
        (
            "roles/r9",
            '{"role":"r9","permissions":{"kv":{"read":["x"]}},"grant":{}}',
            201,
            '{"role":"r9","permissions":{"kv":{"read":["x"],"write":null}},"grant":{"kv":{"read":null,"write":null}}}\n',
        ),
        (
            "roles/r9",
            '{"role":"r9","grant":{"kv":{"read":["<&>"]}}}',
            200,
            '{"role":"r9","permissions":{"kv":{"read":["\\u003c\\u0026\\u003e","x"],"write":[]}}}\n',
        ),
    ]
    for path, body, status, expected in asked:
        response = await put(client, path, body)
        assert response.status == status, (path, body)
        if expected is not None:
            assert response.body.decode() == expected


class TestWithoutQuorum:
    """docs/api-v2.md, *Without a leader*: what is known here is still told; what would change is not done."""

    async def test_reads_go_on_and_changes_fail(self, client: RawClient, backend: LocalBackend) -> None:
        backend.apply(CreateUser(b"root", HASH, None))
        backend.has_quorum = False
        for line in ("GET /v2/auth/users", "GET /v2/auth/roles", "GET /v2/auth/enable"):
            assert (await client.ask(request(line))).status == 200
        for line in ("DELETE /v2/auth/users/root", "PUT /v2/auth/enable"):
            response = await client.ask(request(line))
            assert (response.status, response.body) == (500, b'{"message":"Internal Server Error"}')


async def test_no_password_gets_into_a_log_line(
    client: RawClient, backend: LocalBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await put(client, "users/root", '{"user":"root","password":"swordfish"}')
    await put(client, "users/root", '{"user":"root","password":"swordfish"')
    await put(client, "users/other", '{"user":"root","password":"swordfish"}')
    backend.apply(SwitchAuth(True))
    for name, password in ((b"root", b"swordfish2"), (b"swordfish", b"x"), (b"root", b"swordfish")):
        await client.ask(request("GET /v2/auth/users", basic(name, password)))
    await client.ask(request("GET /v2/auth/users", "Authorization: Basic swordfish"))
    text = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert "a wrong password" in text  # so the log was really looked at
    assert "swordfish" not in text
    assert "$2b" not in text
