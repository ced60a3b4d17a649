"""Inputs that are almost right: pieces of good ones, bent at a few places.

The same `Random` gives the same inputs. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

MAX_EDITS = 8
LONGEST = 20_000  # bytes of an input
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1)


def mutated(random: Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One of `seeds` after one to MAX_EDITS edits; `tokens` are what is worth inserting."""
    octets = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, MAX_EDITS)):
        edit = random.choice(_EDITS)
        octets = edit(random, octets, seeds, tokens)
    return bytes(octets[:LONGEST])


def _flip(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    if octets:
        octets[random.randrange(len(octets))] ^= 1 << random.randrange(8)
    return octets


def _replace(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    if octets:
        octets[random.randrange(len(octets))] = random.randrange(256)
    return octets


def _insert_token(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    at = random.randint(0, len(octets))
    octets[at:at] = random.choice(tokens)
    return octets


def _write_token(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    at, token = random.randint(0, len(octets)), random.choice(tokens)
    octets[at : at + len(token)] = token
    return octets


def _write_number(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    at, size = random.randint(0, len(octets)), random.choice((1, 2, 4, 8))
    number = random.choice(EDGES) % (1 << 8 * size)
    octets[at : at + size] = number.to_bytes(size, random.choice(("big", "little")))
    return octets


def _delete(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    start, end = _range(random, octets)
    del octets[start:end]
    return octets


def _repeat(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    start, end = _range(random, octets)
    piece = octets[start:end]
    octets[end:end] = piece * min(random.choice((1, 1, 2, 10, 100)), LONGEST // max(1, len(piece)))
    return octets


def _splice(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    other = random.choice(seeds)
    return octets[: random.randint(0, len(octets))] + other[random.randint(0, len(other)) :]


def _cut(random: Random, octets: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytearray:
    return octets[: random.randint(0, len(octets))]


def _range(random: Random, octets: bytearray) -> tuple[int, int]:
    start = random.randint(0, len(octets))
    return start, min(len(octets), start + random.choice((1, 2, 4, 16, 64, 1024)))


_Edit = Callable[[Random, bytearray, Sequence[bytes], Sequence[bytes]], bytearray]
_EDITS: tuple[_Edit, ...] = (
    *(_flip, _replace, _insert_token, _write_token, _write_number),
    *(_delete, _repeat, _splice, _cut),
)
