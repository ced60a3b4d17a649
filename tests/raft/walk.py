"""A seeded random walk of a whole cluster: anything may happen at any moment, and every step is checked.

The network loses, repeats and reorders, disks are slow, members crash with what was not written, are cut off, take
snapshots, and the configuration changes. Nothing here knows the algorithm; Cluster.check() holds the rules.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random

from kvstore.raft.config import Config, PlantedBug
from kvstore.raft.errors import ProposalRefused

from .cluster import Cluster, Member

_STEPS = {
    "deliver": 60,
    "tick": 30,
    "rush": 12,
    "sync": 20,
    "propose": 12,
    "read": 8,
    "lose": 4,
    "repeat": 3,
    "slow": 3,
    "fast": 3,
    "crash": 2,
    "restart": 6,
    "cut": 1,
    "heal": 2,
    "hint": 2,
    "transfer": 1,
    "compact": 2,
    "change": 1,
}


# Each bug shows itself in its own weather only: a vote that is forgotten when a voter crashes between two candidates,
# counting old terms when leaders die one after the other before they could send what they had appended.
_WEATHER = {
    PlantedBug.VOTE_NOT_PERSISTED: {"deliver": 60, "duel": 2, "topple": 2, "flicker": 4, "restart": 20, "tick": 2},
    PlantedBug.COMMIT_OLD_TERM: {"deliver": 60, "topple": 12, "restart": 16, "duel": 4},
    PlantedBug.STALE_READ: _STEPS,
    PlantedBug.ACK_BEFORE_FSYNC: _STEPS | {"crash": 8, "restart": 16},
}


class Walk:
    def __init__(self, seed: int, size: int = 3, weather: PlantedBug | None = None, planted: bool = False) -> None:
        """`weather` is that of a bug, with a configuration that stays; `planted` plants the bug as well."""
        config = Config(
            election_ticks=10,
            heartbeat_ticks=2,
            stagger_ticks=1,
            max_append_bytes=1 if weather else 80,
            max_inflight=1 if weather else 4,
            max_uncommitted_bytes=1_000,
            max_entry_bytes=100,
            planted=frozenset({weather} if weather and planted else ()),
        )
        self.random = Random(seed)
        strangers = () if weather else (size + 1,)
        self.cluster = Cluster(range(1, size + 1), strangers=strangers, config=config, seed=seed)
        weights = dict(_WEATHER[weather] if weather else _STEPS)
        if weather:
            weights["change"] = 0
        self._names, self._weights = list(weights), list(weights.values())
        self._written = 0
        self._contexts = 0

    def run(self, steps: int) -> None:
        for number in range(steps):
            name = self.random.choices(self._names, self._weights)[0]
            try:
                getattr(self, f"_{name}")()
                self.cluster.pump()
            except AssertionError as error:
                error.add_note(f"at step {number}: {name}")
                raise

    def heal(self) -> None:
        """All come back, the network is whole and the disks are fast: the cluster must become one again."""
        self.cluster.cuts.clear()
        for member in self.cluster.members.values():
            member.slow_disk = False
            if member.core is None:
                member.start()
            else:
                member.sync()
        self.cluster.settle()
        self.cluster.pass_time(80)

    def _member(self) -> Member | None:
        return self.random.choice(self.cluster.up) if self.cluster.up else None

    def _deliver(self) -> None:
        network = self.cluster.network
        if network:
            # Mostly in order, sometimes not.
            position = 0 if self.random.random() < 0.7 else self.random.randrange(len(network))
            self.cluster.deliver(network.pop(position))

    def _rush(self) -> None:
        for _ in range(min(len(self.cluster.network), 8)):
            self.cluster.deliver(self.cluster.network.pop(0))

    def _lose(self) -> None:
        if self.cluster.network:
            self.cluster.lose(self.cluster.network.pop(self.random.randrange(len(self.cluster.network))))

    def _repeat(self) -> None:
        if self.cluster.network:
            self.cluster.network.append(self.random.choice(self.cluster.network))

    def _tick(self) -> None:
        member = self._member()
        if member is not None:
            for _ in range(self.random.randrange(1, 6)):
                member.raft.tick()

    def _sync(self) -> None:
        member = self._member()
        if member is not None:
            member.sync()

    def _slow(self) -> None:
        member = self._member()
        if member is not None:
            member.slow_disk = True

    def _fast(self) -> None:
        member = self._member()
        if member is not None:
            member.slow_disk = False
            member.sync()

    def _propose(self) -> None:
        member = self._member()
        if member is not None:
            self._written += 1
            payloads = [f"{self._written}.{number}".encode() for number in range(self.random.randrange(1, 4))]
            with suppress(ProposalRefused):
                member.raft.propose(payloads)

    def _read(self) -> None:
        member = self._member()
        if member is not None:
            self._contexts += 1
            self.cluster.read(member.member_id, self._contexts)

    def _crash(self) -> None:
        member = self._member()
        if member is not None:
            member.crash()

    def _restart(self) -> None:
        down = [member for member in self.cluster.members.values() if member.core is None]
        if down:
            self.random.choice(down).start()

    def _topple(self) -> None:
        """A leader dies before all it has is committed, what it sent may die with it, and the others know at once."""
        leaders = [member for member in self.cluster.up if member.raft.is_leader]
        leaders = [member for member in leaders if member.raft.commit < member.raft.last_index]
        if not leaders:
            return
        leader = self.random.choice(leaders)
        leader.sync()
        leader.crash()
        if self.random.random() < 0.5:
            self.cluster.network = [message for message in self.cluster.network if message.sender != leader.member_id]
        self._duel()

    def _duel(self) -> None:
        """Everyone has lost the connection to the leader, and two campaign at once."""
        for member in self.cluster.up:
            member.raft.leader_unreachable(member.raft.leader)
        for member in self.random.sample(self.cluster.up, min(2, len(self.cluster.up))):
            member.raft.campaign()

    def _flicker(self) -> None:
        member = self._member()
        if member is not None:
            member.crash()
            member.start()

    def _cut(self) -> None:
        first, second = self.random.sample(sorted(self.cluster.members), 2)
        self.cluster.cuts.add((first, second))
        if self.random.random() < 0.5:
            self.cluster.cuts |= {(first, other) for other in self.cluster.members}
            self.cluster.cuts |= {(other, first) for other in self.cluster.members}

    def _heal(self) -> None:
        self.cluster.cuts.clear()

    def _hint(self) -> None:
        member = self._member()
        if member is not None:
            member.raft.leader_unreachable(member.raft.leader)

    def _transfer(self) -> None:
        member = self._member()
        if member is not None:
            member.raft.transfer_leadership(self.random.choice(sorted(self.cluster.members)))

    def _compact(self) -> None:
        member = self._member()
        if member is not None:
            member.compact(self.random.randrange(4))

    def _change(self) -> None:
        member = self._member()
        if member is not None:
            words = [
                self.random.choice("++~-") + str(number)
                for number in self.random.sample(sorted(self.cluster.members), self.random.randrange(1, 3))
            ]
            with suppress(ProposalRefused):
                member.raft.propose_configuration(" ".join(words).encode())
