"""Certificates made: an authority, what it issues for servers, clients and peers, and its list of those revoked.

Keys are ECDSA on P-256. Knows no file and no socket: it gives values, and PEM. Times are aware datetimes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
CRL_DAYS = 365
_PEM_LIST = b"-----BEGIN X509 CRL-----"
_PEM_LIST_END = b"-----END X509 CRL-----"
MAX_NAME = 64  # characters of a common name: X.520's limit
#: What `cryptography` raises for a certificate that OpenSSL may have let pass, perhaps only once it is looked at.
UNREADABLE = (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)
#: How far the clocks of two machines may be apart before a fresh certificate counts as not yet valid.
CLOCK_SKEW = timedelta(minutes=5)


class Usage(Enum):
    """What a certificate is for, with the extended key usages that say so."""

    SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
    CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    PEER = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)  # a peer is both


class CertificateError(ValueError):
    """What was given cannot be made, or read as, a certificate; the text is one line for an operator."""


class Issued(NamedTuple):
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(name: str, days: float = AUTHORITY_DAYS, start: datetime | None = None) -> Issued:
    """A new authority: a certificate that signs others, but no further authorities. Raises CertificateError."""
    key = _new_key()
    subject = _subject(name)
    builder = _builder(subject, subject, key, days, start)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    return Issued(builder.sign(key, hashes.SHA256()), key)


def issue(
    by: Issued,
    name: str,
    hosts: Iterable[str],
    usage: Usage,
    days: float = LEAF_DAYS,
    start: datetime | None = None,
) -> Issued:
    """A certificate for `name`, good for `hosts` (names and addresses), signed by an authority.

    It never outlives the authority. Raises CertificateError.
    """
    key = _new_key()
    builder = _builder(_subject(name), by.certificate.subject, key, days, start, by.certificate.not_valid_after_utc)
    builder = _leaf(builder, hosts, usage)
    builder = builder.add_extension(_identifier(by), critical=False)
    return Issued(builder.sign(by.key, hashes.SHA256()), key)


def self_signed(
    name: str, hosts: Iterable[str], usage: Usage, days: float = LEAF_DAYS, start: datetime | None = None
) -> Issued:
    """A certificate that only its own key vouches for: it encrypts, and proves nothing. Raises CertificateError."""
    key = _new_key()
    builder = _leaf(_builder(_subject(name), _subject(name), key, days, start), hosts, usage)
    return Issued(builder.sign(key, hashes.SHA256()), key)


def revocation_list(by: Issued, serials: Iterable[int], days: float = CRL_DAYS, start: datetime | None = None) -> bytes:
    """The PEM of a list of revoked certificates of one authority."""
    begin = start or datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(by.certificate.subject)
    builder = builder.last_update(begin - CLOCK_SKEW).next_update(begin + timedelta(days=days))
    builder = builder.add_extension(_identifier(by), critical=False)
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin - CLOCK_SKEW)
        builder = builder.add_revoked_certificate(revoked.build())
    return builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def load(certificate_pem: bytes, key_pem: bytes) -> Issued:
    """What `Issued` gave as PEM, read back. Raises CertificateError."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError:
        raise CertificateError("the certificate cannot be read (PEM)") from None
    try:
        key: PrivateKeyTypes = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("the key cannot be read (PEM, without a password)") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the key is not an ECDSA key")
    if key.public_key() != certificate.public_key():
        raise CertificateError("the key does not belong to the certificate")
    return Issued(certificate, key)


def common_name(certificate: x509.Certificate) -> str:
    """Empty when it has none, or several: nobody is two."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that a certificate is good for, as text."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]


def usage_of(certificate: x509.Certificate) -> Usage | None:
    """None: an authority's, or of none of the kinds that are made here."""
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None
    return next((usage for usage in Usage if set(usage.value) == usages), None)


def unfit_for_members(certificate: x509.Certificate) -> str:
    """Return why a certificate was not made for a member of a cluster, empty if it was.

    A member listens and dials, so its certificate names both usages, and a host. Certificates for servers or for users
    lack one of these, also where the same authority issued them.
    """
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = set()
    if not usages.issuperset(Usage.PEER.value):
        return "its extended key usage is not that of servers and clients both"
    return "" if hosts_of(certificate) else "it names no host"


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether `authority` has signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def revocation_lists(octets: bytes) -> list[x509.CertificateRevocationList]:
    """One list in DER, or any number in PEM. Raises CertificateError."""
    try:
        if _PEM_LIST not in octets:
            return [x509.load_der_x509_crl(octets)]
        pieces = [piece.partition(_PEM_LIST_END)[0] for piece in octets.split(_PEM_LIST)[1:]]
        return [x509.load_pem_x509_crl(_PEM_LIST + piece + _PEM_LIST_END + b"\n") for piece in pieces]
    except ValueError:
        raise CertificateError("holds no list of revoked certificates that can be read (PEM or DER)") from None


# --- the parts ----------------------------------------------------------------------------------------------------


def _identifier(by: Issued) -> x509.AuthorityKeyIdentifier:
    """Tells authorities of one name apart, such as an old and a new one."""
    try:
        own = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:  # an authority that was made elsewhere
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _subject(name: str) -> x509.Name:
    if not 0 < len(name) <= MAX_NAME:
        raise CertificateError(f"a name has 1 to {MAX_NAME} characters, {name!r} has {len(name)}")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: float,
    start: datetime | None,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    begin = (start or datetime.now(UTC)) - CLOCK_SKEW
    try:
        end = begin + CLOCK_SKEW + timedelta(days=days)
    except OverflowError:
        raise CertificateError(f"{days} days are too many") from None
    if latest is not None:
        end = min(end, latest)
    if end <= begin:
        raise CertificateError("it would end before it begins")
    public: CertificatePublicKeyTypes = key.public_key()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _leaf(builder: x509.CertificateBuilder, hosts: Iterable[str], usage: Usage) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usage.value), critical=False)
    names = _names(hosts)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else builder


def _names(hosts: Iterable[str]) -> Sequence[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not _may_be_a_name(host):
                raise CertificateError(f"{host!r} is neither a host name nor an address") from None
            names.append(x509.DNSName(host))
    return names


def _may_be_a_name(host: str) -> bool:
    """What ends in a number is a mistyped address: no top-level domain is one."""
    _, dot, last = host.rpartition(".")
    return (
        host.isascii()
        and host.isprintable()
        and bool(host)
        and not set(" /:") & set(host)
        and not (dot and last.isdigit())
    )


def _key_usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
