"""Changes to the product for one seed: limits of size, scaled down so that its small values reach them, and functions
whose mend is taken out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from kvstore import transport
from kvstore.storage import check as storage_check
from kvstore.storage import snapshot_file
from kvstore.store.frozen import Frozen
from tests.sim.mutants import command_taken, head_alone, message_looked_up
from tests.sim.plan import Plan
from tests.sim.planted import PlantedFault

#: Each planted fault that takes the place of a function.
_REPLACED = {
    PlantedFault.UNKNOWN_COMMAND_TAKEN: (transport, "unpack_message", command_taken),
    PlantedFault.UNKNOWN_MESSAGE_CRASHES: (transport, "unpack_message", message_looked_up),
    PlantedFault.ROT_UNSEEN: (storage_check, "verify", head_alone),
}


@contextmanager
def scaled(plan: Plan) -> Iterator[None]:
    chunk, defaults = snapshot_file.MAX_CHUNK, Frozen.chunks.__defaults__
    by_rows = PlantedFault.SNAPSHOT_BY_ROWS in plan.planted
    snapshot_file.MAX_CHUNK = plan.max_chunk
    Frozen.chunks.__defaults__ = (200, 1 << 40) if by_rows else (plan.chunk_rows, plan.chunk_size)
    try:
        with ExitStack() as replaced:
            for fault in plan.planted & _REPLACED.keys():
                module, name, function = _REPLACED[PlantedFault(fault)]
                replaced.enter_context(patch.object(module, name, function))
            yield
    finally:
        snapshot_file.MAX_CHUNK = chunk
        Frozen.chunks.__defaults__ = defaults
