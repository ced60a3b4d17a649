from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.http.target import BadTarget, Target, clean, is_clean, parse_target, redirect


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        (b"/v2/keys/a?x=%zz", b"/v2/keys/a", b"x=%zz"),
        (b"/a%2Fb%20c+d", b"/a/b c+d", b""),
        (b"/a%3Fb?c?d", b"/a?b", b"c?d"),
        (b"/a#b?c#d", b"/a#b", b"c#d"),
        (b"/%00%ff", b"/\x00\xff", b""),
        (b"http://host:1/v2?x", b"/v2", b"x"),
        (b"http://host", b"", b""),
    ],
)
def test_targets(raw: bytes, path: bytes, query: bytes) -> None:
    assert parse_target(raw) == (path, query)


@pytest.mark.parametrize("raw", [b"/%zz", b"/%", b"/a%2", b"v2/keys", b"*", b""])
def test_bad_targets(raw: bytes) -> None:
    with pytest.raises(BadTarget):
        parse_target(raw)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        (b"", b"/"),
        (b"/", b"/"),
        (b"//", b"/"),
        (b"/a//b/", b"/a/b/"),
        (b"/a/./b", b"/a/b"),
        (b"/a/.", b"/a"),
        (b"/a/b/..", b"/a"),
        (b"/a/../", b"/"),
        (b"/../../a", b"/a"),
        (b"/.a/..b/c.", b"/.a/..b/c."),
    ],
)
def test_cleaning(path: bytes, cleaned: bytes) -> None:
    assert clean(path) == cleaned
    assert is_clean(path) is (path == cleaned)


@given(st.lists(st.sampled_from(["/", ".", "a", ".."]), max_size=12).map("".join))
def test_cleaning_agrees_with_normpath(tail: str) -> None:
    path = "/" + tail
    expected = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/") and expected != "/":
        expected += "/"
    assert clean(path.encode()) == expected.encode()
    assert is_clean(path.encode()) is (path == expected)


def test_redirect_says_it_in_html_for_get() -> None:
    status, head, body = redirect("GET", Target(b"/v2//<b>'\"&!$*", b"x=%zz&<\xff"))
    assert status == 301
    assert head == (b"Content-Type: text/html; charset=utf-8\r\nLocation: /v2/%3Cb%3E%27%22&%21$%2A?x=%zz&<%ff\r\n")
    assert body == b'<a href="/v2/%3Cb%3E%27%22&amp;%21$%2A?x=%zz&amp;&lt;\xff">Moved Permanently</a>.\n\n'


def test_redirect_is_bare_for_others() -> None:
    assert redirect("PUT", Target(b"/a//b/", b"")) == (301, b"Location: /a/b/\r\n", b"")
    assert redirect("HEAD", Target(b"//a", b"")).body == b""
