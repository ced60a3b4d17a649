"""Whatever a server answers, kvctl ends with a status and without a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kvctl.cases import Case
from tests.kvctl.programs import Places, kvctl

COMMANDS = [
    *("get /a", "ls -r -p", "-o json ls", "-o extended get /a", "set /a 1", "rm /a", "rm -r /a", "mk --in-order /a 1"),
    *("member list", "member add a http://127.0.0.1:1", "member remove 1", "member update 1 http://127.0.0.1:1"),
    *("user list", "user get a", "user add a:b", "user grant a --roles b", "role list", "role get a", "role add a"),
    *("role grant a --path /b --read", "auth enable", "cluster-health", "watch /a", "-o json watch -r /a"),
]
NODE = {"key": "/a", "value": "1", "dir": False, "nodes": [{"key": "/a/b"}], "modifiedIndex": 3, "ttl": 1}
PATTERNS = {"kv": {"read": ["/a"], "write": None}}
WHOLE = [
    {"action": "get", "node": NODE, "prevNode": NODE},
    {"action": "delete", "node": NODE},
    {"errorCode": 100, "message": "m", "cause": "c", "index": 3},
    {"members": [{"id": "1", "name": "n", "peerURLs": ["http://127.0.0.1:1"], "clientURLs": ["http://127.0.0.1:1"]}]},
    {"id": "1", "name": "n", "peerURLs": [], "clientURLs": []},
    {"user": "a", "roles": [{"role": "b", "permissions": PATTERNS}]},
    {"users": [{"user": "a"}], "roles": [{"role": "b"}]},
    {"role": "a", "permissions": PATTERNS},
    {"message": "no"},
    {"health": "true"},
]
STATUSES = [200, 200, 201, 204, 400, 401, 404, 409, 410, 412, 500, 503, 504, 599]
ODD = ["null", "true", "1", "-1", "1.5", '""', '"x"', "[]", "{}", "[1]", '{"x": 1}', '"\\ud800"', "9" * 30]
odd = st.sampled_from(ODD).map(json.loads)


class Server(ThreadingHTTPServer):
    status = 200
    body = b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - their names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@st.composite
def documents(draw: st.DrawFn) -> object:
    """A right one with one or two places exchanged for something odd."""
    document = json.loads(json.dumps(draw(st.sampled_from(WHOLE))))
    for _ in range(draw(st.integers(0, 2))):
        place = document
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()) or not isinstance(place[key], dict | list):
                place[key] = draw(odd)
                break
            place = place[key]
    return draw(st.sampled_from([document, document, document, draw(odd)]))


bodies = documents().map(lambda document: json.dumps(document).encode()) | st.binary(max_size=20)


@settings(max_examples=200, deadline=None)
@given(command=st.sampled_from(COMMANDS), status=st.sampled_from(STATUSES), body=bodies, no_sync=st.booleans())
def test_any_answer(command: str, status: int, body: bytes, no_sync: bool, server: Server) -> None:
    if command.startswith(("watch", "-o json watch")) and (not body or b'"dir": ' in body):
        return  # it would wait for more
    server.status, server.body = status, body if status != 204 else b""
    url = f"http://127.0.0.1:{server.server_port}"
    arguments = (*(("--no-sync",) if no_sync else ()), "--timeout", "5s", *command.split())
    outcome = kvctl(Case("", arguments, {}, ""), Places(url, url, "1", url))
    assert outcome.status in range(6)
