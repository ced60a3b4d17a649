"""The client against servers that fail on purpose: what is asked again, what never is, and what is said then."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator

import pytest

from kvstore.client import (
    Client,
    ClientError,
    DeadlineExceeded,
    InvalidEndpoint,
    Keys,
    KeyspaceError,
    Missed,
    OutcomeUnknown,
    Response,
    Unreachable,
)
from kvstore.client.endpoint import canonical, parse
from kvstore.client.errors import InvalidAnswer
from kvstore.client.members import Members
from tests.kvctl.fake import BREAK, Fake, Reply, answer, node

NO_LEADER = answer(503, {"errorCode": 300, "message": "Raft Internal Error"})
TIMED_OUT = answer(500, {"errorCode": 300, "message": "Raft Internal Error", "cause": "etcdserver: request timed out"})
CLEARED = answer(400, {"errorCode": 401, "message": "cleared", "cause": "", "index": 50}, index=50)
HANGS = (b"", True)


@pytest.fixture
def nobody() -> str:
    """A URL where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def ordered(client: Client, *urls: str) -> Client:
    """Clients shuffle; tests say who is asked first."""
    client._endpoints = tuple(parse(url) for url in urls)
    return client


async def test_goes_on_to_the_next_endpoint_and_stays_there(nobody: str) -> None:
    async with Fake(NO_LEADER).serving() as leaderless, Fake(answer(200, node())).serving() as good:
        urls = (nobody, leaderless.url, good.url)
        async with ordered(Client(urls), *urls) as client:
            for _ in range(2):
                assert (await Keys(client).get("/a")).node.value == "1"
        assert (len(leaderless.asked), len(good.asked), good.connections) == (1, 2, 1)


async def test_says_what_each_endpoint_said(nobody: str) -> None:
    async with Fake(NO_LEADER).serving() as leaderless:
        urls = (nobody, leaderless.url)
        async with ordered(Client(urls), *urls) as client:
            with pytest.raises(Unreachable) as caught:
                await Keys(client).set("/a", "1")
    address = nobody.removeprefix("http://")
    assert caught.value.detail == (
        f"error #0: dial tcp {address}: connect: connection refused\n"
        f"error #1: client: etcd member {leaderless.url} has no leader\n"
    )
    assert not caught.value.is_connection


@pytest.mark.parametrize("trouble", [BREAK, TIMED_OUT, (b"HTTP/1.1 200 OK\r\nContent-Le", False)])
async def test_a_write_that_may_have_happened_is_not_sent_again(trouble: tuple[bytes | None, bool]) -> None:
    async with Fake(trouble).serving() as broken, Fake(answer(200, node())).serving() as good:
        urls = (broken.url, good.url)
        async with ordered(Client(urls), *urls) as client:
            with pytest.raises(OutcomeUnknown, match="may have happened"):
                await Keys(client).set("/a", "1")
            assert not good.asked
            await Keys(client).set("/a", "2")  # the next call begins with another endpoint
            assert (len(broken.asked), len(good.asked)) == (1, 1)


async def test_a_change_of_members_that_is_answered_500_is_told_as_it_was_answered() -> None:
    """A refusal has the same answer as a change that was not confirmed, and the leader may be well."""
    reply = answer(500, {"message": "Internal Server Error"})
    async with Fake(reply).serving() as server, Client([server.url]) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await Members(client).add("http://127.0.0.1:1")
    assert str(caught.value) == (
        "the outcome of the write is not known, it may have happened: "
        f"client: etcd member {server.url} answers 500 Internal Server Error; its log may say why"
    )


async def test_a_read_is_asked_again_where_a_write_is_not() -> None:
    async with Fake(BREAK).serving() as broken, Fake(answer(200, node())).serving() as good:
        urls = (broken.url, good.url)
        async with ordered(Client(urls), *urls) as client:
            assert (await Keys(client).get("/a")).node.value == "1"


async def test_no_answer_within_the_time() -> None:
    async with Fake(HANGS).serving() as silent:
        async with Client([silent.url], timeout=0.05) as client:
            with pytest.raises(Unreachable, match="exceeded header timeout"):
                await Keys(client).get("/a")
            with pytest.raises(OutcomeUnknown, match="exceeded header timeout"):
                await Keys(client).delete("/a")
        async with Client([silent.url], total_timeout=0.05) as client:
            with pytest.raises(DeadlineExceeded):
                await Keys(client).get("/a")
            with pytest.raises(OutcomeUnknown, match="deadline"):
                await Keys(client).create_in_order("/a", "1")


async def test_requests_as_etcdctl_sends_them() -> None:
    async with (
        Fake(answer(200, node())).serving() as server,
        Client([server.url], username="anna", password="rose") as client,
    ):
        keys = Keys(client)
        await keys.get("a b/ü?x", sort=True)
        await keys.set("/a", "b c&ü", ttl=5, prev_value="x y", prev_index=3, prev_exist=True)
        await keys.set("/a", "\udcff")
        await keys.set("/a", ttl=5, refresh=True)
        await keys.set("/d", directory=True, prev_exist=False)
        await keys.create_in_order("//a//b", "v")
        await keys.delete("/a/", recursive=True, directory=True, prev_index=1)
    assert server.asked == [
        "GET /v2/keys/a%20b/%C3%BC%3Fx?quorum=false&recursive=false&sorted=true",
        "PUT /v2/keys/a?prevExist=true&prevIndex=3&prevValue=x+y ttl=5&value=b+c%26%C3%BC",
        "PUT /v2/keys/a value=%FF",
        "PUT /v2/keys/a refresh=true&ttl=5",
        "PUT /v2/keys/d?dir=true&prevExist=false",
        "POST /v2/keys/a/b value=v",
        "DELETE /v2/keys/a/?dir=true&prevIndex=1&recursive=true",
    ]
    assert all("Authorization: Basic YW5uYTpyb3Nl\r\n" in head for head in server.heads)


async def test_what_is_no_etcd_is_said() -> None:
    replies = (answer(200, ["x"]), answer(200), answer(404, "<html>"), answer(200, {}))
    async with Fake(*replies).serving() as server, Client([server.url]) as client:
        for _ in replies:
            with pytest.raises(InvalidAnswer):
                await Keys(client).get("/a")


async def test_a_write_whose_answer_cannot_be_read_may_have_happened() -> None:
    async with (
        Fake(answer(200), answer(201, ["x"]), answer(404, "x")).serving() as server,
        Client([server.url]) as client,
    ):
        for error in (OutcomeUnknown, OutcomeUnknown, InvalidAnswer):
            with pytest.raises(error):
                await Keys(client).set("/a", "1")


async def test_half_a_surrogate_pair_is_the_replacement_character() -> None:
    body = b'{"action":"get","node":{"key":"/a","value":"\\ud83d\\ude00 \\udcff"}}'
    reply = (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), True)
    async with Fake(reply).serving() as server, Client([server.url]) as client:
        assert (await Keys(client).get("/a")).node.value == "\U0001f600 \ufffd"


async def test_a_refusal_has_its_code_cause_and_index() -> None:
    document = {"errorCode": 100, "message": "Key not found", "cause": "/a", "index": 7}
    async with Fake(answer(404, document)).serving() as server, Client([server.url]) as client:
        with pytest.raises(KeyspaceError) as caught:
            await Keys(client).get("/a")
    error = caught.value
    assert (error.code, error.message, error.cause, error.index) == (100, "Key not found", "/a", 7)
    assert str(error) == "100: Key not found (/a) [7]"


async def some(events: AsyncIterator[Response | Missed], count: int) -> list[Response | Missed]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


async def test_a_watch_resumes_at_the_right_index_on_another_member() -> None:
    dies_waiting = (b"HTTP/1.1 200 OK\r\nX-Etcd-Index: 9\r\nTransfer-Encoding: chunked\r\n\r\n", False)
    async with (
        Fake(dies_waiting).serving() as dying,
        Fake(
            answer(200, node(index=12), index=12), answer(200), answer(200, node(index=15), index=15)
        ).serving() as good,
    ):
        urls = (dying.url, good.url)
        async with ordered(Client(urls), *urls) as client:
            events = await some(Keys(client).watch("/a", recursive=True), 2)
    assert [event.node.modified_index for event in events if isinstance(event, Response)] == [12, 15]
    waited = [line.rpartition("=")[2] for line in dying.asked + good.asked]
    assert waited == [
        "0",
        "10",
        "13",
        "13",
    ]  # from behind the index at which it had begun; an empty answer changes nothing


async def test_a_watch_reads_again_where_history_is_gone() -> None:
    replies = (CLEARED, answer(200, node("now", 40), index=60), CLEARED, answer(404, {"errorCode": 100, "index": 61}))
    async with Fake(*replies, answer(200, node(index=62))).serving() as server, Client([server.url]) as client:
        first, second, third = await some(Keys(client).watch("/a", after_index=3), 3)
    assert isinstance(first, Missed)
    assert first.now is not None
    assert (first.now.node.value, first.etcd_index, first.error.code) == ("now", 60, 401)
    assert isinstance(second, Missed)
    assert (second.now, second.etcd_index) == (None, 61)
    assert isinstance(third, Response)
    assert [line.rpartition("=")[2] for line in server.asked if "wait" in line] == ["4", "61", "62"]


async def test_a_watch_waits_until_members_are_back_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.client.watch.FIRST_PAUSE_SECONDS", 0.001)
    told: list[ClientError] = []
    replies = (answer(200, node(index=5), index=5), NO_LEADER, NO_LEADER, answer(200, node(index=6)))
    async with Fake(*replies).serving() as server, Client([server.url]) as client:
        watch = Keys(client).watch("/a")
        watch.on_trouble = told.append
        events = await some(watch, 2)
    assert [event.node.modified_index for event in events if isinstance(event, Response)] == [5, 6]
    assert len(told) == 1


async def test_a_silent_watch_is_asked_of_another_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.client.watch.RENEW_SECONDS", 0.05)
    async with Fake(HANGS).serving() as frozen, Fake(answer(200, node(index=8))).serving() as good:
        urls = (frozen.url, good.url)
        async with ordered(Client(urls), *urls) as client:
            (event,) = await some(Keys(client).watch("/a", after_index=7), 1)
    assert isinstance(event, Response)
    assert [line.rpartition("=")[2] for line in frozen.asked + good.asked] == ["8", "8"]


async def test_a_watch_learns_of_new_members_when_it_loses_one() -> None:
    async with (
        Fake(answer(200, node(index=9))).serving() as third,
        Fake().serving() as second,
        Fake().serving() as first,
    ):
        urls = [first.url, second.url]

        def members(*clients: str) -> Reply:
            return answer(200, {"members": [{"id": str(url), "clientURLs": [url]} for url in clients]})

        first.replies = [members(*urls), (b"HTTP/1.1 200 OK\r\nX-Etcd-Index: 8\r\nContent-Length: 9\r\n\r\n", False)]
        second.replies = [members(third.url)]
        async with ordered(Client(urls), *urls) as client:
            await client.sync()
            (event,) = await some(Keys(client).watch("/a"), 1)
            assert client.endpoints == (third.url,)
    assert isinstance(event, Response)
    assert [line.rpartition("=")[2] for line in third.asked] == ["9"]


async def test_a_kept_connection_that_died_costs_a_read_nothing() -> None:
    died = (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True)
    replies = (answer(200, node()), BREAK, answer(200, node("2")), BREAK, died)
    async with Fake(*replies).serving() as server, Client([server.url]) as client:
        keys = Keys(client)
        await keys.get("/a")
        assert (await keys.get("/a")).node.value == "2"
        with pytest.raises(OutcomeUnknown):
            await keys.set("/a", "3")
    assert (len(server.asked), server.connections) == (4, 2)


async def test_keys_nested_beyond_reading() -> None:
    body = b'{"action":"get","node":' + b'{"key":"/a","dir":true,"nodes":[' * 100_000
    reply = (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), True)
    async with Fake(reply).serving() as server, Client([server.url]) as client:
        with pytest.raises(InvalidAnswer, match="nested too deeply"):
            await Keys(client).get("/a", recursive=True)


async def test_a_watch_that_cannot_begin_says_so(nobody: str) -> None:
    async with Client([nobody]) as client:
        with pytest.raises(Unreachable):
            await some(Keys(client).watch("/a"), 1)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:2379", 'parse "127.0.0.1:2379": first path segment in URL cannot contain colon'),
        ("%zz", 'parse "%zz": invalid URL escape "%zz"'),
        (":1", 'parse ":1": missing protocol scheme'),
        ("http://a:b", 'parse "http://a:b": invalid port ":b" after host'),
    ],
)
def test_endpoints_that_are_no_urls(url: str, words: str) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        parse(url)
    assert str(caught.value) == words


def test_endpoints_and_paths() -> None:
    assert parse("http://localhost")[:4] == ("http", "localhost", 80, "")
    assert parse("https://[::1]:99/etcd/")[:4] == ("https", "::1", 99, "/etcd/")
    assert parse("http://h:1/etcd").target("/v2/keys/ä") == "/etcd/v2/keys/%C3%A4"
    assert parse("http://u:p@h:1").authority == "h:1"
    assert [canonical(path) for path in ("", "//a//./b/", "/a/../b", "/..")] == ["/", "/a/b/", "/b", "/"]


# --- limits -------------------------------------------------------------------------------------------------------


async def test_an_answer_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.client.connection.MAX_ANSWER_BYTES", 10)
    async with Fake(answer(200, node())).serving() as server, Client([server.url]) as client:
        with pytest.raises(Unreachable, match="longer than 10 bytes"):
            await Keys(client).get("/a")


async def test_a_head_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.client.connection.MAX_HEAD_BYTES", 10)
    monkeypatch.setattr("kvstore.client.connection.READ_BYTES", 10)
    async with Fake(answer(200, node())).serving() as server, Client([server.url]) as client:
        with pytest.raises(Unreachable, match="the head of the answer is too long"):
            await Keys(client).get("/a")


async def test_connections_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.client.pool.MAX_IDLE_CONNECTIONS", 1)
    async with Fake(answer(200, node())).serving() as server, Client([server.url]) as client:
        await asyncio.gather(*(Keys(client).get("/a") for _ in range(3)))
        assert server.connections == 3
        await Keys(client).get("/a")
        assert server.connections == 3  # the one that was kept
        await asyncio.gather(*(Keys(client).get("/a") for _ in range(2)))
        assert server.connections == 4  # the others were not


async def test_a_connection_is_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.client.connection.MAX_IDLE_SECONDS", 0.0)
    async with Fake(answer(200, node())).serving() as server, Client([server.url]) as client:
        for _ in range(2):
            await Keys(client).get("/a")
    assert server.connections == 2


async def test_a_call_that_is_cancelled_in_whatever_turn_leaves_no_error_behind(nobody: str) -> None:
    """asyncio would print a traceback of a failure that nobody asked for."""
    left: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: left.append(context))
    for turns in range(60):
        async with Client([nobody]) as client:
            asking = asyncio.create_task(Keys(client).get("/a"))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        del asking
        gc.collect()
    assert left == []
