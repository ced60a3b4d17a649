"""`cluster-health`: asks every member whether it can reach a majority."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence

from kvctl.command import NOT_HEALTHY, SERVER_ERROR, Command, Context, Failure
from kvctl.flags import Flag
from kvstore.client import Client, ClientError
from kvstore.client.client import Request
from kvstore.client.endpoint import parse
from kvstore.client.members import Member, Members

#: The pause between two rounds with --forever.
PAUSE_SECONDS = 10.0


async def _cluster_health(context: Context) -> int:
    forever = context.flags.switch("forever")
    if forever:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, os._exit, 0)
    async with context.client() as client:
        if context.options.switch("debug"):
            context.complain(f"Cluster-Endpoints: {', '.join(client.endpoints)}")
        try:
            members = await Members(client).all()
        except ClientError as error:
            context.say("cluster may be unhealthy: failed to list members")
            raise Failure(context.words_for(error), SERVER_ERROR) from None
        while True:
            healthy = await _round(context, client, members)
            if not forever:
                return 0 if healthy == len(members) else NOT_HEALTHY
            context.say("\nnext check after 10 second...\n")
            await asyncio.sleep(PAUSE_SECONDS)


async def _round(context: Context, client: Client, members: Sequence[Member]) -> int:
    """How many members are healthy."""
    answers = await asyncio.gather(*(_ask(client, member) for member in members))
    for lines, _ in answers:
        context.say("\n".join(lines))
    healthy = sum(is_healthy for _, is_healthy in answers)
    if healthy == len(members):
        context.say("cluster is healthy")
    else:
        context.say("cluster is degraded" if healthy else "cluster is unavailable")
    return healthy


async def _ask(client: Client, member: Member) -> tuple[list[str], bool]:
    """What is to be said of one member."""
    if not member.client_urls:
        return [f"member {member.id} is unreachable: no available published client urls"], False
    lines = []
    for url in member.client_urls:
        try:
            is_healthy = await _health(client, url)
        except (ClientError, ValueError) as error:
            lines.append(f"failed to check the health of member {member.id} on {url}: {_get(url, error)}")
            continue
        word = "healthy" if is_healthy else "unhealthy"
        return [*lines, f"member {member.id} is {word}: got {word} result from {url}"], is_healthy
    urls = " ".join(member.client_urls)
    return [*lines, f"member {member.id} is unreachable: [{urls}] are all unreachable"], False


async def _health(client: Client, url: str) -> bool:
    """Raises ClientError, ValueError. The answer may be 503, with a body like any other."""
    answer = await client.ask_anyhow(parse(url), Request("GET", "/health"))
    document = json.loads(answer.body)
    return isinstance(document, dict) and document.get("health") in ("true", True)


def _get(url: str, error: Exception) -> str:
    return f'Get "{url}/health": {error}' if isinstance(error, ClientError) else str(error)


CLUSTER_HEALTH = Command(
    _cluster_health,
    usage=" ",
    flags=(Flag("forever, f", "forever check the health every 10 second until CTRL+C"),),
    example="kvctl cluster-health",
)
