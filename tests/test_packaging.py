"""The metadata of the distribution `kvstored`, and which tag a wheel gets. `make dist` tries the real archives."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageMetadata, distribution, metadata
from pathlib import Path

import pytest

from kvstore.version import VERSION
from tests import audit

ROOT = Path(__file__).parents[1]
SECONDS = 60.0
NAME = "kvstored"

#: Runs setup.py on one small extension in the place of ours, up to the point where bdist_wheel chooses a tag.
BUILD = """
import runpy, sys
import mypyc.build, setuptools


class Wheel(setuptools.Command):
    user_options = []
    root_is_pure = False
    initialize_options = finalize_options = lambda self: None

    def run(self):
        self.run_command("build")
        print("pure" if self.root_is_pure and not self.distribution.has_ext_modules() else "for one platform")


setup_py = sys.argv[1]
sys.argv = ["setup.py", "--quiet", "bdist_wheel"]
made = [setuptools.Extension("small", ["small.c"])]
mypyc.build.mypycify = lambda *paths, **options: made
setup = setuptools.setup
setuptools.setup = lambda ext_modules, cmdclass: setup(
    name="kvstored", packages=[], ext_modules=made, cmdclass=cmdclass | {"bdist_wheel": Wheel}
)
runpy.run_path(setup_py)
"""
MODULE = "#include <Python.h>\nPyMODINIT_FUNC PyInit_small(void) { return NULL; }\n"


@pytest.fixture(scope="module")
def installed() -> PackageMetadata:
    return metadata(NAME)


def test_name_version_and_licence(installed: PackageMetadata) -> None:
    assert installed["Name"] == NAME
    assert installed["Version"] == VERSION
    assert installed["License-Expression"] == "Apache-2.0"
    assert installed.get_all("License-File") == ["LICENSE"]
    assert not [text for text in installed.get_all("Classifier", []) if text.startswith("License ::")]


def test_the_description_is_the_readme(installed: PackageMetadata) -> None:
    assert installed["Description-Content-Type"] == "text/markdown"
    assert len(installed["Summary"]) <= 100
    assert (ROOT / "README.md").read_text().startswith(f"# {NAME}\n")


def test_the_oldest_python_is_the_same_everywhere(installed: PackageMetadata) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = installed["Requires-Python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in installed.get_all("Classifier", [])
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"Python {oldest}" in (ROOT / "README.md").read_text()


def test_the_commands_are_those_of_the_two_programs() -> None:
    scripts = {point.name: point.value for point in distribution(NAME).entry_points.select(group="console_scripts")}
    assert scripts == {"kvctl": "kvctl.main:main", "kvstored": "kvstored.main:main"}


def test_what_is_needed_at_run_time_holds_no_tool_of_development() -> None:
    needed = {requirement.name.lower().replace("_", "-") for requirement in audit.requirements(distribution(NAME))}
    assert needed <= audit.WANTED
    assert not needed & {"build", "twine", "cython", "mypy", "pytest"}


def test_each_tool_for_make_dist_has_its_version() -> None:
    tools = re.search(r"^DIST_TOOLS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tools is not None
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert set(tools[1].split()) <= pinned


@pytest.mark.parametrize("compiles", [True, False])
def test_a_wheel_is_for_one_platform_only_if_it_holds_a_compiled_module(tmp_path: Path, compiles: bool) -> None:
    if compiles and shutil.which("gcc") is None:
        pytest.skip("nothing can be compiled here (Debian: gcc python3-dev)")
    (tmp_path / "small.c").write_text(MODULE if compiles else "#error")
    ended = subprocess.run(
        [sys.executable, "-c", BUILD, ROOT / "setup.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.splitlines()[-1] == ("for one platform" if compiles else "pure"), ended.stdout
