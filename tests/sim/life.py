"""One life of a member: a process with the real driver, the real transport and the real disk code.

It ends without a word: by a power cut, a kill, a failing disk, or because its peers refuse it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from kvstore import verdicts
from kvstore.bootstrap import Opened
from kvstore.disk import NodeDisk
from kvstore.hello import Facts, Hello, Verdict
from kvstore.levels import announced_disks
from kvstore.membership import Membership
from kvstore.node import Node
from kvstore.peer_facts import PeerFacts
from kvstore.proposals import Unavailable
from kvstore.raft.types import AppendRequest, Configuration, EntryKind, TimeoutNow
from kvstore.settings import Settings
from kvstore.store.store import Store
from kvstore.transport import Acceptor, PeerTransport
from kvstore.version import VERSION
from kvstore.wire import Announce, PeerMessage, Publish, SnapshotAck, time_of
from tests.sim.disk import SimCrash
from tests.sim.lanes import SimLanes
from tests.sim.loop import SimLoop
from tests.sim.mutants import faulty
from tests.sim.pace import WatchedClock
from tests.sim.plan import TICK
from tests.sim.planted import PlantedFault
from tests.sim.watching import Witness

if TYPE_CHECKING:
    from tests.sim.machine import Machine

CATCH_UP_TICKS = 3  # after a pause, as the server does it
PUBLISH_TICKS = 10
ANNOUNCED_SINCE = 2  # the level of `Announce`


class Life:
    """A process. Satisfies the driver's `Network` and the transport's `Receiver`."""

    def __init__(self, machine: Machine, opened: Opened, settings: Settings) -> None:
        cluster = machine.cluster
        plan = cluster.plan
        self.machine = machine
        self.settings = settings
        self.url = str(settings.listen_peer_urls[0])
        self.over = False
        self.shown = 0  # the highest index of the store that a client was shown
        self.replaced: Store | None = None  # planted: what readers are shown
        self.busy_until = 0  # a process that is paused, as by a long stall of its machine
        self.opened = opened
        self._announced_in_log = announced_disks(opened.entries)
        self._cluster = cluster
        self._scheduler = cluster.scheduler
        self._flushing = False
        self._lost: list[Callable[[], None]] = []  # of the clients that asked
        self._publishing = False
        self._tick = TICK + machine.random.randint(-TICK // 12, TICK // 12)
        random = Random(f"life {cluster.seed} {machine.id} {machine.lives}")
        self.view = cluster.checker.begins(machine.id, opened)
        self.view.level = settings.max_level
        self.view.clock = WatchedClock(machine.clock, self._monotonic)
        self.loop = SimLoop(cluster.scheduler, self, partial(cluster.wires.dial, self))
        self.lanes = SimLanes(cluster.scheduler, machine.random, machine.sync_time, self.enter, self._broken)
        self._peer_facts = PeerFacts(self.view.clock, settings.heartbeat_interval_ms, settings.election_timeout_ms)
        self.transport = PeerTransport(opened.identity, self, None, self._facts, settings.own_peer_urls)
        disk = NodeDisk(opened.wal, opened.snapshots, self.lanes, settings.event_history, *machine.keeps)
        self.node = Node(
            opened.raft(machine.config, random),
            opened.machine,
            faulty(disk, self, plan.planted),
            self,
            self.view.clock,
            random,
            machine.options._replace(highest_level=settings.max_level),
            opened.snapshot,
        )
        self.witness = Witness(machine.name, self.store, cluster.events, settings.event_history)
        machine.tell(f"starts in term {self.node.raft.term} on {self.url}")
        cluster.wires.listen(self, self.url)
        self.enter(self.node.start)
        self._scheduler.after(machine.random.randrange(self._tick), self._ticks)

    def _monotonic(self) -> int:
        by_wall = PlantedFault.TIME_FOLLOWS_WALL in self._cluster.plan.planted
        return self.machine.clock() if by_wall else self.machine.monotonic()

    # --- events -----------------------------------------------------------------------------------------------------

    def enter(self, call: Callable[[], None]) -> None:
        """An event of this process: now, or as soon as it runs again; a flush follows, as in a turn of the loop."""
        self.loop.run(lambda: self._enter(call))

    def _enter(self, call: Callable[[], None]) -> None:
        call()
        if PlantedFault.DEAF_AFTER_MOVE in self._cluster.plan.planted:
            for link in self.transport._links.values():
                link.said = ()
        self._cluster.stepped(self)
        if not self._flushing:
            self._flushing = True
            self._scheduler.after(self.machine.random.randrange(200), lambda: self.loop.run(self._flush))

    def _flush(self) -> None:
        self._flushing = False
        more = self.node.flush()
        self.transport.flush()
        self._cluster.stepped(self)
        if self.node.removed:
            self.machine.retire()
        elif more:
            self.enter(_nothing)

    def _ticks(self) -> None:
        if self.over:
            return
        late = 0
        if self.busy_until > self._scheduler.now:
            late = min(CATCH_UP_TICKS, (self.busy_until - self._scheduler.now) // self._tick)
        for _ in range(1 + late):
            self.enter(self.node.tick)
        if self.node.ticks % PUBLISH_TICKS == 0:
            self.enter(self._publish)
        self._scheduler.at(max(self.busy_until, self._scheduler.now) + self._tick, self._ticks)

    @property
    def store(self) -> Store:
        """What clients read from."""
        return self.replaced or self.node.machine.store

    def ask(self, request: Callable[[], None], lost: Callable[[], None]) -> None:
        """A client's request; `lost` is called when the process dies."""
        self._lost.append(lost)
        self.enter(request)

    def _announced(self) -> Publish | Announce:
        name, urls = self.machine.name, tuple(map(str, self.settings.advertise_client_urls))
        if self.node.machine.level < ANNOUNCED_SINCE:
            return Publish(self.machine.id, name, urls)
        incarnation = self.opened.identity.incarnation
        return Announce(self.machine.id, name, urls, incarnation, VERSION, self.settings.max_level)

    def _is_announced(self, wanted: Publish | Announce) -> bool:
        known = self.node.machine.membership.members[self.machine.id]
        if isinstance(wanted, Publish):
            return (known.name, known.client_urls) == (wanted.name, wanted.client_urls)
        return tuple(known)[1:2] + tuple(known)[3:] == tuple(wanted)[1:]

    def _publish(self) -> None:
        """Tells the cluster what it should know of this member, as the server does it, until the cluster knows."""
        if self._publishing or self.machine.id not in self.node.machine.membership.members or not self.node.has_leader:
            return
        wanted = self._announced()
        if self._is_announced(wanted):
            return
        self._publishing = True

        def told(_: object) -> None:
            self._publishing = False

        def behind(problem: Unavailable | None) -> None:
            if problem is None:
                self.node.propose(wanted, told)
            else:
                self._publishing = False

        self.node.read(behind)

    # --- the driver's network ---------------------------------------------------------------------------------------

    def send(self, message: PeerMessage) -> None:
        self._cluster.checker.sends(self.node.raft, message)
        if isinstance(message, TimeoutNow):
            self._cluster.trace.saw("transfers")
        elif isinstance(message, SnapshotAck) and message.ok and message.offset:
            self._cluster.trace.saw("snapshot pieces")
        if self._cluster.trace.is_on:
            self.machine.tell(f"sends {message}")
        self.transport.send(message)

    def flush(self) -> None:
        self.transport.flush()

    def levels(self) -> Mapping[int, int]:
        return self.transport.levels()

    def members_changed(self, membership: Membership, configuration: Configuration) -> None:
        self.transport.members_changed(membership, configuration)

    # --- the transport's receiver -----------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        return self.machine.id

    @property
    def leader(self) -> int:
        return self.node.raft.leader

    def accept(self) -> Acceptor:
        return Acceptor(self.transport, _no_http)

    def _facts(self) -> Facts:
        return self._peer_facts.ours(self.settings.max_level, VERSION)

    def examine(self, hello: Hello, done: Callable[[Verdict], None]) -> None:
        """As the server does it."""
        sender, incarnation = hello.sender, hello.incarnation
        membership = self.node.machine.membership

        def welcome(is_same: bool) -> None:
            if is_same:
                self._peer_facts.met(hello, membership.members)
            done(Verdict.WELCOME if is_same else Verdict.DISK)

        if sender in membership.removed and sender not in self.node.raft.members:
            done(Verdict.REMOVED)
            return
        folder = self.opened.folder
        member = membership.members.get(sender)
        announced = member.incarnation if member is not None else b""
        known = announced or self._announced_in_log.get(sender) or folder.pins.get(sender)
        if PlantedFault.EMPTY_DISK_WELCOMED in self._cluster.plan.planted:
            welcome(True)
        elif known is not None:
            welcome(known == incarnation)
        elif self._is_stranger(sender):
            welcome(True)
        else:
            self.lanes.log(partial(folder.pin, sender, incarnation), welcome)

    def _is_stranger(self, member: int) -> bool:
        return member not in self.node.machine.membership.members and member not in self.node.raft.members

    def received(self, message: PeerMessage) -> None:
        if self._cluster.trace.is_on:
            self.machine.tell(f"hears {message}")
        if type(message) is AppendRequest and PlantedFault.REFUSED_APPEND_SETS_TIME in self._cluster.plan.planted:
            for entry in message.entries:
                if entry.kind == EntryKind.COMMAND and entry.payload and self.view.clock is not None:
                    self.view.clock.passed(time_of(entry.payload))
        self._enter(lambda: self.node.receive(message))

    def connection_made(self, member: int) -> None:
        self._enter(lambda: self.node.connection_made(member))

    def connected(self, member: int) -> None:
        self._enter(lambda: self.node.connected(member))

    def connection_lost(self, member: int) -> None:
        self._enter(lambda: self.node.connection_lost(member))

    def refused(self, member: int, verdict: Verdict) -> None:
        self.machine.tell(f"is refused by {member:x}: {verdict.value}")
        self._cluster.trace.saw(f"refused: {verdict.value}")
        raft = self.node.raft
        members = raft.members or self.node.machine.membership.members.keys()
        counts = verdicts.agreed(raft.member_id, members, self.transport.refusals)
        if counts is not None:
            self._cluster.was_refused(self.machine, counts)

    # --- the end ----------------------------------------------------------------------------------------------------

    def end(self, at_power_cut: bool) -> None:
        self.over = True
        self.lanes.stop()
        self.loop.end()
        self._cluster.wires.end(self, at_power_cut)
        for lost in self._lost:
            lost()

    def _broken(self, problem: Exception) -> None:
        if isinstance(problem, SimCrash):
            self.machine.died(problem)
        else:
            self.machine.tell(f"stops: {problem}")
            self._cluster.trace.saw("disk failures")
            self.machine.kill()
        self._cluster.down(self.machine)


def _nothing() -> None:
    pass


def _no_http() -> asyncio.Protocol:
    raise AssertionError("members speak no HTTP here")
