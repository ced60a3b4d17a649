"""Who asks, and may they: every check of one member's HTTP floor while auth is on (docs/api-v2.md, *Users and roles*).

A request says who it comes from by HTTP Basic. Without an Authorization header it comes from the user that the
client's certificate names, where `--client-cert-auth` is on and there is such a user, else from a guest. What is asked
for is checked twice: as it is written in the path, which is what etcd looks at, and as the key that is then used.
Where etcd looks at less than is used, the safe answer wins; docs/differences.md lists these places:

- `recursive` needs a pattern for the whole subtree, of guests too;
- a POST needs one for what it creates, `<key>/<number>`;
- a new ttl for a directory takes all that is in it along when it ends, so it needs one for that, too;
- who may write but not read is not shown the value that was there before, and not by a failed comparison;
- `/app/` is not `/app`: a pattern `/app/*` lets read and watch what is in that directory, but not a file of that name.

Nothing here parses parameters or writes answers; users and roles are kvstore.auth, passwords kvstore.passwords.
"""

from __future__ import annotations

import base64
import binascii
import enum
from typing import NamedTuple

from kvstore import logs
from kvstore.auth import Auth, AuthChanged, AuthCommand, DirectoryNotAllowed, User
from kvstore.http.backend import Backend, Unavailable
from kvstore.http.reply import JSON, RETRY_LATER, Answer
from kvstore.http.request import Request
from kvstore.http.v2.parameters import PREFIX, KeyRequest
from kvstore.passwords import Passwords
from kvstore.store.errors import CompareFailed
from kvstore.store.events import Event
from kvstore.store.operations import Operation, Update
from kvstore.wire import Checked, Guarded

ATTEMPTS = 10  # at a write while users and roles keep changing

#: All 401s of docs/api-v2.md outside the key space, and the answer to one whose password was not looked at.
INSUFFICIENT = Answer(401, JSON, b'{"message":"Insufficient credentials"}')
TRY_LATER = Answer(503, JSON + RETRY_LATER, b'{"message":"too many passwords wait to be checked, try again later"}')

BUSY = Answer(503, JSON + RETRY_LATER, b'{"message":"etcdserver: too many requests"}')

log = logs.get("auth")


class Denied(Exception):
    """Not with these credentials."""


class _NotRight(Exception):
    """An Authorization header that names nobody, or not with the right password."""


class Scope(enum.IntEnum):
    NONE = 0
    CONTENTS = 1  # what is in the directory, but not a file of its name
    ALL = 2


class Permit(NamedTuple):
    """A permission that was given, so that it can be looked at again: a watch lives on it.

    `user` as it was then, None for a guest. `unproven`: a password came along while nobody asked for one.
    """

    user: User | None
    unproven: bool
    asked: KeyRequest
    written: bytes
    scope: Scope

    def holds(self, auth: Auth) -> bool:
        """Whether it would be given again, without asking for the password: only to the very same user."""
        if not auth.enabled:
            return True
        if self.unproven:
            return False
        user = self.user
        if user is not None:
            now = auth.user(user.name)
            if now is None or now.password_hash != user.password_hash:
                return False
            user = now
        return scope_of(auth, user, self.asked, self.written) >= self.scope

    def shows(self, event: Event) -> bool:
        """Whether an event that a watch of this key may meet is covered.

        Not covered are a file in the place of the directory `/app/`, and the removal of a directory whose name is
        only a piece of the watched one, which a look back reports (docs/api-v2.md, *Watching*).
        """
        key, at = self.asked.key, event.node.key
        if at == key:
            files = event.node.value is not None or (event.previous is not None and not event.previous.is_dir)
            return self.scope is Scope.ALL or not files
        return at.startswith(_below(key)) or key.startswith(_below(at))


def scope_of(auth: Auth, user: User | None, asked: KeyRequest, written: bytes) -> Scope:
    """What of `asked` the roles of `user` cover (None: a guest). `written` is the path behind /v2/keys."""
    key, subtree = asked.key, asked.recursive
    write = asked.method not in ("GET", "HEAD")
    if not auth.allows(user, written, write, subtree):
        return Scope.NONE
    if asked.method == "POST":
        return Scope.ALL if auth.allows(user, _below(key), write, subtree=True) else Scope.NONE
    if written == key or auth.allows(user, key, write, subtree):
        return Scope.ALL
    return Scope.NONE if write else Scope.CONTENTS


def _below(key: bytes) -> bytes:
    return key if key == b"/" else key + b"/"


class Guard:
    """The checks of one member."""

    def __init__(self, backend: Backend, client_cert_auth: bool = False) -> None:
        self._backend = backend
        self._client_cert_auth = client_cert_auth

    async def permit(self, request: Request, asked: KeyRequest) -> Permit:
        """Allows a request to the key space, by the users and roles as they are on return. Raises Denied, and
        TooManyChecks."""
        auth = self._backend.auth
        written = request.path[len(PREFIX) :]
        authorization = request.authorization
        if not auth.enabled:
            return Permit(None, bool(authorization), asked, written, Scope.ALL)
        try:
            user = await self._who(authorization) if authorization else self._shown(request)
        except _NotRight:
            raise Denied from None
        if not self._backend.auth.enabled:  # switched off while we looked at the password
            return Permit(user, False, asked, written, Scope.ALL)
        scope = scope_of(auth, user, asked, written)
        if scope is Scope.NONE:
            raise Denied
        return Permit(user, False, asked, written, scope)

    async def require_root(self, request: Request) -> None:
        """For users, roles, members and the switch, by the users and roles as this member knows them on return.

        A change that is not bound to their revision in the log needs a read barrier before. Raises Denied, and
        TooManyChecks.
        """
        auth = self._backend.auth
        if not auth.enabled:
            return
        authorization = request.authorization
        try:
            user = await self._who(authorization) if authorization else self._shown(request)
        except _NotRight:
            raise Denied from None
        if auth.enabled and (user is None or not auth.is_root(user)):
            raise Denied

    async def execute(self, request: Request, asked: KeyRequest, operation: Operation) -> Event:
        """Writes, if the request may, by the users and roles as they are at its place in the log.

        Raises Denied, TooManyChecks, and what the backend's `execute` raises.
        """
        auth = self._backend.auth
        for _ in range(ATTEMPTS):
            user = (await self.permit(request, asked)).user
            no_directory = isinstance(operation, Update) and operation.ttl is not None
            if no_directory and auth.allows(user, _below(asked.key), write=True, subtree=True):
                no_directory = False
            may_read = not auth.enabled or auth.allows(user, asked.key, write=False, subtree=False)
            try:
                event: Event = await self._backend.execute(self._bound(operation, no_directory))
            except AuthChanged:
                continue
            except DirectoryNotAllowed:
                raise Denied from None
            except CompareFailed as failed:
                raise failed if may_read else _without_actual(failed) from None
            return event if may_read else _without_old(event)
        raise Unavailable

    async def change(self, request: Request, command: AuthCommand) -> object:
        """Changes users, roles or the switch, if root asks for it; gives the outcome (kvstore.auth.AuthOutcome).

        Raises as `execute` does, and AuthError.
        """
        for _ in range(ATTEMPTS):
            await self.require_root(request)
            try:
                return await self._backend.execute(self._bound(command))
            except AuthChanged:
                continue
        raise Unavailable

    def _bound(self, command: Checked, no_directory: bool = False) -> Checked | Guarded:
        auth = self._backend.auth
        return Guarded(auth.revision, no_directory, command) if auth.enabled else command

    def _shown(self, request: Request) -> User | None:
        """The user whom a certificate names, as they are now."""
        if not self._client_cert_auth:
            return None
        name = request.common_name
        return self._backend.auth.user(name) if name else None

    async def _who(self, authorization: bytes) -> User:
        """The user of a header as they are now, password checked. Raises _NotRight, and TooManyChecks."""
        name, password = _basic(authorization)
        auth, passwords = self._backend.auth, self._backend.passwords
        while True:
            user = auth.user(name)
            if user is not None and passwords.recalls(user, password):
                return user
            right = await passwords.check(name, password, user)
            if auth.user(name) != user:
                continue  # they were changed meanwhile: what was checked says nothing
            if right and user is not None:
                return user
            if user is not None:
                log.warning("a wrong password", user=user.name.decode("utf-8", "replace"))
            raise _NotRight


def _without_actual(failed: CompareFailed) -> CompareFailed:
    """A failed comparison for one who may not read: it tells that the values differ."""
    values = None if failed.values is None else (failed.values[0], b"")
    return CompareFailed(failed.index, failed.key, values, failed.indices)


def _without_old(event: Event) -> Event:
    """What came of a write, for one who may not read: a refresh keeps the old value, so that goes, too."""
    node, previous = event.node, event.previous
    if event.is_refresh and node.value:
        node = node._replace(value=b"")
    if previous is not None and previous.value:
        previous = previous._replace(value=b"")
    return event._replace(node=node, previous=previous)


def _basic(header: bytes) -> tuple[bytes, bytes]:
    """Name and password; the scheme in any case, as in Go. Raises _NotRight."""
    if header[:6].lower() != b"basic ":
        raise _NotRight
    try:
        name, colon, password = base64.b64decode(header[6:], validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise _NotRight from None
    if not colon:
        raise _NotRight
    return name, password


def forget_changed(auth: Auth, passwords: Passwords) -> None:
    """Drops the remembered passwords of users who are not what they were."""
    passwords.forget(lambda user: auth.user(user.name) == user)
