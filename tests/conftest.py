"""What holds for all tests.

Hypothesis draws the same examples in every run, so that a change is judged by what it did and not by chance.
`HYPOTHESIS_PROFILE=explore make test` looks for new ones.

What is compiled must have been compiled from what is there, or the tests would be those of something else.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from hypothesis import settings

import kvstore

settings.register_profile("fixed", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_sessionstart() -> None:
    if os.environ.get("KVSTORE_PURE"):
        return
    folder = Path(kvstore.__path__[0])
    for source in (*folder.rglob("*.pyx"), *folder.rglob("*.py")):
        for built in map(source.with_suffix, EXTENSION_SUFFIXES):
            if built.exists() and built.stat().st_mtime < source.stat().st_mtime:
                raise pytest.UsageError(
                    f"{built.name} is older than {source.name}: compile with `make .venv/.ready`, or KVSTORE_PURE=1"
                )
