"""What can be said offline of the packages that the server runs on. Part of `make check`.

- Only those are pulled in that are listed here: one more is a decision, not an accident.
- Their licences let everybody use the whole.
- Their files are what was installed: each matches the hash in its package's own record.
- What each asks of the others is met.

Not checked, for it needs the network: whether a version is known to be vulnerable, withdrawn, or not what its authors
published (docs/security.md says how). That versions are exact is `make lock-check`'s.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "kvstored"
#: All that is needed to run, by the names that pip knows.
WANTED = frozenset(
    {
        *("aiohttp", "aiohappyeyeballs", "aiosignal", "attrs", "frozenlist", "idna", "multidict", "propcache", "yarl"),
        *("typing-extensions", "bcrypt", "cryptography", "cffi", "pycparser", "dnspython", "httptools", "msgpack"),
        *("prometheus-client", "pyyaml", "uvloop"),
        *("jinja2", "markupsafe"),  # for kvctl render
    }
)
LICENCES = re.compile(r"Apache|MIT|BSD|ISC|PSF|Python Software Foundation", re.IGNORECASE)
_CLASSIFIER = "License :: OSI Approved :: "


def closure(root: str) -> dict[str, Distribution]:
    """All distributions that `root` needs here, without its extras, by name; `root` itself is left out."""
    found: dict[str, Distribution] = {}
    waiting = list(requirements(distribution(root)))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = distribution(requirement.name)
            waiting += requirements(found[name], requirement.extras)
    return found


def requirements(of: Distribution, extras: set[str] | None = None) -> Iterator[Requirement]:
    """What holds on this machine and with this Python."""
    for text in of.requires or ():
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in (extras or {""})]
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield requirement


def licence(of: Distribution) -> str:
    """As the package says it, in one of the three places for it."""
    metadata = of.metadata
    classifiers = [text.removeprefix(_CLASSIFIER) for text in metadata.get_all("Classifier") or () if "License" in text]
    return metadata["License-Expression"] or ", ".join(classifiers) or metadata["License"] or "none"


def changed_files(of: Distribution) -> Iterator[str]:
    """Files that are not what was installed. Compiled ones and the record itself have no hash."""
    for path in of.files or ():
        if path.hash is None:
            continue
        try:
            digest = hashlib.new(path.hash.mode, Path(path.locate()).read_bytes()).digest()
        except OSError:
            yield f"{path} is missing"
            continue
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != path.hash.value:
            yield f"{path} was changed"


def problems() -> Iterator[str]:
    try:
        found = closure(ROOT)
    except PackageNotFoundError as missing:
        yield f"{missing.name} is needed and not installed"
        return
    for name in sorted(found.keys() - WANTED):
        yield f"{name} is pulled in, and not among the packages that were decided on (tests/audit.py)"
    for name in sorted(WANTED - found.keys()):
        yield f"{name} is not needed any more (tests/audit.py)"
    for name, one in sorted(found.items()):
        if not LICENCES.search(licence(one)):
            yield f"{name} has the licence {licence(one)!r}"
        for change in changed_files(one):
            yield f"{name}: {change}"
        for requirement in requirements(one):
            version = found[canonicalize_name(requirement.name)].version
            if version not in requirement.specifier:
                yield f"{name} needs {requirement}, and {version} is installed"


def main() -> int:
    lines = list(problems())
    for line in lines:
        print(f"audit: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
