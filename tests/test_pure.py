"""What is compiled is left out: the tests that could tell a difference, with KVSTORE_PURE=1 in another process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore import compiled, server

ROOT = Path(__file__).parents[1]
SECONDS = 240.0
TESTS = (
    *("conformance/test_recordings.py", "http/test_express.py", "http/test_keys.py"),
    *("test_costs.py", "test_disk.py", "test_lanes.py", "test_wire.py"),
)

pytestmark = pytest.mark.skipif(
    not server.is_compiled,
    reason="what is compiled is not in use: KVSTORE_PURE is set, or it was not built (Debian: gcc python3-dev)",
)


def without_compiled(*arguments: str) -> None:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"KVSTORE_PURE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stdout


def test_the_switch_leaves_out_all_that_is_compiled() -> None:
    without_compiled(
        "-c",
        "import sys; import kvstored.main; from kvstore import compiled, server\n"
        "found = [name for name in sys.modules if name.startswith('kvstore') and compiled.is_in_use(name)]\n"
        "assert not server.is_compiled and not found, found",
    )


def test_without_the_switch_all_that_setup_names_is_in_use() -> None:
    named = re.findall(r'^    "kvstore/(.+)\.py",$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert named
    modules = [f"kvstore.{name.replace('/', '.')}" for name in named]
    assert [name for name in modules if not compiled.is_in_use(name)] == []


def test_all_is_the_same_without_it() -> None:
    without_compiled("-m", "pytest", "-x", "-p", "no:cacheprovider", *(f"tests/{name}" for name in TESTS))
