"""Go's parsing of forms and media types, with its words."""

from __future__ import annotations

import contextlib
import time
from urllib.parse import quote_from_bytes, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.http.v2.form import FORM_TYPE, FormError, is_form, parse_form


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"", {}),
        (b"&&value=v&", {b"value": b"v"}),
        (b"a=1&a=2", {b"a": b"1"}),
        (b"=x&value", {b"": b"x", b"value": b""}),
        (b"a=b=c", {b"a": b"b=c"}),
        (b"a+b=c+d%2Be", {b"a b": b"c d+e"}),
        (b"a=%00%ff\xfe", {b"a": b"\x00\xff\xfe"}),
    ],
)
def test_fields(raw: bytes, fields: dict[bytes, bytes]) -> None:
    assert parse_form(raw) == fields


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"value=%zz", b'invalid URL escape "%zz"'),
        (b"value=v%", b'invalid URL escape "%"'),
        (b"a=%f", b'invalid URL escape "%f"'),
        (b"a=%+f", b'invalid URL escape "%+f"'),
        (b'a=%"\n', b'invalid URL escape "%\\"\\n"'),
        (b"a=%\xff\x01", b'invalid URL escape "%\\xff\\x01"'),
        (b"a=%\xc3\xa9", b'invalid URL escape "%\xc3\xa9"'),
        (b"%zz=1&b=%yy", b'invalid URL escape "%zz"'),  # the first one
        (b"a;b", b"invalid semicolon separator in query"),
        (b"a=%zz&b;c", b"invalid semicolon separator in query"),  # which replaces an escape before it
        (b"b;c&a=%zz", b"invalid semicolon separator in query"),  # and stays before one after it
    ],
)
def test_mistakes(raw: bytes, cause: bytes) -> None:
    with pytest.raises(FormError) as caught:
        parse_form(raw)
    assert caught.value.cause == cause


@given(st.dictionaries(st.binary(min_size=1), st.binary()))
def test_what_is_encoded_comes_back(fields: dict[bytes, bytes]) -> None:
    for encode in (quote_plus, quote_from_bytes):
        raw = "&".join(f"{encode(name)}={encode(value)}" for name, value in fields.items())
        assert parse_form(raw.encode()) == fields


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, False),
        (b"", False),
        (b"application/x-www-form-urlencoded", True),
        (b"Application/X-WWW-Form-Urlencoded ; charset=utf-8;", True),
        (b'application/x-www-form-urlencoded; a="x;\\"y"; b=c', True),
        (b"application/json", False),
        (b"text", False),
        (b"multipart/form-data; boundary=B", False),
    ],
)
def test_content_types(content_type: bytes | None, expected: bool) -> None:
    assert is_form(content_type) is expected


@pytest.mark.parametrize(
    ("content_type", "cause"),
    [
        (b";", b"mime: no media type"),
        (b"/", b"mime: no media type"),
        (b"a b", b"mime: expected slash after first token"),
        (b"a/", b"mime: expected token after slash"),
        (b"a/b c", b"mime: unexpected content after media subtype"),
        (b"application/x-www-form-urlencoded; =", b"mime: invalid media parameter"),
        (b"a/b; x", b"mime: invalid media parameter"),
        (b"a/b; x=", b"mime: invalid media parameter"),
        (b'a/b; x="y', b"mime: invalid media parameter"),
        (b"a/b; x=1; X=2", b"mime: duplicate parameter name"),
    ],
)
def test_broken_content_types(content_type: bytes, cause: bytes) -> None:
    with pytest.raises(FormError) as caught:
        is_form(content_type)
    assert caught.value.cause == cause


def test_too_many_fields_are_named_with_the_limit() -> None:
    assert len(parse_form(b"&".join(b"%d=1" % number for number in range(1000)))) == 1000
    for raw in (b"&".join(b"%d=1" % number for number in range(1001)), b"&" * 1000):
        with pytest.raises(FormError) as caught:
            parse_form(raw)
        assert caught.value.cause == b"the form has 1001 fields; at most 1000 are read"


def test_a_long_content_type_is_named_with_the_limit() -> None:
    assert is_form(FORM_TYPE + b"; x=" + b"y" * 900)
    with pytest.raises(FormError) as caught:
        is_form(FORM_TYPE + b"; x=" + b"y" * 1000)
    assert caught.value.cause == b"the Content-Type has 1037 bytes; at most 1024 are read"


@pytest.mark.parametrize("form", [b"%zz&", b";&", b"a%41=1&", b"&", b"a=%41&", b"%41", b"+"])
def test_ten_megabytes_of_anything_are_looked_at_once(form: bytes) -> None:
    begin = time.thread_time()
    with contextlib.suppress(FormError):
        parse_form(form * (10_000_000 // len(form)))
    assert time.thread_time() - begin < 2.0  # most of them milliseconds
