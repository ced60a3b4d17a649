"""Who the members are: their ids, names and URLs, as replicated state.

Raft's configuration says who votes; this says where they are and what they are called. Ids are derived the way
etcd derives them, so that the same `--initial-cluster` and token give the same ids on every member without asking
anybody. It knows no disk, no network and no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import sha1
from typing import Any, NamedTuple

from kvstore.levels import FIRST_LEVEL
from kvstore.raft.types import Change, ChangeKind, Configuration
from kvstore.settings import MAX_MEMBERS
from kvstore.wire import Announce, MembershipChange, Publish, SetLevel, UpdateMember, check_numbers, checker_of


class Member(NamedTuple):
    """One member; `name` is empty until it has started once."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    # What it announced; from level 2 on.
    incarnation: bytes = b""  # the life of its disk: it is refused with another one
    version: str = ""  # of its program
    highest_level: int = 0  # that it takes part in; 0 where it has not said


class _MemberOfLevel1(NamedTuple):
    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


_check_member = checker_of(Member)
_check_member_of_level_1 = checker_of(_MemberOfLevel1)


class MembershipError(Exception):
    """The change does not fit the members that there are; `member` is the id in question."""

    def __init__(self, message: str, member: int) -> None:
        super().__init__(message)
        self.member = member


class UnknownMember(MembershipError):
    def __init__(self, member: int) -> None:
        super().__init__(f"no such member: {member:x}", member)


class RemovedMember(MembershipError):
    def __init__(self, member: int) -> None:
        super().__init__(f"member permanently removed: {member:x}", member)


class DuplicateMember(MembershipError):
    def __init__(self, member: int) -> None:
        super().__init__(f"member {member:x} exists already", member)


class DuplicatePeerURL(MembershipError):
    def __init__(self, member: int, url: str) -> None:
        super().__init__(f"peer URL {url} belongs to member {member:x}", member)


class TooManyMembers(MembershipError):
    def __init__(self, member: int) -> None:
        super().__init__(f"a cluster has at most {MAX_MEMBERS} members", member)


class AnotherDisk(MembershipError):
    """A member's disk has one life; with another one it has forgotten its votes."""

    def __init__(self, member: int) -> None:
        super().__init__(f"member {member:x} is known with another data folder", member)


class QuorumAtRisk(MembershipError):
    """The change could leave the cluster without a quorum, so it was not even proposed."""


def member_id(peer_urls: Iterable[str], token: str, added_at: int | None = None) -> int:
    """The id of a member: etcd's, a digest of its sorted peer URLs, the cluster's token and, for a member that
    was added later, the second in which that happened (so that an id is never used twice)."""
    text = "".join(sorted(peer_urls)) + token + ("" if added_at is None else str(added_at))
    return int.from_bytes(sha1(text.encode(), usedforsecurity=False).digest()[:8], "big")


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of a cluster: etcd's, a digest of the ids of its first members."""
    octets = b"".join(member.to_bytes(8, "big") for member in sorted(member_ids))
    return int.from_bytes(sha1(octets, usedforsecurity=False).digest()[:8], "big")


class Membership:
    """The members of one cluster, the ids of those that were removed, which never come back, and the level that all
    members take part in (levels.py)."""

    def __init__(self, members: Iterable[Member] = (), removed: Iterable[int] = (), level: int = FIRST_LEVEL) -> None:
        self.level = level
        self.members: dict[int, Member] = {member.id: member for member in members}
        self.removed: set[int] = set(removed)

    @classmethod
    def initial(cls, peers: Mapping[str, tuple[str, ...]], token: str) -> Membership:
        """The members that `--initial-cluster` names: name -> peer URLs."""
        return cls(Member(member_id(urls, token), name, urls) for name, urls in peers.items())

    def configuration(self) -> Configuration:
        """The first configuration of a new cluster: everybody votes."""
        return Configuration(voters=frozenset(self.members))

    def check(self, change: MembershipChange) -> None:
        """Raises MembershipError when the change does not fit; called again at apply, because the members may
        have changed since it was proposed."""
        member = change.member
        if member in self.removed:
            raise RemovedMember(member)
        if not change.peer_urls:
            if member not in self.members:
                raise UnknownMember(member)
            return
        if member in self.members and not self._promotes(change):
            raise DuplicateMember(member)
        if member not in self.members and len(self.members) >= MAX_MEMBERS:
            raise TooManyMembers(member)
        self._check_urls(member, change.peer_urls)

    def check_quorum(self, change: MembershipChange, active: Collection[int]) -> None:
        """Raises QuorumAtRisk; etcd's rule for --strict-reconfig-check. `active`: who is up, ourselves included.

        Of the members after the change a majority must have started once, that is, have a name. All must be up when
        one is added; when one that is up is removed, a majority of those before the change must remain up. To add the
        second member is allowed all the same: there is no other way from one to two.
        """
        started = {member.id for member in self.members.values() if member.name}
        if change.peer_urls:
            if not self._is_majority(started, len(self.members) + 1) and (len(started), len(self.members)) != (1, 1):
                raise QuorumAtRisk("not enough members have started", change.member)
            if any(member not in active for member in self.members):
                raise QuorumAtRisk("another member is not up", change.member)
            return
        rest = self.members.keys() - {change.member}
        if not rest:
            raise QuorumAtRisk("the last member stays", change.member)
        if not self._is_majority(started & rest, len(rest)):
            raise QuorumAtRisk("not enough members have started", change.member)
        up = self.members.keys() & set(active)
        if change.member in up and len(up) - 1 < 1 + (len(self.members) - 1) // 2:
            raise QuorumAtRisk("not enough other members are up", change.member)

    @staticmethod
    def _is_majority(some: Collection[int], count: int) -> bool:
        return len(some) >= count // 2 + 1

    def _promotes(self, change: MembershipChange) -> bool:
        return change.changes == (Change(ChangeKind.ADD_VOTER, change.member),) and (
            change.peer_urls == self.members[change.member].peer_urls
        )

    def _check_urls(self, member: int, urls: Iterable[str]) -> None:
        wanted = set(urls)
        for other in self.members.values():
            if other.id != member and (taken := wanted.intersection(other.peer_urls)):
                raise DuplicatePeerURL(other.id, min(taken))

    def apply_change(self, change: MembershipChange) -> None:
        """Adds or removes a member. Raises MembershipError and changes nothing when it does not fit."""
        self.check(change)
        if not change.peer_urls:
            del self.members[change.member]
            self.removed.add(change.member)
        elif change.member not in self.members:
            self.members[change.member] = Member(change.member, change.name, change.peer_urls)

    def apply(self, command: Publish | UpdateMember | SetLevel | Announce) -> None:
        """Raises MembershipError and changes nothing if the member is absent, or a URL or the disk is another's."""
        if isinstance(command, SetLevel):
            self.level = max(self.level, command.level)
            return
        member = self.members.get(command.member)
        if member is None:
            raise (RemovedMember if command.member in self.removed else UnknownMember)(command.member)
        if isinstance(command, Announce):
            if member.incarnation not in (b"", command.incarnation):
                raise AnotherDisk(member.id)
            self.members[member.id] = Member(
                member.id,
                command.name,
                member.peer_urls,
                command.client_urls,
                command.incarnation,
                command.version,
                command.highest_level,
            )
        elif isinstance(command, Publish):
            self.members[member.id] = member._replace(name=command.name, client_urls=command.client_urls)
        else:
            self._check_urls(member.id, command.peer_urls)
            self.members[member.id] = member._replace(peer_urls=command.peer_urls)

    def freeze(self) -> tuple[Any, ...]:
        """All but the level as plain tuples, in an order that is the same on every member and as the level has them."""
        members: Iterable[tuple[Any, ...]] = sorted(self.members.values())
        if self.level == FIRST_LEVEL:
            members = [member[:4] for member in members]
        return (tuple(members), tuple(sorted(self.removed)))

    @classmethod
    def restore(cls, frozen: tuple[Any, ...], level: int = FIRST_LEVEL) -> Membership:
        """The inverse of `freeze` at that level. Raises WireError, TypeError and ValueError for what is none."""
        members, removed = frozen
        if level == FIRST_LEVEL:
            known = [Member(*_check_member_of_level_1(member)) for member in members]
        else:
            known = [_check_member(member) for member in members]
        return cls(known, check_numbers(removed), level)
