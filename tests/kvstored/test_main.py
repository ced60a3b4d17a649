"""The command as an operator meets it: what it prints, where, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvstore import logs
from kvstore.raft.types import Entry, EntryKind, HardState
from kvstore.settings import Settings
from kvstore.storage.files import OSFiles
from kvstore.storage.folder import DataFolder
from kvstore.storage.layout import Identity
from kvstore.version import VERSION
from kvstored import flags
from kvstored.main import run

ROOT = Path(__file__).parents[2]


class Server:
    """Stands in for kvstore.server.run."""

    def __init__(self, status: int = 0, problem: Exception | None = None) -> None:
        self.status = status
        self.problem = problem
        self.settings: Settings | None = None

    def __call__(self, settings: Settings) -> int:
        self.settings = settings
        if self.problem:
            raise self.problem
        return self.status


def kvstored(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cmd")])
    return subprocess.run(
        [sys.executable, "-m", "kvstored", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str], **environment: str) -> str:
    server = Server()
    assert run(arguments, environment, server) == 2
    assert server.settings is None
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kvstored: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("kvstored: ").rstrip()


def test_serves_by_default_with_the_status_of_the_server() -> None:
    server = Server(status=1)
    assert run(["-name", "n1"], {"ETCD_MAX_WALS": "2"}, server) == 1
    assert server.settings == Settings(name="n1", data_dir=Path("n1.kvstore"), max_wals=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nmae", "x"], "unknown flag --nmae (did you mean --name?)"),
        (["--data-dir"], "--data-dir needs a value"),
        (["serve"], "unexpected argument 'serve'"),
        (["--enable-v2", "true"], "unexpected argument 'true' (write --enable-v2=true)"),
        (["--name", "true", "true"], "unexpected argument 'true'"),
        (["--cert-file=x"], "--cert-file and --key-file must be given together"),
        (["--version=maybe"], "--version: 'maybe' is neither true nor false"),
        (["--heartbeat-interval=x"], "--heartbeat-interval: 'x' is not a whole number"),
        (
            ["--listen-peer-urls=http://example.org:1"],
            "--listen-peer-urls: http://example.org:1 must name an IP address or localhost to listen on",
        ),
        (["check"], "check needs --data-dir"),
        (["check", "--data-dir"], "--data-dir needs a value"),
        (["check", "--name=x"], "unknown flag --name"),
        (["check", "--data-dir=x", "y"], "unexpected argument 'y'"),
    ],
)
def test_one_line_and_status_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(arguments, capsys) == message


def test_a_line_break_in_a_value_stays_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(["--bad\nname"], capsys) == "unknown flag --bad\\nname"
    assert refused(["check", "--data-dir=x", "y\nz"], capsys) == "unexpected argument 'y\\nz'"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["-help"], ["--name", "x", "--help"], ["check", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    assert run(arguments, {}, server) == 0
    assert server.settings is None
    assert capsys.readouterr() == (flags.usage() + "\n", "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    assert run(["--version", "--data-dir=x"], {}, server) == 0
    assert server.settings is None
    assert capsys.readouterr().out.splitlines()[:2] == [f"kvstored {VERSION}", "etcd API: v2, as etcd 3.4.23"]


def test_a_switch_that_is_off_does_nothing() -> None:
    server = Server()
    assert run(["--version=false", "--help=false"], {}, server) == 0
    assert server.settings == Settings()


def test_a_warning_is_one_log_line_in_the_chosen_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--enable-v2", "--log-format=json"], {}, Server()) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert '"level":"warn"' in err
    assert "--enable-v2 has no effect: the v2 API is always on" in err


def test_a_bug_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([], {}, Server(problem=RuntimeError("oh"))) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "stops because of a bug in kvstored" in err
    assert "RuntimeError: oh" in err


# --- check -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of a member that was stopped in good order."""
    path = tmp_path / "member"
    opened = DataFolder.open(OSFiles(), str(path))
    wal = opened.create_wal(Identity(7, 9, b"i" * 16), segment_bytes=1 << 20)
    wal.append(HardState(1, 9, 0), [Entry(1, 1, EntryKind.COMMAND, b"payload of the first entry")])
    wal.close()
    opened.close()
    return path


def test_check_of_a_sound_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--data-dir", str(folder)], {}) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "The data folder is sound."
    assert err == ""


def test_check_of_a_damaged_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (segment,) = (folder / "member" / "wal").glob("*.wal")
    content = bytearray(segment.read_bytes())
    content[content.index(b"first entry")] ^= 1
    segment.write_bytes(content)
    assert run(["check", f"-data-dir={folder}"], {}) == 1
    assert f"DAMAGE {segment} at offset " in capsys.readouterr().out


def test_check_of_a_folder_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = DataFolder.open(OSFiles(), str(folder), holder="4711")
    try:
        assert run(["check", "--data-dir", str(folder)], {}) == 1
    finally:
        opened.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kvstored: ")
    assert "in use by process 4711" in err


def test_check_of_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--data-dir", str(tmp_path / "none")], {}) == 1
    assert "there is no such folder" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


# --- the real command ----------------------------------------------------------------------------------------------


def test_the_command_itself() -> None:
    found = kvstored("--version")
    assert (found.returncode, found.stdout.splitlines()[0], found.stderr) == (0, f"kvstored {VERSION}", "")
    found = kvstored("--snapshot-count=0", ETCD_NAME="x")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "kvstored: --snapshot-count must be at least 1 (is 0)\n"


def test_help_into_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "cmd")])
        found = subprocess.run(
            [sys.executable, "-m", "kvstored", "--help"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": paths},
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writer)
    assert (found.returncode, found.stderr) == (0, b"")


def test_cmd_is_no_package() -> None:
    """An `__init__.py` there would shadow the standard library's cmd, which pdb imports."""
    assert not (ROOT / "cmd" / "__init__.py").exists()
    assert logs.ROOT == "kvstored"
