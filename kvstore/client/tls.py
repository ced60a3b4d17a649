"""TLS of a client: its files, and Go's words for what goes wrong with them."""

from __future__ import annotations

import ssl
from typing import NamedTuple

from kvstore.alerts import AlertingContext
from kvstore.client.errors import InvalidTls

_VERIFY = {  # OpenSSL's number of a failed verification -> Go's words
    10: "x509: certificate has expired or is not yet valid",
    9: "x509: certificate has expired or is not yet valid",
    18: "x509: certificate signed by unknown authority",
    19: "x509: certificate signed by unknown authority",
    20: "x509: certificate signed by unknown authority",
    21: "x509: certificate signed by unknown authority",
}
_PEER_SAID = {  # an alert of the other side -> Go's words
    "certificate required": "remote error: tls: certificate required",
    "bad certificate": "remote error: tls: bad certificate",
    "unknown ca": "remote error: tls: unknown certificate authority",
    "unsupported certificate": "remote error: tls: unsupported certificate",
    "certificate revoked": "remote error: tls: revoked certificate",
    "certificate unknown": "remote error: tls: unknown certificate",
    "protocol version": "remote error: tls: protocol version not supported",
    "certificate expired": "remote error: tls: expired certificate",
    "handshake failure": "remote error: tls: handshake failure",
}


class Tls(NamedTuple):
    """Paths of PEM files; empty: the system's authorities, no certificate of our own.

    `server_name` is what the server's certificate must be for, where that is not the endpoint's host.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""

    def check(self) -> None:
        """Raises InvalidTls where etcdctl does even when no endpoint is https."""
        if bool(self.cert_file) != bool(self.key_file):
            raise InvalidTls(f"KeyFile and CertFile must both be present[key: {self.key_file}, cert: {self.cert_file}]")
        for path in filter(None, (self.cert_file, self.key_file, self.ca_file)):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                verb = "read" if isinstance(error, IsADirectoryError) else "open"
                raise InvalidTls(f"{verb} {path}: {(error.strerror or str(error)).lower()}") from None

    def context(self) -> ssl.SSLContext:
        """Raises InvalidTls."""
        self.check()
        try:
            context = AlertingContext(ssl.PROTOCOL_TLS_CLIENT)
            if self.ca_file:
                context.load_verify_locations(self.ca_file)
            else:
                context.load_default_certs()
        except (ssl.SSLError, ValueError):
            raise InvalidTls(f"{self.ca_file} holds no certificate in PEM form") from None
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
            except (ssl.SSLError, ValueError) as error:
                reason = getattr(error, "reason", None) or str(error)
                text = str(reason).replace("_", " ").lower()
                raise InvalidTls(
                    f"{self.cert_file} and {self.key_file} are no certificate with its key: {text}"
                ) from None
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def reason(error: ssl.SSLError, host: str) -> str:
    """One line for why a handshake or what followed it failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _VERIFY:
            return _VERIFY[error.verify_code]
        if error.verify_code in (62, 64):
            return f"x509: certificate is not valid for {host}"
        return f"x509: {error.verify_message}"
    text = (error.reason or str(error)).replace("_", " ").lower()
    if text == "wrong version number" or text == "record layer failure":
        return "tls: first record does not look like a TLS handshake"
    for alert, words in _PEER_SAID.items():
        if text.endswith(alert):
            return words
    return f"tls: {text}"
