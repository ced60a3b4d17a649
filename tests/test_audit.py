"""That the audit of packages sees what it is for."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tests import audit


def package(folder: Path, name: str = "thing", metadata: str = "", content: bytes = b"x = 1\n") -> Distribution:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}\n")
    (about / "RECORD").write_text(f"{name}.py,sha256={digest},6\n{about.name}/RECORD,,\n")
    (folder / f"{name}.py").write_bytes(content)
    return Distribution.at(about)


def test_what_is_installed_here_passes() -> None:
    assert list(audit.problems()) == []


def test_a_changed_and_a_missing_file_are_seen(tmp_path: Path) -> None:
    thing = package(tmp_path)
    assert list(audit.changed_files(thing)) == []
    (tmp_path / "thing.py").write_bytes(b"x = 2\n")
    assert list(audit.changed_files(thing)) == ["thing.py was changed"]
    (tmp_path / "thing.py").unlink()
    assert list(audit.changed_files(thing)) == ["thing.py is missing"]


@pytest.mark.parametrize(
    ("metadata", "passes"),
    [
        ("License-Expression: Apache-2.0", True),
        ("Classifier: License :: OSI Approved :: MIT License", True),
        ("License: BSD", True),
        ("License-Expression: AGPL-3.0-only", False),
        ("", False),
    ],
)
def test_licences(metadata: str, passes: bool, tmp_path: Path) -> None:
    assert bool(audit.LICENCES.search(audit.licence(package(tmp_path, metadata=metadata)))) is passes


def test_one_package_more_or_less_and_a_version_that_does_not_fit_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, "top", "Requires-Dist: below>=2")
    package(tmp_path, "below", "License: MIT")
    monkeypatch.setattr(audit, "ROOT", "top")
    monkeypatch.setattr(audit, "WANTED", frozenset({"gone"}))
    assert list(audit.problems()) == [
        "below is pulled in, and not among the packages that were decided on (tests/audit.py)",
        "gone is not needed any more (tests/audit.py)",
    ]
    package(tmp_path, "middle", "License: MIT\nRequires-Dist: below>=2")
    package(tmp_path, "first", "Requires-Dist: middle")
    monkeypatch.setattr(audit, "ROOT", "first")
    monkeypatch.setattr(audit, "WANTED", frozenset({"middle", "below"}))
    assert list(audit.problems()) == ["middle needs below>=2, and 1.0 is installed"]
