"""A file that is made beside its place and moved there whole: a reader sees the old content or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def staged(path: str, content: bytes, mode: int = 0o600, uid: int = -1, gid: int = -1) -> Iterator[str]:
    """The path of the new file, synced and with its mode and owner (-1: ours). When the `with` block ends it takes the
    place of `path`; when the block raises, it is removed. Raises OSError."""
    folder = os.path.dirname(path) or "."
    handle, new = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            if uid != -1 or gid != -1:
                os.fchown(handle, uid, gid)
            os.fchmod(handle, mode)  # after the owner: a change of owner takes set-id bits away
            file.flush()
            os.fsync(handle)
        yield new
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
