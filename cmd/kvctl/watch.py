"""`watch` and `exec-watch`: changes as they come, across dead members and gaps in the history."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping

from kvctl.command import Command, Context, Failure
from kvctl.flags import NUMBER, Flag
from kvctl.printing import print_response
from kvstore.client import Client, ClientError, Keys, Missed, Node, Response

_AFTER_INDEX = Flag("after-index", "watch after the given index", NUMBER, 0, "0")


async def _events(context: Context, client: Client, key: str) -> AsyncIterator[Response]:
    """Without end. What was missed in between comes as `get`s of what there is now, with a word on standard error."""

    def tell(error: ClientError) -> None:
        context.complain(f"kvctl: the watch of {key} waits for the cluster: {' '.join(str(error).split())}")

    index = context.flags.number("after-index") % (1 << 64)
    watch = Keys(client).watch(key, after_index=index, recursive=context.flags.switch("recursive"))
    watch.on_trouble = tell
    seen = None
    async for event in watch:
        if isinstance(event, Response):
            seen = event.node.modified_index
            yield event
            continue
        if seen is None and index:
            raise event.error  # whoever asks for an index must know that it cannot be had
        context.complain(
            f"kvctl: events of {key} before index {event.etcd_index} are gone from the history;"
            " what follows is what there is now, and what was removed is not known"
        )
        for response in _changed_since(event, seen or 0):
            yield response
        seen = event.etcd_index


def _changed_since(missed: Missed, index: int) -> Iterator[Response]:
    if missed.now is not None:
        for node in _files(missed.now.node):
            if node.modified_index > index:
                yield Response("get", node, None, missed.etcd_index)


def _files(node: Node) -> Iterator[Node]:
    if not node.is_dir:
        yield node
    for child in node.nodes or ():
        yield from _files(child)


def _end_on_interrupt() -> None:
    """Ctrl-C is how a watch ends: status 0."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, os._exit, 0)


async def _watch(context: Context) -> None:
    async with await context.connect() as client:
        if not context.words:
            raise Failure("Error:  key required")
        _end_on_interrupt()
        async for response in _events(context, client, context.words[0]):
            if response.node.is_dir:
                continue
            if context.flags.switch("recursive"):
                context.say(f"[{response.action}] {response.node.key}")
            print_response(context, response)
            if not context.flags.switch("forever"):
                return


async def _exec_watch(context: Context) -> None:
    async with await context.connect() as client:
        if len(context.words) < 2:
            raise Failure("Error:  key and command to exec required")
        _end_on_interrupt()
        key, command = _key_and_command(context)
        running: set[asyncio.Future[int]] = set()
        async for response in _events(context, client, key):
            if response.node.is_dir:
                context.complain(f"Ignored dir {response.node.key} change")
                continue
            child = await _start(command, {**context.environment, **_variables(response)})
            waiting = asyncio.ensure_future(child.wait())
            running.add(waiting)
            waiting.add_done_callback(running.discard)


def _key_and_command(context: Context) -> tuple[str, tuple[str, ...]]:
    """The key is in front of a `--`. Without one it is behind the command, which is etcdctl's way."""
    before, behind = context.split()
    if len(before) == 1 and behind:
        return before[0], behind
    return context.words[-1], context.words[:-1]


async def _start(command: tuple[str, ...], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """A child for each event; it may still run when the next one comes."""
    try:
        return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, env=environment)
    except FileNotFoundError:
        raise Failure(f'exec: "{command[0]}": executable file not found in $PATH') from None
    except OSError as error:
        raise Failure(f"fork/exec {command[0]}: {(error.strerror or str(error)).lower()}") from None


def _variables(response: Response) -> dict[str, str]:
    return {
        "ETCD_WATCH_ACTION": response.action,
        "ETCD_WATCH_MODIFIED_INDEX": str(response.node.modified_index),
        "ETCD_WATCH_KEY": response.node.key,
        "ETCD_WATCH_VALUE": response.node.value,
    }


WATCH = Command(
    _watch,
    usage="<key>",
    flags=(
        Flag("forever, f", "forever watch a key until CTRL+C"),
        _AFTER_INDEX,
        Flag("recursive, r", "returns all values for key and child keys"),
    ),
    example="kvctl watch --forever --recursive /services",
)
EXEC_WATCH = Command(
    _exec_watch,
    usage="<key> <command> [args...]",
    flags=(_AFTER_INDEX, Flag("recursive, r", "watch all values for key and child keys")),
    example="""kvctl exec-watch --recursive /services -- sh -c 'echo "$ETCD_WATCH_KEY is $ETCD_WATCH_VALUE"'""",
)
