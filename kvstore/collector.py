"""Python's collector of cycles, kept out of the way of requests.

What a request leaves behind (entries, events, nodes) holds no cycles, and there are hundreds of thousands of it. By its
defaults the collector walks over all that again and again: a tenth of a busy member's time, and pauses of tens of
milliseconds. Here it looks at new objects only, and at everything in a quiet moment now and then, or once a great many
have outlived their first look: whoever found a request that leaves a cycle must not fill the memory with it. Knows no
server.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

#: So many more objects than before start a collection of the young ones: a tenth of a millisecond.
YOUNG_OBJECTS = 1_000
#: After so long everything is looked at as soon as it is quiet, and after so long in any case.
QUIET_SECONDS = 600.0
LATEST_SECONDS = 3600.0
#: Collections of young objects after which everything is looked at, whatever else: three million objects more.
YOUNG_COLLECTIONS = 3_000

_NEVER = 1 << 30


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """While a great many objects are made that stay and hold no cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Collector:
    """`now` is monotonic, in seconds."""

    def __init__(self, now: float) -> None:
        self._last = now
        gc.set_threshold(YOUNG_OBJECTS, _NEVER, _NEVER)
        gc.freeze()  # what is there at the start stays: a walk over a million keys would be felt

    def look(self, now: float, is_quiet: bool) -> bool:
        """Called now and then: whether everything was collected."""
        waited = now - self._last
        if waited < (QUIET_SECONDS if is_quiet else LATEST_SECONDS) and gc.get_count()[1] < YOUNG_COLLECTIONS:
            return False
        gc.collect()
        self._last = now
        return True
