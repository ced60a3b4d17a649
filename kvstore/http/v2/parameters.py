"""The parameters of a request to the key space, checked in etcd's order (docs/api-v2.md, *Conventions*).

From plain values to a `KeyRequest`, or an ApiError that names the first mistake. Knows no store.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kvstore.http import errors
from kvstore.http.errors import ApiError
from kvstore.http.v2.form import FormError, is_form, parse_form
from kvstore.limits import IN_ORDER_BYTES, Limits

PREFIX = b"/v2/keys"
#: Methods whose body may hold parameters.
WITH_BODY = frozenset(("PUT", "POST"))

_TRUE = frozenset((b"1", b"t", b"T", b"TRUE", b"true", b"True"))
_FALSE = frozenset((b"0", b"f", b"F", b"FALSE", b"false", b"False"))
_DIGITS = re.compile(rb"[0-9]{1,20}", re.ASCII)
_UINT64_LIMIT = 1 << 64
_DEFAULT_LIMITS = Limits()


class KeyRequest(NamedTuple):
    """What a client asks of one key. Absent parameters have these defaults."""

    method: str  # GET, HEAD, PUT, POST, DELETE
    key: bytes  # canonical, as the store wants it
    value: bytes = b""
    previous_value: bytes = b""  # empty: no condition
    previous_index: int = 0  # 0: no condition
    previous_exists: bool | None = None
    ttl: int | None = None  # seconds
    refresh: bool = False
    is_dir: bool = False
    recursive: bool = False
    sorted: bool = False
    quorum: bool = False
    wait: bool = False
    wait_index: int = 0
    stream: bool = False
    no_value_on_success: bool = False


DEFAULTS = KeyRequest("", b"")[3:]
_new = tuple.__new__  # a NamedTuple made this way costs a third, and nearly every request makes one


def wants_body(method: str, content_type: bytes | None) -> bool:
    """Whether the body holds parameters. Raises ApiError where the Content-Type cannot be parsed."""
    if method not in WITH_BODY:
        return False
    try:
        return is_form(content_type)
    except FormError as error:
        raise ApiError(errors.INVALID_FORM, error.cause) from None


def key_of(method: str, path: bytes, limits: Limits) -> bytes:
    """The canonical key of `path`, which is decoded and clean and begins with PREFIX.

    Raises ApiError where the key, or with a POST what it creates, is too long or too deep. Reads have the same limit:
    no longer key can be there, and to look for one costs as much as its length.
    """
    key = path[len(PREFIX) :].rstrip(b"/") or b"/"
    length, components = len(key), key.count(b"/")
    if method == "POST":
        length, components = length + IN_ORDER_BYTES, components + 1
    if length > limits.key_bytes:
        cause = b"the key has %d bytes; --max-key-bytes allows %d" % (length, limits.key_bytes)
        raise ApiError(errors.INVALID_FIELD, cause)
    if components > limits.key_components:
        cause = b"the key has %d components; --max-key-components allows %d" % (components, limits.key_components)
        raise ApiError(errors.INVALID_FIELD, cause)
    return key


def parse_key_request(
    method: str, path: bytes, query: bytes, body: bytes, limits: Limits = _DEFAULT_LIMITS
) -> KeyRequest:
    """`path` is as for `key_of`; `body` is empty unless `wants_body` said so.

    Raises ApiError with index 0.
    """
    key = key_of(method, path, limits)
    if not query and not body:
        return _new(KeyRequest, (method, key, b"", *DEFAULTS))
    try:
        if not query:
            fields = parse_form(body)
        else:
            body_fields = parse_form(body) if body else {}  # first: its mistakes are reported before the query's
            fields = parse_form(query)
            fields.update(body_fields)
    except FormError as error:
        raise ApiError(errors.INVALID_FORM, error.cause) from None
    if len(fields) == 1 and b"value" in fields:
        return _new(KeyRequest, (method, key, fields[b"value"], *DEFAULTS))
    return _check(method, key, fields)


def _check(method: str, key: bytes, fields: dict[bytes, bytes]) -> KeyRequest:
    """The order of these lines is the order in which etcd reports mistakes."""
    previous_index = _index(fields, b"prevIndex")
    wait_index = _index(fields, b"waitIndex")
    recursive = _flag(fields, b"recursive")
    in_order = _flag(fields, b"sorted")
    wait = _flag(fields, b"wait")
    is_dir = _flag(fields, b"dir")
    quorum = _flag(fields, b"quorum")
    stream = _flag(fields, b"stream")
    if wait and method != "GET":
        raise ApiError(errors.INVALID_FIELD, b'"wait" can only be used with GET requests')
    previous_value = fields.get(b"prevValue", b"")
    if not previous_value and b"prevValue" in fields:
        raise ApiError(errors.PREVIOUS_VALUE_REQUIRED, b'"prevValue" cannot be empty')
    no_value_on_success = _flag(fields, b"noValueOnSuccess")
    ttl = _ttl(fields)
    previous_exists = None
    if b"prevExist" in fields:
        previous_exists = _flag(fields, b"prevExist", b"prevExist")
    refresh = _flag(fields, b"refresh", b"refresh")
    value = fields.get(b"value", b"")
    if refresh:
        if value:
            raise ApiError(errors.REFRESH_VALUE, b"A value was provided on a refresh")
        if ttl is None:
            raise ApiError(errors.REFRESH_TTL_REQUIRED, b"No TTL value set")
    return KeyRequest(
        method=method,
        key=key,
        value=value,
        previous_value=previous_value,
        previous_index=previous_index,
        previous_exists=previous_exists,
        ttl=ttl,
        refresh=refresh,
        is_dir=is_dir,
        recursive=recursive,
        sorted=in_order,
        quorum=quorum,
        wait=wait,
        wait_index=wait_index,
        stream=stream,
        no_value_on_success=no_value_on_success,
    )


def _flag(fields: dict[bytes, bytes], name: bytes, shown: bytes | None = None) -> bool:
    """`shown` is the name as the error has it: in quotes, but for prevExist and refresh."""
    text = fields.get(name)
    if text is None or text in _FALSE:
        return False
    if text in _TRUE:
        return True
    raise ApiError(errors.INVALID_FIELD, b"invalid value for " + (shown or b'"%s"' % name))


def _index(fields: dict[bytes, bytes], name: bytes) -> int:
    text = fields.get(name)
    if text is None:
        return 0
    number = _uint64(text)
    if number is None:
        raise ApiError(errors.INDEX_NOT_A_NUMBER, b'invalid value for "%s"' % name)
    return number


def _ttl(fields: dict[bytes, bytes]) -> int | None:
    text = fields.get(b"ttl", b"")
    if not text:
        return None
    number = _uint64(text)
    if number is None:
        raise ApiError(errors.TTL_NOT_A_NUMBER, b'invalid value for "ttl"')
    return number


def _uint64(text: bytes) -> int | None:
    """Go's strconv.ParseUint in base 10: digits only, leading zeros allowed, below 2**64."""
    digits = text.lstrip(b"0") if len(text) > 20 else text
    if _DIGITS.fullmatch(digits or text[:1]) is None:
        return None
    number = int(digits or b"0")
    return number if number < _UINT64_LIMIT else None
