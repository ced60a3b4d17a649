"""What goes wrong, and when. Each fault ends by itself after a while, or with the run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

from kvstore.membership import Member, member_id
from kvstore.proposals import Outcome
from kvstore.raft.errors import ProposalRefused
from kvstore.raft.types import AppendRequest, Change, ChangeKind, Entry, EntryKind
from kvstore.store.operations import Expire
from kvstore.wire import MembershipChange, UpdateMember, pack, pack_command, stamp
from tests.sim.cluster import Cluster
from tests.sim.flags import PORT, TOKEN, FirstDay, initial, peer_url
from tests.sim.life import Life
from tests.sim.machine import EPOCH_NS, Machine
from tests.sim.network import Weather
from tests.sim.scheduler import MILLISECOND, SECOND

MOST_MEMBERS = 6
LATER_TAG = 99  # of no command and no message
_FAILING = ("datasync", "pwrite", "allocate", "create", "rename", "sync_folder", "unlink", "pread", "open")


class Faults:
    """Each public method is one fault."""

    def __init__(self, cluster: Cluster) -> None:
        self.over = False
        self._cluster = cluster
        self._plan = cluster.plan
        self._scheduler = cluster.scheduler
        self._network = cluster.network
        self._random = Random(f"faults {cluster.seed}")
        self._hunted = 0  # the term of the leader that is hunted
        self._commit = 0  # what was committed when it was elected
        self._intent = ""
        self._next_member = cluster.plan.size + 1
        self._pause()
        self._ports = PORT
        if cluster.plan.changes:
            self._pause_changes()
        if cluster.plan.mixed:
            self._scheduler.after(self._random.randrange(cluster.plan.duration), self._upgrade)
        if cluster.plan.lost_disks:
            self._pause_losses()
        if cluster.plan.moves:
            self._pause_moves()
        if cluster.plan.odd_messages:
            self._odd = Random(f"odd messages {cluster.seed}")
            self._pause_odd()
        if "leader_hunt" in cluster.plan.faults:
            cluster.watcher = self._hunt

    def _pause(self) -> None:
        self._scheduler.after(self._random.randrange(self._plan.pause), self._strike)

    def _strike(self) -> None:
        if not self.over:
            fault = self._random.choice(self._plan.faults)
            self._tell(fault)
            getattr(self, fault)()
            self._pause()

    def _tell(self, what: str) -> None:
        self._cluster.trace.tell(self._scheduler.now, "!", what)

    # --- processes and machines -------------------------------------------------------------------------------------

    def _victim(self) -> Life | None:
        """Often the leader: there the most can go wrong."""
        lives = list(self._cluster.lives())
        leader = self._cluster.leader()
        if leader is not None and self._random.random() < 0.5:
            return leader
        return self._random.choice(lives) if lives else None

    def _start_again(self, machine: Machine) -> None:
        """Often so soon that nobody noticed."""
        longest = self._random.choice((2 * MILLISECOND, 50 * MILLISECOND, self._plan.longest_outage))
        machine.start_after(self._random.randrange(longest))

    def power_cut(self) -> None:
        life = self._victim()
        if life is None:
            return
        if self._random.random() < 0.5:
            life.machine.files.crash_in(self._random.randrange(1, 4))  # in the middle of what it writes next
        else:
            life.machine.power_cut()
            if self._plan.lost_tails and self._random.random() < 0.4:
                self._lose_tail(life.machine)
            self._start_again(life.machine)

    def power_cut_in_mid_write(self) -> None:
        life = self._victim()
        if life is not None:
            life.machine.files.crash_in(self._random.randrange(1, 30))

    def kill(self) -> None:
        life = self._victim()
        if life is not None:
            life.machine.kill()
            self._start_again(life.machine)

    def kill_in_mid_operation(self) -> None:
        """What was written is in the page cache, and names that were not synced are there, until the power goes."""
        life = self._victim()
        if life is None:
            return
        if self._random.random() < 0.5:
            life.machine.files.kill_in(self._random.choice((1, 3, 30)))
            return
        machine, lives = life.machine, life.machine.lives
        machine.files.kill_at("sync_folder", "/snap")

        def cut() -> None:
            """A name that the life before did not sync is lost now, or stays."""
            if not self.over and machine.life is not None and machine.lives > lives:
                machine.power_cut()
                self._start_again(machine)

        self._scheduler.after(self._random.randrange(2 * SECOND), cut)

    def stop(self) -> None:
        """In good order, as far as a signal lets it: leadership is handed over first."""
        life = self._victim()
        if life is not None:
            life.enter(lambda: self._hand_over(life))

            def gone() -> None:
                if not life.over and not self.over:
                    life.machine.kill()
                    self._start_again(life.machine)

            self._scheduler.after(self._random.randrange(100 * MILLISECOND), gone)

    def leader_hunt(self) -> None:
        """Goes on through the whole run, see `_hunt`."""

    def _hunt(self, life: Life) -> None:
        """After every step of everybody: most leaders do not live long, and they die at the worst moments."""
        raft = life.node.raft
        if not raft.is_leader or self.over:
            return
        if raft.term > self._hunted:
            self._hunted, self._commit = raft.term, raft.commit
            self._intent = self._random.choice(("muffle", "muffle", "at commit", "at commit", "later", "spare"))
            self._tell(f"hunts {life.machine.name}, leader of term {raft.term}: {self._intent}")
            if self._intent == "muffle":  # what it has just begun to write is on its own disk, and nowhere else
                links = [(life.machine.id, to) for to in sorted(self._cluster.machines)]
                self._network.blocked.update(links)
                delay = self._random.randrange(30 * MILLISECOND)
                self._scheduler.after(delay, lambda: self._network.blocked.difference_update(links))
                self._scheduler.after(delay, lambda: self._shoot(life))
            elif self._intent == "later":
                self._scheduler.after(self._random.randrange(30 * MILLISECOND), lambda: self._shoot(life))
        elif self._intent == "at commit" and raft.term == self._hunted and raft.commit > self._commit:
            self._intent = "done"
            self._scheduler.after(0, lambda: self._shoot(life))  # before it can tell anyone

    def _shoot(self, life: Life) -> None:
        if not life.over and not self.over:
            life.machine.power_cut()
            life.machine.start_after(self._random.randrange(400 * MILLISECOND))

    def _lose_tail(self, machine: Machine) -> None:
        """Only while everybody else has what it promised: of a majority, one at most may forget."""
        others = [other for other in self._cluster.machines.values() if other is not machine]
        if any(other.is_owing() for other in others):
            return
        if machine.lose_tail():
            machine.owes = True

    def failing_disk(self) -> None:
        life = self._victim()
        if life is not None:
            life.machine.files.fail(self._random.choice(_FAILING))

    def full_disk(self) -> None:
        machine = self._random.choice(list(self._cluster.machines.values()))
        machine.files.room = self._random.choice((0, 100, 5_000))
        self._later(lambda: setattr(machine.files, "room", None))

    def slow_disk(self) -> None:
        machine = self._random.choice(list(self._cluster.machines.values()))
        machine.slowness = self._random.choice((5, 20))
        self._later(lambda: setattr(machine, "slowness", 1))

    def pause(self) -> None:
        """The process, or all of its machine, stands still for a while."""
        life = self._victim()
        if life is not None:
            life.busy_until = self._scheduler.now + self._random.randrange(500 * MILLISECOND)

    def clock_leap(self) -> None:
        """By hours, as where a machine was suspended or its battery is empty; now and then set right again."""
        machine = self._random.choice(list(self._cluster.machines.values()))
        leap = self._random.choice((-24, -1, 1, 24)) * 3600 * 10**9
        machine.clock_ns = self._random.choice((leap, machine.clock_ns + leap, 0))

    def clock_step(self) -> None:
        machine = self._random.choice(list(self._cluster.machines.values()))
        machine.clock_ns += self._random.choice((-3, -1, 1, 3)) * 10**9

    # --- network ----------------------------------------------------------------------------------------------------

    def partition(self) -> None:
        everybody = sorted(self._cluster.machines)
        self._random.shuffle(everybody)
        cut = self._random.randrange(len(everybody) + 1)
        self._separate(everybody[:cut], everybody[cut:], both=True)

    def isolation(self) -> None:
        life = self._victim()
        if life is not None:
            alone = life.machine.id
            self._separate([alone], [one for one in sorted(self._cluster.machines) if one != alone], both=True)

    def one_way(self) -> None:
        """Somebody is cut off from hearing, or from speaking."""
        life = self._victim()
        if life is not None:
            alone = [life.machine.id]
            others = [one for one in sorted(self._cluster.machines) if one != alone[0]]
            sides = (alone, others) if self._random.random() < 0.5 else (others, alone)
            self._separate(*sides, both=False)

    def _separate(self, left: list[int], right: list[int], both: bool) -> None:
        links = [(sender, to) for sender in left for to in right]
        if both:
            links += [(to, sender) for sender, to in links]
        self._network.blocked.update(links)
        if self._random.random() < 0.5:
            for sender, to in links:
                self._hint(to, sender)
        self._later(lambda: self._network.blocked.difference_update(links))

    def slow_link(self) -> None:
        everybody = sorted(self._cluster.machines)
        link = (self._random.choice(everybody), self._random.choice(everybody))
        self._network.slow[link] = self._random.choice((20, 100, 300)) * MILLISECOND
        self._later(lambda: self._network.slow.update({link: 0}))

    def storm(self) -> None:
        """Much is lost, repeated and overtaken for a while."""
        calm = self._plan.weather
        self._network.weather = Weather(calm.shortest, 40 * MILLISECOND, 0.1, 0.3, 0.2, calm.ordered)

        def over() -> None:
            if not self.over:
                self._network.weather = calm

        self._later(over)

    def false_hint(self) -> None:
        """A connection broke and is back, or never broke."""
        everybody = sorted(self._cluster.machines)
        leader = self._cluster.leader()
        whom = leader.machine.id if leader is not None else self._random.choice(everybody)
        for machine in everybody:
            if self._random.random() < 0.7:
                self._hint(machine, whom)

    def _hint(self, to: int, whom: int) -> None:
        life = self._cluster.machines[to].life
        if life is not None and to != whom:
            self._scheduler.after(
                self._random.randrange(5 * MILLISECOND),
                lambda: life.enter(lambda: life.node.connection_lost(whom)),
            )

    def _later(self, over: Callable[[], None]) -> None:
        self._scheduler.after(self._random.randrange(self._random.choice((100 * MILLISECOND, SECOND))), over)

    def _pause_odd(self) -> None:
        self._scheduler.after(self._odd.randrange(50 * MILLISECOND, 600 * MILLISECOND), self._send_oddly)

    def _send_oddly(self) -> None:
        """Send messages of an earlier leader with a wrong clock, or of a later version."""
        if self.over:
            return
        self._pause_odd()
        lives = [*self._cluster.lives()]
        if lives:
            life = self._odd.choice(lives)
            self._odd.choice((self._late_append, self._later_command, self._later_message))(life)

    def _late_append(self, life: Life) -> None:
        """Send an append of an earlier term. The member must refuse it and ignore its time."""
        raft = life.node.raft
        others = sorted(self._cluster.machines.keys() - {life.machine.id})
        if raft.term < 2 or not others:
            return
        ahead = self._odd.choice((-1, 1, 20)) * 3600 * 10**9
        (payload,) = stamp(life.node.now() + ahead, [pack_command(self._odd.getrandbits(62), Expire())])
        previous, term = raft.commit, raft.term - 1
        entry = Entry(previous + 1, term, EntryKind.COMMAND, payload)
        append = AppendRequest(life.machine.id, self._odd.choice(others), term, previous, 0, (entry,), 0)
        self._tell(f"{life.machine.name} gets {append}")
        life.loop.run(lambda: life.received(append))

    def _later_command(self, life: Life) -> None:
        """One with a tag that is not known here is forwarded: the leader refuses it."""
        raft = life.node.raft
        payload = pack((LATER_TAG, self._odd.getrandbits(62), b"later"))

        def propose() -> None:
            if not raft.is_leader and raft.leader:
                self._tell(f"{life.machine.name} forwards a command of a later version")
                with suppress(ProposalRefused):
                    raft.propose((payload,))

        life.enter(propose)

    def _later_message(self, life: Life) -> None:
        """One with a tag that is not known there: the connection is given up, and made again."""

        def send() -> None:
            link = life.transport._links.get(self._odd.choice(sorted(self._cluster.machines)))
            if link is not None:
                self._tell(f"{life.machine.name} sends {link.member:x} a message of a later version")
                link.send(pack((LATER_TAG, link.member, life.machine.id, life.node.raft.term)))

        life.enter(send)

    # --- what operators do ------------------------------------------------------------------------------------------

    def transfer(self) -> None:
        leader = self._cluster.leader()
        if leader is not None:
            leader.enter(lambda: self._hand_over(leader))

    def _hand_over(self, life: Life) -> None:
        if life.node.raft.is_leader:
            life.node.hand_over()

    def _pause_changes(self) -> None:
        self._scheduler.after(self._random.randrange(100 * MILLISECOND, SECOND), self._change)

    def _change(self) -> None:
        if self.over:
            return
        self._pause_changes()
        life = self._cluster.furthest()
        if life is None:
            return
        raft, membership = life.node.raft, life.node.machine.membership
        configuration = raft.configuration
        options = []
        if len(membership.members) < MOST_MEMBERS:
            options += [ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER]
        if len(configuration.voters) > 1:
            options.append(ChangeKind.REMOVE)
        promotable = sorted(configuration.learners & membership.members.keys())
        if promotable and self._random.random() < 0.6:
            member = membership.members[self._random.choice(promotable)]
            self._propose(life, ChangeKind.ADD_VOTER, member.id, member.peer_urls)
            return
        if not options:
            return
        kind = self._random.choice(options)
        if kind is ChangeKind.REMOVE:
            self._propose(life, kind, self._random.choice(sorted(membership.members)), ())
        else:
            machine = self._newcomer(life, self._next_member)
            self._next_member += 1
            self._propose(life, kind, machine.id, (machine.url,))
            self._start_when_member(machine)

    def _pause_moves(self) -> None:
        self._scheduler.after(self._random.randrange(200 * MILLISECOND, 2 * SECOND), self._move)

    def _move(self) -> None:
        """A member gets another peer URL: first the cluster is told, then its process is started there."""
        if self.over:
            return
        self._pause_moves()
        life = self._cluster.furthest()
        if life is None:
            return
        member = life.node.machine.membership.members[self._random.choice(sorted(life.node.machine.membership.members))]
        machine = self._cluster.machines[member.id]
        self._ports += 1
        url = peer_url(machine.host, self._ports)
        self._tell(f"moves {machine.name} to {url}")

        def told(outcome: Outcome) -> None:
            life.machine.tell(f"moves {machine.name} to {url} -> {outcome!r}")

        life.enter(lambda: life.node.propose(UpdateMember(member.id, (url,)), told))
        self._scheduler.after(self._random.randrange(SECOND), lambda: self._follow_move(machine))

    def _follow_move(self, machine: Machine) -> None:
        """Once the cluster knows the new URL, and perhaps much later, its process is started again with it."""
        if not self.over:
            self._cluster.align(machine)
            if self._random.random() < 0.5:
                self._scheduler.after(self._random.randrange(SECOND), lambda: self._follow_move(machine))

    def _upgrade(self) -> None:
        """One member after the other, not all of them before the faults are over."""
        if self.over:
            return
        machine = self._random.choice(list(self._cluster.machines.values()))
        machine.upgrade()
        if machine.life is not None:
            machine.kill()
            self._start_again(machine)
        self._scheduler.after(self._random.randrange(2 * SECOND), self._upgrade)

    def _pause_losses(self) -> None:
        self._scheduler.after(self._random.randrange(200 * MILLISECOND, 2 * SECOND), self._lose)

    def _lose(self) -> None:
        """A disk is lost, and its member is replaced; perhaps it is first started again under its old id, which must
        do no harm. Or a bit of a snapshot changes."""
        if self.over:
            return
        self._pause_losses()
        life = self._victim()
        if life is None or not self._cluster.operator.may_lose_a_disk():
            return
        machine = life.machine
        if self._random.random() < 0.4:
            if machine.rot():
                self._cluster.trace.saw("snapshots rotten")
            return
        self._tell(f"{machine.name} loses its disk")
        self._cluster.trace.saw("disks lost")
        machine.lose_disk()
        if self._random.random() < 0.6:
            machine.start_after(self._random.randrange(200 * MILLISECOND))
        self._cluster.operator.replace(machine)

    def _newcomer(self, life: Life, number: int) -> Machine:
        """A machine for a member that is to be added; it is told to ask some of those that there are."""
        members = life.node.machine.membership.members.values()
        url = peer_url(number)
        second = EPOCH_NS // 10**9 + self._scheduler.now // SECOND
        name = "abcdefghijklmnopqrstuvwxyz"[number - 1]
        member = Member(member_id((url,), TOKEN, second), name, (url,))
        known = [one for one in members if one.name]
        if known and self._random.random() < 0.5:
            known = [self._random.choice(known)]
        machine = Machine(self._cluster, member.id, name, FirstDay(initial([*known, member]), url, "existing"))
        machine.upgrade()
        self._cluster.machines[member.id] = machine
        return machine

    def _propose(self, life: Life, kind: ChangeKind, member: int, urls: tuple[str, ...]) -> None:
        change = MembershipChange(0, (Change(kind, member),), member, "", urls)

        def told(outcome: Outcome) -> None:
            life.machine.tell(f"{kind.name} {member} -> {outcome!r}")

        life.enter(lambda: life.node.propose_change(change, told))

    def _start_when_member(self, machine: Machine) -> None:
        """A process can only join once its peers know of it."""
        if machine.id in [member.id for member in self._cluster.members_now()]:
            machine.start_after(self._random.randrange(500 * MILLISECOND))
        elif not self.over:
            self._scheduler.after(50 * MILLISECOND, lambda: self._start_when_member(machine))
