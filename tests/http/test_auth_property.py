"""No grant, whatever its patterns, shows or changes more than it says: against every kind of request."""

from __future__ import annotations

import asyncio
import json
from itertools import chain, islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.auth import User, covers
from kvstore.http.guard import Guard
from kvstore.http.load import Load
from kvstore.http.reply import Answer
from kvstore.http.v2.keys import serve_keys
from kvstore.http.v2.watches import Watch
from kvstore.limits import Limits
from kvstore.passwords import Passwords
from kvstore.store.operations import Expire, Set
from kvstore.wire import CreateRole, CreateUser, SwitchAuth
from tests.http.backend import LocalBackend
from tests.http.scene import HASH, SECRET, basic
from tests.http.test_watches import FakeSink


class Acquainted(Passwords):
    """Remembers everybody."""

    def recalls(self, user: User, password: bytes) -> bool:
        return True


class Question:
    """A request as the key space's handler sees it, without a connection."""

    def __init__(self, method: str, path: bytes, query: bytes, authorization: bytes | None) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.authorization = authorization
        self.content_type = None
        self.common_name = None
        self.has_short_body = False  # permission is judged twice, and the second time must be enough

    def release_body(self) -> None:
        pass

    async def body(self, limit: int) -> bytes:
        return b""


NAMES = st.sampled_from([b"a", b"ab", b"_h"])
PATHS = st.lists(NAMES, max_size=3).map(lambda names: b"".join(b"/" + name for name in names))
WRITTEN = st.builds(lambda path, slash: path + slash, PATHS, st.sampled_from([b"", b"/"]))
PATTERNS = st.lists(st.builds(lambda path, end: path + end, WRITTEN, st.sampled_from([b"", b"", b"*"])), max_size=3)
QUERIES = st.lists(
    st.sampled_from(
        [b"recursive=true", b"dir=true", b"quorum=true", b"prevExist=true", b"ttl=5", b"refresh=true", b"prevValue=x",
         b"value=new", b"wait=true&waitIndex=1", b"wait=true&waitIndex=1&stream=true", b"sorted=true"]
    ),
    max_size=3,
    unique=True,
).map(b"&".join)  # fmt: skip
FILES = (b"/a/a", b"/a/ab", b"/a/_h/a", b"/ab", b"/_h/a/a", b"/_h/ab")


def values_in(node: dict[str, Any]) -> list[bytes]:
    """The keys of all files that an answer shows the old value of."""
    own = [node["key"].encode()] if node.get("value") == SECRET.decode() else []
    return own + [key for child in node.get("nodes", ()) for key in values_in(child)]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]), WRITTEN, QUERIES, PATTERNS, PATTERNS, st.booleans())
def test_no_grant_gives_more_than_it_says(
    method: str, written: bytes, query: bytes, read: list[bytes], write: list[bytes], is_guest: bool
) -> None:
    """What is shown is covered to read, or stands right in a directory that is; what changes is covered to write."""

    async def play() -> None:
        backend = LocalBackend()
        for key in FILES:
            backend.apply(Set(key, SECRET, False, None, False))
        backend.apply(CreateRole(b"guest" if is_guest else b"r", tuple(read), tuple(write)))
        backend.apply(CreateUser(b"u", HASH, (b"r",)))
        backend.apply(CreateUser(b"root", HASH, None))
        backend.apply(SwitchAuth(True))
        backend.passwords = Acquainted(cost=4)
        authorization = None if is_guest else basic(b"u").partition(": ")[2].encode()
        before = files_of(backend)
        asked = Question(method, b"/v2/keys" + written, query, authorization)
        answer = await serve_keys(asked, backend, Guard(backend), Load(Limits()))
        sink = FakeSink()
        if isinstance(answer, Watch):
            answer.attach(sink)
            answer.cancel()
        lists = isinstance(answer, Answer) and b"recursive" not in query
        bodies = [answer.body] if isinstance(answer, Answer) else sink.sent
        for body in bodies:
            if SECRET in body:
                shown = json.loads(body)
                if "errorCode" in shown:  # a failed comparison names the value that is there
                    assert covers(tuple(read), written.rstrip(b"/"), subtree=False)
                for key in [key for name in ("node", "prevNode") if name in shown for key in values_in(shown[name])]:
                    assert may_see(key, read, lists), key
        for now in (backend.now(), backend.now() + 10 * 10**9):  # what a ttl takes along, too
            backend.machine.apply(Expire(), now)
            after = files_of(backend)
            for key in before.keys() | after.keys():
                if before.get(key) != after.get(key):
                    assert covers(tuple(write), key, subtree=False), key

    asyncio.run(play())


def may_see(key: bytes, read: list[bytes], lists: bool) -> bool:
    """`lists`: one who may read exactly a directory is shown what files it has, as in etcd."""
    directory = key[: key.rfind(b"/")]
    covering = (key, directory, directory + b"/") if lists else (key,)
    return any(covers(tuple(read), one, subtree=False) for one in covering)


def files_of(backend: LocalBackend) -> dict[bytes, bytes]:
    rows = chain.from_iterable(backend.store.freeze().chunks())
    _, count, _ = next(rows)
    return {key: value for key, value, *_ in islice(rows, count) if value is not None}
