"""`semaphore`: a command that at most so many machines run at once."""

from __future__ import annotations

from collections.abc import Mapping

from kvctl.command import Command, Context, Failure
from kvctl.containers.holder import FLAGS, Place, directory, hold, name
from kvctl.containers.line import Line
from kvctl.flags import NUMBER, Flag

ROOT = "/semaphores"


async def _semaphore(context: Context) -> int:
    called, limit = name(context), context.flags.number("limit")
    if limit < 1:
        raise Failure("--limit is needed: how many may go at once, 1 or more")
    return await hold(context, Place(f"the semaphore {called}", directory(ROOT, called), limit, _variables))


def _variables(line: Line) -> Mapping[str, str]:
    return {"KVCTL_SEMAPHORE_KEY": line.key, "KVCTL_SEMAPHORE_LIMIT": str(line.limit)}


SEMAPHORE = Command(
    _semaphore,
    usage="<name> -- <command> [args...]",
    flags=(Flag("limit, n", "how many may go at once; all must give the same", NUMBER), *FLAGS),
    description="""Machines go in the order in which they came. When its place is lost, the command is ended before
   another machine can have it, and the exit status is 123. Removing its key by hand also ends the command, but lets the
   next one in at once.""",
    example="kvctl semaphore updates --limit 2 --ttl 120 -- apt-get --yes upgrade",
    is_ours=True,
    runs_command=True,
)
