"""Authorities and certificates as files: the good ones, and every kind that must be refused."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kvstore.certificates import Issued, Usage, authority, issue, revocation_list, self_signed
from tests.cluster import Pair, Tls

HOSTS = ("localhost", "127.0.0.1")
#: What the matrix wants every certificate to be good for.
NAME = "good.example"
LONG_AGO = datetime.now(UTC) - timedelta(days=100)
IN_A_WHILE = datetime.now(UTC) + timedelta(days=100)


class Pki:
    """One authority, and another one that nobody trusts. `start` and `days` as in kvstore.certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = authority("the authority")
        self.stranger = authority("another authority")
        self.ca_file = self.write("ca.crt", self.ca.certificate_pem)
        self.issued: dict[str, Issued] = {}

    def write(self, name: str, octets: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(octets)
        return path

    def pair(self, file: str, issued: Issued) -> Pair:
        self.issued[file] = issued
        return Pair(self.write(f"{file}.crt", issued.certificate_pem), self.write(f"{file}.key", issued.key_pem))

    def issue(
        self,
        file: str,
        hosts: Iterable[str] = (*HOSTS, NAME),
        usage: Usage = Usage.PEER,
        *,
        name: str = "",
        by: Issued | None = None,
        days: float = 30.0,
        start: datetime | None = None,
    ) -> Pair:
        return self.pair(file, issue(by or self.ca, name or file, hosts, usage, days, start))

    def matrix(self) -> dict[str, Pair]:
        """One of each kind that must be refused, whoever shows it; the usage is that of a server without a client."""
        return {
            "expired": self.issue("expired", start=LONG_AGO),
            "not yet valid": self.issue("not-yet-valid", start=IN_A_WHILE),
            "wrong authority": self.issue("wrong-authority", by=self.stranger),
            "wrong usage": self.issue("wrong-usage", usage=Usage.SERVER),
            "wrong name": self.issue("wrong-name", hosts=("other.example", "192.0.2.1")),
            "self-signed": self.pair("self-signed", self_signed("self-signed", (*HOSTS, NAME), Usage.PEER)),
            "revoked": self.issue("revoked"),
        }

    def odd(self) -> Pair:
        """One with a good signature, and in its list of names one that is none: OpenSSL lets it pass."""
        names = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes.fromhex("3006820401020380"))
        builder = x509.CertificateBuilder(
            self.ca.certificate.subject,
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")]),
            self.ca.key.public_key(),
            x509.random_serial_number(),
            self.ca.certificate.not_valid_before_utc,
            self.ca.certificate.not_valid_after_utc,
        ).add_extension(names, critical=False)
        return self.pair("odd", Issued(builder.sign(self.ca.key, hashes.SHA256()), self.ca.key))

    def revoke(self, *files: str, name: str = "revoked.crl") -> Path:
        return self.write(name, revocation_list(self.ca, [self.issued[one].certificate.serial_number for one in files]))

    def tls(self, address: str) -> Tls:
        """What a member at `address` needs, for both sides. It dials from 127.0.0.1."""
        hosts = (*HOSTS, NAME, address)
        return Tls(
            self.ca_file,
            self.issue("server", hosts, Usage.SERVER),
            self.issue("peer", hosts),
            self.issue("client", usage=Usage.CLIENT, name="alice"),
        )

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Of a client that trusts the authority and shows `pair`."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context
