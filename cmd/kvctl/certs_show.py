"""What `certs show` prints: certificates and lists of revoked ones, one line each, and when they end.

Reads files, and knows nothing of how they are made.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509

from kvctl.certs_folder import Folder
from kvctl.command import Context, Failure
from kvstore.certificates import UNREADABLE, CertificateError, common_name, hosts_of, revocation_lists, usage_of

Serial: TypeAlias = tuple[x509.Name, int]  # by whom, and which


def show(folder: Folder, context: Context) -> None:
    """All that can be read, and then what could not be."""
    paths = [Path(word) for word in context.words]
    if not paths:
        for name in folder.authorities():
            paths += [folder.certificate(name), folder.revoked(name)]
        paths = [path for path in (*paths, *map(folder.certificate, folder.names())) if path.exists()]
    if not paths:
        raise Failure(f"Error:  there are no certificates in {folder.path}")
    failures: list[str] = []
    revoked: set[Serial] = set()
    for listed in filter(Path.exists, map(folder.revoked, folder.authorities())):
        try:
            revoked |= revoked_in(listed)
        except Failure as failure:
            failures.append(str(failure))
    for path in paths:
        try:
            for line in _lines(path, revoked):
                context.say(line)
        except Failure as failure:
            failures.append(str(failure))
        except UNREADABLE as error:
            failures.append(f"Error:  {path}: {error}")
    if failures:
        raise Failure("\n".join(dict.fromkeys(failures)))


def _lines(path: Path, revoked: set[Serial]) -> list[str]:
    """Of a file with certificates or with lists of revoked ones."""
    if path.suffix == ".crl":
        return [_list_line(path, listed) for listed in _lists(path)]
    return [
        line_of(path, one) + (" revoked=yes" if (one.issuer, one.serial_number) in revoked else "")
        for one in certificates_in(path)
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"Error:  {path}: {error.strerror}") from None


def certificates_in(path: Path) -> list[x509.Certificate]:
    """One or more. Raises Failure."""
    octets = _read(path)
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise Failure(f"Error:  {path} holds no certificate that can be read (PEM)") from None


def _lists(path: Path) -> list[x509.CertificateRevocationList]:
    octets = _read(path)
    try:
        return revocation_lists(octets)
    except CertificateError as error:
        raise Failure(f"Error:  {path} {error}") from None


def revoked_in(path: Path) -> set[Serial]:
    """Raises Failure."""
    return {(listed.issuer, one.serial_number) for listed in _lists(path) for one in listed}


def line_of(path: Path, certificate: x509.Certificate) -> str:
    usage = usage_of(certificate)
    return _shown(
        path,
        use="authority" if usage is None else usage.name.lower(),
        name=common_name(certificate),
        hosts=",".join(hosts_of(certificate)) or "-",
        **_end(certificate.not_valid_after_utc),
        serial=f"{certificate.serial_number:x}",
    )


def _list_line(path: Path, listed: x509.CertificateRevocationList) -> str:
    serials = ",".join(f"{one.serial_number:x}" for one in listed) or "-"
    name = listed.issuer.rfc4514_string().removeprefix("CN=")
    return _shown(path, use="list", name=name, **_end(listed.next_update_utc), revoked=serials)


def _end(end: datetime | None) -> dict[str, str]:
    if end is None:  # a list may go without
        return {"ends": "-", "days": "-"}
    return {"ends": f"{end:%Y-%m-%d}", "days": f"{(end - datetime.now(UTC)) / timedelta(days=1):.0f}"}


def _shown(path: Path, **fields: str) -> str:
    return f"{path}: " + " ".join(f"{field}={value}" for field, value in fields.items())
