"""The escapes of JSON strings and of forms, in time in proportion to their length whatever they hold.

Compiled where that is possible (texts_native.pyx); what stands here is the same in Python, by calls that go through
many bytes each, in slices that stay in the processor's cache. Knows no request and no answer.
"""

from __future__ import annotations

from itertools import product

__all__ = ["is_compiled", "is_plain", "quote", "unescape"]

#: Bytes that are escaped in one step: few enough that each step is short, and that what is made of them is small.
SLICE_BYTES = 64 << 10

_LONGEST_CHARACTER = 4  # bytes in UTF-8
_PLAIN_WITHOUT = bytes([*range(0x20), *b'"\\<>&', *range(0x80, 0x100)])
_PLAIN = bytes(octet for octet in range(256) if octet not in _PLAIN_WITHOUT)
#: By byte; the backslash first, since it begins all others.
_ESCAPES = {
    b"\\": b"\\\\",
    b'"': b'\\"',
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    **{bytes([octet]): b"\\u%04x" % octet for octet in (*range(0x20), *b"<>&") if octet not in b"\n\r\t"},
}
_BACKSLASH = ord("\\")
#: By their two digits, in any case.
_OCTETS = {
    (first + second).encode(): bytes([int(first + second, 16)])
    for first, second in product("0123456789abcdefABCDEF", repeat=2)
}


def is_plain(text: bytes) -> bool:
    """Whether `text` stays as it is in JSON, and is ASCII."""
    return len(text.translate(None, _PLAIN_WITHOUT)) == len(text)


def _quote(text: bytes) -> bytes:
    """Go's encoding of a string, without the quotes around it.

    `<`, `>`, `&`, U+2028 and U+2029 are escaped, and so is each single byte that is not part of valid UTF-8, as
    U+FFFD; all other characters stay as they are.
    """
    if not text.translate(None, _PLAIN):  # most keys and values
        return text
    pieces = []
    at = 0
    while at < len(text):
        end = _end_of_slice(text, at)
        pieces.append(_quote_slice(text[at:end]))
        at = end
    return b"".join(pieces)


def _end_of_slice(text: bytes, at: int) -> int:
    """Where a slice from `at` ends so that no character is cut."""
    end = at + SLICE_BYTES
    if end < len(text):
        for back in range(_LONGEST_CHARACTER):
            if text[end - back] & 0xC0 != 0x80:  # a character, or a byte that belongs to none, begins here
                return end - back
    return end


def _quote_slice(text: bytes) -> bytes:
    special = text.translate(None, _PLAIN)
    if not special:
        return text
    octets = set(special)
    if _BACKSLASH in octets:
        text = text.replace(b"\\", b"\\\\")
    for octet in octets:
        if octet < 0x80 and octet != _BACKSLASH:
            one = bytes((octet,))
            text = text.replace(one, _ESCAPES[one])
    if max(octets) >= 0x80:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
        try:
            text.decode()
        except UnicodeDecodeError:
            return _mark_bad_bytes(text)
    return text


def _mark_bad_bytes(text: bytes) -> bytes:
    """Each byte that is not part of valid UTF-8 as U+FFFD. No control character is left in `text`, so one of them can
    stand for a question mark, which is what an encoder puts where a byte cannot be encoded."""
    text = text.replace(b"?", b"\x01")
    # surrogateescape marks every bad byte on its own, which is how etcd counts them
    text = text.decode("utf-8", "surrogateescape").encode("utf-8", "replace")
    return text.replace(b"?", b"\\ufffd").replace(b"\x01", b"?")


def _unescape(text: bytes) -> bytes | None:
    """What a name or a value of a form stands for; None if a percent sign is not followed by two digits."""
    text = text.replace(b"+", b" ")
    if b"%" not in text:
        return text
    if len(text) <= SLICE_BYTES:
        return _unescape_slice(text)
    pieces = []
    at = 0
    while at < len(text):
        end = at + SLICE_BYTES
        if end < len(text):  # no escape is cut
            end -= 1 if text[end - 1 : end] == b"%" else 2 if text[end - 2 : end - 1] == b"%" else 0
        piece = _unescape_slice(text[at:end])
        if piece is None:
            return None
        pieces.append(piece)
        at = end
    return b"".join(pieces)


def _unescape_slice(text: bytes) -> bytes | None:
    first, *rest = text.split(b"%")
    octets = _OCTETS
    try:
        return first + b"".join([octets[piece[:2]] + piece[2:] for piece in rest])
    except KeyError:
        return None


try:
    from kvstore.http.texts_native import quote, unescape
except ImportError:
    is_compiled = False
    quote, unescape = _quote, _unescape
else:
    is_compiled = True
