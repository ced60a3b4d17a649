"""Changes of the members, from somebody's wish to what the cluster decided.

Each change first waits until this member knows everything that was decided before (ReadIndex), so that unknown,
removed and doubled members are found on every member alike, and waits for its turn while another change is under way.
Knows no HTTP; who may ask is decided above.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol

from kvstore import logs
from kvstore.membership import Member, Membership, QuorumAtRisk, member_id
from kvstore.proposals import ChangePending, Unavailable
from kvstore.raft.types import Change, ChangeKind
from kvstore.wire import MembershipChange, UpdateMember

log = logs.get("members")


class Proposer(Protocol):
    """The member that proposes. Both fail with MembershipError, or Unavailable after the member's own limit."""

    @property
    def membership(self) -> Membership: ...

    def read_barrier(self) -> asyncio.Future[None]: ...

    def propose_change(self, change: MembershipChange) -> asyncio.Future[Any]: ...

    def execute(self, command: UpdateMember) -> asyncio.Future[Any]: ...


class Reconfiguration:
    """`active` gives the members that are up; None: quorums are nobody's concern (--strict-reconfig-check=false)."""

    def __init__(
        self,
        proposer: Proposer,
        token: str,
        active: Callable[[], Collection[int]] | None,
        limit_seconds: float,
        pause_seconds: float,
    ) -> None:
        self._proposer = proposer
        self._token = token
        self._active = active
        self._limit = limit_seconds
        self._pause = pause_seconds

    async def add(self, peer_urls: tuple[str, ...]) -> Member:
        """A voter that has not started yet. Raises MembershipError, Unavailable."""

        def change() -> MembershipChange:
            member = self._fresh_id(peer_urls)
            return MembershipChange(0, (Change(ChangeKind.ADD_VOTER, member),), member, "", peer_urls)

        made = await self._change(change)
        return Member(made.member, "", peer_urls)

    async def remove(self, member: int) -> None:
        """For ever: its id is never used again. Raises MembershipError, Unavailable."""
        await self._change(lambda: MembershipChange(0, (Change(ChangeKind.REMOVE, member),), member, "", ()))

    async def update(self, member: int, peer_urls: tuple[str, ...]) -> None:
        """Where the others reach it from now on. Raises MembershipError, Unavailable."""
        await self._proposer.execute(UpdateMember(member, peer_urls))
        log.info("a member has new peer URLs", member=f"{member:x}", urls=",".join(peer_urls))

    def _fresh_id(self, peer_urls: tuple[str, ...]) -> int:
        membership = self._proposer.membership
        second = int(time.time())
        while (found := member_id(peer_urls, self._token, second)) in membership.members or (
            found in membership.removed
        ):
            second += 1
        return found

    async def _change(self, make: Callable[[], MembershipChange]) -> MembershipChange:
        deadline = asyncio.get_running_loop().time() + self._limit
        while True:
            await self._proposer.read_barrier()
            change = make()
            self._check(change)
            try:
                await self._within(deadline, self._proposer.propose_change(change))
            except ChangePending:
                await self._within(deadline, asyncio.sleep(self._pause))
                continue
            what = "was added" if change.peer_urls else "was removed"
            log.info(f"a member {what}", member=f"{change.member:x}", urls=",".join(change.peer_urls))
            return change

    def _check(self, change: MembershipChange) -> None:
        membership = self._proposer.membership
        membership.check(change)
        if self._active is None:
            return
        try:
            membership.check_quorum(change, self._active())
        except QuorumAtRisk as risk:
            log.warning("refuses a change of members that may cost the quorum", member=f"{risk.member:x}", why=risk)
            raise

    async def _within(self, deadline: float, pending: Awaitable[Any]) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await pending
        except TimeoutError:
            raise Unavailable from None
