"""Escapes: byte for byte what their definition says, and in time in proportion to the length of the text."""

from __future__ import annotations

import re
import time
from random import Random
from urllib.parse import quote_plus, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvstore.http import texts

QUOTES = {"Python": texts._quote, "in use": texts.quote}
UNESCAPES = {"Python": texts._unescape, "in use": texts.unescape}
SIZE = 1_000_000
#: For a megabyte, of the thread's own time. A call for each character takes half a second, and what is quadratic hours.
MOST_SECONDS = 0.25

_SPECIAL = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\udc80-\udcff]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def defined(text: bytes) -> bytes:
    """Go's encoding, a character at a time."""

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        return "\\ufffd" if character >= "\udc80" else _ESCAPES.get(character) or f"\\u{ord(character):04x}"

    return _SPECIAL.sub(escape, text.decode("utf-8", "surrogateescape")).encode()


#: Whole characters, halves of them, what looks like one and is none, and what has an escape.
ATOMS = [
    *(b"a", b"?", b"\x01", b"\x00", b"\x1f", b"\x7f", b"\n", b"\r", b"\t", b'"', b"\\", b"<", b">", b"&", b"\\u0001"),
    *("\u00e9".encode(), "\u20ac".encode(), "\u2028".encode(), "\u2029".encode(), "\U0001f600".encode()),
    *("\ufffd".encode(), b"\xe2\x80", b"\xe2", b"\xc3", b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xed\xb2\x80"),
    *(b"\xf0\x9f\x98", b"\xf0\x8f\x80\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\xff", b"\x80", b"\xbf\xbf\xbf\xbf\xbf"),
]
TEXTS = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(ATOMS), max_size=12).map(b"".join))


@pytest.mark.parametrize("way", QUOTES)
@given(text=TEXTS)
@example(text=bytes(range(256)))
def test_a_text_is_quoted_as_defined(way: str, text: bytes) -> None:
    assert QUOTES[way](text) == defined(text)


@pytest.mark.parametrize("way", QUOTES)
def test_a_long_text_is_quoted_as_defined_wherever_a_slice_ends(way: str) -> None:
    random = Random(1)
    for atom in ATOMS:
        before = b"x" * (texts.SLICE_BYTES - random.randrange(9))
        text = before + atom * 20 + b"".join(random.choices(ATOMS, k=50))
        assert QUOTES[way](text) == defined(text), atom
    noise = random.randbytes(3 * texts.SLICE_BYTES + 1)
    assert QUOTES[way](noise) == defined(noise)


@pytest.mark.parametrize("way", UNESCAPES)
@given(text=st.one_of(st.binary(max_size=40), st.text("%0aFgx+ ", max_size=30).map(str.encode)))
def test_a_form_is_unescaped_as_defined(way: str, text: bytes) -> None:
    is_bad = re.search(rb"%(?![0-9A-Fa-f]{2})", text) is not None
    assert UNESCAPES[way](text) == (None if is_bad else unquote_to_bytes(text.replace(b"+", b" ")))


@pytest.mark.parametrize("way", UNESCAPES)
def test_a_long_form_is_unescaped_wherever_a_slice_ends(way: str) -> None:
    unescape = UNESCAPES[way]
    for shift in range(4):
        value = b"x" * (texts.SLICE_BYTES - 8 + shift) + bytes(range(256)) * 600
        assert unescape(quote_plus(value).encode()) == value
        assert unescape(b"x" * shift + b"%41" * texts.SLICE_BYTES) == b"x" * shift + b"A" * texts.SLICE_BYTES
        for broken in (b"%", b"%%", b"%4", b"%g1", b"%4%41"):
            assert unescape(b"x" * (texts.SLICE_BYTES - shift) + broken) is None
            assert unescape(b"x" * (texts.SLICE_BYTES - shift) + broken + b"x" * 100) is None or broken == b"%"


KINDS = {
    "one control": b"\x01",
    "all controls": bytes(range(32)),
    "all bytes": bytes(range(256)),
    "bad bytes": b"\xff",
    "halves": b"\xe2\x80",
    "separators": "\u2028".encode(),
    "HTML": b"<a&b>",
    "quotes": b'"\\',
    "text": "\u00e9\u20ac\U0001f600".encode(),
    "plain": b"x",
    "escapes": b"%41",
    "mixed escapes": b"a%41",
    "blanks": b"+",
    "broken": b"%zz",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", QUOTES)
def test_a_megabyte_of_anything_takes_no_time(way: str, kind: str) -> None:
    text = KINDS[kind] * (SIZE // len(KINDS[kind]))
    for function in (QUOTES[way], UNESCAPES[way]):
        begin = time.thread_time()
        function(text)
        assert time.thread_time() - begin < MOST_SECONDS
