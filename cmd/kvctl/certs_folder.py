"""The folder of `kvctl certs`: `ca.crt`, `ca.key`, `ca.crl` of the authority, `NAME.crt` and `NAME.key` of the others.

Every file is for its owner alone. Knows nothing of what a certificate is for.
"""

from __future__ import annotations

import os
from pathlib import Path

from kvctl.command import Failure
from kvstore.certificates import CertificateError, Issued, load

AUTHORITY = "ca"


class Folder:
    """Where the files are. Every failure is a Failure that names the file."""

    def __init__(self, path: Path, force: bool) -> None:
        self.path = path
        self._force = force

    @property
    def authority(self) -> Issued:
        if not self.certificate(AUTHORITY).exists():
            raise Failure(f"Error:  there is no {self.certificate(AUTHORITY)}; make it by: kvctl certs init")
        return self.load(AUTHORITY)

    def certificate(self, name: str) -> Path:
        return self.path / f"{name}.crt"

    @property
    def revoked(self) -> Path:
        """The authority's list of revoked certificates."""
        return self.certificate(AUTHORITY).with_suffix(".crl")

    def load(self, name: str) -> Issued:
        path = self.certificate(name)
        try:
            return load(path.read_bytes(), path.with_suffix(".key").read_bytes())
        except OSError as error:
            raise Failure(f"Error:  {error.filename}: {error.strerror}") from None
        except CertificateError as error:
            raise Failure(f"Error:  {path} and {path.with_suffix('.key')}: {error}") from None

    def store(self, name: str, issued: Issued) -> Path:
        """The key first: a server that sees the pair in between takes neither yet."""
        path = self.certificate(name)
        held = [one for one in (path, path.with_suffix(".key")) if one.exists()]
        if held and not self._force:
            raise Failure(f"Error:  {held[0]} exists; --force overwrites it")
        self.write(path.with_suffix(".key"), issued.key_pem)
        self.write(path, issued.certificate_pem)
        return path

    def write(self, path: Path, octets: bytes) -> None:
        """As a whole, or not at all."""
        part = path.with_name(f".{path.name}.part")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise Failure(f"Error:  {path}: {error.strerror}") from None

    def names(self) -> list[str]:
        """Of all certificates but the authority's."""
        try:
            return sorted(path.stem for path in self.path.glob("*.crt") if path.stem != AUTHORITY)
        except OSError as error:
            raise Failure(f"Error:  {self.path}: {error.strerror}") from None
