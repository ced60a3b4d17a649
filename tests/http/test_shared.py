"""One object for all who are sent the same, also while several events take turns."""

from __future__ import annotations

from kvstore.http.reply import LAST_CHUNK, chunk, last_piece
from kvstore.http.shared import MAX_BYTES, MAX_KEPT, Shared
from kvstore.http.v2.watches import encode_once
from kvstore.store.store import Store
from tests.store.steps import put, run


def test_events_that_take_turns_are_encoded_and_framed_once() -> None:
    store = Store()
    events = [event for key in (b"/a", b"/b", b"/c") if (event := run(store, put(key)))]
    for frame in (chunk, last_piece):
        first = [frame(encode_once(event)) for event in events]
        again = [frame(encode_once(event)) for event in events]
        assert len(first) == 3
        assert all(one is other for one, other in zip(first, again, strict=True))
    assert chunk(b"piece") == b"5\r\npiece\r\n"
    assert last_piece(b"piece") == b"5\r\npiece\r\n" + LAST_CHUNK


def test_what_is_kept_is_bounded_by_number_and_by_bytes() -> None:
    made: list[int] = []

    def make(source: list[int]) -> bytes:
        made.append(source[0])
        return bytes(source[1])

    shared = Shared(make)
    small = [[number, 1] for number in range(MAX_KEPT + 1)]
    for source in small:
        shared(source)
    shared(small[1])
    assert made == list(range(MAX_KEPT + 1))
    shared(small[0])
    assert made[-1] == 0, "what was kept first went first"
    large = [[100 + number, MAX_BYTES // 2] for number in range(3)]
    for source in large:
        shared(source)
    count = len(made)
    shared(large[2])
    shared(large[1])
    assert len(made) == count
    shared(large[0])
    assert len(made) == count + 1
    huge = [200, MAX_BYTES + 1]
    shared(huge)
    assert shared(huge) is shared(huge)
    assert made[-1] == 200
