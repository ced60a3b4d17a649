"""What a member's first start was told of its cluster: written once, at birth, and never changed.

Only digests, because they are only compared. It lies in a file of its own, so that a release that does not know it can
open the folder, too. What is compared with what is decided by the caller.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import NamedTuple

from kvstore.storage.errors import DamagedFile
from kvstore.storage.files import Files
from kvstore.storage.textfile import read_lines, write_lines

_TITLE = "kvstored founding, format 1"
_FOUNDING = re.compile(rf"{_TITLE}\nflags ([0-9a-f]{{64}})\ntoken ([0-9a-f]{{64}})")


#: In the place of a token's digest: of a member that joined and was not told the token.
UNKNOWN_TOKEN = bytes(32)


class Founding(NamedTuple):
    """SHA-256, 32 bytes each: of names, peer URLs and token; of the token alone, or UNKNOWN_TOKEN."""

    flags: bytes
    token: bytes


def founding_file(path: str) -> str:
    return f"{path}/member/founding"


def read_founding(files: Files, path: str) -> Founding | None:
    """None where it is not known: a folder of an older release, a restored one, or a file that is damaged, because no
    promise hangs on it. OSError."""
    lines = None
    with suppress(DamagedFile):
        lines = read_lines(files, founding_file(path))
    match = _FOUNDING.fullmatch("\n".join(lines or ()))
    return Founding(bytes.fromhex(match[1]), bytes.fromhex(match[2])) if match else None


def write_founding(files: Files, path: str, founding: Founding | None) -> None:
    """Durable on return; removes what a start left that did not come to its end. OSError."""
    if founding is not None:
        write_lines(
            files, founding_file(path), [_TITLE, f"flags {founding.flags.hex()}", f"token {founding.token.hex()}"]
        )
    elif files.exists(founding_file(path)):
        files.unlink(founding_file(path))
        files.sync_folder(f"{path}/member")
