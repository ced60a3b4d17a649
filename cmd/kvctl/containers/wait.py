"""`wait`: until a key is there. The cluster may come later than we do."""

from __future__ import annotations

import asyncio

from kvctl.command import BAD_CONNECTION, Command, Context, Failure
from kvctl.containers.source import Source, Subject
from kvctl.containers.tree import Tree, clean
from kvctl.containers.words import CACHE, TIME_IS_UP, UNANSWERED, Waiting, warn
from kvctl.flags import SECONDS, TEXT, Flag


async def _wait(context: Context) -> int | None:
    if len(context.words) != 1 or context.command_line:
        raise Failure("one key is needed")
    key = clean(context.words[0])
    subject = Subject(key, "value" if context.flags.is_given("value") else "names")
    seconds = context.flags.seconds("timeout")
    source: Source | None = None
    try:
        async with asyncio.timeout(seconds or None):
            source = await Source.open(context)
            found = await _appears(context, source, subject)
    except TimeoutError:
        is_read = source is not None and subject in source.answers
        wanted = f" with the value {context.flags.text('value')!r}" if context.flags.is_given("value") else ""
        warn(context, f"{key}{wanted} did not appear within {seconds:g} s{'' if is_read else f': {UNANSWERED}'}")
        return TIME_IS_UP
    if found.value is not None:
        context.say(found.value)
    return None


async def _appears(context: Context, source: Source, subject: Subject) -> Tree:
    async with source, Waiting(f"waiting for {subject.key}"):
        try:
            await source.load([subject])
        except Failure as failure:
            if failure.status != BAD_CONNECTION:
                raise
            warn(context, f"{failure}; waiting for it")
            await source.load_patiently([subject])
        source.save()
        if found := _wanted(context, source.answers[subject]):
            return found
        async for _ in source.changes(0.0):
            if found := _wanted(context, source.answers[subject]):
                return found
    raise AssertionError("changes do not end")


def _wanted(context: Context, answer: Tree | None) -> Tree | None:
    if answer is not None and context.flags.is_given("value") and answer.value != context.flags.text("value"):
        return None
    return answer


WAIT = Command(
    _wait,
    usage="<key>",
    flags=(
        Flag("value", "wait until the key has this value", TEXT),
        Flag("timeout", "give up after so long, with status 124; 0s: never", SECONDS, 0.0, "0s"),
        CACHE,
    ),
    description="Prints the value once the key is there. A cluster that is out of reach is waited for as well.",
    example="kvctl wait --value ready --timeout 2m /services/db/state",
    is_ours=True,
)
