"""Small text files that are replaced as a whole: lines, and a checksum in the last one.

They are text so that an operator can read them. Nothing here knows what the lines mean.
"""

from __future__ import annotations

from contextlib import suppress
from zlib import crc32

from kvstore.storage.errors import DamagedFile
from kvstore.storage.files import Files
from kvstore.storage.layout import TEMPORARY

MAX_BYTES = 1 << 20


def write_lines(files: Files, path: str, lines: list[str]) -> None:
    """Replaces the file; durable on return, and whole at any time. An OSError leaves no file that was not there."""
    body = "".join(f"{line}\n" for line in lines)
    text = f"{body}check {crc32(body.encode()):08x}\n".encode()
    assert len(text) <= MAX_BYTES
    temporary = path + TEMPORARY
    is_new = not files.exists(path)
    try:
        file = files.create(temporary)
        try:
            file.pwrite(text, 0)
            file.datasync()
        finally:
            file.close()
        files.rename(temporary, path)
        files.sync_folder(path.rpartition("/")[0])
    except OSError:
        with suppress(OSError):
            files.unlink(temporary)
        if is_new:
            with suppress(OSError):
                files.unlink(path)
        raise


def read_lines(files: Files, path: str) -> list[str] | None:
    """Without the last line; None if there is no such file. DamagedFile, OSError."""
    if not files.exists(path):
        return None
    file = files.open(path)
    try:
        text = file.pread(MAX_BYTES + 1, 0)
    finally:
        file.close()
    body, separator, check = text.rpartition(b"check ")
    if not separator or check != f"{crc32(body):08x}\n".encode():
        raise DamagedFile(path, 0, "the file fails its checksum")
    return body.decode(errors="replace").splitlines()
