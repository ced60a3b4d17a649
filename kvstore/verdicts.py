"""When a member that others refuse must end: what they say of it counts once enough of those that it knows say so.

One member, or a stranger that answers at an address, may be wrong or lie: its word alone stops no member of three or
more. With two members the word of the other one is enough. What the log says needs none of this. Pure: no sockets, no
clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kvstore.hello import Verdict

#: Verdicts after which a member can do nothing more under its identity.
FATAL = (Verdict.REMOVED, Verdict.DISK)


def needed(own: int, members: Collection[int]) -> int:
    """Return how many other members must say it: a majority of `members` and ourselves, or all others if those are
    fewer. 0 if there is no other member: then nothing that is said counts."""
    others = set(members) - {own}
    return min((len(others) + 1) // 2 + 1, len(others))


def agreed(own: int, members: Collection[int], said: Mapping[int, Verdict | None]) -> Verdict | None:
    """Return the verdict that counts, None while too few of `members` say one.

    `said` holds the last word of each member to our hello, None for a welcome. Both fatal verdicts count together:
    some members may not know yet that we were removed, and miss only our old disk.
    """
    words = [said.get(member) for member in set(members) - {own}]
    fatal = [word for word in words if word in FATAL]
    if not fatal or len(fatal) < needed(own, members):
        return None
    return max(FATAL, key=fatal.count)
