"""`certs init|server|client|peer|renew|revoke|show`: two authorities in a folder, and certificates that they issue.

One is for servers and clients, the other for members alone: so no user's certificate is good at the members' port, and
no member's logs a user in.

Talks to no server. The files are certs_folder.py's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kvctl.certs_folder import AUTHORITIES, AUTHORITY, PEER_AUTHORITY, Folder
from kvctl.certs_show import certificates_in, line_of, revoked_in, show
from kvctl.command import Command, Context, Failure, Subcommand
from kvctl.flags import NUMBER, TEXT, Flag
from kvstore.certificates import (
    AUTHORITY_DAYS,
    LEAF_DAYS,
    MAX_NAME,
    CertificateError,
    Issued,
    Usage,
    authority,
    common_name,
    hosts_of,
    issue,
    revocation_list,
    usage_of,
)

_FOR_PEERS = " for peers"
_TRUSTING = {AUTHORITY: "--trusted-ca-file, --ca-file", PEER_AUTHORITY: "--peer-trusted-ca-file"}
DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")
RENEW_DAYS = 30


def _folder(context: Context, force: bool | None = None) -> Folder:
    return Folder(Path(context.flags.text("dir")), context.flags.switch("force") if force is None else force)


def _days(context: Context) -> int:
    if (days := context.flags.number("days")) < 1:
        raise Failure("Error:  --days must be at least 1")
    return days


def _made(make: Callable[[], Issued]) -> Issued:
    try:
        return make()
    except CertificateError as error:
        raise Failure(f"Error:  {error}") from None


def _init(context: Context) -> None:
    if context.words:
        raise Failure("Error:  no arguments accepted")
    days = _days(context)
    name = context.flags.text("name")
    made = {
        AUTHORITY: _made(lambda: authority(name, days)),
        PEER_AUTHORITY: _made(lambda: authority(name[: MAX_NAME - len(_FOR_PEERS)] + _FOR_PEERS, days)),
    }
    folder = _folder(context)
    for file in made:
        folder.check_free(file)
    for file, issued in made.items():
        path = folder.store(file, issued)
        folder.write(folder.revoked(file), revocation_list(issued, [], days))
        flags = _TRUSTING[file]
        context.say(f"{path}: trust this one ({flags}); keep {path.with_suffix('.key')} to yourself")


def _server(context: Context) -> None:
    _issue(context, "server", Usage.SERVER, context.words)


def _peer(context: Context) -> None:
    _issue(context, "peer", Usage.PEER, context.words)


def _issue(context: Context, kind: str, usage: Usage, hosts: Iterable[str]) -> None:
    name = context.flags.text("name")
    hosts = list(hosts) or [*DEFAULT_HOSTS, *filter(None, [socket.gethostname()])]
    _store(context, f"{kind}-{name}" if name else kind, name or kind, hosts, usage)


def _client(context: Context) -> None:
    if len(context.words) != 1:
        raise Failure("Error:  provide the name of one user")
    _store(context, f"client-{context.words[0]}", context.words[0], [], Usage.CLIENT)


def _store(context: Context, file: str, name: str, hosts: list[str], usage: Usage) -> None:
    if "/" in file or "\0" in file:
        raise Failure(f"Error:  {name!r} cannot be the name of a file")
    folder = _folder(context)
    by = folder.authority(folder.authority_for(is_peer=usage is Usage.PEER))
    if file in AUTHORITIES:
        raise Failure(f"Error:  {folder.certificate(file)} is an authority's; choose another name")
    issued = _made(lambda: issue(by, name, hosts, usage, _days(context)))
    context.say(line_of(folder.store(file, issued), issued.certificate))


def _renew(context: Context) -> None:
    """With a new key, by the same authority if it is still there, and for as many days as before."""
    folder = _folder(context, force=True)
    names = [Path(word).stem for word in context.words] or list(_ending(folder, context.flags.number("within")))
    for name in names:
        held = folder.load(name).certificate
        usage = usage_of(held)
        if usage is None or name in AUTHORITIES:
            raise Failure(f"Error:  {folder.certificate(name)} is no certificate of a server, client or peer")
        length = held.not_valid_after_utc - held.not_valid_before_utc
        days = context.flags.number("days") or round(length / timedelta(days=1))
        by = folder.authority(folder.issuer_of(held) or folder.authority_for(is_peer=usage is Usage.PEER))
        issued = _made(lambda: issue(by, common_name(held), hosts_of(held), usage, days))  # noqa: B023  called at once
        context.say(line_of(folder.store(name, issued), issued.certificate))
    if not names:
        context.say(f"none ends within {context.flags.number('within')} days")


def _ending(folder: Folder, days: int) -> Iterator[str]:
    for name in folder.names():
        end = folder.load(name).certificate.not_valid_after_utc
        if end - datetime.now(UTC) < timedelta(days=days):
            yield name


def _revoke(context: Context) -> None:
    if not context.words:
        raise Failure("Error:  provide the names of certificates")
    folder = _folder(context, force=True)
    by_authority: dict[str, set[int]] = {}
    for word in context.words:
        path = folder.certificate(Path(word).stem)
        revoked = certificates_in(path)[0]
        folder.authority(AUTHORITY)
        name = folder.issuer_of(revoked)
        if name is None:
            raise Failure(f"Error:  {path} was issued by no authority in {folder.path}")
        if revoked.serial_number == folder.authority(name).certificate.serial_number:
            raise Failure(
                f"Error:  {path} is the authority's own: a member that reads the list would refuse every client"
            )
        by_authority.setdefault(name, set()).add(revoked.serial_number)
    for name, serials in by_authority.items():
        _revoke_by(context, folder, name, serials)


def _revoke_by(context: Context, folder: Folder, name: str, serials: set[int]) -> None:
    """Add `serials` to the list of one authority."""
    by, path = folder.authority(name), folder.revoked(name)
    own = by.certificate
    if path.exists():
        serials = serials | {serial for issuer, serial in revoked_in(path) if issuer == own.subject}
    left = own.not_valid_after_utc - datetime.now(UTC)
    folder.write(path, revocation_list(by, sorted(serials), left / timedelta(days=1)))
    flags = "--peer-crl-file" if name == PEER_AUTHORITY else "--client-crl-file"
    if folder.authorities() == [AUTHORITY]:
        flags = "--client-crl-file, --peer-crl-file"
    context.say(f"{path}: {len(serials)} revoked ({flags})")


def _show(context: Context) -> None:
    show(_folder(context, force=False), context)


_DIR = Flag("dir", "folder of the authorities and their certificates", TEXT, "certs", '"certs"')
_FORCE = Flag("force", "overwrite what exists")
_DAYS = Flag("days", "how long it is valid", NUMBER, LEAF_DAYS, str(LEAF_DAYS))
_NAME = Flag("name", "name of the member; becomes part of the file's name", TEXT)
_HOSTS = """HOST are the names and addresses that it is good for; without one: localhost, 127.0.0.1, ::1 and the
   name of this machine."""

CERTS = Command(
    subcommands=(
        Subcommand(
            "init",
            "make two authorities, for servers and clients and for peers",
            Command(
                _init,
                usage=" ",
                flags=(
                    _DIR,
                    Flag("name", "name of the authority", TEXT, "kvstored authority", '"kvstored authority"'),
                    Flag("days", "how long it is valid", NUMBER, AUTHORITY_DAYS, str(AUTHORITY_DAYS)),
                    _FORCE,
                ),
                example="kvctl certs init",
            ),
        ),
        Subcommand(
            "server",
            "issue a certificate with which a member serves clients",
            Command(
                _server,
                usage="[HOST...]",
                flags=(_DIR, _NAME, _DAYS, _FORCE),
                description=_HOSTS,
                example="kvctl certs server --name n1 10.0.0.1 n1.example.com",
            ),
        ),
        Subcommand(
            "client",
            "issue a certificate with which a client logs in",
            Command(_client, usage="<user>", flags=(_DIR, _DAYS, _FORCE), example="kvctl certs client alice"),
        ),
        Subcommand(
            "peer",
            "issue a certificate with which a member speaks with the others",
            Command(
                _peer,
                usage="[HOST...]",
                flags=(_DIR, _NAME, _DAYS, _FORCE),
                description=_HOSTS,
                example="kvctl certs peer --name n1 10.0.0.1",
            ),
        ),
        Subcommand(
            "renew",
            "issue certificates again, with new keys",
            Command(
                _renew,
                usage="[NAME...]",
                flags=(
                    _DIR,
                    Flag(
                        "within",
                        "without names: certificates that end within this number of days",
                        NUMBER,
                        RENEW_DAYS,
                        str(RENEW_DAYS),
                    ),
                    Flag("days", "how long they are valid; 0: as long as before", NUMBER),
                ),
                example="kvctl certs renew --within 30",
            ),
        ),
        Subcommand(
            "revoke",
            "write certificates into the authority's list of revoked ones",
            Command(_revoke, usage="<NAME...>", flags=(_DIR,), example="kvctl certs revoke client-alice"),
        ),
        Subcommand(
            "show",
            "show certificates and lists of revoked ones, and when they end",
            Command(_show, usage="[FILE...]", flags=(_DIR,), example="kvctl certs show"),
        ),
    ),
    example="kvctl certs init",
)
