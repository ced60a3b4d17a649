"""`make shapes`: requests of many shapes against real members, and what each takes of everybody else.

For each shape, size, way through the server (fast path or aiohttp) and asker (anybody, or a guest without rights while
users are on): the longest PUT, quorum GET and /health meanwhile, on connections of their own; the memory at its peak;
the longest delay of the event loop by its own histogram; and whether the leader changed. tests/system/test_shapes.py
plays it small.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.systems import resident_bytes
from tests.cluster import Cluster, Member
from tests.listings import Probe, ask, connect

LONGEST_SECONDS = 0.25  # of a request on another connection
MEMORY_FACTOR = 4  # of the bytes of the request, or of the answer where that is longer
MEMORY_ROOM = 24 << 20  # what the probes, buffers of sockets and the log's own batches may take beside it
LINE_BYTES = 1_000_000  # a longer request line is refused by its length
MEBIBYTE = 1 << 20

FORM = b"Content-Type: application/x-www-form-urlencoded"
JSON = b"Content-Type: application/json"
ODD = b"X-Odd: 1"  # a header line that only aiohttp takes
ROOT = b"Authorization: Basic " + base64.b64encode(b"root:secret")
_BOUND = re.compile(rb'kvstored_loop_delay_seconds_bucket\{le="([^"]+)"\} (\d+)')
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")
_CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_CHANGES = re.compile(rb"\netcd_server_leader_changes_seen_total (\d+)")


def message(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    lines = [line + b" HTTP/1.1", b"Host: x", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def form(start: bytes, atom: bytes, end: bytes = b"", line: bytes = b"PUT /v2/keys/shape") -> Callable[[int], bytes]:
    """A form of `size` bytes of `atom`."""
    return lambda size: message(line, FORM, body=start + atom * (size // len(atom)) + end)


def noise(size: int) -> bytes:
    octets = Random(1).randbytes(size).translate(bytes(octet if octet not in b"&;%+" else 0x80 for octet in range(256)))
    return message(b"PUT /v2/keys/shape", FORM, body=b"value=" + octets)


def chunked(piece: bytes) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        head = message(b"PUT /v2/keys/shape", FORM, b"Transfer-Encoding: chunked")
        return head + b"6\r\nvalue=\r\n" + piece * (size // len(piece)) + b"0\r\n\r\n"

    return make


def line(start: bytes, atom: bytes, end: bytes = b"") -> Callable[[int], bytes]:
    """A request line of `size` bytes, or as many as there may be."""
    return lambda size: message(start + atom * (min(size, LINE_BYTES) // len(atom)) + end)


def header(start: bytes, atom: bytes, target: bytes = b"PUT /v2/keys/shape") -> Callable[[int], bytes]:
    return lambda size: message(target, start + atom * (min(size, LINE_BYTES) // len(atom)), body=b"value=1")


def json(target: bytes, start: bytes, atom: bytes, end: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: message(target, JSON, body=start + atom * (size // len(atom)) + end)


#: Each gives the bytes of one request; `size` is about how many.
SHAPES: dict[str, Callable[[int], bytes]] = {
    "value, plain": form(b"value=", b"x"),
    "value, escapes": form(b"value=", b"%41"),
    "value, mixed escapes": form(b"value=", b"a%41"),
    "value, control characters": form(b"value=", b"\x01"),
    "value, line ends": form(b"value=", b"%0A"),
    "value, bad UTF-8": form(b"value=", b"\xff"),
    "value, halves of characters": form(b"value=", b"\xe2\x80"),
    "value, HTML": form(b"value=", b"<a%26b>"),
    "value, quotes": form(b"value=", b'"\\'),
    "value, noise": noise,
    "value, blanks": form(b"value=", b"+"),
    "value in order": form(b"value=", b"\x02", line=b"POST /v2/keys/queue"),
    "prevValue": form(b"value=1&prevValue=", b"\x01"),
    "broken escapes": form(b"", b"%zz&"),
    "a broken escape at the end": form(b"value=", b"x", b"%zz"),
    "semicolons": form(b"", b";&"),
    "pairs": form(b"", b"a=1&"),
    "pairs with escapes": form(b"", b"a%61=1&"),
    "ampersands": form(b"", b"&"),
    "equals signs": form(b"", b"="),
    "a long name": form(b"", b"n", b"=1"),
    "zeros in prevIndex": form(b"value=1&prevIndex=", b"0", b"a"),
    "zeros in ttl": form(b"value=1&ttl=", b"0", b"a"),
    "a long flag": form(b"dir=", b"t"),
    "chunks of a byte": chunked(b"1\r\nx\r\n"),
    "chunks with extensions": chunked(b"1;aaaaaaaaaaaaaaaa\r\nx\r\n"),
    "a body that is no form": lambda size: message(
        b"PUT /v2/keys/shape", b"Content-Type: text/plain", body=b"x" * size
    ),
    "multipart": lambda size: message(
        b"PUT /v2/keys/shape", b"Content-Type: multipart/form-data; boundary=b", body=b"--b\r\n" * (size // 5)
    ),
    "a body with GET": lambda size: message(b"GET /v2/keys/shape", FORM, body=b"%zz&" * (size // 4)),
    "query, broken escapes": line(b"GET /v2/keys/shape?", b"%zz&"),
    "query, pairs": line(b"GET /v2/keys/shape?", b"a=1&"),
    "query, a value": line(b"PUT /v2/keys/shape?value=", b"%41"),
    "query, prevValue": line(b"DELETE /v2/keys/shape?prevValue=", b"%01"),
    "Content-Type, parameters": header(FORM, b";a=1"),
    "Content-Type, blanks": header(FORM + b";", b" "),
    "Content-Type, quotes": header(FORM + b';a="', b"\\"),
    "Cookie": header(b"Cookie: ", b"a=b; "),
    "Host": header(b"X-Host: ", b"x"),
    "Authorization": header(b"Authorization: Basic ", b"QUFB"),
    "many header lines": lambda size: message(b"GET /version", *(b"X-%d: y" % at for at in range(990))),
    "a deep key, GET": line(b"GET /v2/keys", b"/a"),
    "a deep key, quorum": line(b"GET /v2/keys", b"/a", b"?quorum=true"),
    "a deep key, wait": line(b"GET /v2/keys", b"/a", b"?wait=true"),
    "a deep key, HEAD": line(b"HEAD /v2/keys", b"/a"),
    "a deep key, PUT": line(b"PUT /v2/keys", b"/a", b"?value=1"),
    "a deep key, POST": line(b"POST /v2/keys", b"/a", b"?value=1"),
    "a deep key, DELETE": line(b"DELETE /v2/keys", b"/a", b"?recursive=true"),
    "a long key": line(b"PUT /v2/keys/", b"n", b"?value=1"),
    "a long key, escapes": line(b"PUT /v2/keys/", b"%01", b"?value=1"),
    "an unclean path": line(b"GET /v2/keys", b"/a/.."),
    "an unclean path, escapes": line(b"GET /v2/keys/", b"/%ff"),
    "an unknown path": line(b"GET /", b"x"),
    "an unknown method": line(b"BREW /v2/keys/", b"%41"),
    "an absolute target": line(b"GET http://", b"h", b"/v2/keys/"),
    "OPTIONS": line(b"OPTIONS /v2/keys", b"/a"),
    "a member's id": line(b"DELETE /v2/members/", b"0", b"x"),
    "a user's name": line(b"GET /v2/auth/users/", b"u"),
    "a role's name": line(b"DELETE /v2/auth/roles/", b"%01"),
    "log level, nested": json(b"PUT /config/local/log", b"", b"["),
    "log level, pairs": json(b"PUT /config/local/log", b'{"Level":"INFO"', b',"a":1', b"}"),
    "log level, a name": json(b"PUT /config/local/log", b'{"Level":"', b"x", b'"}'),
    "members, peerURLs": json(b"POST /v2/members", b'{"peerURLs":["http://h:1"', b',"http://h:1"', b"]}"),
    "members, pairs": json(b"POST /v2/members", b'{"a":1', b',"a":1', b"}"),
    "a user, roles": json(b"PUT /v2/auth/users/u", b'{"user":"u","roles":["a"', b',"a"', b"]}"),
    "a role, patterns": json(
        b"PUT /v2/auth/roles/r", b'{"role":"r","permissions":{"kv":{"read":["/a"', b',"/a"', b"]}}}"
    ),
}
#: Requests for what another one has put there; each follows it.
AFTER: dict[str, dict[str, bytes]] = {
    "value, control characters": {
        "GET": message(b"GET /v2/keys/shape"),
        "quorum GET": message(b"GET /v2/keys/shape?quorum=true"),
        "a failed comparison": message(b"PUT /v2/keys/shape?prevValue=x", FORM, body=b"value=2"),
        "DELETE": message(b"DELETE /v2/keys/shape"),
    }
}


class Row(NamedTuple):
    """What one request took. Seconds, bytes."""

    shape: str
    sent: int
    status: int  # 0: closed without an answer
    received: int
    seconds: float
    longest: float  # of the probes
    memory: int  # at most, beyond what there was before
    delay: str  # of the loop: the upper bound of its histogram's bucket
    leader_changed: bool

    @property
    def memory_bound(self) -> int:
        return MEMORY_FACTOR * max(self.sent, self.received) + MEMORY_ROOM

    def faults(self, longest: float = LONGEST_SECONDS) -> list[str]:
        found = []
        if self.longest > longest:
            found.append(f"another request waited {self.longest:.3f} s")
        if self.memory > self.memory_bound:
            found.append(f"{self.memory >> 20} MiB of memory, of at most {self.memory_bound >> 20}")
        if self.leader_changed:
            found.append("the leader changed")
        if self.status >= 500:
            found.append(f"status {self.status}")
        return found

    def __str__(self) -> str:
        return (
            f"{'; '.join(self.faults()) or 'ok':24} {self.shape:44} {self.sent / MEBIBYTE:6.2f} MiB -> {self.status}"
            f" {self.received / MEBIBYTE:6.2f} MiB in {self.seconds:6.3f} s; others {self.longest:.3f} s,"
            f" loop <= {self.delay} s, memory {self.memory / MEBIBYTE:6.1f} MiB"
        )


def _status_bytes(member: Member, field: str) -> int:
    assert member.process is not None
    text = Path(f"/proc/{member.process.pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def _metrics(member: Member) -> bytes:
    with contextlib.closing(connect(member)) as connection:
        return _whole(connection, message(b"GET /metrics"))[2]


def _whole(connection: socket.socket, raw: bytes) -> tuple[int, int, bytes]:
    """Status (0: none), bytes, and the beginning of an answer, however the other side ends it."""
    kept, received = b"", 0
    end = b""
    is_chunked = False
    wanted: int | None = None
    with contextlib.suppress(OSError):
        connection.sendall(raw)
    with contextlib.suppress(OSError):
        while wanted is None or received < wanted:
            piece = connection.recv(1 << 20)
            if not piece:
                break
            received += len(piece)
            if is_chunked:
                end = (end + piece[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
                if end == _LAST_CHUNK:
                    break
                continue
            if len(kept) < MEBIBYTE:
                kept += piece
            if wanted is None and b"\r\n\r\n" in kept:
                length = _LENGTH.search(kept)
                is_chunked = length is None and _CHUNKED in kept and not raw.startswith(b"HEAD")
                if is_chunked:
                    end = kept[-len(_LAST_CHUNK) :]
                    if end == _LAST_CHUNK:
                        break
                    continue
                is_bare = raw.startswith(b"HEAD") or length is None
                wanted = kept.index(b"\r\n\r\n") + 4 + (0 if is_bare or length is None else int(length[1]))
    status = int(kept[9:12]) if kept.startswith(b"HTTP/1.") else 0
    return status, received, kept


def _delay(before: bytes, after: bytes) -> str:
    """The bucket of the longest delay between two scrapes."""
    earlier = dict(_BOUND.findall(before))
    longest = b"0"
    last = 0
    for bound, count in _BOUND.findall(after):
        more = int(count) - int(earlier[bound])
        if more > last:
            longest, last = bound, more
    return longest.decode()


def measure(member: Member, shape: str, raw: bytes, *credentials: bytes) -> Row:
    """Sends `raw` to `member`. The probes ask with `credentials`."""
    assert member.process is not None
    probes = [
        Probe(member, message(b"PUT /v2/keys/probe", FORM, *credentials, body=b"value=1")),
        Probe(member, message(b"GET /v2/keys/probe?quorum=true", *credentials)),
        Probe(member, message(b"GET /health")),
    ]
    before = _metrics(member)
    for probe in probes:
        probe.start()
    while not all(probe.took or probe.problem for probe in probes):
        time.sleep(0.001)
    resident = resident_bytes(member)
    Path(f"/proc/{member.process.pid}/clear_refs").write_text("5")  # the peak begins here
    began = time.perf_counter()
    with contextlib.closing(connect(member)) as connection:
        status, received, _ = _whole(connection, raw)
    seconds = time.perf_counter() - began
    heard = [len(probe.took) for probe in probes]
    deadline = time.monotonic() + 5.0
    while any(len(probe.took) < least + 2 for probe, least in zip(probes, heard, strict=True)):  # also what follows
        assert time.monotonic() < deadline, [probe.problem for probe in probes]
        time.sleep(0.001)
    longest = max(max(probe.end()) for probe in probes)
    memory = max(0, _status_bytes(member, "VmHWM") - resident)
    after = _metrics(member)
    changes = [found[1] for text in (before, after) if (found := _CHANGES.search(text))]
    return Row(
        shape, len(raw), status, received, seconds, longest, memory, _delay(before, after), len(set(changes)) != 1
    )


def with_header(raw: bytes, line_: bytes) -> bytes:
    return raw.replace(b"\r\nHost: x\r\n", b"\r\nHost: x\r\n" + line_ + b"\r\n", 1)


def rows(member: Member, sizes: Sequence[int], shapes: Sequence[str], is_guest: bool) -> Iterator[Row]:
    """Everything in turn: each shape, size and way."""
    switches = (
        message(b"PUT /v2/auth/users/root", JSON, body=b'{"user":"root","password":"secret"}'),
        message(b"PUT /v2/auth/enable"),
        message(
            b"PUT /v2/auth/roles/guest",
            JSON,
            ROOT,
            body=b'{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}',
        ),
    )
    with contextlib.closing(connect(member)) as connection:
        for raw in (message(b"PUT /v2/keys/probe", FORM, body=b"value=0"), *(switches if is_guest else ())):
            answer = ask(connection, raw)
            assert answer[9:12] in (b"200", b"201"), answer
    credentials = (ROOT,) if is_guest else ()
    for size in sizes:
        for shape in shapes:
            raw = SHAPES[shape](size)
            for way, sent in (("", raw), (", aiohttp", with_header(raw, ODD))):
                if is_guest and not way:
                    continue  # while users are on, all of it is aiohttp's
                asker = ", guest" if is_guest else ""
                yield measure(member, f"{shape}{way}{asker}", sent, *credentials)
                for what, later in AFTER.get(shape, {}).items():
                    odd = with_header(later, ODD) if way else later
                    yield measure(member, f"{shape}: {what}{way}{asker}", odd, *credentials)


def play(
    folder: Path, sizes: Sequence[int], shapes: Sequence[str], members: int = 1, guests_share: int = 1
) -> Iterator[Row]:
    """Without users, and with them; of every `guests_share` shapes guests send one."""
    for is_guest in (False, True):
        with Cluster.of(members, folder / f"guest-{is_guest}") as cluster:
            yield from rows(cluster.leader(), sizes, shapes[:: guests_share if is_guest else 1], is_guest)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="one of them alone")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--pure", action="store_true", help="without the compiled modules")
    parser.add_argument("--mib", type=int, action="append", help="sizes; 1 and 10 unless given")
    arguments = parser.parse_args()
    if arguments.pure:
        os.environ["KVSTORE_PURE"] = "1"
    sizes = [mebibytes * MEBIBYTE - 100 for mebibytes in arguments.mib or (1, 10)]
    is_kept = True
    with tempfile.TemporaryDirectory() as folder:
        for row in play(Path(folder), sizes, arguments.shape or list(SHAPES), arguments.members):
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
            is_kept = is_kept and not row.faults()
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
