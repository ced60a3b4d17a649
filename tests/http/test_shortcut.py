"""The compiled shortcuts: exactly what the general functions give, or None; and what is plain is not left to them."""

from __future__ import annotations

import contextlib
import gc
import sys
from random import Random
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvstore.http import shortcut
from kvstore.http.v2.parameters import DEFAULTS, KeyRequest
from kvstore.store.events import ACTIONS, Event, NodeView
from tests.fuzz.http_targets import TOKENS
from tests.fuzz.mutate import mutated
from tests.fuzz.shortcut_target import SEEDS
from tests.http.client import FORM, put, request
from tests.http.general import (
    CREATED_HEAD,
    DATE,
    HEAD,
    LIMITS,
    MAX_BODY,
    MAX_HEAD,
    ROOM,
    by_functions,
    by_shortcut,
    event_by_functions,
    event_by_shortcut,
    heads_in,
    view_by_functions,
    view_by_shortcut,
)

pytestmark = pytest.mark.skipif(
    not shortcut.is_compiled,
    reason="the shortcuts are not in use: KVSTORE_PURE is set, or there was no compiler (Debian: gcc python3-dev)",
)

#: A request of each kind that the shortcuts are there for.
PLAIN = {
    "GET": request("GET /v2/keys/a"),
    "GET, deep": request("GET /v2/keys/a.b/c-d/~e", "Accept: */*", "User-Agent: x"),
    "GET, known query": request("GET /v2/keys/a?recursive=true&sorted=true"),
    "quorum GET": request("GET /v2/keys/a?quorum=true"),
    "watch": request("GET /v2/keys/a?wait=true&waitIndex=7"),
    "PUT": put("/a", "value=hello"),
    "PUT, escaped": put("/a", "value=%7B%22a%22%3A+1%7d%00%ff"),
    "PUT, empty": put("/a", "value="),
    "PUT, no body": request("PUT /v2/keys/a"),
    "PUT, raw": request("PUT /v2/keys/a", FORM, body=b"value=\xff\x00=\r\n\r\n"),
    "POST": request("POST /v2/keys/queue", FORM, body=b"value=job"),
    "DELETE": request("DELETE /v2/keys/a/b"),
}


def same(taken: object, expected: object) -> None:
    """Equal, of the same types down to each field, and with the same hash."""
    assert taken == expected
    assert repr(taken) == repr(expected)
    assert hash(taken) == hash(expected)


# --- requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLAIN)
def test_the_plainest_requests_are_taken_at_any_place_of_a_buffer(kind: str) -> None:
    whole = PLAIN[kind]
    for before in (b"", b"x", PLAIN["PUT"]):
        for behind in (b"", b"x", PLAIN["GET"]):
            taken = by_shortcut(before + whole + behind, len(before))
            assert taken is not None
            same(taken, by_functions(before + whole + behind, len(before)))
            assert taken[0] == len(before) + len(whole)  # type: ignore[index]


@pytest.mark.parametrize("kind", PLAIN)
def test_nothing_is_taken_of_a_request_that_is_not_whole(kind: str) -> None:
    """Each length is an object of its own, with nothing behind that could be read."""
    whole = PLAIN[kind]
    for length in range(len(whole)):
        assert by_shortcut(whole[:length]) is None, length
        assert by_shortcut(b"x" * 7 + whole[:length], 7) is None, length


@pytest.mark.parametrize("at", [-1, -(2**63), 2**63 - 1, 2**62, 1_000, len(PLAIN["GET"])])
def test_a_place_outside_of_the_buffer_is_none(at: int) -> None:
    assert by_shortcut(PLAIN["GET"], at) is None


NAMES = st.text("ab.-_~;=@!$&'()*+,:", min_size=1, max_size=5).filter(lambda name: name[0] != ".")
#: What each part of a request is usually like, and what it may be instead.
PARTS: dict[str, tuple[st.SearchStrategy[str], list[str]]] = {
    "method": (st.sampled_from(["GET", "PUT", "POST", "DELETE"]), ["HEAD", "GETT", "put", ""]),
    "path": (
        st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names)),
        ["", "/", "//a", "/a/", "/.a", "/a/../b", "/a%20b", "/%zz", "/a b", "/a\x00", "/\u00e9", "/a#b", '/"'],
    ),
    "query": (
        st.sampled_from(["", "", "?wait=true", "?value=a+b%20c", "?recursive=1&sorted=t", "?quorum=true&?"]),
        ["?", "?value=1&value=2", "?a;b", "?ttl=x", "?%zz", "?value=\u00e9", "?a b", "?wait=true#"],
    ),
    "version": (st.just(" HTTP/1.1"), [" HTTP/1.0", " HTTP/1.1 ", "  HTTP/1.1", ""]),
    "lines": (
        st.sampled_from(["", "Accept: */*\r\n", "User-Agent: curl/8\r\nConnection: keep-alive\r\n"]),
        [
            "Connection: close\r\n",
            "X-Odd: 1\r\n",
            "Host: y\r\n",
            "Content-Length: 3\r\n",
            "\r\n",
            "A: b\n",
            FORM + "\r\n",
        ],
    ),
}
BODIES = st.one_of(
    st.binary(max_size=12).map(b"value=".__add__),
    st.binary(max_size=12).map(lambda octets: b"value=" + quote_plus(octets).encode()),
    st.text("%0aFf+&;=v\x00", max_size=12).map(lambda text: b"value=" + text.encode()),
    st.sampled_from([b"", b"value", b"value=", b"Value=1", b"valu%65=1", b"=", b"value=1&ttl=5", b"ttl=5"]),
)


@st.composite
def whole_requests(draw: st.DrawFn) -> bytes:
    """Plain, or plain but for one part."""
    odd = draw(st.sampled_from(["none", "none", "length", "form", "body", *PARTS]))
    part = {name: draw(st.sampled_from(others) if name == odd else usual) for name, (usual, others) in PARTS.items()}
    body, end = b"", ""
    if (part["method"] in ("PUT", "POST")) != (odd == "body"):
        part["query"] = part["query"] if odd == "query" else ""
        body = draw(BODIES)
        length = len(body) + (draw(st.sampled_from([-1, 1, 2**20, 10**8])) if odd == "length" else 0)
        form = "" if odd == "form" else f"{FORM}\r\n"
        end = f"{form}Content-Length: {length}\r\n"
    line = "{method} /v2/keys{path}{query}{version}\r\nHost: x\r\n{lines}".format(**part)
    return f"{line}{end}\r\n".encode() + body


@given(st.binary(max_size=40) | whole_requests(), whole_requests(), st.binary(max_size=40) | whole_requests())
@settings(max_examples=1_000)
def test_any_request_is_left_alone_or_read_as_the_general_functions_read_it(
    before: bytes, whole: bytes, behind: bytes
) -> None:
    rest = before + whole + behind
    for at in (len(before), 0):
        taken = by_shortcut(rest, at)
        if taken is not None:
            same(taken, by_functions(rest, at))


@given(st.randoms(use_true_random=False))
@settings(max_examples=1_000)
def test_bent_requests_are_left_alone_or_read_as_the_general_functions_read_them(random: Random) -> None:
    rest = mutated(random, SEEDS, TOKENS)
    for at in {0, *(rest.find(method) for method in (b"GET", b"PUT", b"POST", b"DELETE"))}:
        taken = by_shortcut(rest, at)
        if taken is not None:
            same(taken, by_functions(rest, at))


@given(st.binary(max_size=400), st.integers(-10, 410))
def test_any_bytes_are_no_request(octets: bytes, at: int) -> None:
    assert by_shortcut(octets, at) is None


@pytest.mark.parametrize("octet", range(256))
def test_each_byte_in_each_part_of_a_request(octet: int) -> None:
    """In a path, at its beginning, in a query, a body and behind a percent sign."""
    one = bytes((octet,))
    lines = (
        b"GET /v2/keys/a%b",
        b"GET /v2/keys/%ba",
        b"GET /v2/keys/a/%b",
        b"GET /v2/keys/a?value=%b",
        b"%bGET /v2/keys",
    )
    bodies = (b"value=a%bb", b"value=%%%b1", b"value=%%1%b", b"value%b1", b"%balue=1")
    for rest in (
        *(line % one + b" HTTP/1.1\r\nHost: x\r\n\r\n" for line in lines),
        *(request("PUT /v2/keys/a", FORM, body=body % one) for body in bodies),
    ):
        taken = by_shortcut(rest)
        assert taken is None or taken == by_functions(rest)


def test_limits_are_the_general_functions() -> None:
    whole = PLAIN["PUT"]
    head, body = whole.index(b"\r\n\r\n") + 4, len("value=hello")
    for less in (0, 1):
        for max_head, max_body in ((head - less, MAX_BODY), (MAX_HEAD, body - less)):
            taken = by_shortcut(b"xy" + whole, 2, max_head, max_body)
            assert (taken is None) == bool(less)
            assert taken == by_functions(b"xy" + whole, 2, max_head, max_body)


def test_a_head_or_a_query_that_is_not_known_is_left_alone() -> None:
    rest = PLAIN["GET, known query"]
    assert shortcut.take(rest, 0, heads_in(rest), {}, *ROOM) is None
    assert shortcut.take(PLAIN["GET"], 0, {}, {}, *ROOM) is None


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_a_key_beyond_a_limit_is_left_to_the_general_functions(method: str) -> None:
    room, names = (21, 1) if method == "POST" else (0, 0)  # for the key that a POST creates
    for longest in ("/" + "a" * (LIMITS.key_bytes - room - 1), "/a" * (LIMITS.key_components - names)):
        for key in (longest, longest + "a"):
            rest = request(f"{method} /v2/keys{key}")
            assert by_shortcut(rest) == by_functions(rest)
        assert by_shortcut(request(f"{method} /v2/keys{longest}")) is not None
        assert by_shortcut(request(f"{method} /v2/keys{longest + '/a' if '/a/' in key else longest + 'a'}")) is None


@pytest.mark.parametrize("length", [-1, -(2**31), 2**31, 2**62])
def test_no_length_makes_it_read_beyond_the_buffer(length: int) -> None:
    rest = PLAIN["PUT"]
    heads: dict[bytes, Any] = dict.fromkeys(heads_in(rest), (length, True))
    assert shortcut.take(rest, 0, heads, {}, MAX_HEAD, 2**63 - 1, *ROOM[2:]) is None


@pytest.mark.parametrize("wrong", [None, bytearray(PLAIN["GET"]), memoryview(PLAIN["GET"]), "GET /v2/keys/a", 7])
def test_what_is_not_bytes_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        shortcut.take(wrong, 0, heads_in(PLAIN["GET"]), {}, *ROOM)


@pytest.mark.parametrize("wrong", [None, [], ()])
def test_what_is_no_dict_is_refused(wrong: Any) -> None:
    for heads, queries in ((wrong, {}), ({}, wrong)):
        with pytest.raises(TypeError):
            shortcut.take(PLAIN["GET"], 0, heads, queries, *ROOM)


@pytest.mark.parametrize("wrong", [None, (b"", None), (b"", [1]), (None,), ("text", ()), 7])
def test_a_query_of_another_shape_is_refused(wrong: Any) -> None:
    rest = PLAIN["quorum GET"]
    with contextlib.suppress(TypeError, IndexError):
        assert shortcut.take(rest, 0, heads_in(rest), {b"quorum=true": wrong}, *ROOM) is None


def test_nothing_is_held_and_nothing_given_up_too_often() -> None:
    rest = PLAIN["PUT"]
    heads, tail = heads_in(rest), DEFAULTS
    last = object()
    query: tuple[object, ...] = (*DEFAULTS[:-1], last)
    looked = request("GET /v2/keys/a?x=1")
    counted = (KeyRequest, tail, query, last, rest, looked, NodeView, *PLAIN_EVENTS)

    def references() -> list[int]:
        gc.collect()
        return [sys.getrefcount(one) for one in counted]

    before = references()
    for _ in range(1_000):
        assert shortcut.take(rest, 0, heads, {}, *ROOM) is not None
        assert shortcut.take(rest[:-1], 0, heads, {}, *ROOM) is None
        taken = shortcut.take(looked, 0, heads_in(PLAIN["GET"]), {b"x=1": (b"", query)}, *ROOM)
        assert taken is not None
        assert event_by_shortcut(PLAIN_EVENTS[0], 1, 1) is not None
        del taken
    assert references() == before


# --- answers ------------------------------------------------------------------------------------------------------

FILE = NodeView(b"/a", b"1", False, 3, 4, None, None, None)
PLAIN_EVENTS = (
    Event("set", FILE, None, 4, False),
    Event("set", FILE, FILE, 4, False),
    Event("create", FILE, None, 4, False),
    Event("update", FILE, FILE, 4, False),
    Event("compareAndSwap", FILE, FILE, 4, False),
)

TEXTS = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=10).map(str.encode),
    st.sampled_from(
        [b"", b"/", b"plain", b'"', b"\\", b"<&>", b"\n\t\x00\x7f", b"\xff\xfe", b"\xe2\x80\xa8", b"x" * 5_000]
    ),
)
EDGES = [1, 9, 10, 99, 100, 2**31, 2**32, 2**63 - 1, 2**63, 10**19, 10**19 - 1, 2**64 - 1]
FITTING = st.sampled_from(EDGES) | st.integers(1, 2**64 - 1)
NUMBERS = FITTING | st.sampled_from([0, -1, -(2**63), 2**64, 2**64 + 1, 10**30])
FILES = st.builds(NodeView, TEXTS, TEXTS, st.just(False), FITTING, FITTING, st.none(), st.none(), st.none())
VIEWS = st.one_of(
    FILES,
    st.builds(NodeView, TEXTS, TEXTS | st.none(), st.booleans(), NUMBERS, NUMBERS, st.none(), st.none(), st.none()),
    st.builds(
        NodeView,
        *(TEXTS, TEXTS | st.none(), st.booleans(), FITTING, FITTING),
        *(st.integers(0, 2**63 - 1), st.integers(-5, 2**63), st.none()),
    ),
    st.builds(
        NodeView,
        *(TEXTS, st.none(), st.just(True), FITTING, FITTING, st.none(), st.none()),
        st.lists(FILES, max_size=3).map(tuple) | st.none(),
    ),
)


@pytest.mark.parametrize("event", PLAIN_EVENTS, ids=lambda event: f"{event.action}-{event.previous is None}")
def test_the_plainest_answers_are_composed(event: Event) -> None:
    for fitting in (event, event._replace(node=FILE._replace(key=b"/<\xff>", value=b'"\\\n'), index=2**64 - 1)):
        composed = event_by_shortcut(fitting, 2**64 - 1, 2**64 - 1)
        assert composed is not None
        assert composed == event_by_functions(fitting, 2**64 - 1, 2**64 - 1)


@pytest.mark.parametrize("octet", range(256))
def test_each_byte_in_a_key_and_a_value(octet: int) -> None:
    one = bytes((octet,))
    for view in (FILE._replace(key=b"/a" + one), FILE._replace(value=one), FILE._replace(value=b"a" + one + b"b")):
        assert view_by_shortcut(view, 1, 1, 1) == view_by_functions(view, 1, 1, 1)


@given(st.sampled_from(ACTIONS), FILES, FILES | st.none(), FITTING, FITTING, FITTING)
@settings(max_examples=500)
def test_every_write_of_a_file_for_ever_is_composed_as_the_general_functions_do(
    action: str, file: NodeView, previous: NodeView | None, index: int, raft_index: int, raft_term: int
) -> None:
    event = Event(action, file, previous, index, False)
    composed = event_by_shortcut(event, raft_index, raft_term)
    assert composed is not None
    assert composed == event_by_functions(event, raft_index, raft_term)


@given(FILES, FITTING, FITTING, FITTING)
@settings(max_examples=500)
def test_every_read_of_a_file_for_ever_is_composed_as_the_general_functions_do(
    file: NodeView, index: int, raft_index: int, raft_term: int
) -> None:
    composed = view_by_shortcut(file, index, raft_index, raft_term)
    assert composed is not None
    assert composed == view_by_functions(file, index, raft_index, raft_term)


@given(st.sampled_from(ACTIONS), VIEWS, VIEWS | st.none(), NUMBERS, NUMBERS, NUMBERS)
@settings(max_examples=1_000)
@example("set", FILE, None, 2**64, 1, 1)
@example("set", FILE, None, 1, -1, 1)
@example("delete", FILE._replace(value=None), FILE, 1, 1, 1)
@example("expire", FILE._replace(value=None), FILE._replace(expiration=1, ttl=-1), 1, 1, 1)
@example("set", FILE, FILE._replace(created=2**64), 1, 1, 1)
@example("set", FILE._replace(modified=-1), None, 1, 1, 1)
@example("set", FILE._replace(created=0), FILE, 1, 1, 1)
@example("set", FILE._replace(nodes=(FILE,)), FILE, 1, 1, 1)
@example("set", FILE._replace(nodes=()), FILE._replace(is_dir=True), 1, 1, 1)
def test_any_answer_is_left_alone_or_composed_as_the_general_functions_do(
    action: str, view: NodeView, previous: NodeView | None, index: int, raft_index: int, raft_term: int
) -> None:
    event = Event(action, view, previous, index, False)
    assert event_by_shortcut(event, raft_index, raft_term) in (None, event_by_functions(event, raft_index, raft_term))
    assert view_by_shortcut(view, index, raft_index, raft_term) in (
        None,
        view_by_functions(view, index, raft_index, raft_term),
    )


NO_FILES: tuple[Any, ...] = (
    *(7, (), tuple(FILE), PLAIN_EVENTS[0]),
    *(NodeView(*(*wrong, *FILE[2:])) for wrong in ((None, b"1"), ("/a", b"1"), (b"/a", "1"), (b"/a", bytearray(b"1")))),
)


@pytest.mark.parametrize("wrong", NO_FILES, ids=repr)
def test_what_is_no_file_is_left_alone(wrong: Any) -> None:
    assert view_by_shortcut(wrong, 1, 1, 1) is None
    assert event_by_shortcut(Event("set", wrong, None, 1, False), 1, 1) is None
    assert event_by_shortcut(Event("set", FILE, wrong, 1, False), 1, 1) is None


@pytest.mark.parametrize("wrong", [None, 7, (), tuple(PLAIN_EVENTS[0]), FILE], ids=repr)
def test_what_is_no_event_is_left_alone(wrong: Any) -> None:
    assert event_by_shortcut(wrong, 1, 1) is None


@pytest.mark.parametrize("kind", [NodeView, Event])
def test_a_value_with_too_few_fields_is_an_error(kind: Any) -> None:
    short = tuple.__new__(kind, (b"/a", b"1"))
    with pytest.raises(IndexError):
        view_by_shortcut(short, 1, 1, 1) if kind is NodeView else event_by_shortcut(short, 1, 1)


@pytest.mark.parametrize("wrong", [None, "text", bytearray(b"x"), 7])
def test_heads_and_dates_that_are_not_bytes_are_refused(wrong: Any) -> None:
    for heads in ((wrong, CREATED_HEAD, DATE), (HEAD, wrong, DATE), (HEAD, CREATED_HEAD, wrong)):
        with pytest.raises(TypeError):
            shortcut.compose_event(PLAIN_EVENTS[0], heads[0], heads[1], 1, 1, heads[2])
    for head, date in ((wrong, DATE), (HEAD, wrong)):
        with pytest.raises(TypeError):
            shortcut.compose_view(FILE, head, 1, 1, 1, date)
