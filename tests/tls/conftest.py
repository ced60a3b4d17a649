from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.tls.pki import Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], object]]:
    """The event loop of a real member: its TLS is its own."""
    return {"uvloop": uvloop.new_event_loop}
