"""`lock`: a command that no two machines run at once."""

from __future__ import annotations

from collections.abc import Mapping

from kvctl.command import Command, Context
from kvctl.containers.holder import FLAGS, Place, directory, hold, name
from kvctl.containers.line import Line

ROOT = "/locks"


async def _lock(context: Context) -> int:
    called = name(context)
    return await hold(context, Place(f"the lock {called}", directory(ROOT, called), 1, _variables))


def _variables(line: Line) -> Mapping[str, str]:
    return {"KVCTL_LOCK_KEY": line.key, "KVCTL_LOCK_FENCE": str(line.created_index)}


LOCK = Command(
    _lock,
    usage="<name> -- <command> [args...]",
    flags=FLAGS,
    description="""The command has KVCTL_LOCK_FENCE in its environment: a number greater than that of every holder
   before. Hand it on to what the lock protects, and let that refuse smaller ones. When the lock is lost, the command is
   ended before anybody else can have it, and the exit status is 123. Removing the lock by hand also ends the command,
   but lets the next one in at once.""",
    example="kvctl lock migrate --timeout 5m -- ./migrate --all",
    is_ours=True,
    runs_command=True,
)
