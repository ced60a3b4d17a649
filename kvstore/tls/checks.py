"""Whom a certificate names, and whether that will do: what is asked beyond the chain of signatures.

OpenSSL has verified the chain, the dates and the usage; here are revocation, the common name and the host name that
a side insists on, and (as in etcd) whether a member connects from an address that its certificate names.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

from cryptography import x509

from kvstore.certificates import UNREADABLE, common_name, hosts_of, unfit_for_members
from kvstore.settings import TlsSettings
from kvstore.tls.material import Material
from kvstore.tls.sides import Refused

#: A name service that does not answer holds up nobody but the one who is looked up.
LOOKUP_SECONDS = 3.0


def examine(
    session: ssl.SSLObject | ssl.SSLSocket, settings: TlsSettings, material: Material, wants_member: bool = False
) -> None:
    """What holds for every side that connects to us or is dialled; `wants_member`: its certificate must have been made
    for a member of a cluster. Raises Refused."""
    with _readable():
        chain = _chain(session)
        _examine(chain, settings, material)
        if chain and wants_member and (why := unfit_for_members(chain[0])):
            raise Refused(
                f"the certificate of {_who(chain[0])} is not made for members: {why}"
                " (--peer-cert-allow-any-usage lets it pass)"
            )


def _examine(chain: list[x509.Certificate], settings: TlsSettings, material: Material) -> None:
    if not chain:
        return  # none was asked for
    leaf = chain[0]
    now = datetime.now(UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:  # a resumed session is not verified again
        raise Refused(f"the certificate of {_who(leaf)} is not valid at this time")
    for one in chain:
        if (one.issuer, one.serial_number) in material.revoked:
            raise Refused(f"the certificate of {_who(one)} with serial number {one.serial_number:x} is revoked")
    if settings.allowed_cn and common_name(leaf) != settings.allowed_cn:
        raise Refused(f"the certificate of {_who(leaf)} has not the common name {settings.allowed_cn!r}")
    if settings.allowed_hostname and not is_good_for(leaf, settings.allowed_hostname):
        raise Refused(f"the certificate of {_who(leaf)} is not good for {settings.allowed_hostname!r}")


async def examine_address(session: ssl.SSLObject, address: str) -> None:
    """Whether a member's certificate names the address that it connects from: as such, or by a name that leads there
    or that the address leads to. One that names no host at all may come from anywhere. Raises Refused."""
    with _readable():
        chain = _chain(session)
        hosts = hosts_of(chain[0]) if chain else []
        if not hosts or is_good_for(chain[0], address):
            return
    names = [host for host in hosts if not _is_address(host)]
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            if await _leads_to(names, address):
                return
    except TimeoutError:
        pass
    raise Refused(f"the certificate of {_who(chain[0])} is not good for {address}, where it connects from")


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """OpenSSL lets pass what this parser does not; then nothing is known about it."""
    try:
        yield
    except UNREADABLE as problem:
        raise Refused(f"its certificate cannot be read: {problem}") from None


def is_good_for(certificate: x509.Certificate, host: str) -> bool:
    """RFC 6125, without the common name: an address as it is, a name in any case, `*.` for one label."""
    try:
        wanted = str(ipaddress.ip_address(host))
    except ValueError:
        wanted = host.lower().rstrip(".")
        return any(_matches(name.lower().rstrip("."), wanted) for name in hosts_of(certificate))
    return wanted in hosts_of(certificate)


def _matches(name: str, host: str) -> bool:
    if name.startswith("*."):
        label, dot, rest = host.partition(".")
        return bool(label and dot) and rest == name[2:]
    return name == host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _leads_to(names: list[str], address: str) -> bool:
    loop = asyncio.get_running_loop()
    if not names:
        return False
    try:
        found, _ = await loop.getnameinfo((address, 0), socket.NI_NAMEREQD)
    except OSError:
        pass
    else:
        if any(_matches(name.lower(), found.lower().rstrip(".")) for name in names):
            return True
    for name in names:
        try:
            known = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        if any(entry[4][0] == address for entry in known):
            return True
    return False


def _chain(session: ssl.SSLObject | ssl.SSLSocket) -> list[x509.Certificate]:
    """The certificate that was shown and what it was verified by; that one alone in a resumed session."""
    leaf = session.getpeercert(binary_form=True)
    if leaf is None:
        return []
    # SSLObject has the chain since Python 3.13; before, the object within has it.
    inner = session if hasattr(session, "get_verified_chain") else cast(Any, session)._sslobj
    verified = cast(Any, inner).get_verified_chain() or ()
    octets = [one if isinstance(one, bytes) else one.public_bytes(2) for one in verified]  # 2: DER
    return [x509.load_der_x509_certificate(one) for one in octets or [leaf]]


def _who(certificate: x509.Certificate) -> str:
    return repr(common_name(certificate) or certificate.subject.rfc4514_string())
