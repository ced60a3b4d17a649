"""What one side shows and accepts, kept up to date with its files while the server runs.

New connections get what the files held last; those that exist go on with what they began with. A replacement that
cannot be used, or that whoever verifies it would refuse, is refused with one line in the log, and the old one goes on.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.x509 import Certificate

from kvstore import certificates, logs
from kvstore.certificates import unfit_for_members
from kvstore.settings import TlsSettings
from kvstore.tls.checks import examine
from kvstore.tls.material import Expiry, Fingerprint, Material, Policy, fingerprint, flaw, load
from kvstore.tls.sides import TlsError

#: How often the files are looked at. A change counts when the next look finds the same, so that one in the middle of
#: a replacement (the new certificate, still the old key) is not taken for a broken one.
LOOK_SECONDS = 1.0
#: Days before the end of a certificate at which the log warns.
WARN_DAYS = (30, 7, 0)
#: A self-signed certificate is made anew at a start that finds so little of it left.
RENEW_DAYS = 30
SELF_SIGNED_DAYS = 3650

log = logs.get("tls")


class Credentials:
    """Of one side: `side` is "client" or "peer". `settings` are those asked for, plus a self-signed certificate."""

    def __init__(self, side: str, settings: TlsSettings, policy: Policy) -> None:
        """Loads the files. Raises TlsError."""
        self.side = side
        self.settings = settings
        self._policy = policy
        self._seen = self._used = fingerprint(settings)
        self.material = load(settings, policy)
        self._refused = ""  # what the log said last of files that cannot be used
        self._warned: dict[Expiry, int] = {}

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        return self.material.expiries

    @property
    def checks_addresses(self) -> bool:
        """Whether whoever connects must come from an address that its certificate names: members, as in etcd."""
        return self.side == "peer" and not self.settings.skip_address_check

    @property
    def wants_members(self) -> bool:
        """Whether certificates of the other side must have been made for members. Where no member must show one, a
        server's is enough for those that are dialled."""
        return self.side == "peer" and self.settings.asks_for_certificates and not self.settings.allow_any_usage

    def examine(self, session: ssl.SSLObject | ssl.SSLSocket) -> None:
        """What is asked of a verified certificate beyond its chain. Raises Refused."""
        examine(session, self.settings, self.material, self.wants_members)

    def flaw(self, now: datetime, material: Material | None = None) -> str:
        """Why others will refuse our certificate, or that of `material`; empty where no reason is known."""
        certificate = (material or self.material).certificate
        if certificate is None:
            return ""
        return flaw(certificate, self.side == "peer" and self.settings.asks_for_certificates, now) or (
            self.unfit(certificate) if self.wants_members else ""
        )

    @staticmethod
    def unfit(certificate: Certificate) -> str:
        """Why members that look at the usage refuse `certificate`; empty if they do not, or if it cannot be read."""
        try:
            why = unfit_for_members(certificate)
        except certificates.UNREADABLE:
            return ""
        return f"the certificate is not made for members: {why}" if why else ""

    def _look(self) -> tuple[Fingerprint, Material | TlsError | None]:
        """What the files hold now, if they have changed and are still since the last look. Blocks."""
        now = fingerprint(self.settings)
        if now == self._used or now != self._seen:
            return now, None
        try:
            loaded: Material | TlsError = self._replacement()
        except TlsError as problem:
            loaded = problem
        return now, loaded if fingerprint(self.settings) == now else None

    def _replacement(self) -> Material:
        """Raises TlsError, also for what others would refuse while they do not refuse what we have."""
        loaded = load(self.settings, self._policy)
        why = self.flaw(_now(), loaded)
        if why and not self.flaw(_now()):
            raise TlsError(f"{self.settings.cert_file}: {why}")
        return loaded

    async def watch(self) -> None:
        """Until it is cancelled: takes changed files, and warns of what is about to end."""
        while True:
            self._warn(datetime.now(UTC))
            await asyncio.sleep(LOOK_SECONDS)
            # A file system that hangs must not hang the member.
            self._seen, loaded = await asyncio.to_thread(self._look)
            if self._seen == self._used:
                self._refused = ""  # put back
            if loaded is None:
                continue
            if isinstance(loaded, TlsError):  # and is looked at again: a date may come, and a folder be mounted
                if str(loaded) != self._refused:
                    log.error("refuses changed certificates and goes on with the old ones", side=self.side, why=loaded)
                self._refused = str(loaded)
            else:
                self._used, self._refused = self._seen, ""
                self.material = loaded
                log.info("uses changed certificates", side=self.side)

    def _warn(self, now: datetime) -> None:
        """Once for each certificate and each of WARN_DAYS."""
        warned, self._warned = self._warned, {}
        for expiry in self.expiries:
            due = [days for days in WARN_DAYS if expiry.end - now <= timedelta(days=days)]
            self._warned[expiry] = min(due, default=WARN_DAYS[0] + 1)
            if due and self._warned[expiry] < warned.get(expiry, WARN_DAYS[0] + 1):
                left = (expiry.end - now) / timedelta(days=1)
                what = "has expired" if left <= 0 else "expires soon"
                fields = {"side": self.side, "name": expiry.name, "file": expiry.path, "end": expiry.end.isoformat()}
                log.warning(f"a {_KINDS[expiry.kind]} {what}", **fields, days=f"{left:.1f}")


def _now() -> datetime:
    return datetime.now(UTC)


_KINDS = {"certificate": "certificate", "authority": "certificate of an authority", "crl": "list of revoked ones"}


def open_side(side: str, settings: TlsSettings, policy: Policy, folder: Path, hosts: Iterator[str]) -> Credentials:
    """Makes a self-signed certificate in `folder` where the settings ask for one and name none. Raises TlsError."""
    if settings.cert_file is not None:
        settings = replace(settings, auto=False)
    elif settings.auto:
        cert_file, key_file = folder / f"{side}.crt", folder / f"{side}.key"
        _self_sign(cert_file, key_file, hosts)
        settings = replace(settings, cert_file=cert_file, key_file=key_file)
    opened = Credentials(side, settings, policy)
    if (why := opened.flaw(_now())) and opened.wants_members:
        log.warning("the other members will refuse this member's certificate", file=settings.cert_file, why=why)
    return opened


def _self_sign(cert_file: Path, key_file: Path, hosts: Iterator[str]) -> None:
    try:
        held = certificates.load(cert_file.read_bytes(), key_file.read_bytes()).certificate
        if held.not_valid_after_utc - datetime.now(UTC) > timedelta(days=RENEW_DAYS):
            return
    except (OSError, certificates.CertificateError):
        pass  # none yet, or half of one
    try:
        made = certificates.self_signed("kvstored", hosts, certificates.Usage.PEER, SELF_SIGNED_DAYS)
        cert_file.parent.mkdir(mode=0o700, exist_ok=True)
        _write(key_file, made.key_pem)
        _write(cert_file, made.certificate_pem)
    except (OSError, certificates.CertificateError) as problem:
        raise TlsError(f"{cert_file.parent}: no self-signed certificate can be made: {problem}") from None
    log.info("made a self-signed certificate", file=cert_file)


def _write(path: Path, octets: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(octets)
