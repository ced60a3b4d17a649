"""`levels`: the level of the cluster, and which member keeps it from the next one."""

from __future__ import annotations

from kvctl.command import Command, Context, Failure
from kvstore.client import ClientError
from kvstore.client.members import Members


async def _levels(context: Context) -> None:
    if context.words:
        raise Failure("No arguments accepted")
    async with await context.connect() as client:
        try:
            levels = await Members(client).levels()
        except ClientError as error:
            raise Failure(str(error)) from None
    context.say(f"cluster is at level {levels.level} of {levels.highest}")
    for member in levels.members:
        version = member.version or "unknown"
        highest = member.highest or "unknown"
        holds = " holds the level back" if member.holds_back else ""
        context.say(f"{member.id}: name={member.name} version={version} highestLevel={highest}{holds}")


LEVELS = Command(
    _levels,
    usage=" ",
    example="kvctl levels",
    description="""The level says which commands and formats the members may write. It rises once every member runs a
   version that takes part in the next one; until then they can go back to the release before.""",
)
