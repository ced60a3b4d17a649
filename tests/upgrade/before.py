"""The release before, from the project's own history: a work tree of it, run by this Python without being compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The last commit of the release before.
COMMIT = "382aa25"


def is_in_history() -> bool:
    """Whether the repository holds it; a shallow clone may not."""
    found = subprocess.run(
        ("git", "cat-file", "-e", f"{COMMIT}^{{commit}}"), cwd=ROOT, capture_output=True, check=False
    )
    return found.returncode == 0


def unpacked(folder: Path) -> Path:
    """The program of that release below `folder`."""
    tree = folder / "before"
    if not tree.exists():
        tree.mkdir()
        archive = subprocess.run(
            ("git", "archive", COMMIT, "kvstore", "cmd"), cwd=ROOT, capture_output=True, check=True
        ).stdout
        subprocess.run(("tar", "-x", "-C", str(tree)), input=archive, check=True)
    return tree


def command(tree: Path) -> tuple[str, ...]:
    """How the program in `tree` is started: Python looks into the folder it is started in before all others."""
    path = f"PYTHONPATH={tree}:{tree / 'cmd'}"
    return ("env", "-C", str(tree), path, "KVSTORE_PURE=1", sys.executable, "-m", "kvstored")
