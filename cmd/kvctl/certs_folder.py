"""The folder of `kvctl certs`: two authorities, and the certificates that they issue.

`ca.crt`, `ca.key` and `ca.crl` are of the authority for servers and clients, `peer-ca.*` of the one for members,
`NAME.crt` and `NAME.key` of the certificates. In a folder without `peer-ca`, as releases before made it, `ca` issues
everything. Every file is for its owner alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509

from kvctl.command import Failure
from kvstore.certificates import CertificateError, Issued, issued_by, load

AUTHORITY = "ca"
PEER_AUTHORITY = "peer-ca"
AUTHORITIES = (AUTHORITY, PEER_AUTHORITY)


class Folder:
    """Where the files are. Every failure is a Failure that names the file."""

    def __init__(self, path: Path, force: bool) -> None:
        self.path = path
        self._force = force

    def authority_for(self, is_peer: bool) -> str:
        """Return the name of the authority that issues new certificates, of members or of servers and clients."""
        if is_peer and self.certificate(PEER_AUTHORITY).exists():
            return PEER_AUTHORITY
        return AUTHORITY

    def authority(self, name: str) -> Issued:
        if not self.certificate(name).exists():
            raise Failure(f"Error:  there is no {self.certificate(name)}; make it by: kvctl certs init")
        return self.load(name)

    def issuer_of(self, certificate: x509.Certificate) -> str | None:
        """Return the name of the authority in this folder that has issued `certificate`, None if none has."""
        names = self.authorities()
        return next((name for name in names if issued_by(certificate, self.load(name).certificate)), None)

    def authorities(self) -> list[str]:
        """Return the names of those that there are."""
        return [name for name in AUTHORITIES if self.certificate(name).exists()]

    def certificate(self, name: str) -> Path:
        return self.path / f"{name}.crt"

    def revoked(self, authority: str) -> Path:
        """An authority's list of revoked certificates."""
        return self.certificate(authority).with_suffix(".crl")

    def load(self, name: str) -> Issued:
        path = self.certificate(name)
        try:
            return load(path.read_bytes(), path.with_suffix(".key").read_bytes())
        except OSError as error:
            raise Failure(f"Error:  {error.filename}: {error.strerror}") from None
        except CertificateError as error:
            raise Failure(f"Error:  {path} and {path.with_suffix('.key')}: {error}") from None

    def check_free(self, name: str) -> None:
        """Raise Failure if storing `name` would overwrite what must not be."""
        path = self.certificate(name)
        held = [one for one in (path, path.with_suffix(".key")) if one.exists()]
        if held and not self._force:
            raise Failure(f"Error:  {held[0]} exists; --force overwrites it")

    def store(self, name: str, issued: Issued) -> Path:
        """The key first: a server that sees the pair in between takes neither yet."""
        path = self.certificate(name)
        self.check_free(name)
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
        """Of all certificates but the authorities'."""
        try:
            return sorted(path.stem for path in self.path.glob("*.crt") if path.stem not in AUTHORITIES)
        except OSError as error:
            raise Failure(f"Error:  {self.path}: {error.strerror}") from None
