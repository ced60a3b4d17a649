"""Certificates, keys, authorities and lists of revoked certificates, from their files to what a handshake needs.

All of one side (towards clients, or towards members) is loaded at once and checked before it is used: what cannot be
used is refused as a whole, with one line that names the file. Every load makes new contexts of OpenSSL's, so that no
session of before can be resumed after a change. These calls block.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kvstore.alerts import AlertingContext, AlertingSession
from kvstore.certificates import UNREADABLE, CertificateError, revocation_lists
from kvstore.ciphers import openssl_names
from kvstore.settings import TlsSettings
from kvstore.tls.sides import TlsError

_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}

#: What of a file counts as a change: a symbolic link that now leads elsewhere is one, too, and so is a new mode.
Fingerprint: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]


class Expiry(NamedTuple):
    """When something of a file ends. `kind`: certificate, authority or crl."""

    kind: str
    path: str
    name: str  # of whom or by whom
    end: datetime


class Material(NamedTuple):
    """`certificate`, our own, and `listening` are None where there is none. `revoked`: issuer and serial number."""

    certificate: x509.Certificate | None
    listening: ssl.SSLContext | None
    dialling: ssl.SSLContext
    revoked: frozenset[tuple[x509.Name, int]]
    expiries: tuple[Expiry, ...]


class Policy(NamedTuple):
    """What holds for both sides."""

    cipher_suites: tuple[str, ...]
    min_version: str


def paths(settings: TlsSettings) -> tuple[Path, ...]:
    given = (settings.cert_file, settings.key_file, settings.trusted_ca_file, settings.crl_file)
    return tuple(path for path in given if path is not None)


def fingerprint(settings: TlsSettings) -> Fingerprint:
    """Never raises: a file that cannot be had is None."""
    marks: list[tuple[int, int, int, int] | None] = []
    for path in paths(settings):
        try:
            found = os.stat(path)
        except OSError:
            marks.append(None)
        else:
            marks.append((found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns))
    return tuple(marks)


def load(settings: TlsSettings, policy: Policy) -> Material:
    """Raises TlsError."""
    try:
        return _load(settings, policy)
    except UNREADABLE as problem:
        raise TlsError(f"{', '.join(map(str, paths(settings)))}: cannot be read: {problem}") from None


def _load(settings: TlsSettings, policy: Policy) -> Material:
    expiries: list[Expiry] = []
    authorities: list[x509.Certificate] = []
    certificate: x509.Certificate | None = None
    if settings.cert_file is not None:
        chain = _certificates(settings.cert_file)
        certificate = chain[0]
        expiries += _expiries("certificate", settings.cert_file, chain[:1])
    if settings.trusted_ca_file is not None:
        authorities = _certificates(settings.trusted_ca_file)
        expiries += _expiries("authority", settings.trusted_ca_file, authorities)
    revoked: set[tuple[x509.Name, int]] = set()
    if settings.crl_file is not None:
        for listed in _lists(settings.crl_file):
            revoked |= _revoked(settings.crl_file, listed, authorities)
            if listed.next_update_utc is not None:
                name = listed.issuer.rfc4514_string()
                expiries.append(Expiry("crl", str(settings.crl_file), name, listed.next_update_utc))
    listening = None if settings.cert_file is None else _listening(settings, policy)
    return Material(certificate, listening, _dialling(settings, policy), frozenset(revoked), tuple(expiries))


def flaw(certificate: x509.Certificate, is_client: bool, now: datetime) -> str:
    """Why whoever verifies it will refuse this server's certificate; empty where no reason is known. `is_client`: it is
    shown when others are dialled, too."""
    if now > certificate.not_valid_after_utc:
        return f"the certificate has expired ({certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC)"
    if now < certificate.not_valid_before_utc:
        return f"the certificate is not yet valid ({certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC)"
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ""  # good for all, or nothing is known
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages:
        return ""
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        return "the certificate is not made for servers (extended key usage)"
    if is_client and ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        return "the certificate is not made for clients (extended key usage), as which members dial each other"
    return ""


def _listening(settings: TlsSettings, policy: Policy) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    _furnish(context, settings, policy)
    context.set_alpn_protocols(["http/1.1"])
    # A session is worth little to a server whose connections last, and each would be kept in memory.
    context.num_tickets = 0
    if settings.asks_for_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        if settings.trusted_ca_file is None:  # the system's, as in etcd
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    return context


def _dialling(settings: TlsSettings, policy: Policy) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    _furnish(context, settings, policy)
    if settings.auto:  # nobody vouches for anybody: this encrypts, and that is all
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.trusted_ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _furnish(context: ssl.SSLContext, settings: TlsSettings, policy: Policy) -> None:
    context.minimum_version = _VERSIONS[policy.min_version]
    if names := openssl_names(policy.cipher_suites):
        try:
            context.set_ciphers(names)
        except ssl.SSLError:
            raise TlsError(f"OpenSSL has none of the cipher suites {','.join(policy.cipher_suites)}") from None
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_password)
        except ValueError as problem:
            raise TlsError(f"{settings.key_file}: {problem}") from None
        except OSError as problem:
            raise TlsError(f"{settings.cert_file} with {settings.key_file}: {_words(problem)}") from None
    if settings.trusted_ca_file is not None:
        try:
            context.load_verify_locations(settings.trusted_ca_file)
        except OSError as problem:
            raise TlsError(f"{settings.trusted_ca_file}: {_words(problem)}") from None


class _Context(AlertingContext):
    """A context whose sessions part with an alert, and without waiting for the other side."""


class _Session(AlertingSession):
    def getpeercert(self, binary_form: bool = False) -> Any:
        """The event loop asks for it, and would tell of a bug where Python cannot read what OpenSSL let pass."""
        try:
            return super().getpeercert(binary_form)
        except ValueError as problem:
            raise ssl.SSLError(1, f"its certificate cannot be read: {problem}") from None

    def unwrap(self) -> None:
        """Says goodbye, and does not wait for the other side's: it may never come, and what comes is not read."""
        with contextlib.suppress(ssl.SSLWantReadError):
            super().unwrap()


_Context.sslobject_class = _Session


def _no_password() -> str:
    """In place of OpenSSL's question on the terminal."""
    raise ValueError("the key is encrypted; a server cannot ask for its password")


# --- files --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise TlsError(f"{path}: {problem.strerror}") from None


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise TlsError(f"{path}: holds no certificate that can be read (PEM)") from None


def _lists(path: Path) -> list[x509.CertificateRevocationList]:
    try:
        return revocation_lists(_read(path))
    except CertificateError as problem:
        raise TlsError(f"{path}: {problem}") from None


def _revoked(
    path: Path, listed: x509.CertificateRevocationList, authorities: list[x509.Certificate]
) -> set[tuple[x509.Name, int]]:
    """The list of a trusted authority must have its signature. Others are not known here: of one that is no longer
    trusted, or that stands between a trusted one and the certificates."""
    signers = [one for one in authorities if one.subject == listed.issuer and _may_be_by(listed, one)]
    if signers and not any(_has_signed(one, listed) for one in signers):
        raise TlsError(f"{path}: the list by {listed.issuer.rfc4514_string()} has not that authority's signature")
    return {(listed.issuer, one.serial_number) for one in listed}


def _may_be_by(listed: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """By the identifiers of keys, where both have one: an old and a new authority may have the same name."""
    try:
        wanted = listed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return True
    return wanted is None or wanted == own


def _has_signed(signer: x509.Certificate, listed: x509.CertificateRevocationList) -> bool:
    try:
        return listed.is_signature_valid(signer.public_key())  # type: ignore[arg-type]
    except TypeError:  # a kind of key that signs nothing
        return False


def _expiries(kind: str, path: Path, certificates: list[x509.Certificate]) -> Iterator[Expiry]:
    for one in certificates:
        yield Expiry(kind, str(path), one.subject.rfc4514_string(), one.not_valid_after_utc)


def _words(problem: OSError) -> str:
    if isinstance(problem, ssl.SSLError):
        if problem.reason == "KEY_VALUES_MISMATCH":
            return "the key does not belong to the certificate"
        return (problem.reason or "cannot be read as PEM").replace("_", " ").lower()
    return problem.strerror or str(problem)
