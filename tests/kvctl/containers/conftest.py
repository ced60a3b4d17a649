"""One cluster of three real members for all tests here; who kills a member brings it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.kvctl.containers.running import published


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.of(3, tmp_path_factory.mktemp("containers")) as cluster:
        published(cluster)
        yield cluster


@pytest.fixture(scope="package")
def url(cluster: Cluster) -> str:
    return ",".join(member.client_url for member in cluster.members)
