"""glibc's allocator, told to give large blocks back to the system as soon as they are free.

Left to itself, it raises its threshold for doing so with the largest block that was ever freed, up to 32 MiB. From then
on values of some MiB come from the heap, where holes of one size rarely fit the next value. Knows nothing of what is
allocated.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
#: Smaller blocks leave holes that others fit into, and are not worth a call of the system each.
LARGE_BYTES = 1 << 20


def give_large_blocks_back() -> bool:
    """Return False where the C library has no such setting (musl)."""
    with suppress(AttributeError, OSError):
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
    return False
