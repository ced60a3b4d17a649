"""`/metrics`: a member's numbers as Prometheus' text, under etcd's names where they mean the same.

Nothing is counted here: the floors below count in place, and a scrape puts it together. docs/metrics.md is the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kvstore.compaction import SnapshotStatus
from kvstore.http.backend import Backend, Numbers
from kvstore.http.reply import Answer
from kvstore.http.request import Request
from kvstore.http.v2.stats import COUNTED
from kvstore.raft.types import Role
from kvstore.statistics import Histogram
from kvstore.version import ETCD_SERVER_VERSION, VERSION

_TYPE = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
_WHOLE = re.compile(rb"\.0$", re.MULTILINE)  # Go writes 1 where Python writes 1.0

#: Actions under the names of etcd's metrics, by those of its statistics.
_ACTIONS = {name: "set" if name == "sets" else name for name in COUNTED}


class Metrics:
    """The handler of one member."""

    def __init__(self, backend: Backend) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(MemberCollector(backend))
        ProcessCollector(registry=self._registry)

    async def serve(self, request: Request) -> Answer:
        return Answer(200, _TYPE, _WHOLE.sub(b"", generate_latest(self._registry)))


class MemberCollector(Collector):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def describe(self) -> list[Metric]:
        return []  # so that nothing is collected before somebody asks

    def collect(self) -> Iterator[Metric]:
        numbers = self._backend.numbers()
        yield from _server(numbers)
        yield from _loop(numbers)
        yield from _disk(numbers)
        yield from _snapshots(numbers.snapshots)
        yield from self._network(numbers)
        yield from self._store()
        yield from _certificates(numbers)

    def _network(self, numbers: Numbers) -> Iterator[Metric]:
        sent = CounterMetricFamily("etcd_network_peer_sent_bytes", "Bytes sent to another member.", labels=["To"])
        received = CounterMetricFamily(
            "etcd_network_peer_received_bytes", "Bytes received from another member.", labels=["From"]
        )
        failures = CounterMetricFamily(
            "etcd_network_peer_sent_failures",
            "Appends that could not be sent to another member, or that it did not answer.",
            labels=["To"],
        )
        trips = HistogramMetricFamily(
            "etcd_network_peer_round_trip_time_seconds",
            "From a leader's heartbeat to another member's answer.",
            labels=["To"],
        )
        for member in sorted(self._backend.membership.members):
            if member != numbers.member:
                name, peer = [f"{member:x}"], numbers.traffic.peer(member)
                sent.add_metric(name, peer.sent_bytes)
                received.add_metric(name, peer.received_bytes)
                failures.add_metric(name, peer.latency.failed)
                trips.add_metric(name, _buckets(peer.round_trips), peer.round_trips.total)
        clocks = GaugeMetricFamily(
            "kvstored_peer_clock_difference_seconds",
            "By how much another member's wall clock is ahead of ours.",
            labels=["To"],
        )
        for member, seconds in sorted(numbers.clock_differences.items()):
            clocks.add_metric([f"{member:x}"], seconds)
        yield from (sent, received, failures, trips, clocks)

    def _store(self) -> Iterator[Metric]:
        store = self._backend.store
        counts = store.counts
        reads = CounterMetricFamily("etcd_debugging_store_reads", "Reads of the store.", labels=["action"])
        reads.add_metric(["get"], counts.gets - counts.recursive_gets)
        reads.add_metric(["getRecursive"], counts.recursive_gets)
        yield reads
        yield _counter("etcd_debugging_store_reads_failed", "Reads that found nothing.", counts.gets_failed)
        writes = CounterMetricFamily("etcd_debugging_store_writes", "Writes that were carried out.", labels=["action"])
        failed = CounterMetricFamily(
            "etcd_debugging_store_writes_failed", "Writes that were refused.", labels=["action"]
        )
        for name, kinds in COUNTED.items():
            writes.add_metric([_ACTIONS[name]], sum(counts.succeeded[kind] for kind in kinds))
            failed.add_metric([_ACTIONS[name]], sum(counts.failed[kind] for kind in kinds))
        yield from (writes, failed)
        yield _counter("etcd_debugging_store_expires", "Keys and directories that expired.", counts.expired)
        yield _counter("etcd_debugging_store_watch_requests", "Watches that were asked for.", counts.watches)
        yield _gauge("etcd_debugging_store_watchers", "Watches that wait for an event now.", store.watcher_count)
        yield _gauge("kvstored_watch_due_events", "Events on their way to watches.", store.due_events)
        yield _gauge(
            "kvstored_watch_oldest_due_seconds", "Time that the oldest of them has waited.", store.oldest_due_seconds
        )
        yield _counter("kvstored_watches_ended", "Watches ended because they lagged too far.", store.watchers_ended)


def _server(numbers: Numbers) -> Iterator[Metric]:
    version = GaugeMetricFamily(
        "etcd_server_version", "Which etcd is spoken; the value is 1.", labels=["server_version"]
    )
    version.add_metric([ETCD_SERVER_VERSION], 1)
    yield version
    own = GaugeMetricFamily("kvstored_version", "Which kvstored runs; the value is 1.", labels=["version"])
    own.add_metric([VERSION], 1)
    yield own
    yield _gauge("kvstored_cluster_level", "Level of the cluster, which rises with its members.", numbers.level)
    identity = GaugeMetricFamily("etcd_server_id", "Which member this is; the value is 1.", labels=["server_id"])
    identity.add_metric([f"{numbers.member:x}"], 1)
    yield identity
    yield _gauge("etcd_server_has_leader", "Whether this member knows a leader.", int(numbers.leader != 0))
    yield _gauge("etcd_server_is_leader", "Whether this member leads.", int(numbers.role is Role.LEADER))
    yield _counter("etcd_server_leader_changes_seen", "Changes of the leader since the start.", numbers.leader_changes)
    yield _gauge("etcd_server_proposals_committed_total", "Index of the last committed entry.", numbers.committed)
    yield _gauge("etcd_server_proposals_applied_total", "Index of the last applied entry.", numbers.applied)
    yield _gauge("etcd_server_proposals_pending", "Commands that wait for their outcome.", numbers.proposals_pending)
    yield _counter(
        "etcd_server_proposals_failed", "Commands whose outcome did not come in time.", numbers.proposals_failed
    )


def _loop(numbers: Numbers) -> Iterator[Metric]:
    yield _histogram("kvstored_loop_delay_seconds", "How late the event loop called a tick.", numbers.turns)
    yield _gauge("kvstored_loop_longest_delay_seconds", "The longest of these since the start.", numbers.turns.longest)


def _disk(numbers: Numbers) -> Iterator[Metric]:
    yield _histogram("etcd_disk_wal_fsync_duration_seconds", "One fdatasync of the log.", numbers.sync_seconds)
    yield _histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "One batch of entries made durable: encoded, written and synced.",
        numbers.commit_seconds,
    )
    yield _histogram(
        "etcd_debugging_snap_save_total_duration_seconds", "One snapshot made durable.", numbers.save_seconds
    )


def _snapshots(status: SnapshotStatus) -> Iterator[Metric]:
    yield _counter("kvstored_snapshot_failures", "Snapshots that could not be saved.", status.failures)
    yield GaugeMetricFamily(
        "kvstored_snapshot_last_success_timestamp_seconds",
        "When a snapshot was last saved, since the epoch; 0: not since the start.",
        value=status.last / 1e9,
    )
    yield _gauge("kvstored_log_bytes_since_snapshot", "Bytes of log since the last snapshot.", status.log_bytes)
    yield _gauge(
        "kvstored_refuses_writes",
        "1 while writes are refused because no snapshot succeeds.",
        int(status.refusing != ""),
    )


def _certificates(numbers: Numbers) -> Iterator[Metric]:
    """For each kind the one that ends first; nothing without TLS."""
    days = GaugeMetricFamily(
        "kvstored_tls_expiry_days", "Days until what TLS goes by expires; negative: since.", labels=["side", "kind"]
    )
    now = datetime.now(UTC)
    for side, expiries in numbers.expiries.items():
        for kind in dict.fromkeys(expiry.kind for expiry in expiries):
            first = min(expiry.end for expiry in expiries if expiry.kind == kind)
            days.add_metric([side, kind], round((first - now) / timedelta(days=1), 3))
    yield days


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=_buckets(histogram), sum_value=histogram.total)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [("+Inf" if bound == float("inf") else f"{bound:.6g}", count) for bound, count in histogram.cumulative]
