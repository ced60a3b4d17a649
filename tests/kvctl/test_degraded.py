"""A cluster of three that lost members, seen by etcdctl and kvctl at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.kvctl.cases import Case
from tests.kvctl.programs import HAS_ETCDCTL, Outcome, Places, etcdctl, kvctl


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.of(3, tmp_path_factory.mktemp("degraded")) as three:
        three.leader()
        yield three


def both(cluster: Cluster, *arguments: str) -> Outcome:
    """kvctl's outcome, which is etcdctl's as well where that is installed."""
    case = Case("", arguments, {}, "")
    places = Places(",".join(member.client_url for member in cluster.members), "", "", "")
    ours = kvctl(case, places)
    if HAS_ETCDCTL:
        assert ours == etcdctl(case, places)
    return ours


def test_losing_one_member_after_the_other(cluster: Cluster) -> None:
    healthy = both(cluster, "cluster-health")
    assert (healthy.status, healthy.stdout.splitlines()[-1]) == (0, "cluster is healthy")
    leader = cluster.leader()
    follower = next(member for member in cluster.members if member is not leader)
    follower.kill()
    cluster.leader()
    degraded = both(cluster, "cluster-health")
    assert (degraded.status, degraded.stdout.splitlines()[-1]) == (5, "cluster is degraded")
    assert f'on {follower.client_url}: Get "{follower.client_url}/health": dial tcp ' in degraded.stdout
    assert f"is unreachable: [{follower.client_url}] are all unreachable\n" in degraded.stdout
    assert both(cluster, "member", "list").stdout.count("isLeader=true") == 1
    assert both(cluster, "set", "/a", "1").stdout == "1\n"
    assert both(cluster, "get", "--quorum", "/a").stdout == "1\n"
    for member in cluster.running[1:]:
        member.kill()
    unhealthy = both(cluster, "cluster-health")
    assert (unhealthy.status, unhealthy.stdout.splitlines()[-1]) == (5, "cluster is unavailable")
