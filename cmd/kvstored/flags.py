"""The table of all flags, and Go's syntax for giving them.

Holds names, defaults and help texts: `--help` and docs/flags.md are generated from here, so that they agree. Values are
interpreted by `kvstored.settings`. `python -m kvstored.flags` prints docs/flags.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kvstore.goflags import FALSE, TRUE, BadFlagSyntax, FlagNeedsValue, UndefinedFlag, take
from kvstore.settings import SettingsError
from kvstored.ignored import IGNORED, REFUSED

GO_BOOLEANS = TRUE | FALSE


class Flag(NamedTuple):
    """One setting: its flag, its ETCD_ variable and its key in the file are all made from `name`."""

    name: str
    default: str
    group: str
    text: str
    boolean: bool = False


FLAGS = (
    Flag("name", "default", "Member", "Name of this member, unique in its cluster."),
    Flag("data-dir", "${name}.kvstore", "Member", "Folder for all files of this member."),
    Flag("wal-dir", "", "Member", "Folder for the write-ahead log; empty: inside the data folder."),
    Flag("snapshot-count", "100000", "Member", "Entries between two snapshots."),
    Flag("heartbeat-interval", "100", "Member", "Time between two heartbeats of the leader, in milliseconds."),
    Flag(
        "election-timeout",
        "1000",
        "Member",
        "Time without the leader after which a member seeks election, in milliseconds; 5 heartbeats to 50000.",
    ),
    Flag(
        "listen-peer-urls", "http://localhost:2380", "Member", "URLs to listen on for other members, comma-separated."
    ),
    Flag("listen-client-urls", "http://localhost:2379", "Member", "URLs to listen on for clients, comma-separated."),
    Flag("max-snapshots", "5", "Member", "Snapshot files to keep (0 keeps all)."),
    Flag("max-wals", "5", "Member", "Write-ahead log files to keep (0 keeps all)."),
    Flag("event-history", "10000", "Member", "Events that a watch may reach back with waitIndex."),
    Flag("event-history-bytes", "67108864", "Member", "Memory for those events, in bytes, approximately."),
    Flag(
        "bcrypt-cost",
        "10",
        "Member",
        "bcrypt cost of passwords that are set through this member, 4 to 31; each step doubles the time.",
    ),
    Flag("cors", "*", "Member", "Origins that browsers may call from, comma-separated (empty or * allows all)."),
    Flag(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "Clustering",
        "URLs of this member for the other members, comma-separated. Only for the first start.",
    ),
    Flag(
        "initial-cluster",
        "${name}=${initial-advertise-peer-urls}",
        "Clustering",
        "Members of a new cluster, name=URL,name=URL...: 1 to 7 names, once per URL. Only for the first start.",
    ),
    Flag(
        "initial-cluster-state",
        "new",
        "Clustering",
        "'new', or 'existing' to join a running cluster. Only for the first start.",
    ),
    Flag(
        "max-level",
        "2",
        "Clustering",
        "Highest level for the cluster. Until it is reached, members can go back to the previous release.",
    ),
    Flag(
        "strict-reconfig-check",
        "true",
        "Clustering",
        "Refuse to add or remove a member if that would leave the cluster without a quorum.",
        boolean=True,
    ),
    Flag(
        "initial-cluster-token",
        "etcd-cluster",
        "Clustering",
        "Distinguishes clusters with the same URLs; the same on all members. Only for the first start.",
    ),
    Flag(
        "advertise-client-urls",
        "http://localhost:2379",
        "Clustering",
        "URLs of this member for clients, comma-separated; must be given along with --listen-client-urls.",
    ),
    Flag(
        "max-connections",
        "65536",
        "Limits",
        "Maximum concurrent client connections; further ones are closed on accept.",
    ),
    Flag("max-request-line-bytes", "1048576", "Limits", "Longest request line to accept, in bytes."),
    Flag("max-header-bytes", "1048576", "Limits", "Longest request line and header lines together, in bytes."),
    Flag("max-headers", "1000", "Limits", "Most header lines of a request, at least 16."),
    Flag("max-request-bytes", "10485760", "Limits", "Largest request body to accept, in bytes."),
    Flag(
        "max-key-components",
        "256",
        "Limits",
        "Maximum components of a key (`/a/b` has two), up to 2048; beyond it: 400. Set it alike on all members.",
    ),
    Flag(
        "max-key-bytes",
        "32768",
        "Limits",
        "Longest key, in bytes after percent-decoding, up to 65536; beyond it: 400. Set it alike on all members.",
    ),
    Flag("client-read-timeout", "60", "Limits", "Seconds in which a request's head must arrive, and then its body."),
    Flag(
        "client-write-timeout",
        "60",
        "Limits",
        "Seconds in which a client must read part of a large answer; a long listing waits 1 s longer per 64 KiB read.",
    ),
    Flag("client-idle-timeout", "600", "Limits", "Seconds after which a connection without a request is closed."),
    Flag("max-watchers", "50000", "Limits", "Maximum concurrent watches, one per connection; beyond it: 503."),
    Flag(
        "max-long-listings",
        "4",
        "Limits",
        "Maximum listings of over 1,000 nodes or 256 KiB to send at a time; further ones wait up to 30 s, then 503.",
    ),
    Flag(
        "max-concurrent-proposals",
        "10000",
        "Limits",
        "Maximum writes that wait for the cluster, and the same number of linearizable reads; beyond it: 503.",
    ),
    Flag(
        "max-buffered-bytes",
        "268435456",
        "Limits",
        "Maximum bytes of arriving requests, of waiting writes, and of unread answers, for each; beyond it: 503.",
    ),
    Flag("max-log-bytes", "1073741824", "Limits", "Maximum bytes of log while no snapshot succeeds; beyond it: 503."),
    Flag(
        "skip-entry",
        "",
        "Recovery",
        "Log entries to skip, as INDEX:TERM, comma-separated; on ALL members (docs/operations.md).",
    ),
    Flag("cert-file", "", "Security", "Certificate for clients (PEM, with its intermediates), for https client URLs."),
    Flag("key-file", "", "Security", "Private key of --cert-file (PEM)."),
    Flag(
        "trusted-ca-file",
        "",
        "Security",
        "Authorities (PEM) of clients' certificates; even alone, it requires one from every https client.",
    ),
    Flag(
        "client-cert-auth",
        "false",
        "Security",
        "Require a certificate from every https client; with auth on, its common name is the user.",
        boolean=True,
    ),
    Flag("client-crl-file", "", "Security", "Revoked certificates of clients: lists (PEM or DER) by the authorities."),
    Flag(
        "client-cert-allowed-hostname", "", "Security", "Name or address that a client's certificate must be valid for."
    ),
    Flag(
        "auto-tls",
        "false",
        "Security",
        "Serve https clients with a self-signed certificate made in the data folder: encrypted, but without identity.",
        boolean=True,
    ),
    Flag("peer-cert-file", "", "Security", "Certificate of this member for the others, to listen and to dial."),
    Flag("peer-key-file", "", "Security", "Private key of --peer-cert-file (PEM)."),
    Flag(
        "peer-trusted-ca-file",
        "",
        "Security",
        "Authorities (PEM) of the other members' certificates; even alone, it requires one from every https peer.",
    ),
    Flag("peer-client-cert-auth", "false", "Security", "Require a certificate from every https peer.", boolean=True),
    Flag("peer-crl-file", "", "Security", "Revoked certificates of members: lists (PEM or DER) by the authorities."),
    Flag("peer-cert-allowed-cn", "", "Security", "Common name that a peer's certificate must have, on either side."),
    Flag(
        "peer-cert-allowed-hostname",
        "",
        "Security",
        "Name or address that a peer's certificate must be valid for, on either side.",
    ),
    Flag(
        "peer-auto-tls",
        "false",
        "Security",
        "Encrypt between members by self-signed certificates made in the data folder; any host may pose as a member.",
        boolean=True,
    ),
    Flag(
        "experimental-peer-skip-client-san-verification",
        "false",
        "Security",
        "Accept a peer from an address that its certificate does not name.",
        boolean=True,
    ),
    Flag(
        "peer-cert-allow-any-usage",
        "false",
        "Security",
        "Accept peers' certificates without server or client usage, or a host; a user may then pose as a member.",
        boolean=True,
    ),
    Flag(
        "cipher-suites",
        "",
        "Security",
        "Cipher suites up to TLS 1.2 by Go's names, comma-separated, best first (empty: OpenSSL's choice).",
    ),
    Flag("tls-min-version", "TLS1.2", "Security", "Minimum version of TLS: TLS1.2 or TLS1.3."),
    Flag(
        "host-whitelist",
        "*",
        "Security",
        "Host names accepted in requests without TLS, comma-separated (empty or * allows all).",
    ),
    Flag("log-level", "info", "Logging", "Minimum level to log: debug, info, warn or error (panic and fatal: error)."),
    Flag("log-format", "text", "Logging", "'text' or 'json'; one line per event on stderr."),
    Flag("debug", "false", "Logging", "Same as --log-level=debug.", boolean=True),
    Flag(
        "config-file",
        "",
        "Configuration",
        "YAML file of settings, keys named like the flags; flags override the environment, which overrides this file.",
    ),
)

#: Every name that is understood, and whether it is boolean, so that its value may be left out.
KNOWN: Mapping[str, bool] = {flag.name: flag.boolean for flag in (*FLAGS, *IGNORED, *REFUSED)}
_SWITCHES = {"version": True, "help": True, "h": True}


class Given(NamedTuple):
    """What the command line says: flag name -> value (the last one counts), and the words that are no flags."""

    values: dict[str, str]
    words: tuple[str, ...]


def variable(name: str) -> str:
    """The environment variable of a flag."""
    return "ETCD_" + name.upper().replace("-", "_")


def parse(arguments: Sequence[str], known: Mapping[str, bool] = KNOWN) -> Given:
    """Go's flag syntax: -x v, --x v, -x=v; a boolean alone is true; the first word that is no flag ends the flags.

    Raises SettingsError for an unknown flag or a missing value.
    """
    known = {**known, **_SWITCHES}
    rest = list(arguments)
    try:
        return Given(dict(take(rest, known)), tuple(rest))
    except BadFlagSyntax as error:
        raise SettingsError(f"bad flag syntax: {error.argument!r}") from None
    except UndefinedFlag as error:
        raise SettingsError(f"unknown flag --{error.name}{suggestion(error.name, known, '--')}") from None
    except FlagNeedsValue as error:
        raise SettingsError(f"--{error.name} needs a value") from None


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """` (did you mean ...?)`, or nothing when no name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean {prefix}{near[0]}?)" if near else ""


def parse_boolean(origin: str, text: str) -> bool:
    """Go's ParseBool. `origin` names the source of the text in the error."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise SettingsError(f"{origin}: {text!r} is neither true nor false")


def parse_number(origin: str, text: str) -> int:
    """A whole number of up to 18 digits."""
    digits = text.removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 18:
        raise SettingsError(f"{origin}: {text!r} is not a whole number")
    return int(text)


def usage() -> str:
    """The text of `--help`."""
    lines = [
        "Usage:",
        "  kvstored [flags]                    run a server",
        "  kvstored check --data-dir DIR [--wal-dir DIR]",
        "                                      verify the data folder of a stopped server and print its contents",
        "  kvstored --version | --help         print and exit",
    ]
    for group in dict.fromkeys(flag.group for flag in FLAGS):
        lines += ["", f"{group}:"]
        for flag in FLAGS:
            if flag.group == group:
                lines += [f"  --{flag.name} '{flag.default}'    {variable(flag.name)}", f"    {flag.text}"]
    lines += ["", "Accepted for compatibility with etcd, without effect (one warning each):"]
    lines += _columns(f"--{flag.name}" for flag in IGNORED)
    lines += ["", "Refused, because ignoring them would be dangerous:"]
    lines += _columns(f"--{flag.name}" for flag in REFUSED)
    return "\n".join(lines)


def _columns(words: Iterable[str], width: int = 110) -> list[str]:
    lines = [" "]
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append(" ")
        lines[-1] += " " + word
    return lines


def markdown() -> str:
    """The text of docs/flags.md."""
    lines = [
        "# Flags of kvstored",
        "",
        "Generated from `cmd/kvstored/flags.py` by `python -m kvstored.flags > docs/flags.md`; a test compares them.",
        "",
        "A flag is written `--name x`, `--name=x` or `-name x`; the last of repeated flags is used. Without the flag,",
        "a variable that is not empty is used; without both, the key of that name in the YAML `--config-file`, where",
        "lists may be YAML lists.",
    ]
    for group in dict.fromkeys(flag.group for flag in FLAGS):
        lines += ["", f"## {group}", "", "| Flag | Variable | Default | |", "|---|---|---|---|"]
        lines += [_row(flag) for flag in FLAGS if flag.group == group]
    lines += ["", "## Flags of etcd without effect here", ""]
    lines += ["Accepted, with one warning in the log that has the reason.", "", "| Flag | Why |", "|---|---|"]
    lines += [f"| `--{flag.name}` | {flag.why} |" for flag in IGNORED]
    lines += ["", "## Flags of etcd that stop the start", ""]
    lines += ["A deployment that sets them relies on them. Etcd's default value is accepted.", ""]
    lines += ["| Flag | Accepted | Why |", "|---|---|---|"]
    lines += [f"| `--{flag.name}` | {_harmless(flag.harmless)} | {flag.why} |" for flag in REFUSED]
    return "\n".join(lines) + "\n"


def _row(flag: Flag) -> str:
    default = f"`{flag.default}`" if flag.default else ""
    return f"| `--{flag.name}` | `{variable(flag.name)}` | {default} | {flag.text} |"


def _harmless(values: Sequence[str]) -> str:
    return ", ".join(f"`{value}`" for value in values if value) or "empty"


if __name__ == "__main__":
    print(markdown(), end="")
