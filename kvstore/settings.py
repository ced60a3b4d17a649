"""What one server is told at its start: a frozen value that cannot exist unless its parts agree.

Knows etcd's names, defaults and rules for settings; does not know where a value came from (flag, environment
or file: that is `kvstored.settings`), touches no file and opens no socket. Every refusal is a `SettingsError`
whose text is one line fit for an operator and names the flag to change.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from kvstore.ciphers import SUITES, SUITES_13
from kvstore.limits import HIGHEST_LEVEL, MOST_KEY_BYTES, MOST_KEY_COMPONENTS, Limits

MAX_MEMBERS = 7
#: A body has to fit into one entry, that into a frame between members and a record of the log, and the value before and
#: after it into one piece of a snapshot.
MAX_REQUEST_BYTES = 32 << 20
LOG_REQUESTS = 8  # of the largest size that fit into --max-log-bytes at least
MIN_HEADERS = 16
MAX_PEER_URLS_BYTES = 2048  # of one member, together: they travel in its hello, of at most 4 KiB
MAX_ELECTION_TIMEOUT_MS = 50_000  # etcd's: longer is surely a slip of the unit
ELECTION_HEARTBEATS = 5  # an election timeout spans at least this many heartbeats (etcd's rule)
MIN_BCRYPT_COST = 4  # bcrypt's own limits
MAX_BCRYPT_COST = 31
LOG_LEVELS = ("debug", "info", "warn", "error")
LOG_FORMATS = ("text", "json")
CLUSTER_STATES = ("new", "existing")
TLS_VERSIONS = ("TLS1.2", "TLS1.3")

#: The fields of `Limits` by their flags.
LIMIT_FLAGS = {
    "max-connections": "connections",
    "max-request-line-bytes": "line_bytes",
    "max-header-bytes": "head_bytes",
    "max-headers": "headers",
    "max-request-bytes": "request_bytes",
    "max-key-components": "key_components",
    "max-key-bytes": "key_bytes",
    "client-read-timeout": "read_seconds",
    "client-write-timeout": "write_seconds",
    "client-idle-timeout": "idle_seconds",
    "max-watchers": "watchers",
    "max-long-listings": "long_answers",
    "max-concurrent-proposals": "proposals",
    "max-buffered-bytes": "buffered_bytes",
    "max-log-bytes": "log_bytes",
}

_ENTRY = re.compile(r"([0-9]{1,18}):([0-9]{1,18})", re.ASCII)
_ORIGIN = re.compile(r"https?://[^\s/?#@,]+", re.ASCII)


class SettingsError(ValueError):
    """A setting that cannot be used; `str()` is one line for the operator, whatever was quoted in it."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text))


class Url(NamedTuple):
    """`scheme://host:port`, and nothing else; an IPv6 host is kept without its brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class InitialMember(NamedTuple):
    """One name of `--initial-cluster` with all its peer URLs, sorted."""

    name: str
    peer_urls: tuple[Url, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """What one side, towards clients or towards the other members, is told about TLS. None and empty: not given."""

    cert_file: Path | None = None
    key_file: Path | None = None
    trusted_ca_file: Path | None = None
    client_cert_auth: bool = False
    crl_file: Path | None = None
    allowed_cn: str = ""  # peers alone
    allowed_hostname: str = ""
    auto: bool = False  # a self-signed certificate where none is given
    skip_address_check: bool = False  # peers alone: of a dialler's address against its certificate
    allow_any_usage: bool = False  # peers alone: certificates that were not made for members

    @property
    def has_certificate(self) -> bool:
        """Whether there will be one to listen with."""
        return self.cert_file is not None or self.auto

    @property
    def asks_for_certificates(self) -> bool:
        """Whether whoever connects must show a certificate. An authority alone says so, too (etcd's rule)."""
        return self.client_cert_auth or self.trusted_ca_file is not None


#: Hosts that listen on all addresses.
_EVERYWHERE = frozenset(("0.0.0.0", "::"))  # nosec B104  # recognised, and not bound here
DEFAULT_CLIENT_URL = Url("http", "localhost", 2379)
DEFAULT_PEER_URL = Url("http", "localhost", 2380)
#: As in etcd; it sets clusters apart and is no secret.
DEFAULT_TOKEN = "etcd-cluster"  # nosec B105


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one server; raises SettingsError when they clash. URLs are in the order given.

    `initial_cluster` is what a member without a log starts from; one that has a log goes by its log. Left
    empty it becomes this member alone. `wal_dir` None: inside `data_dir`.
    """

    name: str = "default"
    data_dir: Path = Path("default.kvstore")
    wal_dir: Path | None = None
    listen_client_urls: tuple[Url, ...] = (DEFAULT_CLIENT_URL,)
    advertise_client_urls: tuple[Url, ...] = (DEFAULT_CLIENT_URL,)
    listen_peer_urls: tuple[Url, ...] = (DEFAULT_PEER_URL,)
    initial_advertise_peer_urls: tuple[Url, ...] = (DEFAULT_PEER_URL,)
    initial_cluster: tuple[InitialMember, ...] = ()
    initial_cluster_state: str = "new"  # one of CLUSTER_STATES
    initial_cluster_token: str = DEFAULT_TOKEN
    heartbeat_interval_ms: int = 100
    election_timeout_ms: int = 1000
    snapshot_count: int = 100_000  # entries between two snapshots
    max_snapshots: int = 5  # files kept; 0: all
    max_wals: int = 5  # files kept; 0: all
    event_history: int = 10_000  # events a watch may reach back
    event_history_bytes: int = 64 << 20  # that those events take at most
    max_level: int = HIGHEST_LEVEL  # that this member lets the cluster be raised to
    skip_entries: tuple[tuple[int, int], ...] = ()  # (index, term) of log entries that are not applied
    strict_reconfig_check: bool = True  # refuse changes of members that would cost the quorum
    limits: Limits = field(default_factory=Limits)
    bcrypt_cost: int = 10  # of passwords that are set here, 4 to 31
    cors: tuple[str, ...] = ("*",)  # allowed origins; "*" allows every one
    host_whitelist: tuple[str, ...] = ("*",)  # what a Host header without TLS may say; "*" allows every one
    client_tls: TlsSettings = TlsSettings()
    peer_tls: TlsSettings = TlsSettings()
    cipher_suites: tuple[str, ...] = ()  # Go's names; empty: OpenSSL's choice
    tls_min_version: str = "TLS1.2"  # one of TLS_VERSIONS
    log_level: str = "info"  # one of LOG_LEVELS
    log_format: str = "text"  # one of LOG_FORMATS

    def __post_init__(self) -> None:
        if not self.name:
            raise SettingsError("--name must not be empty")
        self._check_numbers()
        self._check_choices()
        self._check_urls()
        self._check_origins()
        self._check_tls()
        if not self.initial_cluster:
            alone = InitialMember(self.name, tuple(sorted(self.initial_advertise_peer_urls)))
            object.__setattr__(self, "initial_cluster", (alone,))

    def _check_numbers(self) -> None:
        least_one = {
            "heartbeat-interval": self.heartbeat_interval_ms,
            "election-timeout": self.election_timeout_ms,
            "snapshot-count": self.snapshot_count,
            "event-history": self.event_history,
            "event-history-bytes": self.event_history_bytes,
            **{flag: getattr(self.limits, field) for flag, field in LIMIT_FLAGS.items()},
        }
        for flag, number in least_one.items():
            if number < 1:
                raise SettingsError(f"--{flag} must be at least 1 (is {number})")
        for flag, number in {"max-snapshots": self.max_snapshots, "max-wals": self.max_wals}.items():
            if number < 0:
                raise SettingsError(f"--{flag} must not be negative (is {number}); 0 keeps all")
        if not 1 <= self.max_level <= HIGHEST_LEVEL:
            raise SettingsError(f"--max-level must be 1 to {HIGHEST_LEVEL} (is {self.max_level})")
        if not MIN_BCRYPT_COST <= self.bcrypt_cost <= MAX_BCRYPT_COST:
            raise SettingsError(
                f"--bcrypt-cost must be {MIN_BCRYPT_COST} to {MAX_BCRYPT_COST} (is {self.bcrypt_cost}); one more"
                " doubles the time"
            )
        request_bytes, headers = self.limits.request_bytes, self.limits.headers
        highest = {
            "max-request-bytes": (request_bytes, MAX_REQUEST_BYTES),
            "max-key-components": (self.limits.key_components, MOST_KEY_COMPONENTS),
            "max-key-bytes": (self.limits.key_bytes, MOST_KEY_BYTES),
        }
        for flag, (number, most) in highest.items():
            if number > most:
                raise SettingsError(f"--{flag} must not exceed {most} (is {number})")
        if self.limits.log_bytes < LOG_REQUESTS * request_bytes:
            raise SettingsError(
                f"--max-log-bytes must be at least {LOG_REQUESTS} times --max-request-bytes ({request_bytes}), so"
                f" {LOG_REQUESTS * request_bytes} (is {self.limits.log_bytes})"
            )
        if headers < MIN_HEADERS:
            raise SettingsError(f"--max-headers must be at least {MIN_HEADERS} (is {headers}): clients send several")
        if self.election_timeout_ms < ELECTION_HEARTBEATS * self.heartbeat_interval_ms:
            raise SettingsError(
                f"--election-timeout ({self.election_timeout_ms} ms) must be at least"
                f" {ELECTION_HEARTBEATS} times --heartbeat-interval ({self.heartbeat_interval_ms} ms)"
            )
        if self.election_timeout_ms > MAX_ELECTION_TIMEOUT_MS:
            raise SettingsError(
                f"--election-timeout ({self.election_timeout_ms} ms) must not exceed {MAX_ELECTION_TIMEOUT_MS} ms"
            )

    def _check_choices(self) -> None:
        choices = {
            "log-level": (self.log_level, LOG_LEVELS),
            "log-format": (self.log_format, LOG_FORMATS),
            "initial-cluster-state": (self.initial_cluster_state, CLUSTER_STATES),
            "tls-min-version": (self.tls_min_version, TLS_VERSIONS),
        }
        for flag, (chosen, allowed) in choices.items():
            if chosen not in allowed:
                raise SettingsError(f"--{flag} must be one of {', '.join(allowed)} (is {chosen!r})")

    def _check_urls(self) -> None:
        groups = {
            "listen-client-urls": self.listen_client_urls,
            "listen-peer-urls": self.listen_peer_urls,
            "advertise-client-urls": self.advertise_client_urls,
            "initial-advertise-peer-urls": self.initial_advertise_peer_urls,
        }
        for flag, urls in groups.items():
            if not urls:
                raise SettingsError(f"--{flag} must name at least one URL")
            for url in urls:
                if flag.startswith("listen"):
                    _check_listen(flag, url)
                else:
                    _check_advertised(flag, url)
        if (size := sum(len(str(url)) for url in self.initial_advertise_peer_urls)) > MAX_PEER_URLS_BYTES:
            raise SettingsError(
                f"--initial-advertise-peer-urls has URLs of {size} characters; the limit is {MAX_PEER_URLS_BYTES}"
            )

    def _check_origins(self) -> None:
        """etcd wants a port in each; a browser leaves out the usual one, so here it may be missing."""
        for origin in self.cors:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise SettingsError(f"--cors: {origin!r} must be * or have the form http://host or http://host:port")

    def _check_tls(self) -> None:
        for suite in self.cipher_suites:
            if suite not in SUITES and suite not in SUITES_13:
                raise SettingsError(f"--cipher-suites: {suite!r} is not known, or not safe any more")
        _check_side("", self.client_tls, "listen-client-urls", self.listen_client_urls)
        _check_side("peer-", self.peer_tls, "listen-peer-urls", self.listen_peer_urls)

    @property
    def warnings(self) -> Iterator[str]:
        """What is allowed and perhaps not meant, one line each."""
        sides = (("", self.client_tls, self.listen_client_urls), ("peer-", self.peer_tls, self.listen_peer_urls))
        for prefix, tls, urls in sides:
            if tls.auto and tls.cert_file is not None:
                yield f"--{prefix}auto-tls has no effect: --{prefix}cert-file is given"
            if tls.client_cert_auth and tls.trusted_ca_file is None:
                yield f"--{prefix}client-cert-auth without --{prefix}trusted-ca-file trusts all that the system does"
            if tls.allow_any_usage:
                yield (
                    f"--{prefix}cert-allow-any-usage lets every certificate by an authority of"
                    f" --{prefix}trusted-ca-file pose as a member, a user's too"
                )
            for url in urls:
                if url.scheme == "http" and tls.asks_for_certificates:
                    yield f"{url} is served without TLS, so nobody there shows a certificate"
                elif url.scheme == "http" and tls.has_certificate:
                    yield f"{url} is served without TLS, although there is a certificate"

    @property
    def own_peer_urls(self) -> tuple[str, ...]:
        """Where the flags say that other members reach this one; for where the membership says nothing of it."""
        listening = [url for url in self.listen_peer_urls if url.port and url.host not in _EVERYWHERE]
        advertised = [url for url in self.initial_advertise_peer_urls if url != DEFAULT_PEER_URL]
        return tuple(dict.fromkeys(map(str, [*advertised, *listening])))

    def check_first_start(self) -> None:
        """What holds of `--initial-cluster` where it counts, at a member's first start. Raises SettingsError.

        Not checked at a later start: the cluster may have changed since, and a member that has a log goes by that.
        """
        count = len(self.initial_cluster)
        if count > MAX_MEMBERS:
            raise SettingsError(f"--initial-cluster names {count} members; a cluster has 1 to {MAX_MEMBERS}")
        owners: dict[Url, str] = {}
        for member in self.initial_cluster:
            for url in member.peer_urls:
                _check_advertised("initial-cluster", url)
                other = owners.setdefault(url, member.name)
                if other != member.name:
                    raise SettingsError(f"--initial-cluster gives {url} to both {other!r} and {member.name!r}")
        ours = [member for member in self.initial_cluster if member.name == self.name]
        if not ours:
            raise SettingsError(f"--initial-cluster has no member named {self.name!r} (this is --name)")
        if frozenset(ours[0].peer_urls) != frozenset(self.initial_advertise_peer_urls):
            wanted = ",".join(f"{self.name}={url}" for url in self.initial_advertise_peer_urls)
            raise SettingsError(
                f"--initial-cluster must include {wanted}, as --initial-advertise-peer-urls says,"
                f" and no other URL of {self.name!r}"
            )


def parse_url(flag: str, text: str) -> Url:
    """One URL under etcd's rules (`NewURLs` in its pkg/types): scheme, host, port, no path."""
    text = text.strip()
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise SettingsError(f"--{flag}: {text!r} is not a URL: {error}") from None
    if parts.scheme in ("unix", "unixs"):
        raise SettingsError(f"--{flag}: {text!r}: unix sockets are not supported; use http:// or https://")
    if not text.lower().startswith(("http://", "https://")):
        raise SettingsError(f"--{flag}: {text!r} must start with http:// or https://")
    host, port = _host_and_port(flag, text, parts)
    if parts.path or parts.query or parts.fragment or "?" in text or "#" in text or "@" in text:
        raise SettingsError(f"--{flag}: {text!r} must be http://host:port and nothing more")
    return Url(parts.scheme, host, port)


def parse_urls(flag: str, text: str) -> tuple[Url, ...]:
    """Comma-separated URLs in the order given; at least one, no URL twice."""
    urls = tuple(parse_url(flag, part) for part in text.split(","))
    for url in urls:
        if urls.count(url) > 1:
            raise SettingsError(f"--{flag} names {url} twice")
    return urls


def parse_initial_cluster(text: str) -> tuple[InitialMember, ...]:
    """`n1=http://..:2380,n2=...`; a name may repeat to have several URLs. Sorted by name, as etcd does."""
    urls: dict[str, set[Url]] = {}
    for part in text.split(","):
        name, equals, url = part.strip().partition("=")
        if not equals or not name or not url:
            raise SettingsError(f"--initial-cluster: {part.strip()!r} must have the form name=http://host:port")
        urls.setdefault(name, set()).add(parse_url("initial-cluster", url))
    return tuple(InitialMember(name, tuple(sorted(urls[name]))) for name in sorted(urls))


def parse_entries(origin: str, text: str) -> tuple[tuple[int, int], ...]:
    """`INDEX:TERM`, comma-separated."""
    entries = []
    for part in text.split(","):
        match = _ENTRY.fullmatch(part.strip())
        if match is None:
            raise SettingsError(f"{origin}: {part.strip()!r} must have the form INDEX:TERM, as the log line has it")
        entries.append((int(match[1]), int(match[2])))
    return tuple(entries)


def _host_and_port(flag: str, text: str, parts: SplitResult) -> tuple[str, int]:
    wrong = SettingsError(f"--{flag}: {text!r} must have the form http://host:port")
    if parts.netloc.rpartition(":")[2].strip("0123456789") or ":" not in parts.netloc:
        raise wrong
    try:
        port = parts.port
    except ValueError:
        raise SettingsError(f"--{flag}: {text!r}: a port is at most 65535") from None
    if port is None:
        raise wrong
    if not parts.hostname:
        raise SettingsError(f"--{flag}: {text!r} has no host")
    if any(not 33 <= ord(character) < 127 for character in parts.netloc):
        raise SettingsError(f"--{flag}: {text!r} has an odd character in its host")
    return parts.hostname, port


def _check_side(prefix: str, tls: TlsSettings, flag: str, urls: tuple[Url, ...]) -> None:
    """Whoever names a check of certificates relies on it, so there must be certificates to check."""
    if (tls.cert_file is None) != (tls.key_file is None):
        raise SettingsError(f"--{prefix}cert-file and --{prefix}key-file must be given together")
    for url in urls:
        if url.scheme == "https" and not tls.has_certificate:
            raise SettingsError(f"--{flag}: {url} needs --{prefix}cert-file and --{prefix}key-file")
    if tls.allowed_cn and tls.allowed_hostname:
        raise SettingsError(f"--{prefix}cert-allowed-cn and --{prefix}cert-allowed-hostname exclude each other")
    hostname = f"{prefix or 'client-'}cert-allowed-hostname"
    checks = {
        f"{prefix or 'client-'}crl-file": tls.crl_file,
        f"{prefix}cert-allowed-cn": tls.allowed_cn,
        hostname: tls.allowed_hostname,
    }
    for check, value in checks.items():
        if value and not tls.asks_for_certificates:
            raise SettingsError(f"--{check} needs --{prefix}trusted-ca-file: without it nobody shows a certificate")


def _check_listen(flag: str, url: Url) -> None:
    """A listener binds an address, and a name may have many or another tomorrow (etcd's rule)."""
    if url.host == "localhost":
        return
    try:
        ipaddress.ip_address(url.host)
    except ValueError:
        raise SettingsError(f"--{flag}: {url} must name an IP address or localhost to listen on") from None


def _check_advertised(flag: str, url: Url) -> None:
    """Others connect to it, so port 0, "any free one", cannot be meant."""
    if url.port == 0:
        raise SettingsError(f"--{flag}: {url}: port 0 cannot be reached by others")
