"""Where a segment's bytes end: most of a preallocated one is zeros."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.storage import scan


@given(st.lists(st.binary(max_size=40) | st.integers(0, 40).map(bytes)).map(b"".join), st.integers(0, 80))
def test_the_last_byte_that_is_not_zero_is_found_in_blocks_as_byte_by_byte(content: bytes, start: int) -> None:
    start = min(start, len(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_BLOCK_BYTES", 8)
        patch.setattr(scan, "_ZEROS", bytes(8))
        assert scan._filled_end(content, start) == start + len(content[start:].rstrip(b"\0"))
