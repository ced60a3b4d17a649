"""An operator who replaces a member whose disk is lost: remove it, add another one, start that on an empty disk.

Each step is done only once the cluster has taken the one before, however long that takes; one member at a time.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from kvstore.membership import Member, member_id
from kvstore.raft.types import Change, ChangeKind
from kvstore.wire import MembershipChange
from tests.sim.flags import TOKEN, FirstDay, initial
from tests.sim.machine import EPOCH_NS, Machine
from tests.sim.scheduler import MILLISECOND, SECOND

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

LOOK_EVERY = 200 * MILLISECOND


class Operator:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._random = Random(f"operator {cluster.seed}")
        self._machine: Machine | None = None  # the one that is being replaced
        self._next: Machine | None = None

    @property
    def is_busy(self) -> bool:
        return self._machine is not None

    def may_lose_a_disk(self) -> bool:
        """A majority must go on without it, in the configuration that all of them have."""
        leader = self._cluster.leader()
        if leader is None or self.is_busy:
            return False
        configuration, commit = leader.node.raft.configuration, leader.node.raft.commit
        running = [machine for machine in self._cluster.machines.values() if machine.life is not None]
        cores = {machine.id: machine.life.node.raft for machine in running if machine.life is not None}
        return (
            len(configuration.voters) >= 3
            and not configuration.is_joint
            and cores.keys() >= configuration.voters
            and all(
                cores[voter].configuration == configuration and cores[voter].last_index >= commit
                for voter in sorted(configuration.voters)
            )
            and not any(machine.rotten or machine.is_owing() for machine in running)
        )

    def replace(self, machine: Machine) -> None:
        if self._machine is not machine:
            assert not self.is_busy, "one disk at a time"
            self._machine, self._next = machine, None
            self._cluster.scheduler.after(self._random.randrange(2 * SECOND), self._look)

    def _look(self) -> None:
        old, new = self._machine, self._next
        assert old is not None
        life = self._cluster.leader()
        if life is not None and not life.over:
            members = life.node.machine.membership.members
            if old.id in members:
                self._propose(MembershipChange(0, (Change(ChangeKind.REMOVE, old.id),), old.id, "", ()))
            elif new is None:
                old.retire()
                self._next = self._machine_for(old, list(members.values()))
            elif new.id in members:
                new.start_after(self._random.randrange(200 * MILLISECOND))
                self._machine = None
                self._cluster.trace.saw("members replaced")
                return
            else:
                change = (Change(ChangeKind.ADD_VOTER, new.id),)
                self._propose(MembershipChange(0, change, new.id, "", (new.url,)))
        self._cluster.scheduler.after(LOOK_EVERY, self._look)

    def _propose(self, change: MembershipChange) -> None:
        life = self._cluster.leader()
        assert life is not None
        life.enter(
            lambda: life.node.propose_change(change, lambda outcome: life.machine.tell(f"{change} -> {outcome!r}"))
        )

    def _machine_for(self, old: Machine, members: list[Member]) -> Machine:
        """At the same URL, with another id."""
        second = EPOCH_NS // 10**9 + self._cluster.scheduler.now // SECOND
        name = f"{old.name}{len(self._cluster.machines)}"
        member = Member(member_id((old.url,), TOKEN, second), name, (old.url,))
        known = [one for one in members if one.name]
        self._random.shuffle(known)
        first = FirstDay(initial([*known[: self._random.choice((1, len(known)))], member]), old.url, "existing")
        machine = Machine(self._cluster, member.id, name, first)
        machine.upgrade()
        self._cluster.machines[member.id] = machine
        return machine
