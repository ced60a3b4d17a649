"""What mypyc compiles is built as a whole or not at all: half of it could not be imported, and nothing would help."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore import server

ROOT = Path(__file__).parents[1]
SECONDS = 60.0
MODULE = "#include <Python.h>\nPyMODINIT_FUNC PyInit_%s(void) { return NULL; }\n"

#: Runs setup.py with modules as small as can be in the place of ours.
SCRIPT = """
import runpy, sys
import mypyc.build, setuptools

setup_py, *sources = sys.argv[1:]
sys.argv = ["setup.py", "--quiet", "build_ext", "--build-lib", "built"]
made = [setuptools.Extension(f"kvstore.{source.removesuffix('.c')}", [source]) for source in sources]
mypyc.build.mypycify = lambda *paths, **options: made
setup = setuptools.setup
setuptools.setup = lambda ext_modules, **more: setup(name="kvstored", packages=[], ext_modules=made, **more)
runpy.run_path(setup_py)
"""

#: Says what setup.py would build where mypy ends with an error.
REFUSED = """
import runpy, sys
import mypyc.build, setuptools

mypyc.build.mypycify = lambda *paths, **options: sys.exit(1)
setuptools.setup = lambda ext_modules, **more: print(*(extension.name for extension in ext_modules))
runpy.run_path(sys.argv[1])
"""

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None or not server.is_compiled,
    reason="nothing can be compiled here (Debian: gcc python3-dev), or KVSTORE_PURE is set",
)


def set_up(script: str, folder: Path, *arguments: str) -> str:
    """What `script`, which is told where setup.py is, says in `folder`."""
    ended = subprocess.run(
        [sys.executable, "-c", script, ROOT / "setup.py", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.mark.parametrize("broken", [None, "library", "first", "second"])
def test_modules_are_compiled_together_or_not_at_all(tmp_path: Path, broken: str | None) -> None:
    names = ("library", "first", "second")
    for name in names:
        (tmp_path / f"{name}.c").write_text("#error" if name == broken else MODULE % name)
    said = set_up(SCRIPT, tmp_path, *(f"{name}.c" for name in names))
    built = {file.name.partition(".")[0] for file in (tmp_path / "built").rglob("*.so")}
    assert built == (set(names) if broken is None else set()), said


def test_what_mypy_refuses_is_left_as_it_is(tmp_path: Path) -> None:
    names = set_up(REFUSED, tmp_path).split()
    assert "kvstore.native" in names
    assert "kvstore.node" not in names
