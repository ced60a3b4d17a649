"""A paced transport passes on what it can, counts the rest, and makes its protocol wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvstore.tls.pacing import HIGH_WATER, PIECE_BYTES, PacedTransport, adopt


class Inner(asyncio.Transport):
    """Takes `room` bytes, and holds the next piece until there is more."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 0
        self.sent = bytearray()
        self.held = b""
        self.calls: list[str] = []
        self.protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.calls.append(f"limits {high} {low}")

    def write(self, data: Any) -> None:
        assert not self.held, "a piece while one is held"
        if len(data) <= self.room:
            self.room -= len(data)
            self.sent += data
        else:
            self.held = bytes(data)
            self.protocol.pause_writing()

    def make_room(self, room: int) -> None:
        self.room = room
        held, self.held = self.held, b""
        self.sent += held
        self.room -= len(held)
        self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.calls.append("pause")


class Outer(asyncio.Protocol):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.transport: PacedTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, PacedTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.calls.append(data.decode())

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def outer(inner: Inner) -> Outer:
    outer = Outer()
    adopt(inner, outer)
    assert inner.calls == ["limits 1 0"]
    return outer


def test_what_waits_is_counted_and_sent_in_order(inner: Inner, outer: Outer) -> None:
    octets = bytes(range(256)) * (5 * PIECE_BYTES // 256)
    inner.room = PIECE_BYTES
    outer.transport.write(octets)
    assert outer.calls == ["pause"]
    assert outer.transport.get_write_buffer_size() == 4 * PIECE_BYTES
    outer.transport.write(b"end")
    inner.make_room(2 * PIECE_BYTES)
    assert outer.transport.get_write_buffer_size() == 2 * PIECE_BYTES + 3
    assert outer.calls == ["pause"]
    inner.make_room(10 * PIECE_BYTES)
    assert outer.calls == ["pause", "resume"]
    assert inner.sent == octets + b"end"
    assert outer.transport.get_write_buffer_size() == 0


def test_small_writes_go_straight_on(inner: Inner, outer: Outer) -> None:
    inner.room = 100
    outer.transport.write(b"a" * 60)
    assert inner.sent == b"a" * 60
    outer.transport.write(b"b" * 60)
    outer.transport.write(b"c")  # never before what is held
    assert inner.sent == b"a" * 60
    assert outer.transport.get_write_buffer_size() == 61 < HIGH_WATER
    assert outer.calls == []
    inner.make_room(100)
    assert inner.sent == b"a" * 60 + b"b" * 60 + b"c"


def test_it_closes_once_all_is_passed_on(inner: Inner, outer: Outer) -> None:
    outer.transport.write(b"x" * 2 * PIECE_BYTES)
    outer.transport.close()
    assert outer.transport.is_closing()
    outer.transport.write(b"too late")
    inner.protocol.data_received(b"too late")
    assert inner.calls[1:] == ["pause"]
    inner.make_room(2 * PIECE_BYTES)
    assert inner.calls[1:] == ["pause", "close"]
    assert inner.sent == b"x" * 2 * PIECE_BYTES
    inner.protocol.connection_lost(None)
    assert outer.calls[-1] == "lost"
    assert "too late" not in outer.calls


def test_nothing_waits_behind_an_abort(inner: Inner, outer: Outer) -> None:
    outer.transport.write(b"x" * 5 * PIECE_BYTES)
    outer.transport.abort()
    assert inner.calls[1:] == ["abort"]
    assert outer.transport.get_write_buffer_size() == len(inner.held)


def test_the_connection_may_be_handed_on(inner: Inner, outer: Outer) -> None:
    other = Outer()
    outer.transport.set_protocol(other)
    inner.protocol.data_received(b"hello")
    assert (outer.calls, other.calls) == ([], ["hello"])
