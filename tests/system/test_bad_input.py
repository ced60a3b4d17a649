"""What no client should send, over real sockets, at a whole server: it gets an answer and the server goes on.

The answers themselves are tests/http's and the recordings'; here they meet the whole of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.hello import PEER_VERSION, PREAMBLE, Hello, frame, pack_hello
from kvstore.raft.types import HeartbeatRequest
from kvstore.transport import MAX_STRANGERS
from kvstore.wire import MessagePacker
from tests.http.client import FORM, RawClient, request
from tests.system.load import healthy, put
from tests.system.members import Member, running, until

LIMIT = 100_000


async def raw(member: Member, octets: bytes) -> tuple[int, bytes]:
    client = await RawClient.connect(member.client_port, member.address)
    response = await client.ask(octets)
    await client.close()
    return response.status, response.body


async def test_odd_requests_get_answers(tmp_path: Path) -> None:
    async with running(1, tmp_path, ("--max-request-bytes", str(LIMIT))) as cluster:
        member = cluster.members[0]
        await healthy(member)
        for octets, status, part in [
            (request("PUT /v2/keys/k", FORM, body=b"value=" + b"x" * LIMIT), 400, b'"errorCode":210'),
            (b"GARBAGE\r\n\r\n", 400, b""),
            (b"GET /v2/keys/\xff\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, b""),
            (request("GET /v2/keys/%zz"), 400, b""),
            (request("PUT /v2/keys/k", FORM, body=b"value=1&ttl=abc"), 400, b'"errorCode":202'),
            (request("PUT /v2/keys/k", FORM, body=b"value=1&ttl=99999999999999999999999"), 400, b'"errorCode":202'),
            (request("GET /v2/keys/k?wait=true&waitIndex=-1"), 400, b'"errorCode":203'),
            (request("PUT /v2/keys/k?prevIndex=99999999999999999999", FORM, body=b"value=1"), 400, b'"errorCode":203'),
            (request("PUT /v2/keys/%00%FF%0A", FORM, body=b"value=%00%FF"), 201, b'"action":"set"'),
            (request("PUT /v2/keys/k", FORM, body=b"value=1&ttl=100000"), 201, b'"ttl":100000'),
        ]:
            answered = await raw(member, octets)
            assert answered[0] == status, (octets[:80], answered)
            assert part in answered[1], (octets[:80], answered)
        assert (await raw(member, request("GET /v2/keys/k")))[0] == 200
        assert "Traceback" not in member.log


@pytest.mark.parametrize(
    ("field", "verdict"),
    [("cluster", b"cluster"), ("version", b"version"), ("to", b"member")],
)
async def test_a_stranger_at_the_peer_port_is_refused_and_logged_once(
    field: str, verdict: bytes, tmp_path: Path
) -> None:
    async with running(1, tmp_path) as cluster:
        member = cluster.members[0]
        await healthy(member)
        fields = dict(part.split("=") for part in member.log.splitlines()[0].split() if "=" in part)
        hello = Hello(PEER_VERSION, int(fields["cluster"], 16), 77, int(fields["member"], 16), bytes(16))
        for _ in range(3):
            stranger = await RawClient.connect(member.peer_port, member.address)
            stranger.send(pack_hello(Hello(**{**hello._asdict(), field: 99})))
            assert verdict in await stranger.reader.read()  # and then it hangs up
            await stranger.close()
        stranger = await RawClient.connect(member.peer_port, member.address)
        stranger.send(PREAMBLE + b"\xff\xff\xff\xff")
        assert await stranger.is_closed()
        await stranger.close()
        assert member.log.count("refuses a peer") == 1
        assert f"reason={verdict.decode()}" in member.log
        await healthy(member)
        assert "Traceback" not in member.log


async def test_strangers_with_the_right_ids_leave_no_trace(tmp_path: Path) -> None:
    """They are forgotten as they go, so that those to come are met; what they say moves nothing."""
    async with running(1, tmp_path) as cluster:
        member = cluster.members[0]
        await healthy(member)
        fields = dict(part.split("=") for part in member.log.splitlines()[0].split() if "=" in part)
        number = int(fields["member"], 16)
        for sender in range(100, 100 + 2 * MAX_STRANGERS):
            hello = Hello(PEER_VERSION, int(fields["cluster"], 16), sender, number, bytes(16), (member.client_url,))
            stranger = await RawClient.connect(member.peer_port, member.address)
            stranger.send(pack_hello(hello))
            length = int.from_bytes(await stranger.reader.readexactly(4), "big")
            assert b"welcome" in await stranger.reader.readexactly(length)
            stranger.send(frame(MessagePacker().pack(HeartbeatRequest(number, sender, 1 << 61, 0, 0))))
            await stranger.close()

        async def is_said() -> bool:
            return "refused a message with an absurd term" in member.log

        await until(is_said, "the log names the sender of an absurd term")
        await healthy(member)
        assert not (member.folder / "member" / "peers").exists()
        assert (await put(member, "/k", "1")).status == 201
