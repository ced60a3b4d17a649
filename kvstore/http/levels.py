"""`/levels`: the level of the cluster, and of each member its program and the highest level that it takes part in.

It names the members that keep the cluster from the next level. etcd has nothing like it; `kvctl levels` shows it.
"""

from __future__ import annotations

import json

from kvstore.http.backend import Backend
from kvstore.http.reply import JSON, Answer
from kvstore.http.request import Request
from kvstore.levels import HIGHEST_LEVEL
from kvstore.raising import held_back_by


async def serve_levels(request: Request, backend: Backend) -> Answer:
    """`{"level": n, "highestLevel": n, "members": [{"id", "name", "version", "highestLevel", "announced",
    "holdsBack"}]}`.

    `announced`: this member has applied which disk the other one has. `highestLevel` of a member is 0 and its version
    empty where it is not connected and has not announced them.
    """
    numbers, membership = backend.numbers(), backend.membership
    level = membership.level
    holding = held_back_by(level, membership.members, numbers.levels) if level < HIGHEST_LEVEL else []
    members = [
        {
            "id": f"{member.id:x}",
            "name": member.name,
            "version": member.version or numbers.programs.get(member.id, ""),
            "highestLevel": numbers.levels.get(member.id, member.highest_level),
            "announced": member.incarnation != b"",
            "holdsBack": member.id in holding,
        }
        for member in sorted(membership.members.values())
    ]
    document = {"level": level, "highestLevel": HIGHEST_LEVEL, "members": members}
    return Answer(200, JSON, json.dumps(document).encode() + b"\n")
