"""A filled template takes the place of its file: whole, checked, with its owner and mode."""

from __future__ import annotations

import os
import shlex
import stat
from typing import NamedTuple

from kvctl.containers.resource import Ownership, Resource
from kvctl.containers.shell import run
from kvctl.containers.staged import staged

#: Of a file that was not there before.
DEFAULT_MODE = 0o644
#: A check or a reload that takes longer is killed and has failed.
MAX_COMMAND_SECONDS = 60.0


class _Now(NamedTuple):
    """As `staged` takes them."""

    mode: int
    uid: int
    gid: int


class NotPlaced(Exception):
    """The file is as it was; one line."""


async def place(resource: Resource, content: bytes) -> bool:
    """Whether the file had to be changed. Raises NotPlaced."""
    try:
        dest, before = _look(resource)
        wanted = _ownership(resource.ownership, before)
        if before == wanted and _holds(dest, content):
            return False
        with staged(dest, content, *wanted) as new:
            await _check(resource, new)
    except OSError as error:
        raise NotPlaced(f"{resource.dest} cannot be replaced and is as it was: {error.strerror}") from None
    return True


def _look(resource: Resource) -> tuple[str, _Now | None]:
    """Where the file really is (a link stays one), and what is there. Raises NotPlaced, OSError."""
    dest = os.path.realpath(resource.dest)
    try:
        found = os.stat(dest)
    except FileNotFoundError:
        return dest, None
    if not stat.S_ISREG(found.st_mode):
        raise NotPlaced(f"{resource.dest} is no file")
    return dest, _Now(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def _ownership(asked: Ownership, before: _Now | None) -> _Now:
    """What was asked for, else what the file has now, else ours."""
    mode, uid, gid = before or _Now(DEFAULT_MODE, os.geteuid(), os.getegid())
    return _Now(
        mode if asked.mode is None else asked.mode,
        uid if asked.uid is None else asked.uid,
        gid if asked.gid is None else asked.gid,
    )


def _holds(dest: str, content: bytes) -> bool:
    with open(dest, "rb") as file:
        return file.read() == content


async def _check(resource: Resource, new: str) -> None:
    if resource.check:
        command = resource.check.replace("{{.src}}", shlex.quote(new)).replace("{{ .src }}", shlex.quote(new))
        if failed := await run(command, MAX_COMMAND_SECONDS, is_shown=True):
            raise NotPlaced(f"{resource.dest} is as it was: the check of the new file failed: {failed}")
