"""One whole cluster of one seed: its machines, network, clients and faults, from the first start to the last word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from kvstore.hello import Verdict
from kvstore.joining import Told
from kvstore.levels import HIGHEST_LEVEL
from kvstore.membership import Member, Membership, cluster_id
from kvstore.proposals import Outcome
from kvstore.raft.core import Raft
from kvstore.store.errors import KeyNotFound
from tests.sim.checker import Checker
from tests.sim.clients import KEYS, QUEUE, Client
from tests.sim.flags import TOKEN, FirstDay, initial, peer_url
from tests.sim.history import History
from tests.sim.life import Life
from tests.sim.machine import Machine
from tests.sim.memory import check_memory
from tests.sim.network import Network
from tests.sim.operator import Operator
from tests.sim.plan import Plan
from tests.sim.probe import ANSWERS, Probe
from tests.sim.scheduler import MILLISECOND, SECOND, Scheduler
from tests.sim.trace import Trace, Violation
from tests.sim.watching import Events, Watching
from tests.sim.wires import Wires

CONVERGES = "a healed cluster converges"
WELCOME = "a member that lost nothing is welcome"
HEALING = 60 * SECOND  # how long that may take
LOOK_EVERY = 100 * MILLISECOND
WATCHERS = 2


class Cluster:
    def __init__(self, seed: int, plan: Plan, trace: Trace) -> None:
        self.seed = seed
        self.plan = plan
        self.trace = trace
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, Random(f"network {seed}"), plan.weather)
        self.wires = Wires(self.scheduler, self.network)
        self.checker = Checker(trace, self._cores, lambda: self.scheduler.now * 1000)
        self.history = History(trace)
        self.events = Events(trace)
        peers = {name: (peer_url(host),) for host, name in enumerate("abcde"[: plan.size], 1)}
        founders = Membership.initial(peers, TOKEN).members
        self.cluster_id = cluster_id(founders)
        first = initial(founders.values())
        self.machines = {
            member.id: Machine(self, member.id, member.name, FirstDay(first, member.peer_urls[0], "new"))
            for member in founders.values()
        }
        self.operator = Operator(self)
        self.watcher: Callable[[Life], None] | None = None  # called after each step of each member
        self.random = Random(f"cluster {seed}")
        self.clients = [
            Client(number, Random(f"client {seed} {number}"), self.scheduler, self.history, plan, self._somebody)
            for number in range(plan.clients)
        ]
        self.watching = [
            Watching(
                f"watcher {number}",
                Random(f"watcher {seed} {number}"),
                self.scheduler,
                self.events,
                plan.options.event_history,
                lambda: list(self.lives()),
            )
            for number in range(WATCHERS)
        ]
        for machine in self.machines.values():
            if self.random.random() < 0.2:
                machine.files.crash_in(self.random.randrange(1, 40))
            machine.start_after(self.random.randrange(100 * MILLISECOND))

    # --- who is there -----------------------------------------------------------------------------------------------

    def lives(self) -> Iterator[Life]:
        for machine in self.machines.values():
            if machine.life is not None:
                yield machine.life

    def _cores(self) -> Iterator[Raft]:
        return (life.node.raft for life in self.lives())

    def leader(self) -> Life | None:
        """The one of the highest term."""
        leading = [life for life in self.lives() if life.node.raft.is_leader]
        return max(leading, key=lambda life: life.node.raft.term, default=None)

    def furthest(self) -> Life | None:
        """Who knows most."""
        return max(self.lives(), key=lambda life: life.node.raft.applied, default=None)

    def members_now(self) -> tuple[Member, ...]:
        """The members as the one that knows most has them."""
        life = self.furthest()
        return tuple(life.node.machine.membership.members.values()) if life is not None else ()

    def stepped(self, life: Life) -> None:
        life.witness.look()
        self.checker.observe(life.view, life.node)
        if self.watcher is not None:
            self.watcher(life)

    def _somebody(self) -> Life | None:
        lives = list(self.lives())
        return self.random.choice(lives) if lives else None

    def down(self, machine: Machine) -> None:
        """A process ended by itself; somebody starts it again."""
        machine.start_after(self.random.randrange(self.plan.longest_outage))

    def ask(self, machine: Machine, url: str) -> Told:
        """What the member that listens there answers one that joins. OSError if none does."""
        life = self.wires.listens(url)
        if not isinstance(life, Life) or not self.network.is_open((machine.id, life.number)):
            raise ConnectionRefusedError
        if life.busy_until > self.scheduler.now:
            raise TimeoutError
        membership = life.node.machine.membership
        return Told(
            life.opened.identity.cluster_id,
            sorted(membership.members.values()),
            life.node.raft.applied,
            frozenset(membership.removed),
        )

    def align(self, machine: Machine) -> bool:
        """Start the process of `machine` where the cluster has it; whether it was elsewhere."""
        member = next((one for one in self.members_now() if one.id == machine.id), None)
        if member is None or machine.url in member.peer_urls:
            return False
        machine.move(member.peer_urls[0])
        self.trace.saw("members moved")
        machine.tell(f"is started again on {machine.url}")
        if machine.life is not None:
            machine.kill()
        machine.start_after(self.random.randrange(200 * MILLISECOND))
        return True

    def was_refused(self, machine: Machine, verdict: Verdict) -> None:
        """The server stops for good: an operator reads why."""
        if machine.emptied:
            machine.retire()
            return
        if verdict is not Verdict.REMOVED or not any(
            machine.id in life.node.machine.membership.removed for life in self.lives()
        ):
            raise Violation(WELCOME, f"{machine.name} ({machine.id:x}) is refused: {verdict.value}")
        machine.retire()

    # --- the end ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything works again; the cluster must agree, and then the clients' story is checked."""
        self.network.heal()
        for client in self.clients:
            client.stopped = True
        for machine in self.machines.values():
            machine.slowness = 1
            if machine.level < HIGHEST_LEVEL:
                machine.upgrade()
                machine.kill()
            if not (machine.emptied or machine.rotten):
                machine.retired = False  # for those that were removed when nobody could hear of it
            machine.files.heal()
            if machine.life is None:
                machine.start_after(self.random.randrange(SECOND))
        self.run_until(self.is_quiet, "no leader, or not everybody holds the same log")
        self._write_everywhere()
        self.run_until(self.is_quiet, "not everybody holds the same log after the last writes")
        probe = Probe(self)
        self._check_level()
        probe.run()
        probe.check_snapshots()
        probe.rot()
        for call in self.history.calls:  # they were asked before the probe, whose keys live longer than a request waits
            if call.answer is None:
                raise Violation(ANSWERS, f"{call} is not answered")
        self.run_until(self.is_quiet, "not everybody holds the same log after the clocks were changed")
        self._compare()
        for watching in self.watching:
            watching.finish(self.random.choice([*self._members()]).node.machine.store)
        check_memory(life.node for life in self.lives())
        for machine in self.machines.values():
            machine.check_folder()

    def run_until(self, condition: Callable[[], bool], what: str, within: int = HEALING) -> None:
        deadline = self.scheduler.now + within
        while not condition():
            if self.scheduler.now >= deadline:
                raise Violation(CONVERGES, f"{what}: {self._report()}")
            self.scheduler.run_until(self.scheduler.now + LOOK_EVERY)

    def is_quiet(self) -> bool:
        """One leader, whose log everybody holds and has applied."""
        is_moving = sum(self.align(machine) for machine in self.machines.values()) > 0
        leader = self.leader()
        if leader is None or is_moving or self.operator.is_busy:
            return False
        raft = leader.node.raft
        if raft.applied != raft.last_index or raft.configuration.is_joint or raft.applied < raft.term_start:
            return False
        for member in sorted(raft.configuration.members):
            life = self.machines[member].life
            if life is None or life.node.raft.applied != raft.applied or life.node.raft.leader != raft.member_id:
                return False
        return all(life.lanes.is_idle for life in self.lives())

    def _write_everywhere(self) -> None:
        """Every member still takes writes and quorum reads; the reads are the last lines of the history."""
        leader = self.leader()
        assert leader is not None
        told: list[Outcome] = []
        wanted = 0
        client = self.clients[0]
        for member in sorted(leader.node.raft.configuration.members):
            life = self.machines[member].life
            assert life is not None
            for key in KEYS:
                client.read(life, key)
            client.write(life, told.append)
            wanted += 1
        self.run_until(lambda: len(told) == wanted, "the last writes are not answered")
        self.run_until(lambda: all(call.answer for call in self.history.calls[-3:]), "the last reads are not answered")

    def _check_level(self) -> None:
        """All members take part in the highest level, so the cluster is there."""
        leader = self.leader()
        assert leader is not None

        def is_raised() -> bool:
            return self.is_quiet() and all(life.node.machine.level == HIGHEST_LEVEL for life in self._members())

        self.run_until(is_raised, f"the level stays at {leader.node.machine.level}")

    def _members(self) -> Iterator[Life]:
        leader = self.leader()
        if leader is not None:
            for member in sorted(leader.node.raft.configuration.members):
                life = self.machines[member].life
                if life is not None:
                    yield life

    def _compare(self) -> None:
        leader = self.leader()
        assert leader is not None
        for member in sorted(leader.node.raft.configuration.members):
            life = self.machines[member].life
            assert life is not None
            self.checker.compare(life.node)
        store = leader.node.machine.store
        try:
            nodes = store.get(QUEUE, recursive=True, sort=False, now=leader.node.now()).nodes or ()
        except KeyNotFound:
            nodes = ()
        self.history.check(self.checker.written, [node.value for node in nodes if node.value is not None])

    def _report(self) -> str:
        lines = []
        for machine in self.machines.values():
            if machine.life is None:
                lines.append(f"{machine.name}: {'retired' if machine.retired else 'down'}")
                continue
            raft = machine.life.node.raft
            lines.append(
                f"{machine.name}: {raft.role.name} of term {raft.term}, leader {raft.leader}, applied {raft.applied}, "
                f"committed {raft.commit}, last {raft.last_index}, {raft.configuration}, owes {raft.promised}"
            )
        return "\n    ".join(["", *lines])
