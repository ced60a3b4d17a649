"""What is compiled (setup.py) is left out with KVSTORE_PURE=1: Python then runs the same, slower.

So the tests can run, and compare, both ways; and whoever changes a compiled module need not compile it at each step.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader


def is_in_use(name: str) -> bool:
    """Whether the module of that name, which was imported, is one that was compiled."""
    return not isinstance(sys.modules[name].__loader__, SourceFileLoader)


def leave_out(folder: str) -> None:
    """From here on, what is imported from `folder`, or from below it, comes from its source."""
    for below, _, _ in os.walk(folder):
        sys.path_importer_cache[below] = FileFinder(below, (SourceFileLoader, SOURCE_SUFFIXES))
