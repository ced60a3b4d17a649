"""Auth tried as an attacker would: one table of requests, and every endpoint for everybody.

A refusal must be exactly etcd's, change nothing, and show nothing of what the secret keys hold.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from tests.http.backend import LocalBackend
from tests.http.client import RawClient, request
from tests.http.scene import SECRET, USERS, WHO, ask, furnish

#: Whose credentials are no good.
OUTSIDERS = [who for who in WHO if who not in {name.decode() for name in USERS} | {"guest"}]


@pytest.fixture
def backend() -> LocalBackend:
    return furnish(LocalBackend())


class Case(NamedTuple):
    who: str
    line: str
    status: int
    form: str = ""
    headers: tuple[str, ...] = ()


def no(who: str, *lines: str, form: str = "", headers: tuple[str, ...] = ()) -> list[Case]:
    return [Case(who, line, 401, form, headers) for line in lines]


def yes(who: str, status: int, *lines: str, form: str = "") -> list[Case]:
    return [Case(who, line, status, form) for line in lines]


OVERRIDES = ("X-HTTP-Method-Override: GET", "X-HTTP-Method: GET", "X-Method-Override: GET")
RECURSIVE = "recursive=true"
TABLE = [
    # a guest: what the role guest says, and no more
    *yes("guest", 200, "GET /v2/keys/pub", "HEAD /v2/keys/pub", "GET /v2/keys/open/a", "GET /v2/keys/open/"),
    *yes("guest", 200, f"GET /v2/keys/open/?{RECURSIVE}", f"GET /v2/keys/open/a?{RECURSIVE}"),
    *yes("guest", 404, "GET /v2/keys/open/nothing", "DELETE /v2/keys/drop/nothing"),
    *yes("guest", 201, "PUT /v2/keys/drop/new", "POST /v2/keys/drop/", "POST /v2/keys/drop/q", form="value=v"),
    *no("guest", "GET /v2/keys", "GET /v2/keys/", "HEAD /v2/keys/", f"GET /v2/keys/?{RECURSIVE}"),
    *no("guest", f"GET /v2/keys?{RECURSIVE}", "GET /v2/keys/?wait=true", "GET /v2/keys/app/a", "HEAD /v2/keys/app/a"),
    *no("guest", "GET /v2/keys/pub/", "GET /v2/keys/pub/x", "GET /v2/keys/pub/sub", "GET /v2/keys/public"),
    *no("guest", f"GET /v2/keys/pub?{RECURSIVE}", f"HEAD /v2/keys/pub?{RECURSIVE}"),
    *no("guest", f"GET /v2/keys/pub?wait=true&{RECURSIVE}", f"GET /v2/keys/pub?wait=true&{RECURSIVE}&waitIndex=1"),
    *no("guest", f"GET /v2/keys/pub?wait=true&stream=true&{RECURSIVE}", f"GET /v2/keys/pub?quorum=true&{RECURSIVE}"),
    *no("guest", f"DELETE /v2/keys/pub?{RECURSIVE}", f"DELETE /v2/keys/pub?dir=true&{RECURSIVE}"),
    *no("guest", "POST /v2/keys/pub", "POST /v2/keys/drop", "PUT /v2/keys/drop", form="value=v"),
    *no("guest", "PUT /v2/keys/pub?prevExist=true&ttl=1", "PUT /v2/keys/pub?prevExist=true&ttl=1&refresh=true"),
    *no("guest", "GET /v2/keys/drop/old", "GET /v2/keys/drop/", "GET /v2/keys/drop/old?wait=true"),
    *no("guest", "GET /v2/keys/open", "GET /v2/keys/openly", f"GET /v2/keys/open?{RECURSIVE}"),
    # alice: reads /app/*, writes /app/w/*
    *yes("alice", 200, "GET /v2/keys/app/a", "GET /v2/keys/app/", f"GET /v2/keys/app/?{RECURSIVE}"),
    *yes("alice", 200, "GET /v2/keys/app/_hidden/h", "GET /v2/keys/app%2Fa", "GET /v2/keys/app/w?recursive=1"),
    *yes("alice", 201, "PUT /v2/keys/app/w/new", "POST /v2/keys/app/w/", "POST /v2/keys/app/w/q", form="value=v"),
    *yes("alice", 200, "PUT /v2/keys/app/w/k", "DELETE /v2/keys/app/w/k", form="value=v"),
    *no("alice", "GET /v2/keys/app", f"GET /v2/keys/app?{RECURSIVE}", "GET /v2/keys/apple", "GET /v2/keys/app%2e"),
    *no("alice", "GET /v2/keys/%61pple", "GET /v2/keys/app%00", "GET /v2/keys/APP/a", "GET /v2/keys/ap"),
    *no("alice", "GET /v2/keys/only", "GET /v2/keys/_hidden/h", "GET /v2/keys/_hidden", "GET /v2/keys/pub"),
    *no("alice", "GET /v2/keys/open/a", "GET /v2/keys/app?wait=true", f"GET /v2/keys/?wait=true&{RECURSIVE}"),
    *no(
        "alice", "PUT /v2/keys/app/w", "PUT /v2/keys/app/w/", "PUT /v2/keys/app/a", "POST /v2/keys/app/", form="value=v"
    ),
    *no(
        "alice",
        "PUT /v2/keys/app/w/?dir=true",
        "PUT /v2/keys/app/w/?dir=true&prevExist=true&ttl=1",
        "DELETE /v2/keys/app",
    ),
    *no(
        "alice",
        "DELETE /v2/keys/app/w/?dir=true",
        f"DELETE /v2/keys/app/w/?{RECURSIVE}",
        f"DELETE /v2/keys/app/w?{RECURSIVE}",
    ),
    *no("alice", "DELETE /v2/keys/app/a?prevValue=x", "DELETE /v2/keys/app/a?prevIndex=1", "DELETE /v2/keys/app/a"),
    *no(
        "alice", "PUT /v2/keys/app/a?prevValue=x", "PUT /v2/keys/app/a?prevIndex=1", "PUT /v2/keys/app/a?prevExist=true"
    ),
    *no("alice", "PUT /v2/keys/app/a?prevExist=false", "PUT /v2/keys/app/a?refresh=true&ttl=1", "PUT /v2/keys/app/w2"),
    *no("alice", "DELETE /v2/keys/app/a", "PUT /v2/keys/app/a", "POST /v2/keys/app/a", headers=OVERRIDES),
    *no("alice", "PUT /v2/keys/app/a?_method=GET", "DELETE http://x/v2/keys/app/a", "GET http://x/v2/keys/apple"),
    # bob: exact keys
    *yes("bob", 200, "GET /v2/keys/exact", "GET /v2/keys/dir", "GET /v2/keys/%65xact", "DELETE /v2/keys/exact"),
    *yes("bob", 200, "PUT /v2/keys/exact?prevExist=true&refresh=true&ttl=100"),
    *yes("bob", 403, "PUT /v2/keys/dir", "DELETE /v2/keys/dir", "DELETE /v2/keys/dir?dir=true", form="value=v"),
    *no(
        "bob",
        f"GET /v2/keys/exact?{RECURSIVE}",
        f"GET /v2/keys/dir?{RECURSIVE}",
        "GET /v2/keys/dir/x",
        "GET /v2/keys/dir/",
    ),
    *no("bob", f"GET /v2/keys/dir?wait=true&{RECURSIVE}", "GET /v2/keys/dir/x?wait=true", "GET /v2/keys/exact/"),
    *no("bob", f"DELETE /v2/keys/dir?{RECURSIVE}", f"DELETE /v2/keys/exact?{RECURSIVE}", "DELETE /v2/keys/dir/x"),
    *no("bob", "PUT /v2/keys/dir?prevExist=true&ttl=1", "PUT /v2/keys/dir?prevExist=true&ttl=1&dir=true"),
    *no("bob", "PUT /v2/keys/dir?prevExist=true&refresh=true&ttl=0"),
    *no("bob", "POST /v2/keys/dir", "POST /v2/keys/queue", "POST /v2/keys/queue/", form="value=v"),
    *no("bob", "PUT /v2/keys/exact/", "PUT /v2/keys/exact/x", "PUT /v2/keys/exactly", "DELETE /v2/keys/exact/"),
    # olga: /only/* is not the file /only
    *no("olga", "GET /v2/keys/only", "GET /v2/keys/only/", "HEAD /v2/keys/only/", f"GET /v2/keys/only/?{RECURSIVE}"),
    *no("olga", "GET /v2/keys/only/?quorum=true", "PUT /v2/keys/only/", "DELETE /v2/keys/only/"),
    *no("olga", "GET /v2/keys/only?wait=true", "PUT /v2/keys/only/?prevValue=x"),
    *yes("olga", 400, "GET /v2/keys/only/below", "POST /v2/keys/only/", form="value=v"),
    # max: everything but the key with the empty name
    *yes("max", 200, "GET /v2/keys/", f"GET /v2/keys/?{RECURSIVE}", "GET /v2/keys/_hidden/h"),
    *no("max", "GET /v2/keys", f"DELETE /v2/keys?{RECURSIVE}", "POST /v2/keys"),
    # roles that say nothing, or nothing yet
    *[
        case
        for who in ("eve", "nemo")
        for case in no(who, "GET /v2/keys", "GET /v2/keys/", "GET /v2/keys/pub", "PUT /v2/keys/drop/a")
    ],
    *yes("root", 200, "GET /v2/keys", f"GET /v2/keys?{RECURSIVE}", "GET /v2/keys/app/a"),
    # whoever shows bad credentials may not even do what guests may
    *[
        case
        for who in OUTSIDERS
        for case in no(who, "GET /v2/keys/pub", "PUT /v2/keys/drop/a", "GET /v2/keys/open/a?wait=true")
    ],
    # parameters are looked at first, and the path is cleaned before anything is
    *yes("guest", 400, "GET /v2/keys/app/a?wait=x", "PUT /v2/keys/app/a?ttl=x", "DELETE /v2/keys/app/a?recursive"),
    *yes("guest", 301, "GET /v2/keys//app/a", "GET /v2/keys/open/../app/a", "GET /v2/keys/open/%2e%2e/app/a"),
    *yes("alice", 301, "PUT /v2/keys/app/w/../a", "PUT /v2/keys/app/w%2f%2f..%2fa", "DELETE /v2/keys/app/w/./k"),
    *yes("guest", 200, "OPTIONS /v2/keys/app/a", "OPTIONS /v2/auth/users"),
    *yes("guest", 405, "PATCH /v2/keys/app/a", "get /v2/keys/app/a", "POST /v2/auth/enable", "HEAD /v2/auth/users"),
]


def state_of(backend: LocalBackend) -> tuple[object, ...]:
    return backend.store.index, backend.auth.freeze(), backend.membership.freeze()


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.who}: {case.line} {case.form}")
async def test_table(case: Case, client: RawClient, backend: LocalBackend) -> None:
    before = state_of(backend)
    response = await ask(client, case.who, case.line, case.form, *case.headers)
    assert response.status == case.status
    if case.status not in (200, 201):
        assert state_of(backend) == before
    if case.status in (401, 301, 405):
        assert SECRET not in response.head + response.body
        assert response.header("WWW-Authenticate") is None
    if case.status == 401:
        assert backend.store.watcher_count == 0
        assert response.header("X-Etcd-Index") == "0"
        if not case.line.startswith("HEAD"):
            assert response.body == (
                b'{"errorCode":110,"message":"The request requires user authentication",'
                b'"cause":"Insufficient credentials","index":0}\n'
            )


ADMINISTRATION = (
    "GET /v2/auth/users",
    "GET /v2/auth/users/",
    "GET /v2/auth/users/root",
    "GET /v2/auth/users/nobody",
    "PUT /v2/auth/users/alice",
    "PUT /v2/auth/users/root",
    "PUT /v2/auth/users/mallory",
    "DELETE /v2/auth/users/alice",
    "DELETE /v2/auth/users/root",
    "GET /v2/auth/roles",
    "GET /v2/auth/roles/",
    "GET /v2/auth/roles/app",
    "PUT /v2/auth/roles/guest",
    "PUT /v2/auth/roles/mine",
    "DELETE /v2/auth/roles/guest",
    "PUT /v2/auth/enable",
    "DELETE /v2/auth/enable",
    "POST /v2/members",
    "POST /v2/members/",
    "PUT /v2/members/deadbeef",
    "DELETE /v2/members/deadbeef",
)
OPEN = (
    *("GET /v2/auth/enable", "GET /version", "GET /health", "GET /v2/machines", "GET /v2/members"),
    *("GET /v2/stats/self", "GET /v2/stats/store", "GET /metrics", "GET /debug/vars"),
)
BODIES = (
    b'{"peerURLs":["http://127.0.0.1:1"]}',
    b'{"user":"root","password":"mine"}',
    b'{"user":"mallory","password":"mine","roles":["root"]}',
    b'{"role":"guest","grant":{"kv":{"read":["/*"]}}}',
    b"nonsense",
)


@pytest.mark.parametrize("who", [who for who in WHO if who != "root"])
async def test_users_roles_and_members_are_for_root_alone(who: str, client: RawClient, backend: LocalBackend) -> None:
    before = state_of(backend)
    for line in ADMINISTRATION:
        for body in BODIES if line.startswith("P") else (b"",):
            response = await client.ask(request(line, *WHO[who], body=body))
            assert (response.status, response.body) == (401, b'{"message":"Insufficient credentials"}'), line
            assert response.header("X-Etcd-Cluster-Id") is None
    assert state_of(backend) == before


@pytest.mark.parametrize("who", list(WHO))
async def test_what_is_open_is_open_to_all(who: str, client: RawClient) -> None:
    for line in OPEN:
        response = await ask(client, who, line)
        assert response.status == 200, line
        assert SECRET not in response.body
        assert b"$2b" not in response.body


async def test_no_answer_to_root_shows_a_password_or_a_hash(client: RawClient) -> None:
    for line in ("GET /v2/auth/users", "GET /v2/auth/users/root", "GET /v2/auth/roles"):
        response = await ask(client, "root", line)
        assert response.status == 200
        assert b"$2b" not in response.body
    body = b'{"user":"new","password":"swordfish"}'
    response = await client.ask(request("PUT /v2/auth/users/new", *WHO["root"], body=body))
    assert response.status == 201
    assert b"swordfish" not in response.body
    assert b"$2b" not in response.body


class TestWritersWhoMayNotRead:
    """A guest may write /drop/*, and learns nothing of what is there."""

    @pytest.mark.parametrize(
        "line",
        [
            "PUT /v2/keys/drop/old?prevValue=guess",
            "PUT /v2/keys/drop/old?prevValue=guess&prevIndex=1",
            "PUT /v2/keys/drop/old?ttl=100&refresh=true",
            "PUT /v2/keys/drop/old?prevExist=true&ttl=100&refresh=true",
            "PUT /v2/keys/drop/old?value=v",
            "PUT /v2/keys/drop/old?dir=true",
            "DELETE /v2/keys/drop/old?prevValue=guess",
            "DELETE /v2/keys/drop/old",
        ],
    )
    async def test_no_old_value_is_shown(self, line: str, client: RawClient, backend: LocalBackend) -> None:
        response = await ask(client, "guest", line)
        assert response.status in (200, 412)
        assert SECRET not in response.body

    async def test_who_may_read_is_told_as_ever(self, client: RawClient) -> None:
        response = await ask(client, "alice", "PUT /v2/keys/app/w/k?prevValue=guess")
        assert json.loads(response.body)["cause"] == "[guess != classified]"
        response = await ask(client, "alice", "PUT /v2/keys/app/w/k?value=v")
        assert json.loads(response.body)["prevNode"]["value"] == "classified"
