"""What goes over one connection, byte by byte. Expectations were taken from etcd 3.4.23."""

from __future__ import annotations

import asyncio

import pytest

from kvstore.http.app import Http, Settings
from kvstore.limits import Limits
from kvstore.store.operations import Set
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, FORM, RawClient, put, request
from tests.http.conftest import Connect

CORS = (
    b"Access-Control-Allow-Headers: accept, content-type, authorization",
    b"Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE",
    b"Access-Control-Allow-Origin: *",
)
EVENT_A1 = b'{"action":"get","node":{"key":"/a","value":"1","modifiedIndex":1,"createdIndex":1}}\n'


@pytest.fixture
async def with_a(client: RawClient) -> RawClient:
    assert (await client.ask(put("/a", "value=1"))).status == 201
    return client


async def test_a_success_is_what_etcd_sends(with_a: RawClient) -> None:
    response = await with_a.ask(request("GET /v2/keys/a"))
    status_line, *lines = response.head.split(b"\r\n")
    assert status_line == b"HTTP/1.1 200 OK"
    assert [line for line in lines if not line.startswith(b"Date: ")] == [
        *CORS,
        b"Content-Type: application/json",
        b"X-Etcd-Cluster-Id: c0ffee",
        b"X-Etcd-Index: 1",
        b"X-Raft-Index: 5",
        b"X-Raft-Term: 2",
        b"Content-Length: 84",
    ]
    assert response.body == EVENT_A1


async def test_a_store_error_names_the_index_but_not_the_raft_index(with_a: RawClient) -> None:
    response = await with_a.ask(request("GET /v2/keys/b"))
    assert response.status == 404
    assert response.header("X-Etcd-Index") == "1"
    assert response.header("X-Raft-Index") is None
    assert response.body == b'{"errorCode":100,"message":"Key not found","cause":"/b","index":1}\n'


async def test_pipelined_requests_are_answered_in_order(client: RawClient) -> None:
    client.send(b"".join(put("/n", f"value={n}") for n in range(100)))
    for n in range(100):
        assert f'"value":"{n}"'.encode() in (await client.response()).body


async def test_a_client_that_does_not_read_gets_no_more_answers_made(
    connect: Connect, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers wait in the sockets and in one transport's buffer, not all in the server's memory."""
    slow, quick = await connect(), await connect()
    await quick.ask(put("/big", "value=" + "x" * 1_000_000))
    reads = 0

    def now() -> int:  # asked once for each GET of a key
        nonlocal reads
        reads += 1
        return 0

    monkeypatch.setattr(backend, "now", now)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a full transport
    slow.send(request("GET /v2/keys/big") * 30)
    for _ in range(200):
        await quick.ask(request("GET /version"))
    assert 1 <= reads < 15
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(30):
        assert len((await slow.response()).body) > 1_000_000
    assert reads == 30


async def test_pipelining_after_a_long_poll_waits_for_it(connect: Connect) -> None:
    client, writer = await connect(), await connect()
    client.send(request("GET /v2/keys/a?wait=true") + request("GET /version"))
    assert (await client.head()).header("Transfer-Encoding") == "chunked"
    await writer.ask(put("/a", "value=1"))
    assert b'"value":"1"' in await client.chunk()
    assert await client.chunk() == b""
    assert b"etcdserver" in (await client.response()).body


async def test_http10_closes_unless_asked_to_stay(with_a: RawClient, connect: Connect) -> None:
    response = await with_a.ask(request("GET /v2/keys/a HTTP/1.0", "Connection: keep-alive"))
    assert response.head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert response.header("Connection") == "keep-alive"
    response = await with_a.ask(b"GET /v2/keys/a HTTP/1.0\r\n\r\n")  # needs no Host
    assert response.header("Connection") is None
    assert response.body == EVENT_A1
    assert await with_a.is_closed()


async def test_http10_long_poll_ends_with_the_connection(with_a: RawClient) -> None:
    with_a.send(request("GET /v2/keys/a?wait=true&waitIndex=1 HTTP/1.0", "Connection: keep-alive"))
    response = await with_a.response()
    assert response.header("Transfer-Encoding") is None
    assert response.header("Connection") is None
    assert response.body == b'{"action":"set","node":{"key":"/a","value":"1","modifiedIndex":1,"createdIndex":1}}\n'


async def test_connection_close_is_echoed_and_done(with_a: RawClient) -> None:
    response = await with_a.ask(request("GET /v2/keys/a", "Connection: close"))
    assert response.header("Connection") == "close"
    assert await with_a.is_closed()


async def test_head_has_the_headers_and_no_body(with_a: RawClient) -> None:
    response = await with_a.ask(request("HEAD /v2/keys/a"))
    assert (response.status, response.header("Content-Length")) == (200, "84")
    assert (await with_a.ask(request("GET /version"))).status == 200  # nothing was left over


async def test_a_chunked_form_in_small_pieces(client: RawClient) -> None:
    client.send(request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked"))
    for piece in (b"3\r\nval\r\n", b"4;x=y\r\nue=z", b"\r\n0\r\nTrailer: 1\r\n\r\n"):
        client.send(piece)
        await client.writer.drain()
        await asyncio.sleep(0)
    assert b'"value":"z"' in (await client.response()).body


async def test_a_broken_chunk_is_a_form_error(client: RawClient, backend: LocalBackend) -> None:
    client.send(request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked", "Expect: 100-continue"))
    assert (await client.response()).status == 100  # so the handler is reading
    client.send(b"zz\r\nvalue=z\r\n0\r\n\r\n")
    response = await client.response()
    assert response.status == 400
    assert b'"errorCode":210,' in response.body
    assert b"invalid byte in chunk length" in response.body
    assert backend.store.index == 0


async def test_expect_100_continue_comes_when_the_body_is_wanted(client: RawClient) -> None:
    client.send(request("PUT /v2/keys/a", FORM, "Content-Length: 7", "Expect: 100-continue"))
    assert (await client.response()).head == b"HTTP/1.1 100 Continue"
    client.send(b"value=1")
    assert (await client.response()).status == 201


async def test_expect_100_continue_is_not_sent_for_a_body_that_nobody_reads(client: RawClient) -> None:
    client.send(request("PUT /v2/keys/a", "Content-Type: text/plain", "Content-Length: 7", "Expect: 100-continue"))
    response = await client.response()
    assert (response.status, response.header("Connection")) == (201, "close")


async def test_another_expectation_fails(client: RawClient, backend: LocalBackend) -> None:
    response = await client.ask(request("PUT /v2/keys/a", FORM, "Expect: banana", body=b"value=1"))
    assert response.status == 417
    assert backend.store.index == 0


@pytest.mark.parametrize("method", ["get", "FOO", "PATCH", "TRACE", "PROPFIND", "Put", "x-y"])
async def test_other_methods_are_405_and_the_connection_stays(client: RawClient, method: str) -> None:
    response = await client.ask(request(f"{method} /v2/keys/a"))
    assert (response.status, response.header("Allow")) == (405, "HEAD,GET,PUT,POST,DELETE")
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.body == b"Method Not Allowed\n"
    assert (await client.ask(request("GET /version"))).status == 200


async def test_the_rest_of_a_body_is_never_taken_for_a_request(client: RawClient, backend: LocalBackend) -> None:
    """Requests inside a body, then a method that sends the parser to its second try and would be their body."""
    inside = (
        b"x /version HTTP/1.1\r\nHost: x\r\n\r\nPUT /v2/keys/b?value=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
    )
    client.send(request("PUT /v2/keys/a", FORM, f"Content-Length: {len(inside)}", "Expect: 100-continue"))
    await client.response()
    client.send(inside + b"foo")
    assert (await client.response()).status == 201
    assert (await client.response()).status == 400
    assert [view.key for view in backend.store.get(b"/", True, True, 0).nodes or ()] == [b"/a"]
    assert await client.is_closed()


async def test_raw_utf8_in_the_target(client: RawClient) -> None:
    response = await client.ask(put("/é", "value=1"))
    assert response.status == 201
    assert '"key":"/é"'.encode() in response.body
    response = await client.ask(b"GET /v2/keys/\xff HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b'"cause":"/\\ufffd"' in response.body


async def test_an_unparsable_target_is_refused_without_cors(client: RawClient) -> None:
    client.send(request("GET /%zz"))
    assert (await client.response()) == (
        400,
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close",
        b"400 Bad Request",
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"GET /v2/keys/a HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /v2/keys/a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
        b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_a_400_and_is_closed(client: RawClient, raw: bytes) -> None:
    client.send(raw)
    assert (await client.response()).status == 400


async def test_http11_needs_a_host(client: RawClient) -> None:
    client.send(b"GET /v2/keys/a HTTP/1.1\r\n\r\n")
    response = await client.response()
    assert response.head.startswith(b"HTTP/1.1 400 Bad Request: missing required Host header\r\n")


async def test_a_head_beyond_its_limit_is_431(client: RawClient) -> None:
    client.send(b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n")
    line = b"X: " + b"b" * 4093 + b"\r\n"
    for _ in range(Limits().head_bytes // len(line) + 1):
        client.send(line)
    response = await client.head()
    assert response.head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


async def test_a_long_target_within_the_limit(client: RawClient) -> None:
    value = "a" * 100_000
    assert (await client.ask(request(f"PUT /v2/keys/a?value={value}"))).status == 201


class TestLimits:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(request_bytes=100, connections=2))

    async def test_a_form_of_the_limit_passes_and_one_byte_more_is_too_large(self, client: RawClient) -> None:
        assert (await client.ask(put("/a", "value=" + "x" * 94))).status == 201
        response = await client.ask(put("/a", "value=" + "x" * 95))
        assert response.status == 400
        assert b'"errorCode":210,' in response.body
        assert b'"cause":"http: POST too large"' in response.body

    async def test_a_form_in_pieces_is_not_collected_beyond_the_limit(self, client: RawClient) -> None:
        client.send(request("PUT /v2/keys/a", FORM, "Content-Length: 1000000", "Expect: 100-continue"))
        await client.response()
        client.send(b"value=" + b"x" * 200)
        assert b"too large" in (await client.response()).body  # before the rest was sent

    async def test_one_connection_too_many_is_closed(self, connect: Connect, http: Http) -> None:
        clients = [await connect() for _ in range(2)]
        for client in clients:
            assert (await client.ask(request("GET /v2/keys/a?wait=true&waitIndex=x"))).status == 400
        third = await connect()
        assert await third.is_closed()


class TestIdle:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(Limits(idle_seconds=0.05))

    async def test_an_idle_connection_is_closed_and_a_watch_is_not_idle(self, connect: Connect) -> None:
        idle, watching = await connect(), await connect()
        watching.send(request("GET /v2/keys/a?wait=true"))
        await watching.head()
        assert (await idle.ask(request("GET /version"))).status == 200
        assert await idle.is_closed()
        writer = await connect()
        await writer.ask(put("/a", "value=1"))
        assert b'"value":"1"' in await watching.chunk()


class TestHalfClosed:
    async def test_the_answer_still_comes(self, with_a: RawClient) -> None:
        with_a.send(request("GET /v2/keys/a") + request("GET /version"))
        with_a.writer.write_eof()
        assert (await with_a.response()).body == EVENT_A1
        assert b"etcdserver" in (await with_a.response()).body
        assert await with_a.is_closed()

    async def test_a_write_in_flight_is_still_answered(self, client: RawClient, backend: LocalBackend) -> None:
        backend.is_stuck = True
        client.send(put("/a", "value=1"))
        client.writer.write_eof()
        async with asyncio.timeout(DEADLINE):
            await backend.called.wait()
        event = backend.apply(Set(b"/a", b"1", False, None, False))
        assert event is not None
        backend.pending[0].set_result(event)
        assert (await client.response()).status == 201
        assert await client.is_closed()

    async def test_half_a_body_is_not_waited_for(self, client: RawClient, backend: LocalBackend) -> None:
        client.send(request("PUT /v2/keys/a", FORM, "Content-Length: 10", "Expect: 100-continue"))
        await client.response()
        client.send(b"value")
        client.writer.write_eof()
        assert await client.is_closed()
        assert backend.store.index == 0


@pytest.mark.parametrize("content_type", [FORM, "Content-Type: text/plain"])
async def test_a_body_that_breaks_is_no_error_of_ours(
    client: RawClient, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether somebody waits for it, or only for its end: with a plain text, the answer is given already."""
    client.send(request("PUT /v2/keys/a", content_type, "Transfer-Encoding: chunked", "Expect: 100-continue"))
    assert (await client.response()).status == (100 if content_type == FORM else 201)
    client.send(b"1\r\nx\r\n")
    client.send(b"zz\r\n")
    while not await client.is_closed():
        pass
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
