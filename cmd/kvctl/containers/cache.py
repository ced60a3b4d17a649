"""The last good answer in a file, for a start without the cluster.

The first line says what the file is, in which version, and the SHA-256 of the rest, which is JSON; so a torn or edited
file is told from a good one. Only its owner can read it: values may be secrets. It knows nothing of what it holds.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from kvctl.containers.staged import staged

VERSION = 1
#: A longer file is not read.
MAX_BYTES = 1 << 28
_NAME = b"kvctl-cache"


class CacheError(Exception):
    """The cache cannot be used; one line that names the file."""


class Cache:
    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)  # a link stays one
        self._saved = b""

    def load(self) -> Any:
        """Raises CacheError."""
        try:
            with open(self.path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise CacheError(f"the cache {self.path} does not exist yet") from None
        except OSError as error:
            raise CacheError(f"the cache {self.path} cannot be read: {error.strerror}") from None
        if len(raw) > MAX_BYTES:
            raise CacheError(f"the cache {self.path} is longer than {MAX_BYTES} bytes")
        head, _, body = raw.partition(b"\n")
        match head.split(b" "):
            case [name, version, digest] if name == _NAME:
                if version != str(VERSION).encode():
                    raise CacheError(f"the cache {self.path} is of a version that is not known here")
                if digest.decode("latin-1") != hashlib.sha256(body).hexdigest():
                    raise CacheError(f"the cache {self.path} is damaged: its checksum does not match")
            case _:
                raise CacheError(f"{self.path} is no cache of kvctl's")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise CacheError(f"the cache {self.path} is damaged: it holds no JSON") from None

    def save(self, document: Any) -> None:
        """Replaces what is there, unless it is the same. Raises CacheError."""
        body = json.dumps(document, separators=(",", ":")).encode()
        if body == self._saved:
            return
        digest = hashlib.sha256(body).hexdigest().encode()
        try:
            with staged(self.path, b"%b %d %b\n%b" % (_NAME, VERSION, digest, body)):
                pass
        except OSError as error:
            raise CacheError(f"the cache {self.path} cannot be written: {error.strerror}") from None
        self._saved = body
