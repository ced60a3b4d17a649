"""One machine of the cluster, its disk, its clock and its flags; life.py has the lives that a process lives on it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from kvstore import bootstrap
from kvstore.bootstrap import Opened, StartError
from kvstore.levels import FIRST_LEVEL, HIGHEST_LEVEL
from kvstore.membership import Membership, cluster_id
from kvstore.node import NodeOptions
from kvstore.raft.config import Config
from kvstore.settings import Settings
from kvstore.storage.check import check
from kvstore.storage.errors import DiskFailed, Refused, SnapshotFailed, StorageError
from kvstore.storage.folder import DataFolder, default_wal_folder, snapshot_folder
from kvstore.storage.layout import RECORDS_AT
from kvstore.storage.records import SECTOR
from kvstore.storage.replay import segment_names
from kvstore.storage.scan import Ending, Scan, ending, scan
from tests.sim.disk import SimCrash, SimFiles, SimKill
from tests.sim.flags import TOKEN, FirstDay, first_settings, host_of, joining, later_settings, moved
from tests.sim.life import Life
from tests.sim.plan import Plan
from tests.sim.planted import PlantedFault
from tests.sim.scheduler import MILLISECOND
from tests.sim.trace import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

HOME = "/home"
SNAPSHOTS = snapshot_folder(HOME)
EPOCH_NS = 1_700_000_000 * 10**9
STARTS = "a folder that a crash left can be opened"
ROT = "`check` finds a bit that has changed"


class Machine:
    """`life` is None while no process runs; `retired` ones were removed from the cluster and never run again."""

    def __init__(self, cluster: Cluster, member: int, name: str, first: FirstDay) -> None:
        self.cluster = cluster
        self.id = member
        self.name = name
        self.first = first
        self.host = host_of(first.url)
        self.url = first.url  # where the next process listens
        self.random = Random(f"machine {cluster.seed} {name}")
        self.files = SimFiles(Random(f"disk {cluster.seed} {name}"))
        self.life: Life | None = None
        self.retired = False
        self.lives = 0
        self.owes = False  # its log lost what it had promised, and it may not hold that again yet
        #: The highest level that it takes part in; less than it could until an operator lets it.
        self.level = self.random.choice((FIRST_LEVEL, HIGHEST_LEVEL)) if cluster.plan.mixed else HIGHEST_LEVEL
        self.slowness = 1  # of the disk
        self.config, self.options, self.keeps = _own_flags(cluster.plan, self.random)
        self.clock_ns = self.random.randint(-2, 2) * 10**8 if cluster.plan.size > 1 else 0
        self.emptied = False  # its disk was lost and is empty again; the member must not come back as it was
        self.rotten = False  # a bit of a snapshot has changed
        self._rotted: dict[str, bytes | None] = {}  # path -> what such files held then
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
        if self.cluster.wires.listens(self.url) is not None:  # another one was not moved away yet
            self.start_after(50 * MILLISECOND)
            return
        is_new = True
        try:
            self.files.believes_names = PlantedFault.SNAPSHOT_NAME_BELIEVED in self.cluster.plan.planted
            folder = DataFolder.open(self.files, HOME, holder="simulator")
            is_new = folder.identity is None
            self.files.believes_names &= not is_new
            settings = self._settings(is_new)
            opened = self._open(folder, settings)
            self.files.believes_names = False
        except SimCrash as crash:
            self.died(crash)
            self.start_after(self.random.randrange(200 * MILLISECOND))
        except (DiskFailed, SnapshotFailed) as problem:
            self.tell(f"cannot start: {problem}")
            self.files.stop()
            self.start_after(self.random.randrange(200 * MILLISECOND))
        except (Refused, StartError) as problem:
            if self.rotten and not is_new:
                self.tell(f"cannot start any more: {problem}")
                self.files.stop()
                self.retired = True
                self.cluster.operator.replace(self)
                return
            if not (is_new and self.joins and isinstance(problem, StartError)):
                raise Violation(STARTS, f"member {self.name}: {problem}") from problem
            self.tell(f"cannot join: {problem}")
            self.files.stop()
            if self.random.random() < 0.3:  # whom it was told to ask may be gone
                self.first = joining(self.first, self.name, self.cluster.members_now())
            self.start_after(150 * MILLISECOND)
        else:
            self.lives += 1
            self.life = Life(self, opened, settings)

    def move(self, url: str) -> None:
        """From now on its processes listen there; one that is to join and never ran is given flags that say so."""
        self.url = url
        if self.joins and not self.lives:
            self.first = moved(self.first, self.name, url)

    @property
    def joins(self) -> bool:
        """Whether it was added to a cluster that there was."""
        return self.first.state == "existing"

    def _settings(self, is_new: bool) -> Settings:
        plan = self.cluster.plan
        if is_new:
            return first_settings(self.name, self.first, self.level, plan)
        today = self.cluster.members_now()
        return later_settings(self.random, self.name, self.url, self.first, today, self.level, plan)

    def _open(self, folder: DataFolder, settings: Settings) -> Opened:
        self._look_at_tail()
        opened = bootstrap.open_member(
            settings,
            self.files,
            folder,
            ask=lambda url: self.cluster.ask(self, str(url)),
            random_bytes=self.random.randbytes,
            segment_bytes=self.cluster.plan.segment_bytes,
        )
        if PlantedFault.MOVED_MEMBER_REFUSED in self.cluster.plan.planted:
            _compare_ids(settings, opened)
        if opened.identity.member_id != self.id:
            raise Violation(STARTS, f"{self.name} takes itself for {opened.identity.member_id:x}, it is {self.id:x}")
        if self.cluster.trace.is_on:
            last = opened.entries[-1].index if opened.entries else 0
            self.tell(
                f"reads its disk: {opened.hard_state}, snapshot at {opened.snapshot and opened.snapshot.index}, "
                f"log up to {last}, owes {opened.promised}"
            )
        return opened

    def _look_at_tail(self) -> None:
        with suppress(StorageError, OSError, IndexError):  # whoever opens it will say so
            if ending(self._last_segment()) is Ending.TORN:
                self.cluster.trace.saw("torn tails cut")

    def _last_segment(self) -> Scan:
        folder = default_wal_folder(HOME)
        return scan(self.files, folder, segment_names(self.files, folder)[-1])

    def power_cut(self) -> None:
        """What was not synced is at the mercy of chance."""
        self._end("loses power", at_power_cut=True)
        self.files.crash()

    def kill(self) -> None:
        """The machine lives on, and what was written will reach the disk in the end."""
        self._end("is killed")
        self.files.stop()

    def upgrade(self) -> None:
        """Its next process takes part in all levels."""
        self.level = HIGHEST_LEVEL

    def retire(self) -> None:
        self._end("was removed and stops")
        self.files.stop()
        self.retired = True

    def died(self, crash: SimCrash) -> None:
        """The power went, or the process was killed, in the middle of an operation of the disk."""
        if isinstance(crash, SimKill):
            self.cluster.trace.saw("killed in mid-operation")
            self.kill()
        else:
            self.power_cut()

    def _end(self, why: str, at_power_cut: bool = False) -> None:
        if self.life is not None:
            life, self.life = self.life, None
            self.tell(why)
            life.end(at_power_cut)

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

    def lose_disk(self) -> None:
        """The disk is broken, and another one, empty, takes its place."""
        self._end("loses its disk", at_power_cut=True)
        self.files = SimFiles(Random(f"second disk {self.cluster.seed} {self.name}"))
        self.lives = 0
        self.emptied = True
        self.cluster.checker.forgives(self.id)

    def rot(self, newest: bool = False) -> bool:
        """A bit of a snapshot changes. False: there is none yet."""
        names = [name for name in self.files.list(SNAPSHOTS) if name.endswith(".snap")] if self.lives else []
        if not names:
            return False
        path = f"{SNAPSHOTS}/{names[-1] if newest else self.random.choice(names)}"
        if not self.files.rot(path):
            return False
        self._rotted[path] = self.files.read(path)
        self.rotten = True
        self.tell("a bit of a snapshot changes")
        return True

    def is_owing(self) -> bool:
        """Whether it may still lack what it promised."""
        if self.life is not None:
            self.owes = self.life.node.raft.lost_promise
        return self.owes

    def tell(self, what: str) -> None:
        self.cluster.trace.tell(self.cluster.scheduler.now, self.name, what)

    # --- at the end -------------------------------------------------------------------------------------------------

    def check_folder(self) -> None:
        """Whatever became of the member, its folder opens by its own flags and is sound, after a kill and after a
        power cut. Nothing can be started on it afterwards."""
        self.kill()
        self._check_sound()
        self._check_rot_is_found()
        self._check_opens()
        self.files.crash()
        self._check_opens()
        self._check_sound()

    def _check_sound(self) -> None:
        if not self.lives:
            return
        report = check(HOME, files=self.files)
        rotten = [path for path, octets in self._rotted.items() if self.files.read(path) == octets]
        for path in rotten:
            if not any(line.startswith(path) for line in report.damage):
                raise Violation(ROT, f"{self.name}: {path} has rotted, and only this is found: {report.damage}")
        if not (report.sound or rotten):
            raise Violation(STARTS, f"the folder of {self.name} is not sound: {report.damage}")

    def _check_rot_is_found(self) -> None:
        """One bit of what a start reads is changed, on a copy of the disk."""
        if not self.lives or self.rotten:
            return
        files = self.files.copy()
        places = [(f"{SNAPSHOTS}/{name}", 0, 1 << 40) for name in files.list(SNAPSHOTS) if name.endswith(".snap")]
        folder = default_wal_folder(HOME)
        for name in segment_names(files, folder):
            found = scan(files, folder, name)
            durable = found.end if found.next_sequence else found.watermark.durable.offset
            places += [(found.path, 0, SECTOR), (found.path, RECORDS_AT, durable)]
        path, first, end = self.random.choice(places)
        octets = files.content(path)
        end = min(end, len(octets))
        if first >= end:
            return
        offset = self.random.randrange(first, end)
        octets[offset] ^= 1 << self.random.randrange(8)
        if not any(line.startswith(path) for line in check(HOME, files=files).damage):
            raise Violation(ROT, f"{self.name}: a bit of {path} at offset {offset} has changed, and nothing is found")
        self.cluster.trace.saw("rot found")

    def _check_opens(self) -> None:
        if not self.lives or self.rotten:  # its only snapshot may be the one that rotted
            return
        try:
            folder = DataFolder.open(self.files, HOME, holder="simulator")
            self._open(folder, self._settings(is_new=False))
        except (DiskFailed, Refused, StartError) as problem:
            raise Violation(STARTS, f"at the end, member {self.name}: {problem}") from problem
        self.files.stop()


def _own_flags(plan: Plan, random: Random) -> tuple[Config, NodeOptions, tuple[int, int]]:
    """No member needs to have the timings, the number of snapshots or the limits of another; (wals, snapshots) kept."""
    config, options = plan.config, plan.options
    if random.random() < 0.5:
        return config, options, (plan.max_wals, plan.max_snapshots)
    most = options.snapshot_count
    return (
        replace(config, election_ticks=config.election_ticks + random.choice((0, 1, 2))),
        options._replace(
            snapshot_count=random.choice((most, max(5, most // 2), 2 * most)),
            keep_entries=random.choice((0, 5, 20)),
            chunk_bytes=max(options.chunk_bytes, random.choice((700, 3000))),
        ),
        (random.choice((0, 1, 3)), random.choice((1, 2, 5))),
    )


def _compare_ids(settings: Settings, opened: Opened) -> None:
    """The check that refused moved members."""
    wanted = Membership.initial({one.name: tuple(map(str, one.peer_urls)) for one in settings.initial_cluster}, TOKEN)
    members = opened.machine.membership.members
    same_urls = {one.peer_urls for one in wanted.members.values()} == {one.peer_urls for one in members.values()}
    founders = cluster_id(members) == opened.identity.cluster_id
    if founders and same_urls and opened.identity.member_id not in wanted.members and len(wanted.members) > 1:
        raise StartError("the folder belongs to another cluster")
