"""One machine of the cluster, its disk and its clock, and the lives that a process lives on it.

A life is the real driver over the real disk code. It ends without a word: by a power cut, a kill or a failing disk.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

from kvstore import bootstrap
from kvstore.apply import StateMachine
from kvstore.bootstrap import Opened, StartError
from kvstore.disk import NodeDisk
from kvstore.membership import Member, Membership, cluster_id
from kvstore.node import Node
from kvstore.raft.types import Configuration, TimeoutNow
from kvstore.replicated_clock import ReplicatedClock
from kvstore.storage.errors import DiskFailed, Refused, StorageError
from kvstore.storage.folder import DataFolder, default_wal_folder
from kvstore.storage.layout import INCARNATION_BYTES, Identity
from kvstore.storage.replay import segment_names
from kvstore.storage.scan import Ending, Scan, ending, scan
from kvstore.store.store import Store
from kvstore.wire import MessagePacker, PeerMessage, SnapshotAck
from tests.sim.disk import SimCrash, SimFiles
from tests.sim.lanes import SimLanes
from tests.sim.plan import TICK
from tests.sim.scheduler import MILLISECOND
from tests.sim.trace import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

HOME = "/home"
EPOCH_NS = 1_700_000_000 * 10**9
FAREWELL = 300 * MILLISECOND  # as the transport's, with its shorter elections
CATCH_UP_TICKS = 3  # after a pause, as the server does it
STARTS = "a folder that a crash left can be opened"


class Machine:
    """`life` is None while no process runs; `retired` ones were removed from the cluster and never run again."""

    def __init__(self, cluster: Cluster, member: Member, founders: tuple[Member, ...]) -> None:
        """`founders` are the members of a new cluster; empty for a member that joins one."""
        self.cluster = cluster
        self.id = member.id
        self.name = member.name
        self.random = Random(f"machine {cluster.seed} {member.id}")
        self.files = SimFiles(Random(f"disk {cluster.seed} {member.id}"))
        self.life: Life | None = None
        self.retired = False
        self.lives = 0
        self.owes = False  # its log lost what it had promised, and it may not hold that again yet
        self.slowness = 1  # of the disk
        self.clock_ns = self.random.randint(-2, 2) * 10**8 if cluster.plan.size > 1 else 0
        self._founders = founders
        self._starting = False

    # --- up and down ------------------------------------------------------------------------------------------------

    def start_after(self, delay: int) -> None:
        if not self._starting:
            self._starting = True
            self.cluster.scheduler.after(delay, self._start)

    def _start(self) -> None:
        self._starting = False
        if self.life is not None or self.retired:
            return
        try:
            folder = DataFolder.open(self.files, HOME, holder="simulator")
            if folder.identity is None and not self._founders and not self._is_expected():
                folder.close()  # the members that there are do not know it, or nobody answers
                self.start_after(50 * MILLISECOND)
                return
            opened = self._open(folder)
        except SimCrash:
            self.files.crash()
            self.start_after(self.random.randrange(200 * MILLISECOND))
        except DiskFailed as problem:
            self.tell(f"cannot start: {problem}")
            self.files.stop()
            self.start_after(self.random.randrange(200 * MILLISECOND))
        except (Refused, StartError) as problem:
            raise Violation(STARTS, f"member {self.name}: {problem}") from problem
        else:
            self.lives += 1
            self.life = Life(self, opened)

    def _open(self, folder: DataFolder) -> Opened:
        plan = self.cluster.plan
        if folder.identity is not None:
            self._look_at_tail()
            opened = bootstrap.reopen(folder, plan.options.event_history, plan.segment_bytes)
            if self.cluster.trace.is_on:
                last = opened.entries[-1].index if opened.entries else 0
                self.tell(
                    f"reads its disk: {opened.hard_state}, snapshot at {opened.snapshot and opened.snapshot.index}, "
                    f"log up to {last}, owes {opened.promised}"
                )
            return opened
        incarnation = self.random.randbytes(INCARNATION_BYTES)
        if self._founders:
            machine = StateMachine(Store(plan.options.event_history), Membership(self._founders))
            return bootstrap.create_member(self.files, folder, self.name, machine, incarnation, plan.segment_bytes)
        identity = Identity(self.cluster.cluster_id, self.id, incarnation)
        members = self.cluster.members_now()
        return bootstrap.join_member(
            self.files, folder, identity, members, Store(plan.options.event_history), plan.segment_bytes
        )

    def _is_expected(self) -> bool:
        return self.id in [member.id for member in self.cluster.members_now()]

    def _look_at_tail(self) -> None:
        with suppress(StorageError, OSError):  # whoever opens it will say so
            if ending(self._last_segment()) is Ending.TORN:
                self.cluster.trace.saw("torn tails cut")

    def _last_segment(self) -> Scan:
        folder = default_wal_folder(HOME)
        return scan(self.files, folder, segment_names(self.files, folder)[-1])

    def power_cut(self) -> None:
        """What was not synced is at the mercy of chance."""
        self._end("loses power")
        self.files.crash()

    def kill(self) -> None:
        """The machine lives on, and what was written will reach the disk in the end."""
        self._end("is killed")
        self.files.stop()

    def retire(self) -> None:
        self._end("was removed and stops")
        self.files.stop()
        self.retired = True

    def _end(self, why: str) -> None:
        if self.life is not None:
            life, self.life = self.life, None
            self.tell(why)
            life.end()

    # --- what it has ------------------------------------------------------------------------------------------------

    def clock(self) -> int:
        """The wall clock, in nanoseconds since the epoch."""
        return EPOCH_NS + self.cluster.scheduler.now * 1000 + self.clock_ns

    def monotonic(self) -> int:
        """True time, in nanoseconds."""
        return self.cluster.scheduler.now * 1000

    def sync_time(self) -> int:
        shortest, longest = self.cluster.plan.sync
        return self.random.randint(shortest, longest) * self.slowness

    def lose_tail(self) -> bool:
        """Zeros take the place of records that were durable, as after a damage that looks like a crash. False: there
        is nothing that could be lost so."""
        assert self.life is None
        found = self._last_segment()
        if found.next_sequence or ending(found) is Ending.LOST:
            return False
        offsets = [one.offset for one in found.records]
        offsets = [at for at in offsets if found.birth.records_end <= at < found.watermark.durable.offset]
        if not offsets:
            return False
        cut = self.random.choice(offsets)
        self.files.content(found.path)[cut : found.filled] = bytes(found.filled - cut)
        self.tell(f"loses what was durable from offset {cut} to {found.filled} of {found.path}")
        return True

    def is_owing(self) -> bool:
        """Whether it may still lack what it promised."""
        if self.life is not None:
            self.owes = self.life.node.raft.lost_promise
        return self.owes

    def tell(self, what: str) -> None:
        self.cluster.trace.tell(self.cluster.scheduler.now, self.name, what)


class Life:
    """A process. Satisfies the driver's `Network`."""

    def __init__(self, machine: Machine, opened: Opened) -> None:
        cluster = machine.cluster
        plan = cluster.plan
        self.machine = machine
        self.over = False
        self.busy_until = 0  # a process that is paused, as by a long stall of its machine
        self._cluster = cluster
        self._scheduler = cluster.scheduler
        self._known: frozenset[int] = frozenset()
        self._farewells: dict[int, int] = {}  # until when a removed member is still talked with
        self._packer = MessagePacker()
        self._flushing = False
        self._lost: list[Callable[[], None]] = []  # of the clients that asked
        self._tick = TICK + machine.random.randint(-TICK // 12, TICK // 12)
        self.opened = opened
        random = Random(f"life {cluster.seed} {machine.id} {machine.lives}")
        self.view = cluster.checker.begins(machine.id, opened)
        self.lanes = SimLanes(cluster.scheduler, machine.random, machine.sync_time, self.enter, self._broken)
        self.node = Node(
            opened.raft(plan.config, random),
            opened.machine,
            NodeDisk(
                opened.wal,
                opened.snapshots,
                self.lanes,
                plan.options.event_history,
                plan.max_wals,
                plan.max_snapshots,
            ),
            self,
            ReplicatedClock(machine.clock, machine.monotonic),
            random,
            plan.options,
            opened.snapshot,
        )
        machine.tell(f"starts in term {self.node.raft.term}")
        self.enter(self.node.start)
        self._scheduler.after(machine.random.randrange(self._tick), self._ticks)

    # --- events -----------------------------------------------------------------------------------------------------

    def enter(self, call: Callable[[], None]) -> None:
        """An event of this process: now, or as soon as it runs again; a flush follows, as in a turn of the loop."""
        if self.over:
            return
        if self.busy_until > self._scheduler.now:
            self._scheduler.at(self.busy_until, lambda: self.enter(call))
            return
        call()
        self._cluster.stepped(self)
        if not self._flushing:
            self._flushing = True
            self._scheduler.after(self.machine.random.randrange(200), self._flush)

    def _flush(self) -> None:
        if self.over:
            return
        if self.busy_until > self._scheduler.now:
            self._scheduler.at(self.busy_until, self._flush)
            return
        self._flushing = False
        more = self.node.flush()
        self._cluster.stepped(self)
        if self.node.removed:
            self.machine.retire()
        elif more:
            self.enter(lambda: None)

    def _ticks(self) -> None:
        if self.over:
            return
        late = 0
        if self.busy_until > self._scheduler.now:
            late = min(CATCH_UP_TICKS, (self.busy_until - self._scheduler.now) // self._tick)
        for _ in range(1 + late):
            self.enter(self.node.tick)
        self._scheduler.at(max(self.busy_until, self._scheduler.now) + self._tick, self._ticks)

    def hear(self, message: PeerMessage) -> None:
        """From now on the sender can be answered, if it could not be before."""
        self._known |= {message.sender}
        self.enter(lambda: self.node.receive(message))

    def ask(self, request: Callable[[], None], lost: Callable[[], None]) -> None:
        """A client's request; `lost` is called when the process dies."""
        self._lost.append(lost)
        self.enter(request)

    # --- the driver's network ---------------------------------------------------------------------------------------

    def send(self, message: PeerMessage) -> None:
        self._cluster.checker.sends(self.node.raft, message)
        if isinstance(message, TimeoutNow):
            self._cluster.trace.saw("transfers")
        elif isinstance(message, SnapshotAck) and message.ok and message.offset:
            self._cluster.trace.saw("snapshot pieces")
        if self._cluster.trace.is_on:
            self.machine.tell(f"sends {message}")
        to = message.to
        if to in self._known or self._farewells.get(to, 0) > self._scheduler.now:
            self._cluster.network.send(self.machine.id, message.to, self._packer.pack(message))

    def flush(self) -> None:
        pass

    def members_changed(self, membership: Membership, configuration: Configuration) -> None:
        gone = membership.removed - configuration.members
        for member in self._known & gone:
            self._farewells[member] = self._scheduler.now + FAREWELL
        self._known = (self._known | membership.members.keys() | configuration.members) - gone

    # --- the end ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        self.over = True
        self.lanes.stop()
        for lost in self._lost:
            lost()

    def _broken(self, problem: Exception) -> None:
        if isinstance(problem, SimCrash):
            self.machine.power_cut()
        else:
            self.machine.tell(f"stops: {problem}")
            self._cluster.trace.saw("disk failures")
            self.machine.kill()
        self._cluster.down(self.machine)


def founding_members(names: str) -> tuple[Member, ...]:
    return tuple(joining_member(number, name) for number, name in enumerate(names, 1))


def joining_member(number: int, name: str) -> Member:
    return Member(number, name, (f"http://{name}:2380",))


def cluster_of(members: tuple[Member, ...]) -> int:
    return cluster_id(member.id for member in members)
