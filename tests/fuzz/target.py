"""What is fuzzed: a name, good inputs to begin with, and a function that takes any input."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Target(NamedTuple):
    """`take` swallows the errors that an input may cause; whatever it raises is a finding."""

    name: str
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    take: Callable[[bytes], None]


class Broken(AssertionError):
    """An input was taken, and something is not as it must be behind it."""
