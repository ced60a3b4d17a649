"""`import`: a tree of keys out of a file into the cluster.

Reads what `kvctl -o json ls --recursive /` or `/v2/keys/?recursive=true` prints, and a snapshot of etcd 0.4, as
etcdctl 2 did. It knows these two forms and no others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kvctl.command import BAD_ARGUMENTS, SERVER_ERROR, Command, Context, Failure
from kvctl.flags import MANY, NUMBER, TEXT, Flag
from kvctl.progress import Progress
from kvctl.streams import read_all
from kvstore.client import ClientError, Keys, KeyspaceError

#: A time to live shorter than this is raised to it: it has gone on since the file was written, and who keeps the key
#: alive must find it again.
LEAST_TTL_SECONDS = 300
MOST_CLIENTS = 1000
_NOT_A_FILE = 102
_MOST_SECONDS = (1 << 63) - 1
_NEVER = "0001-01-01"


class Entry(NamedTuple):
    """A key to write, or a directory to make; `ttl` in seconds, 0 for ever."""

    key: str
    value: str
    is_dir: bool
    ttl: int


async def _import(context: Context) -> None:
    clients = context.flags.number("c")
    if not 1 <= clients <= MOST_CLIENTS:
        raise Failure(f"-c must be from 1 to {MOST_CLIENTS}")
    path = context.flags.text("snap") or (context.words[0] if context.words else "-")
    entries = read(_content(path), path, context.flags.many("hidden"))
    directories = [entry for entry in entries if entry.is_dir]
    files = [entry for entry in entries if not entry.is_dir]
    context.say(f"starting to import snapshot {path} with {clients} clients")
    async with await context.connect() as client:
        with Progress("importing") as progress:
            try:
                await _write(Keys(client), directories, 1, progress)  # from the top: a parent's life is set first
                await _write(Keys(client), files, clients, progress)
            except ClientError as error:
                text = f"failed to copy key: {error}; what was written before stays, and the import can be run again"
                raise Failure(text, SERVER_ERROR) from None
    context.say(f"finished importing {len(files)} keys")


def _content(path: str) -> bytes:
    if path == "-":
        return read_all()
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Failure(f"cannot read snapshot file {path}: {error.strerror}", BAD_ARGUMENTS) from None


async def _write(keys: Keys, entries: list[Entry], clients: int, progress: Progress) -> None:
    """`clients` requests at a time; the first error ends it."""
    rest = iter(entries)
    done = 0

    async def work() -> None:
        nonlocal done
        for entry in rest:
            await _write_one(keys, entry)
            done += 1
            progress.show(done, len(entries))

    workers = [asyncio.ensure_future(work()) for _ in range(min(clients, len(entries)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _write_one(keys: Keys, entry: Entry) -> None:
    try:
        await keys.set(entry.key, entry.value, ttl=entry.ttl, directory=entry.is_dir)
    except KeyspaceError as error:
        if not entry.is_dir or error.code != _NOT_A_FILE:
            raise
        if entry.ttl:  # the directory was there
            await keys.set(entry.key, ttl=entry.ttl, directory=True, prev_exist=True)


def read(content: bytes, name: str, hidden: tuple[str, ...] = ()) -> list[Entry]:
    """All of a file, parents first; `hidden` names what is taken of an etcd snapshot's hidden keys. Raises Failure."""
    try:
        document = json.loads(content)
        if isinstance(document, dict) and isinstance(document.get("Root"), dict):
            return list(_of_snapshot(document["Root"], tuple(_slashed(key) for key in hidden)))
        return list(_of_node(document["node"]))
    except RecursionError:
        raise Failure(f"{name}: the tree is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(
            f"{name} is neither a tree as `kvctl -o json ls --recursive /` prints it nor a snapshot of etcd 0.4"
        ) from None


def _slashed(key: str) -> str:
    return "/" + key.strip("/")


def _of_node(node: dict[str, Any]) -> Iterator[Entry]:
    key = str(node.get("key") or "/")  # `ls` prints the root as "", the API leaves it out
    is_dir = bool(node.get("dir"))
    if key != "/":
        value = "" if is_dir else node["value"]
        if not isinstance(value, str):
            raise TypeError(value)
        yield _checked(Entry(key, value, is_dir, _raised(_ttl(key, node.get("ttl") or 0))))
    for child in node.get("nodes") or ():
        yield from _of_node(child)


def _of_snapshot(node: dict[str, Any], hidden: tuple[str, ...]) -> Iterator[Entry]:
    path = str(node["Path"])
    children = node.get("Children")
    if path != "/":
        name = path.rpartition("/")[2]
        if name.startswith("_") and not any(path == key or key.startswith(path + "/") for key in hidden):
            return
        is_dir = children is not None
        ttl = _raised(_remaining(str(node["ExpireTime"])))
        yield _checked(Entry(path, "" if is_dir else str(node["Value"]), is_dir, ttl))
    for child in (children or {}).values():
        yield from _of_snapshot(child, hidden)


def _ttl(key: str, given: object) -> int:
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST_SECONDS:
        raise Failure(f"the ttl of {key!r} must be a whole number of seconds, at most {_MOST_SECONDS}: {given!r:.40}")
    return given


def _checked(entry: Entry) -> Entry:
    for text in (entry.key, entry.value):
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can write half of a pair of surrogates
            raise Failure(f"{entry.key!r:.200} holds half a character, which is no text in UTF-8") from None
    return entry


def _remaining(expiration: str) -> int:
    if expiration.startswith(_NEVER):
        return 0
    end = datetime.fromisoformat(expiration[:19]).replace(tzinfo=UTC)
    return max(1, int((end - datetime.now(UTC)).total_seconds()))


def _raised(ttl: int) -> int:
    return max(ttl, LEAST_TTL_SECONDS) if ttl else 0


IMPORT = Command(
    _import,
    usage="[file]",
    flags=(
        Flag("snap", "Path to the valid etcd 0.4.x snapshot.", TEXT),
        Flag("hidden", "Hidden key spaces to import from snapshot", MANY),
        Flag("c", "Number of concurrent clients to import the data", NUMBER, 10, "10"),
    ),
    description="""Writes all keys of a file, or of standard input, over what is there; nothing is removed.
   A time to live of less than 300 seconds becomes 300. Users and roles are not part of the file.""",
    example="""kvctl -o json ls --recursive / > tree.json
kvctl --endpoints http://10.0.0.1:2379 import tree.json""",
)
