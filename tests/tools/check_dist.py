"""Install each archive in dist/ into a fresh environment without a C compiler, and use it. Part of `make dist`.

Three archives are expected: the sdist, a wheel with compiled modules for this Python and platform, and a `py3-none-any`
wheel without any. pip needs a package registry for the dependencies; constraints.txt says which versions.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from kvstore.version import VERSION
from tests.cluster import ROOT, Cluster, ClusterError

DIST = ROOT / "dist"
INSTALL_SECONDS = 600.0
COMMAND_SECONDS = 30.0
IS_COMPILED = "from kvstore import server; print(server.is_compiled)"


class DistError(Exception):
    """An archive is missing or does not work; the text says which and why."""


def archives() -> dict[Path, bool]:
    """The archives in dist/, each with whether an installation from it has compiled modules."""
    found = {file: "-py3-none-any" not in file.name and file.suffix == ".whl" for file in sorted(DIST.iterdir())}
    kinds = [(file.name.endswith(".tar.gz"), compiled) for file, compiled in found.items()]
    if sorted(kinds) != [(False, False), (False, True), (True, False)]:
        names = ", ".join(file.name for file in found) or "nothing"
        raise DistError(f"dist/ should hold one sdist, one compiled wheel and one pure wheel, but holds {names}")
    return found


def run(*command: str | Path, folder: Path, seconds: float = COMMAND_SECONDS) -> str:
    """Run one command of the environment in `folder`, without a compiler, and return its output."""
    environment = {"PATH": str(folder / "bin"), "CC": "/bin/false", "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    ended = subprocess.run(
        [folder / "bin" / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    if ended.returncode != 0:
        raise DistError(f"{' '.join(map(str, command))} ended with status {ended.returncode}\n{ended.stdout}")
    return ended.stdout.strip()


def expect(what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise DistError(f"{what}: expected {wanted!r}, got {found!r}")


def check(archive: Path, is_compiled: bool, folder: Path) -> None:
    """Install `archive` into an environment in `folder`, start a member from it and use it with its own kvctl."""
    venv.create(folder, with_pip=True)
    pip = ("pip", "--disable-pip-version-check", "--quiet", "install")
    # pip would take the wheel that it built of an earlier sdist of this name from its cache.
    run(*pip, "--no-cache-dir", "--no-deps", archive, folder=folder, seconds=INSTALL_SECONDS)
    run(*pip, f"kvstored=={VERSION}", folder=folder, seconds=INSTALL_SECONDS)  # installed: adds its dependencies
    run("pip", "check", folder=folder)
    expect("compiled modules", run("python", "-c", IS_COMPILED, folder=folder), str(is_compiled))
    expect("kvstored --version", run("kvstored", "--version", folder=folder).splitlines()[0].split()[-1], VERSION)
    member = ("env", "--unset=PYTHONPATH", f"--chdir={folder}", str(folder / "bin" / "kvstored"))
    with Cluster.of(1, folder / "run", member) as cluster:
        kvctl = ("kvctl", "--endpoints", cluster.members[0].client_url)
        run(*kvctl, "set", "/message", "hello", folder=folder)
        expect("kvctl get", run(*kvctl, "get", "/message", folder=folder), "hello")


def main() -> int:
    try:
        for archive, is_compiled in archives().items():
            with tempfile.TemporaryDirectory() as folder:
                check(archive, is_compiled, Path(folder))
            print(f"{archive.relative_to(ROOT)}: installs without a compiler, serves", flush=True)
    except (DistError, ClusterError, subprocess.TimeoutExpired) as error:
        print(f"make dist: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
