"""One machine of the cluster, its disk, its clock and its flags; life.py has the lives that a process lives on it."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

from kvstore import bootstrap
from kvstore.bootstrap import Opened, StartError
from kvstore.settings import Settings
from kvstore.storage.check import check
from kvstore.storage.errors import DiskFailed, Refused, StorageError
from kvstore.storage.folder import DataFolder, default_wal_folder
from kvstore.storage.replay import segment_names
from kvstore.storage.scan import Ending, Scan, ending, scan
from tests.sim.disk import SimCrash, SimFiles
from tests.sim.flags import FirstDay, first_settings, host_of, later_settings, moved
from tests.sim.life import Life
from tests.sim.scheduler import MILLISECOND
from tests.sim.trace import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

HOME = "/home"
EPOCH_NS = 1_700_000_000 * 10**9
STARTS = "a folder that a crash left can be opened"


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
        self.slowness = 1  # of the disk
        self.clock_ns = self.random.randint(-2, 2) * 10**8 if cluster.plan.size > 1 else 0
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
            folder = DataFolder.open(self.files, HOME, holder="simulator")
            is_new = folder.identity is None
            settings = self._settings(is_new)
            opened = self._open(folder, settings)
        except SimCrash:
            self.files.crash()
            self.start_after(self.random.randrange(200 * MILLISECOND))
        except DiskFailed as problem:
            self.tell(f"cannot start: {problem}")
            self.files.stop()
            self.start_after(self.random.randrange(200 * MILLISECOND))
        except (Refused, StartError) as problem:
            if not (is_new and self.joins and isinstance(problem, StartError)):
                raise Violation(STARTS, f"member {self.name}: {problem}") from problem
            self.tell(f"cannot join: {problem}")
            self.files.stop()
            self.start_after(50 * MILLISECOND)
        else:
            self.lives += 1
            self.life = Life(self, opened, settings)

    def move(self, url: str) -> None:
        """From now on its processes listen there; one that never ran is given flags that say so."""
        self.url = url
        if not self.lives:
            self.first = moved(self.first, self.name, url)

    @property
    def joins(self) -> bool:
        """Whether it was added to a cluster that there was."""
        return self.first.state == "existing"

    def _settings(self, is_new: bool) -> Settings:
        plan = self.cluster.plan
        if is_new:
            return first_settings(self.name, self.first, plan)
        return later_settings(self.random, self.name, self.url, self.first, self.cluster.members_now(), plan)

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

    def retire(self) -> None:
        self._end("was removed and stops")
        self.files.stop()
        self.retired = True

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
        self._check_opens()
        self.files.crash()
        self._check_opens()
        self._check_sound()

    def _check_sound(self) -> None:
        if not self.lives:
            return
        report = check(HOME, files=self.files)
        if not report.sound:
            raise Violation(STARTS, f"the folder of {self.name} is not sound: {report.damage}")

    def _check_opens(self) -> None:
        if not self.lives:
            return
        try:
            folder = DataFolder.open(self.files, HOME, holder="simulator")
            self._open(folder, self._settings(is_new=False))
        except (DiskFailed, Refused, StartError) as problem:
            raise Violation(STARTS, f"at the end, member {self.name}: {problem}") from problem
        self.files.stop()
