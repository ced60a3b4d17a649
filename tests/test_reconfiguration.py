"""What a change of members waits for, for how long, and who is asked about the quorum."""

from __future__ import annotations

import pytest

from kvstore.membership import QuorumAtRisk, RemovedMember, UnknownMember
from kvstore.proposals import Unavailable
from kvstore.reconfiguration import Reconfiguration
from tests.http.backend import LocalBackend


async def test_a_change_that_never_gets_its_turn_is_given_up() -> None:
    backend = LocalBackend()
    backend.changes_pending = 1 << 60
    reconfiguration = Reconfiguration(backend, "token", None, limit_seconds=0.05, pause_seconds=0.001)
    with pytest.raises(Unavailable):
        await reconfiguration.add(("http://b:1",))
    assert len(backend.membership.members) == 1


async def test_a_change_that_is_never_decided_is_given_up() -> None:
    backend = LocalBackend()
    reconfiguration = Reconfiguration(backend, "token", None, limit_seconds=0.05, pause_seconds=0.001)
    barrier = backend.read_barrier()
    assert barrier.done()
    backend.read_barrier = lambda: barrier  # type: ignore[method-assign]
    backend.is_stuck = True
    with pytest.raises(Unavailable):
        await reconfiguration.remove(backend.member)


async def test_quorums_are_looked_at_only_where_that_is_wanted() -> None:
    backend = LocalBackend()
    strict = Reconfiguration(backend, "token", lambda: {backend.member}, limit_seconds=5.0, pause_seconds=0.001)
    lax = Reconfiguration(backend, "token", None, limit_seconds=5.0, pause_seconds=0.001)
    await strict.add(("http://b:1",))
    with pytest.raises(QuorumAtRisk):
        await strict.add(("http://c:1",))
    third = await lax.add(("http://c:1",))
    assert (third.name, third.peer_urls, third.client_urls) == ("", ("http://c:1",), ())
    assert set(backend.membership.members) >= {backend.member, third.id}


async def test_a_removed_member_is_gone_for_ever() -> None:
    backend = LocalBackend()
    reconfiguration = Reconfiguration(backend, "token", None, limit_seconds=5.0, pause_seconds=0.001)
    added = await reconfiguration.add(("http://b:1",))
    await reconfiguration.remove(added.id)
    with pytest.raises(RemovedMember):
        await reconfiguration.remove(added.id)
    with pytest.raises(UnknownMember):
        await reconfiguration.remove(12345)
