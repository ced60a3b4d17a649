"""`get` and `ls`."""

from __future__ import annotations

from collections.abc import Iterator

from kvctl.command import BAD_ARGUMENTS, Command, Context, Failure
from kvctl.flags import Flag
from kvctl.printing import print_response
from kvstore.client import Keys, Node

_SORT = Flag("sort", "returns result in sorted order")
_QUORUM = Flag("quorum, q", "require quorum for get request")


async def _get(context: Context) -> int | None:
    async with await context.connect() as client:
        if not context.words:
            raise Failure("Error:  key required")
        response = await Keys(client).get(
            context.words[0], sort=context.flags.switch("sort"), quorum=context.flags.switch("quorum")
        )
    if response.node.is_dir:
        context.complain(f"{response.node.key}: is a directory")
        return BAD_ARGUMENTS
    print_response(context, response)
    return None


async def _ls(context: Context) -> None:
    async with await context.connect() as client:
        response = await Keys(client).get(
            context.words[0] if context.words else "/",
            sort=context.flags.switch("sort"),
            recursive=context.flags.switch("recursive"),
            quorum=context.flags.switch("quorum"),
        )
    if context.output != "simple":
        print_response(context, response)
        return
    if not response.node.is_dir:
        context.say(response.node.key)
    if lines := list(_below(response.node, "/" if context.flags.switch("p") else "")):
        context.say("\n".join(lines))


def _below(node: Node, behind_directories: str) -> Iterator[str]:
    for child in node.nodes or ():
        yield child.key + (behind_directories if child.is_dir else "")
        yield from _below(child, behind_directories)


GET = Command(
    _get,
    usage="<key>",
    flags=(_SORT, _QUORUM),
    example="kvctl get --quorum /services/web/port",
)
LS = Command(
    _ls,
    usage="[key]",
    flags=(
        _SORT,
        Flag("recursive, r", "returns all key names recursively for the given path"),
        Flag("p", "append slash (/) to directories"),
        _QUORUM,
    ),
    example="kvctl ls --recursive -p /services",
)
