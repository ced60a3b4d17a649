"""Limits of size that are constants of the product, scaled down for one seed so that its small values reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kvstore.storage import snapshot_file
from kvstore.store.frozen import Frozen
from tests.sim.plan import Plan
from tests.sim.planted import PlantedFault


@contextmanager
def scaled(plan: Plan) -> Iterator[None]:
    chunk, defaults = snapshot_file.MAX_CHUNK, Frozen.chunks.__defaults__
    by_rows = PlantedFault.SNAPSHOT_BY_ROWS in plan.planted
    snapshot_file.MAX_CHUNK = plan.max_chunk
    Frozen.chunks.__defaults__ = (200, 1 << 40) if by_rows else (plan.chunk_rows, plan.chunk_size)
    try:
        yield
    finally:
        snapshot_file.MAX_CHUNK = chunk
        Frozen.chunks.__defaults__ = defaults
