"""The one place that turns the store's and the cluster's errors into v2 codes, messages, causes and statuses.

Source: docs/api-v2.md, *Errors*. Nothing here knows how an error is written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvstore.http.backend import TooManyRequests, Unavailable
from kvstore.store.errors import (
    CompareFailed,
    DirectoryNotEmpty,
    HistoryCleared,
    KeyExists,
    KeyNotFound,
    KeyRefused,
    NotADirectory,
    NotAFile,
    RootReadOnly,
    StoreError,
)

KEY_NOT_FOUND = 100
TEST_FAILED = 101
NOT_FILE = 102
NOT_DIRECTORY = 104
NODE_EXISTS = 105
ROOT_READ_ONLY = 107
DIRECTORY_NOT_EMPTY = 108
UNAUTHORIZED = 110
PREVIOUS_VALUE_REQUIRED = 201
TTL_NOT_A_NUMBER = 202
INDEX_NOT_A_NUMBER = 203
INVALID_FIELD = 209
INVALID_FORM = 210
REFRESH_VALUE = 211
REFRESH_TTL_REQUIRED = 212
RAFT_INTERNAL = 300
EVENT_INDEX_CLEARED = 401

# By code: the HTTP status and the message.
_CODES: dict[int, tuple[int, bytes]] = {
    KEY_NOT_FOUND: (404, b"Key not found"),
    TEST_FAILED: (412, b"Compare failed"),
    NOT_FILE: (403, b"Not a file"),
    NOT_DIRECTORY: (400, b"Not a directory"),
    NODE_EXISTS: (412, b"Key already exists"),
    ROOT_READ_ONLY: (400, b"Root is read only"),
    DIRECTORY_NOT_EMPTY: (403, b"Directory not empty"),
    UNAUTHORIZED: (401, b"The request requires user authentication"),
    PREVIOUS_VALUE_REQUIRED: (400, b"PrevValue is Required in POST form"),
    TTL_NOT_A_NUMBER: (400, b"The given TTL in POST form is not a number"),
    INDEX_NOT_A_NUMBER: (400, b"The given index in POST form is not a number"),
    INVALID_FIELD: (400, b"Invalid field"),
    INVALID_FORM: (400, b"Invalid POST form"),
    REFRESH_VALUE: (400, b"Value provided on refresh"),
    REFRESH_TTL_REQUIRED: (400, b"A TTL must be provided on refresh"),
    RAFT_INTERNAL: (500, b"Raft Internal Error"),
    EVENT_INDEX_CLEARED: (400, b"The event in requested index is outdated and cleared"),
}


class ApiError(Exception):
    """An error of the key space as a client sees it. `index` 0: found before the store was asked."""

    def __init__(self, code: int, cause: bytes, index: int = 0) -> None:
        super().__init__(code, cause, index)
        self.code = code
        self.cause = cause
        self.index = index

    @property
    def status(self) -> int:
        return _CODES[self.code][0]

    @property
    def message(self) -> bytes:
        return _CODES[self.code][1]


class Busy(ApiError):
    """Not now; whatever was asked for was not done."""

    @property
    def status(self) -> int:
        return 503


def _compare_cause(error: CompareFailed) -> bytes:
    parts = []
    if error.values is not None:
        parts.append(b"[%s != %s]" % error.values)
    if error.indices is not None:
        parts.append(b"[%d != %d]" % error.indices)
    return b" ".join(parts)


def _key(error: KeyRefused) -> bytes:
    return error.key


def _key_but_root(error: NotAFile) -> bytes:
    """compareAndDelete of the root is the one request that meets it, and etcd then names no cause."""
    return b"" if error.key == b"/" else error.key


_TRANSLATIONS: dict[type[StoreError], tuple[int, Callable[[Any], bytes]]] = {
    KeyNotFound: (KEY_NOT_FOUND, _key),
    CompareFailed: (TEST_FAILED, _compare_cause),
    NotAFile: (NOT_FILE, _key_but_root),
    NotADirectory: (NOT_DIRECTORY, _key),
    KeyExists: (NODE_EXISTS, _key),
    RootReadOnly: (ROOT_READ_ONLY, lambda error: b"/"),
    DirectoryNotEmpty: (DIRECTORY_NOT_EMPTY, _key),
    HistoryCleared: (
        EVENT_INDEX_CLEARED,
        lambda error: b"the requested history has been cleared [%d/%d]" % (error.oldest, error.asked),
    ),
}


def api_error(error: StoreError | Unavailable) -> ApiError:
    """What a client is told of `error`."""
    if isinstance(error, TooManyRequests):
        return Busy(RAFT_INTERNAL, error.message.encode())
    if isinstance(error, Unavailable):
        return ApiError(RAFT_INTERNAL, error.message.encode())
    code, cause = _TRANSLATIONS[type(error)]
    return ApiError(code, cause(error), error.index)
