"""What one seed is about. Each seed draws its own sizes, limits, weather and faults: a cluster in which everything goes
wrong at once rarely gets far enough for the rare things to happen."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kvstore.node import NodeOptions
from kvstore.raft.config import Config, PlantedBug
from kvstore.storage.layout import RECORDS_AT
from tests.sim.network import Weather
from tests.sim.scheduler import MILLISECOND, SECOND

TICK = 10 * MILLISECOND
SMALLEST_CHUNK = 4_000  # bytes: room for the largest row of a seed with small values, an event with the value before
MOVES = 0.3  # the share of seeds in which members get other peer URLs

#: Names of the methods of `faults.Faults`, each as often as it should be drawn.
FAULTS = (
    "power_cut",
    "power_cut",
    "power_cut_in_mid_write",
    "kill",
    "kill_in_mid_operation",
    "kill_in_mid_operation",
    "stop",
    "failing_disk",
    "full_disk",
    "slow_disk",
    "partition",
    "isolation",
    "one_way",
    "slow_link",
    "storm",
    "false_hint",
    "pause",
    "clock_step",
    "clock_leap",
    "transfer",
    "leader_hunt",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Times are microseconds."""

    size: int  # members at the start
    changes: bool  # members come and go
    moves: bool  # members get other peer URLs
    mixed: bool  # members that take part in the highest level, and others that do not yet
    lost_disks: bool  # now and then a member's disk is lost, or a snapshot on it rots
    lost_tails: bool  # now and then a member's log loses what was acknowledged
    odd_messages: bool  # some are late by a term, or of a later version
    planted: frozenset[str]  # of PlantedFault
    config: Config
    values: tuple[int, ...]  # sizes that clients draw from
    chunk_rows: int
    chunk_size: int
    max_chunk: int  # of a snapshot: no reader takes more
    options: NodeOptions
    segment_bytes: int
    max_wals: int
    max_snapshots: int
    duration: int  # of the faults; then all is healed
    clients: int
    think: int  # the longest pause between two requests of one client
    weather: Weather
    sync: tuple[int, int]  # a disk job's shortest and longest time
    longest_outage: int  # of a member that died
    faults: tuple[str, ...]
    pause: int  # the longest time between two faults


def draw(seed: int, planted: frozenset[str] = frozenset()) -> Plan:
    random = Random(f"plan {seed}")
    size = random.choice((1, 3, 3, 3, 3, 5, 5))
    changes = random.random() < 0.35
    # Nothing but leaders that die young, one entry at a time: what the paper's figure 8 needs.
    hunt = size > 1 and random.random() < 0.15
    quick = random.random() < 0.3
    lost_disks = size > 1 and not changes and random.random() < 0.3
    large = random.random() < 0.05
    entry = 300_000 if large else 4096
    small_chunks = not large and random.random() < 0.6
    return Plan(
        size=size,
        changes=changes,
        moves=random.random() < MOVES,
        mixed=random.random() < 0.3,
        lost_disks=lost_disks,
        lost_tails=size > 1 and not changes and not lost_disks and random.random() < 0.5,
        odd_messages=Random(f"odd {seed}").random() < 0.25,
        planted=planted - frozenset(PlantedBug),
        values=(0, 20, 1200, 60_000, 200_000) if large else (0, 20, 150, 1200, 1200),
        chunk_rows=random.choice((2, 20, 200)),
        chunk_size=random.choice((300, 3_000)) if small_chunks else 1 << 20,
        max_chunk=SMALLEST_CHUNK if small_chunks else 256 << 20,
        config=Config(
            election_ticks=random.choice((8, 10, 15)),
            heartbeat_ticks=random.choice((1, 2, 3)),
            stagger_ticks=random.choice((1, 2)),
            max_entry_bytes=entry,
            max_append_bytes=1 if hunt else random.choice((1, 300, 2_000)),
            max_inflight=random.choice((2, 4, 64)),
            max_inflight_bytes=random.choice((600, 1 << 20)),
            max_uncommitted_bytes=random.choice((entry + 32, 1 << 20)),
            max_reads=random.choice((3, 1000)),
            planted=planted & frozenset(PlantedBug),
        ),
        options=NodeOptions(
            request_ticks=random.choice((40, 150)),
            sweep_ticks=random.choice((5, 20)),
            read_retry_ticks=random.choice((5, 10)),
            snapshot_count=random.choice((10, 25, 80)),
            keep_entries=random.choice((0, 5, 20)),
            compact_entries=7,
            max_proposals=random.choice((3, 100)),
            max_command_bytes=entry,
            batch_bytes=random.choice((1, 200, 4096)),
            event_history=random.choice((5, 40)),
            chunk_bytes=1 << 20 if large else random.choice((700, 3000, 1 << 20)),
        ),
        segment_bytes=RECORDS_AT + random.choice((600, 2_000, 8_000)),
        max_wals=random.choice((0, 1, 3)),
        max_snapshots=random.choice((1, 2, 5)),
        duration=random.randint(4, 10) * SECOND,
        clients=random.choice((2, 4, 6)),
        think=random.choice((10, 40, 100)) * MILLISECOND,
        weather=_weather(random),
        sync=random.choice(((50, 500), (300, 5_000), (1_000, 20_000))),
        longest_outage=random.choice((10, 50, 1_000)) * MILLISECOND if quick else SECOND,
        faults=("leader_hunt",) if hunt else tuple(sorted(set(random.choices(FAULTS, k=random.randint(1, 8))))),
        pause=random.choice((100, 250, 600)) * MILLISECOND,
    )


def _weather(random: Random) -> Weather:
    return Weather(
        shortest=random.choice((50, 500)),
        longest=random.choice((1_000, 5_000, 15_000)),
        straggling=random.choice((0.0, 0.0, 0.01, 0.05)),
        loss=random.choice((0.0, 0.0, 0.01, 0.1)),
        duplication=random.choice((0.0, 0.0, 0.05)),
        ordered=random.random() < 0.5,
    )
