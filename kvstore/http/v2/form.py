"""Forms and media types as Go's standard library parses them, since its words end up in our answers.

`application/x-www-form-urlencoded` in a body or a query, and Content-Type lines. Names and values are bytes.
Knows nothing of what the fields mean.
"""

from __future__ import annotations

import re

from kvstore.http.texts import unescape

FORM_TYPE = b"application/x-www-form-urlencoded"
TOO_LARGE = b"http: POST too large"
#: Of a form; the API has fifteen. Empty ones count.
MAX_PAIRS = 1_000
#: Of a Content-Type line; what a client sends has less than a hundred bytes.
MAX_TYPE_BYTES = 1_024

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_BLANK = b" \t\n\v\f\r"
_QUOTES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


class FormError(Exception):
    """`cause` is Go's own wording."""

    def __init__(self, cause: bytes) -> None:
        super().__init__(cause)
        self.cause = cause


def parse_form(raw: bytes) -> dict[bytes, bytes]:
    """Fields by name; the first of several wins. Raises FormError for the mistake that etcd reports: a semicolon
    anywhere, else the first escape that is none."""
    if b";" in raw:
        raise FormError(b"invalid semicolon separator in query")
    if b"&" not in raw:
        pairs = [raw] if raw else []
    else:
        count = raw.count(b"&") + 1
        if count > MAX_PAIRS:
            raise FormError(b"the form has %d fields; at most %d are read" % (count, MAX_PAIRS))
        pairs = raw.split(b"&")
    fields: dict[bytes, bytes] = {}
    for pair in pairs:
        if pair:
            name, _, value = pair.partition(b"=")
            fields.setdefault(_unescape(name), _unescape(value))
    return fields


def _unescape(text: bytes) -> bytes:
    decoded = unescape(text)
    if decoded is None:
        bad = _BAD_ESCAPE.search(text)
        assert bad is not None  # `unescape` has found it
        raise FormError(b"invalid URL escape " + _go_quote(text[bad.start() : bad.start() + 3]))
    return decoded


def _go_quote(text: bytes) -> bytes:
    """Go's strconv.Quote, for the three bytes of a bad escape."""
    quoted = ""
    for character in text.decode("utf-8", "surrogateescape"):
        number = ord(character)
        if character in _QUOTES:
            quoted += _QUOTES[character]
        elif 0xDC80 <= number <= 0xDCFF:
            quoted += f"\\x{number - 0xDC00:02x}"
        elif number < 0x20 or number == 0x7F:
            quoted += f"\\x{number:02x}"
        elif not character.isprintable():
            quoted += f"\\u{number:04x}"
        else:
            quoted += character
    return b'"' + quoted.encode() + b'"'


def is_form(content_type: bytes | None) -> bool:
    """Whether a body of this Content-Type is read. Raises FormError where the line cannot be parsed."""
    if content_type == FORM_TYPE:
        return True
    if content_type is None or content_type == b"":
        return False
    if len(content_type) > MAX_TYPE_BYTES:
        raise FormError(b"the Content-Type has %d bytes; at most %d are read" % (len(content_type), MAX_TYPE_BYTES))
    media_type, semicolon, rest = content_type.partition(b";")
    media_type = media_type.lower().strip(_BLANK)
    _check_media_type(media_type)
    _check_media_parameters(semicolon + rest)
    return media_type == FORM_TYPE


def _token(text: bytes) -> tuple[bytes, bytes]:
    match = _TOKEN.match(text)
    assert match is not None  # the pattern matches the empty text
    return match[0], text[match.end() :]


def _check_media_type(media_type: bytes) -> None:
    kind, rest = _token(media_type)
    if not kind:
        raise FormError(b"mime: no media type")
    if not rest:
        return
    if not rest.startswith(b"/"):
        raise FormError(b"mime: expected slash after first token")
    subtype, rest = _token(rest[1:])
    if not subtype:
        raise FormError(b"mime: expected token after slash")
    if rest:
        raise FormError(b"mime: unexpected content after media subtype")


def _check_media_parameters(text: bytes) -> None:
    seen: set[bytes] = set()
    text = text.lstrip(_BLANK)
    while text:
        parameter = _media_parameter(text)
        if parameter is None:
            if text.strip(_BLANK) == b";":  # a trailing semicolon is let pass
                return
            raise FormError(b"mime: invalid media parameter")
        name, rest = parameter
        if name in seen:
            raise FormError(b"mime: duplicate parameter name")
        seen.add(name)
        text = rest.lstrip(_BLANK)


def _media_parameter(text: bytes) -> tuple[bytes, bytes] | None:
    """`; name=value` at the head of `text`: the name and what follows, None where it is broken."""
    if not text.startswith(b";"):
        return None
    name, rest = _token(text[1:].lstrip(_BLANK))
    rest = rest.lstrip(_BLANK)
    if not name or not rest.startswith(b"="):
        return None
    after = rest[1:].lstrip(_BLANK)
    if after.startswith(b'"'):
        quoted = re.match(rb'"(?:\\[()<>@,;:\\"/\[\]?=]|[^"\r\n])*?"', after)
        return None if quoted is None else (name.lower(), after[quoted.end() :])
    value, remaining = _token(after)
    return (name.lower(), remaining) if value else None
