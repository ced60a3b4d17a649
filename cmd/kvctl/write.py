"""The commands that write one key: `set`, `mk`, `update`, `mkdir`, `setdir`, `updatedir`, `rm`, `rmdir`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kvctl.command import Command, Context, Failure
from kvctl.flags import NUMBER, TEXT, Flag
from kvctl.printing import print_response
from kvstore.client import Keys, Response

_TTL = Flag("ttl", "key time-to-live in seconds", NUMBER, 0, "0")

_Write = Callable[[Context, Keys, str], Awaitable[Response]]


def _writes(write: _Write, *, of_directory: bool = False) -> Callable[[Context], Awaitable[None]]:
    """Does it and prints the response; in simple format, directories are passed over in silence."""

    async def run(context: Context) -> None:
        async with await context.connect() as client:
            response = await write(context, Keys(client), _key(context))
        is_silent = of_directory or (response.action in ("delete", "compareAndDelete") and response.node.is_dir)
        if not is_silent or context.output != "simple":
            print_response(context, response)

    return run


def _key(context: Context) -> str:
    if not context.words:
        raise Failure("Error:  key required")
    return context.words[0]


def _ttl(context: Context) -> int:
    """In seconds. etcdctl counts nanoseconds in 64 bits, so that more than 292 years wrap around, mostly to none."""
    nanoseconds = (context.flags.number("ttl") * 10**9 + (1 << 63)) % (1 << 64) - (1 << 63)
    return max(nanoseconds, 0) // 10**9


async def _set(context: Context, keys: Keys, key: str) -> Response:
    return await keys.set(
        key,
        context.value(1),
        ttl=_ttl(context),
        prev_value=context.flags.text("swap-with-value"),
        prev_index=context.flags.number("swap-with-index"),
    )


async def _mk(context: Context, keys: Keys, key: str) -> Response:
    value, ttl = context.value(1), _ttl(context)
    if context.flags.switch("in-order"):
        return await keys.create_in_order(key, value, ttl=ttl)
    return await keys.set(key, value, ttl=ttl, prev_exist=False)


async def _update(context: Context, keys: Keys, key: str) -> Response:
    return await keys.set(key, context.value(1), ttl=_ttl(context), prev_exist=True)


def _directory(prev_exist: bool | None) -> _Write:
    async def write(context: Context, keys: Keys, key: str) -> Response:
        return await keys.set(key, ttl=_ttl(context), directory=True, prev_exist=prev_exist)

    return write


async def _rm(context: Context, keys: Keys, key: str) -> Response:
    return await keys.delete(
        key,
        directory=context.flags.switch("dir"),
        recursive=context.flags.switch("recursive"),
        prev_value=context.flags.text("with-value"),
        prev_index=context.flags.number("with-index"),
    )


async def _rmdir(context: Context, keys: Keys, key: str) -> Response:
    return await keys.delete(key, directory=True)


SET = Command(
    _writes(_set),
    usage="<key> <value>",
    flags=(
        _TTL,
        Flag("swap-with-value", "previous value", TEXT),
        Flag("swap-with-index", "previous index", NUMBER, 0, "0"),
    ),
    description="""Set sets the value of a key.

   When <value> begins with '-', <value> is interpreted as a flag.
   Insert '--' for workaround:

   $ set -- <key> <value>""",
    example="kvctl set --ttl 60 /services/web/port 8080",
)
MK = Command(
    _writes(_mk),
    usage="<key> <value>",
    flags=(Flag("in-order", "create in-order key under directory <key>"), _TTL),
    example="kvctl mk --in-order /queue job",
)
UPDATE = Command(_writes(_update), usage="<key> <value>", flags=(_TTL,), example="kvctl update /services/web/port 8081")
MKDIR = Command(
    _writes(_directory(False), of_directory=True), usage="<key>", flags=(_TTL,), example="kvctl mkdir /services"
)
SETDIR = Command(
    _writes(_directory(None), of_directory=True),
    usage="<key>",
    flags=(_TTL,),
    example="kvctl setdir --ttl 60 /services/web",
)
UPDATEDIR = Command(
    _writes(_directory(True), of_directory=True),
    usage="<key> <value>",
    flags=(_TTL,),
    example="kvctl updatedir --ttl 120 /services/web",
)
RM = Command(
    _writes(_rm),
    usage="<key>",
    flags=(
        Flag("dir", "removes the key if it is an empty directory or a key-value pair"),
        Flag("recursive, r", "removes the key and all child keys(if it is a directory)"),
        Flag("with-value", "previous value", TEXT),
        Flag("with-index", "previous index", NUMBER, 0, "0"),
    ),
    example="kvctl rm --recursive /services/web",
)
RMDIR = Command(_writes(_rmdir), usage="<key>", example="kvctl rmdir /services/web")
