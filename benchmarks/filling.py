"""Writes many keys quickly: connections that each have a batch of requests under way.

A server answers the requests of one connection one after the other, so the connections are what it can do at the same
time; the batches only spare this process its turns. Used before a run, never for a figure.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import islice

import uvloop

from benchmarks.load import KEYS, LISTED, LISTS, VALUE_BYTES, value
from benchmarks.raw import HEAD_END, SUCCESS, put
from benchmarks.systems import CannotMeasure
from tests.cluster import Member

CONNECTIONS = 128
BATCH = 16  # requests that are sent at a time on one connection
SILENCE_SECONDS = 30.0  # after which the server is thought to hang
PER_DIRECTORY = 1000
SMALL_BYTES = 100
VALUES = 100  # different ones
FIRST_SMALL_KEY = "/v2/keys/small/0/0"


def fill_for_load(member: Member) -> None:
    """The keys that wrk and h2load read."""
    values = _values(random.Random(0), VALUE_BYTES)
    keys = [b"bench/%d" % number for number in range(KEYS)]
    keys += [b"lists/%d/%d" % (number, at) for number in range(LISTS) for at in range(LISTED)]
    fill(member, (put(key, values[at % VALUES]) for at, key in enumerate(keys)))


def fill_with_small_keys(member: Member, count: int) -> None:
    """`count` keys of 100 bytes, a thousand in each directory. The first is `FIRST_SMALL_KEY`."""
    values = _values(random.Random(0), SMALL_BYTES)
    fill(member, (put(b"small/%d/%d" % divmod(at, PER_DIRECTORY), values[at % VALUES]) for at in range(count)))


def fill(member: Member, requests: Iterator[bytes]) -> None:
    """Sends all requests, in no particular order. CannotMeasure when one is not answered with success."""

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(_send(member, requests))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(all_of_them())
    except ExceptionGroup as problems:
        raise CannotMeasure(f"the keys could not be written: {problems.exceptions[0]!r}") from None


async def _send(member: Member, requests: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection(member.address, member.ports.client)
    try:
        while batch := list(islice(requests, BATCH)):
            writer.write(b"".join(batch))
            heard = b""
            while heard.count(HEAD_END) < len(batch):
                async with asyncio.timeout(SILENCE_SECONDS):
                    piece = await reader.read(1 << 16)
                if not piece:
                    raise CannotMeasure(f"{member.name} closes the connection")
                heard += piece
            if heard.count(SUCCESS) != len(batch):
                raise CannotMeasure(f"{member.name} refuses a PUT: {heard[:200]!r}")
    finally:
        writer.close()


def _values(random_: random.Random, size: int) -> list[bytes]:
    return [value(random_, size).encode() for _ in range(VALUES)]
