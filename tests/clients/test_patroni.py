"""Patroni 4.1 with PostgreSQL: two nodes that let a three-member kvstored cluster decide who of them is the primary.

What Patroni leans on: it replaces its endpoints by what /v2/machines says, so the advertised URLs must be reachable; it
sends prevIndex=0 for "no condition"; the leader key is created with prevExist=false and kept by prevValue; a recursive
read of its folder wants X-Etcd-Index also from a 404, and its watches go on from there; the key of a dead primary must
go by its ttl, and only then.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.clients.patroni_nodes import TTL_SECONDS, Node, nodes_of, until
from tests.cluster import Cluster

pytestmark = pytest.mark.patroni  # a minute or two: `make test-patroni`


def test_they_elect_switch_over_and_fail_over(tmp_path: Path) -> None:
    with Cluster.of(3, tmp_path) as cluster:
        endpoints = [f"{member.address}:{member.ports.client}" for member in cluster.members]
        with nodes_of(endpoints, cluster.members[0].address, ("p1", "p2")) as nodes:
            first, second = elect(nodes)
            first.sql("CREATE TABLE kept (what text)")
            keep(first, "written before anything was lost")
            lose_a_leader_unnoticed(cluster, first, nodes)
            switch_over(first, second, nodes)
            keep(second, "written after the switch-over")
            lose_the_primary_and_a_leader(cluster, second, first, nodes)
            keep(first, "written after the failover")
            come_back(second, first, nodes)


def elect(nodes: list[Node]) -> tuple[Node, Node]:
    """The primary and the replica that the two became."""
    for node in nodes:
        node.start()
    until(lambda: any(is_primary(node, nodes) for node in nodes), "one of the two is the primary", nodes)
    primary = next(node for node in nodes if is_primary(node, nodes))
    replica = next(node for node in nodes if node is not primary)
    until(lambda: streams(replica, nodes), "the other one follows", nodes)
    return primary, replica


def lose_a_leader_unnoticed(cluster: Cluster, primary: Node, nodes: list[Node]) -> None:
    timeline = primary.cluster()[primary.name]["timeline"]
    lost = cluster.leader()
    lost.kill()
    killed_at = time.time()
    until(
        lambda: all(one.heard_from_etcd() > killed_at + 2 for one in nodes), "both go on with the other members", nodes
    )
    assert is_primary(primary, nodes)
    assert primary.cluster()[primary.name]["timeline"] == timeline  # no failover
    cluster.restart(lost.name)
    cluster.wait_until_healthy()


def switch_over(primary: Node, replica: Node, nodes: list[Node]) -> None:
    primary.switch_over_to(replica.name)
    until(lambda: is_primary(replica, nodes), "the replica took over", nodes)
    until(lambda: streams(primary, nodes), "the old primary follows", nodes)


def lose_the_primary_and_a_leader(cluster: Cluster, primary: Node, replica: Node, nodes: list[Node]) -> None:
    timeline = replica.cluster()[replica.name]["timeline"]
    lost = cluster.leader()
    lost.kill()
    primary.kill()
    began = time.monotonic()
    until(lambda: is_primary(replica, [replica]), "the replica took over from the dead primary", nodes)
    assert time.monotonic() - began < 3 * TTL_SECONDS
    until(lambda: replica.cluster()[replica.name]["timeline"] > timeline, "a failover, not a return", nodes)
    cluster.restart(lost.name)
    cluster.wait_until_healthy()


def come_back(lost: Node, primary: Node, nodes: list[Node]) -> None:
    lost.start()
    until(lambda: streams(lost, nodes), "the lost node follows again", nodes)
    written = primary.sql("SELECT what FROM kept ORDER BY what")
    assert len(written) == 3
    until(lambda: lost.sql("SELECT what FROM kept ORDER BY what") == written, "it has everything", nodes)
    with pytest.raises(subprocess.CalledProcessError):
        lost.sql("INSERT INTO kept VALUES ('by a replica')")


def keep(node: Node, what: str) -> None:
    """A replica must have it before anything is killed: Patroni replicates asynchronously by default."""
    node.sql(f"INSERT INTO kept VALUES ('{what}')")
    replicas = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()"
    if node.sql("SELECT count(*) FROM pg_stat_replication") != ["0"]:
        until(lambda: node.sql(replicas) == ["1"], f"the replica has {what!r}", [node])


def is_primary(node: Node, witnesses: list[Node]) -> bool:
    """All witnesses say so, and it takes writes."""
    seen = [witness.cluster().get(node.name, {}) for witness in witnesses]
    if any((one.get("role"), one.get("state")) != ("leader", "running") for one in seen):
        return False
    return node.sql("SELECT pg_is_in_recovery()") == ["f"]


def streams(node: Node, witnesses: list[Node]) -> bool:
    seen = [witness.cluster().get(node.name, {}) for witness in witnesses]
    return all((one.get("role"), one.get("state")) == ("replica", "streaming") for one in seen)
