"""The examples of docs/containers.md, as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from kvctl.containers.resource import FIELDS
from tests.kvctl.process import SECONDS, surroundings

PAGE = (Path(__file__).parents[3] / "docs" / "containers.md").read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for one, text in found if one == kind]


def test_every_line_for_a_shell(url: str, tmp_path: Path) -> None:
    kvctl = tmp_path / "bin" / "kvctl"
    kvctl.parent.mkdir()
    kvctl.write_text(f'#!/bin/sh\nexec {sys.executable} -m kvctl "$@"\n')
    kvctl.chmod(0o755)
    environ = surroundings(ETCDCTL_ENDPOINTS=url)
    environ["PATH"] = f"{kvctl.parent}:{environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu", "-c", "".join(blocks("sh"))],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[2] == "8080 postgres://db/web site"
    assert "\n".join(said[3:5]) + "\n" == blocks("")[0]
    assert said[5:8] == ["listen 8080;", "log info;", "db.url postgres://db/web site;"]
    assert said[8:10] == ["postgres://db/web site", "8080"]
    assert re.fullmatch("number [0-9]+", said[10])
    assert said[11:] == ["at most two at once", "port=8080", "port=8080"]
    assert done.stderr.splitlines()[0] == "reloaded"
    assert done.stderr.splitlines()[1].endswith("keys.cache is used, the last good answer")


def test_the_resource_has_every_field() -> None:
    table = tomllib.loads(blocks("toml")[0])["template"]
    assert set(table) == set(FIELDS) - {"uid", "gid"}


def test_jinja2_is_paid_for_by_render_alone() -> None:
    script = (
        "import sys; from kvctl.table import TABLE; "
        "[entry.load() for entry in TABLE if 'containers' in entry.where and entry.name != 'render']; "
        "sys.exit('jinja2' in sys.modules or 'kvctl.containers.lock' not in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], env=surroundings(), timeout=SECONDS, check=True)
