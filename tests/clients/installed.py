"""Other people's programs, each installed in an environment of its own, so that the project's stays clean.

They live in .clients/ at the root of the checkout, made on demand from the exact versions in pins/ and kept until those
change. What cannot be installed skips its tests and says why.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster import ROOT

PINS = Path(__file__).parent / "pins"
CACHE = ROOT / ".clients"
INSTALL_SECONDS = 300.0


def python_with(client: str, interpreter: str = sys.executable) -> Path:
    """The interpreter of an environment that holds what pins/<client>.txt names."""
    pins = PINS / f"{client}.txt"
    folder = _folder(client, [pins], interpreter)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(pins)]
    _make(client, folder, [[interpreter, "-m", "venv", "--clear", str(folder)], install])
    return python


def node_modules_with(client: str) -> Path:
    """A node_modules folder that holds what pins/<client>/package-lock.json names."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    pins = [PINS / client / name for name in ("package.json", "package-lock.json")]
    folder = _folder(client, pins, shutil.which("node") or "")
    folder.mkdir(parents=True, exist_ok=True)
    for one in pins:
        shutil.copy(one, folder)
    _make(client, folder, [["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]])
    return folder / "node_modules"


def _folder(client: str, pins: Sequence[Path], interpreter: str) -> Path:
    """Another one whenever a pin or the interpreter changes."""
    digest = hashlib.sha256(interpreter.encode())
    for one in pins:
        digest.update(one.read_bytes())
    return CACHE / f"{client}-{digest.hexdigest()[:12]}"


def _make(client: str, folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Runs the commands unless they were run before."""
    ready = folder / ".ready"
    if ready.exists():
        return
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{client} cannot be installed: not done within {INSTALL_SECONDS:.0f} s")
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            pytest.skip(f"{client} cannot be installed: {said[-1] if said else command[0]}")
    ready.touch()
