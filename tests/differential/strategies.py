"""What may be asked: every verb and parameter, mostly sensible, sometimes odd.

A drawn `Draft` names indices and in-order keys by where they are relative to the tree, since Hypothesis draws before
the tree is known; `resolve` makes the Request of it. Choices are spread out in long lists, oddities among them now and
then: one draw for each is what keeps 20,000 requests quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.differential.expected import names_of
from tests.differential.requests import FORM, Request
from tests.differential.tree import Tree

LAST = b"<last>"  # in a path: the name of the last key that a POST made


@dataclass(frozen=True, slots=True)
class Index:
    """A number near the modifiedIndex of the key asked for, or near the store's."""

    of_key: bool
    offset: int


Field = tuple[bytes, bytes | Index]
Fields = tuple[Field, ...]
Pools = dict[bytes, tuple[Sequence[bytes | Index], Sequence[bytes]]]  # of usual values and of odd ones


@dataclass(frozen=True, slots=True)
class Style:
    """How the fields travel, and what is wrong with them."""

    fields_in: str = "form"
    content_type: bytes | None = FORM
    query_blemish: bytes = b""
    form_blemish: bytes = b""


@dataclass(frozen=True, slots=True, repr=False)
class Draft:
    method: str
    path: bytes
    query: Fields = ()
    form: Fields | None = None
    style: Style = Style()

    def __repr__(self) -> str:
        return f"{self.method} {self.path!r} {self.query} {self.form} {self.style}"  # one line in a long report

    def resolve(self, tree: Tree) -> Request:
        made = [event.names[-1] for event in tree.events[-50:] if len(event.names[-1]) == 20]
        path = self.path.replace(LAST, made[-1] if made else b"00000000000000000001")
        node = tree.find(names_of(path))

        def concrete(fields: Fields) -> tuple[tuple[bytes, bytes], ...]:
            return tuple((name, value if isinstance(value, bytes) else number(value)) for name, value in fields)

        def number(index: Index) -> bytes:
            base = node.modified if index.of_key and node is not None else tree.index
            return b"%d" % max(1, base + index.offset)

        return Request(
            method=self.method,
            path=path,
            query=concrete(self.query),
            form=None if self.form is None else concrete(self.form),
            content_type=self.style.content_type,
            query_blemish=self.style.query_blemish,
            form_blemish=self.style.form_blemish,
        )


# Few keys, so that requests meet: one is a prefix of another as a string, some are hidden, some need escapes.
PATHS = [
    *([b"/a", b"/a/b", b"/b", b"/a/ab"] * 5),
    *([b"/a/a", b"/ab", b"/a/_h", b"/_h", b"/b/" + LAST, b"/a/b/a", b"/a/b/_h/b"] * 2),
    *(b"/_h/a", b"/a+b", b"/%C3%A9", b"/%FF", b"/a%2Fb", b"/%3C&%22/b", b"/a/...", b"/c/d/e/f", b"/a/b%00"),
    *(b"/", b"", b"/a/", b"/a/b%2F"),
]
ODD_PATHS = [b"//a", b"/a//b", b"/a/./b", b"/a/../b", b"/a%2F%2e%2e/b", b"/a/.", b"/../x", b"/a%2f%2fb/"]

VALUES = [b"1", b"2", b"1", b"2", b"1", b"", b"two words", b"a+b&c=d;%41", "\u00e9<\u2028>&".encode(), b'"\\\n\x00']
VALUES += [b"\xf0\x9f\x98"]
FLAG = [b"true"] * 8 + [b"false"] * 3 + [b"1", b"T", b"f"]
ODD_FLAG = [b"", b"yes", b"tRUE"]
#: Far enough away that none ends while the test runs; PASSING is for those that do.
TTL = [b"100000", b"3000000000", b"0099999", b"", b"12000000000"]
ODD_TTL = [b"18446744073709551616", b"-1", b"1.5", b" 9", b"x"]
PASSING = [b"0", b"0", b"1", b"9223372036", b"18446744073709551615"]
NUMBER: list[bytes | Index] = [*([Index(True, 0)] * 6), Index(True, -1), Index(False, 0), b"0", b"1", b"007"]
ODD_NUMBER = [b"", b"x", b"-1", b"18446744073709551616"]
BACK: list[bytes | Index] = [Index(False, offset) for offset in (*range(-30, 3), -999, -1000, -1001)]


_VALUE: Pools = {b"value": (VALUES, ())}
_TTL: Pools = {b"ttl": (TTL, ODD_TTL)}
_DIR: Pools = {b"dir": (FLAG, ODD_FLAG)}
_BRIEF: Pools = {b"noValueOnSuccess": (FLAG, ODD_FLAG)}
_COMPARE: Pools = {b"prevValue": ([b"1", b"2", b"1", b"2", b"3"], [b""]), b"prevIndex": (NUMBER, ODD_NUMBER)}
_EXIST: Pools = {b"prevExist": ([b"true", b"false"], ODD_FLAG), b"refresh": ([b"true", b"true", b"false"], ODD_FLAG)}
_READ: Pools = dict.fromkeys((b"recursive", b"sorted", b"quorum", b"stream"), (FLAG, ODD_FLAG))
_WAIT: Pools = {b"wait": ([b"true", b"false"], ODD_FLAG), b"waitIndex": (BACK, ODD_NUMBER)}
_UNKNOWN: Pools = {b"Value": ([b"1"], ()), b"unknown": ([b""], ())}


def _pool(*parts: Pools, plain: int = 0) -> list[Field]:
    """Each field as often as any other, an odd value in one of twenty; and `plain` values more.

    An odd ttl is checked late, so most are hidden by another error: they come more often.
    """
    fields: list[Field] = [(b"value", VALUES[number % len(VALUES)]) for number in range(plain)]
    for name, (usual, odd) in [one for part in parts for one in part.items()]:
        fields += [(name, usual[number % len(usual)]) for number in range(38)]
        fields += [(name, odd[number % len(odd)]) for number in range(8 if odd is ODD_TTL else 2)] if odd else []
    return fields


_EVERYTHING = _pool(_VALUE, _TTL, _DIR, _BRIEF, _COMPARE, _EXIST, _READ, _WAIT, _UNKNOWN)
POOLS = {
    "PUT": _pool(_VALUE, _TTL, _DIR, _BRIEF, _COMPARE, _EXIST, plain=80),
    "POST": _pool(_VALUE, _TTL, _DIR, _BRIEF, plain=40),
    "DELETE": _pool({b"recursive": (FLAG, ODD_FLAG)}, _DIR, _COMPARE),
    "GET": _pool(_READ),
    "HEAD": _pool(_READ),
}
METHODS = [*(["PUT"] * 16), *(["GET"] * 10), *(["DELETE"] * 7), *(["POST"] * 4), "HEAD", "HEAD"]
ODD_METHODS = ["PATCH", "OPTIONS", "get", "TRACE"]

_BODY = [*([Style()] * 12), Style("query"), Style("query"), Style("both"), Style("both")]
_ODD_BODY = [
    Style(content_type=b"Application/X-WWW-Form-URLencoded; charset=utf-8"),
    Style(content_type=b"application/json"),
    Style(content_type=None),
    Style(content_type=b";"),
    Style("both", form_blemish=b"%zz"),
    Style("both", query_blemish=b"a;b"),
]
_NO_BODY = [*([Style("query")] * 30), Style("query", query_blemish=b"a;b"), Style("query", query_blemish=b"%zz")]

_methods = st.sampled_from([*(METHODS * 3), *ODD_METHODS])
_paths = st.sampled_from([*(PATHS * 5), *ODD_PATHS])
_body_styles = st.sampled_from([*(_BODY * 5), *_ODD_BODY])
_other_styles = st.sampled_from(_NO_BODY)
_fields = {name: st.lists(st.sampled_from(pool), max_size=4).map(tuple) for name, pool in POOLS.items()}
_any_fields = st.lists(st.sampled_from(_EVERYTHING), max_size=4).map(tuple)
#: Fields that only together do something.
_together = st.sampled_from([*([()] * 12), *([((b"ttl", b"100000"), (b"refresh", b"true"))] * 2)])
_one_in_ten = st.sampled_from([*([False] * 9), True])


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Any request at all."""
    method = draw(_methods)
    path = draw(_paths)
    strategy = _any_fields if draw(_one_in_ten) else _fields.get(method, _any_fields)
    fields: Fields = draw(strategy)
    if method == "PUT":
        fields = (*draw(_together), *fields)
    if method not in ("PUT", "POST"):
        return Draft(method, path, fields, None, draw(_other_styles))
    style = draw(_body_styles)
    if style.fields_in == "query":
        return Draft(method, path, fields, None, style)
    return Draft(method, path, draw(strategy) if style.fields_in == "both" else (), fields, style)


@st.composite
def watches(draw: st.DrawFn) -> Draft:
    """A watch, from now on or looking back."""
    fields: list[Field] = [(b"wait", b"true")]
    fields += [(name, b"true") for name in (b"recursive", b"stream") if draw(st.booleans())]
    if draw(st.booleans()):
        fields.append((b"waitIndex", draw(st.sampled_from(BACK))))
    return Draft("GET", draw(_paths), tuple(fields))


@st.composite
def passing(draw: st.DrawFn) -> Draft:
    """A write whose deadline is now, or long ago by a wrap."""
    ttl: Field = (b"ttl", draw(st.sampled_from(PASSING)))
    more: Fields = draw(
        st.sampled_from(
            [((b"value", b"1"),), ((b"dir", b"true"),), ((b"prevExist", b"true"),), ((b"refresh", b"true"),)]
        )
    )
    return Draft(draw(st.sampled_from(["PUT", "PUT", "PUT", "POST"])), draw(_paths), (), (ttl, *more))
