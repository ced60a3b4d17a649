"""`/v2/auth`: users, roles and the switch, for root while auth is on and for everybody while it is off.

From requests to replicated commands, and from their outcomes to etcd's answers: statuses and messages are those of
docs/api-v2.md, *Users and roles*, to the letter. A password is hashed here, before anything is replicated, and goes no
further.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from kvstore import auth as state
from kvstore import logs
from kvstore.auth import AuthCommand, AuthError, Listed, Role, User, UserChange
from kvstore.http.backend import Backend, TooManyRequests, Unavailable
from kvstore.http.guard import BUSY, INSUFFICIENT, TRY_LATER, Denied, Guard
from kvstore.http.json_body import JsonTooLong, json_body
from kvstore.http.reply import JSON, Answer
from kvstore.http.request import BodyError, Request
from kvstore.http.texts import quote
from kvstore.http.v2.auth_bodies import BadBody, Patterns, RoleBody, UserBody, parse_role, parse_user
from kvstore.passwords import TooManyChecks
from kvstore.wire import (
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    PutUser,
    SwitchAuth,
    UpdateRole,
    UpdateUser,
)

USERS = b"/v2/auth/users/"
ROLES = b"/v2/auth/roles/"

#: A path with more than a name behind USERS or ROLES.
INVALID_PATH = Answer(400, JSON, b'{"message":"Invalid path"}')

log = logs.get("auth")

_PATTERN_HELD = (b"read", b"write")

# By refusal: status and message. What a DELETE says differs in two places.
_MESSAGES: dict[type[AuthError], tuple[int, Callable[[Any], bytes]]] = {
    state.UnknownUser: (404, lambda e: b"User %b does not exist." % e.name),
    state.UserExists: (409, lambda e: b"User %b already exists." % e.name),
    state.PasswordMissing: (400, lambda e: b"Cannot create user %b with an empty password" % e.name),
    state.UserUnchanged: (400, lambda e: b"User not updated. Use grant/revoke/password to update the user."),
    state.RootUserNeeded: (403, lambda e: b"Cannot delete root user while auth is enabled."),
    state.RoleHeld: (409, lambda e: b"Granting duplicate role %b for user %b" % (e.role, e.name)),
    state.RoleNotHeld: (409, lambda e: b"Revoking ungranted role %b for user %b" % (e.role, e.name)),
    state.UnknownRole: (404, lambda e: b"Role %b does not exist." % e.name),
    state.RoleExists: (409, lambda e: b"Role %b already exists." % e.name),
    state.RoleUnchanged: (400, lambda e: b"Role not updated. Use grant/revoke to update the role."),
    state.RootRoleFixed: (403, lambda e: b"Cannot modify role %b: is root role." % e.name),
    state.PatternHeld: (
        409,
        lambda e: b"Granting duplicate %b permission %b" % (_PATTERN_HELD[e.write], e.pattern),
    ),
    state.NoRootUser: (409, lambda e: b"No root user available, please create one"),
    state.AlreadySwitched: (409, lambda e: b"already enabled" if e.enabled else b"already disabled"),
}
_DELETE_MESSAGES: dict[type[AuthError], Callable[[Any], bytes]] = {
    state.UnknownUser: lambda e: b"User %b does not exist" % e.name,
    state.UnknownRole: lambda e: b"Role %b doesn't exist." % e.name,
}


class BadRequest(Exception):
    """400 with this message."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


class AuthApi:
    """The handlers of one member; the path tells which one."""

    def __init__(self, backend: Backend, guard: Guard, max_body: int) -> None:
        self._backend = backend
        self._guard = guard
        self._max_body = max_body

    async def switch(self, request: Request) -> Answer:
        """`/v2/auth/enable`; whether auth is on is open to all."""
        if request.method == "GET":
            enabled = b"true" if self._backend.auth.enabled else b"false"
            return self._answer(200, b'{"enabled":%b}\n' % enabled)
        return await self._as_root(request, self._switch)

    async def users(self, request: Request) -> Answer:
        return await self._as_root(request, self._list_users)

    async def user(self, request: Request) -> Answer:
        by_method = {"GET": self._show_user, "PUT": self._put_user, "DELETE": self._delete_user}
        return await self._as_root(request, by_method[request.method])

    async def roles(self, request: Request) -> Answer:
        return await self._as_root(request, self._list_roles)

    async def role(self, request: Request) -> Answer:
        by_method = {"GET": self._show_role, "PUT": self._put_role, "DELETE": self._delete_role}
        return await self._as_root(request, by_method[request.method])

    async def _as_root(self, request: Request, handler: Callable[[Request], Awaitable[Answer]]) -> Answer:
        """The one place that turns refusals into answers."""
        try:
            await self._guard.require_root(request)
            return await handler(request)
        except Denied:
            return INSUFFICIENT
        except TooManyChecks:
            return TRY_LATER
        except JsonTooLong as error:
            return self._message(400, error.cause)
        except (BadBody, BodyError):
            return self._message(400, b"Invalid JSON in request body.")
        except BadRequest as refusal:
            return self._message(400, refusal.message)
        except AuthError as refusal:
            status, message = _MESSAGES[type(refusal)]
            if request.method == "DELETE":
                message = _DELETE_MESSAGES.get(type(refusal), message)
            return self._message(status, b"auth: " + message(refusal))
        except TooManyRequests:
            return BUSY
        except Unavailable:
            return self._message(500, b"Internal Server Error")

    def _answer(self, status: int, body: bytes) -> Answer:
        return Answer(status, JSON + b"X-Etcd-Cluster-Id: %x\r\n" % self._backend.cluster_id, body)

    def _message(self, status: int, text: bytes) -> Answer:
        return self._answer(status, b'{"message":"%b"}' % quote(text))

    async def _change(self, request: Request, command: AuthCommand) -> object:
        outcome = await self._guard.change(request, command)
        name = "" if isinstance(command, SwitchAuth) else command.name.decode("utf-8", "replace")
        log.info("users or roles have changed", change=type(command).__name__, name=name)
        return outcome

    async def _switch(self, request: Request) -> Answer:
        await self._change(request, SwitchAuth(request.method == "PUT"))
        return self._answer(200, b"")

    # --- users ----------------------------------------------------------------------------------------------------

    async def _list_users(self, request: Request) -> Answer:
        """Roles that do not exist are left out; here they are none of the reader's business."""
        find = self._backend.auth.role
        listed = []
        for user in self._backend.auth.users():
            roles = [role for name in user.roles or () if (role := find(name)) is not None]
            listed.append(_user_with_roles(user.name, roles))
        return self._answer(200, b'{"users":%b}\n' % (b"[%b]" % b",".join(listed) if listed else b"null"))

    async def _show_user(self, request: Request) -> Answer:
        name = _name(request.path, USERS)
        user = self._backend.auth.user(name)
        if user is None:
            raise state.UnknownUser(name)
        roles = []
        for held in user.roles or ():
            role = self._backend.auth.role(held)
            if role is None:
                raise state.UnknownRole(held)
            roles.append(role)
        return self._answer(200, _user_with_roles(name, roles) + b"\n")

    async def _put_user(self, request: Request) -> Answer:
        asked = parse_user(await json_body(request, self._max_body))
        if asked.name != _name(request.path, USERS):
            raise BadRequest(b"User JSON name does not match the name in the URL")
        change = cast(UserChange, await self._change(request, await self._user_command(asked)))
        # a user created together with roles is 200, as in etcd
        return self._answer(201 if change.created and not asked.roles else 200, _encode_user(change.user))

    async def _user_command(self, asked: UserBody) -> CreateUser | PutUser | UpdateUser:
        name, password, roles, grant, revoke = asked
        if roles and (grant or revoke):
            raise BadRequest(b"User JSON contains both roles and grant/revoke")
        if roles and not password:
            raise state.PasswordMissing(name)
        hashed = await self._backend.passwords.hash(password) if password else None
        if grant or revoke:
            return UpdateUser(name, hashed, grant, revoke)
        if roles:
            assert hashed is not None
            return CreateUser(name, hashed, roles)
        return PutUser(name, hashed)

    async def _delete_user(self, request: Request) -> Answer:
        await self._change(request, DeleteUser(_name(request.path, USERS)))
        return self._answer(200, b"")

    # --- roles ----------------------------------------------------------------------------------------------------

    async def _list_roles(self, request: Request) -> Answer:
        listed = b",".join(map(_encode_role, self._backend.auth.roles()))
        return self._answer(200, b'{"roles":[%b]}\n' % listed)

    async def _show_role(self, request: Request) -> Answer:
        name = _name(request.path, ROLES)
        role = self._backend.auth.role(name)
        if role is None:
            raise state.UnknownRole(name)
        return self._answer(200, _encode_role(role) + b"\n")

    async def _put_role(self, request: Request) -> Answer:
        asked = parse_role(await json_body(request, self._max_body))
        if asked.name != _name(request.path, ROLES):
            raise BadRequest(b"Role JSON name does not match the name in the URL")
        if not _says_anything(asked.grant) and not _says_anything(asked.revoke):
            await self._change(request, CreateRole(asked.name, *asked.permissions))
            return self._answer(201, _encode_role_body(asked) + b"\n")
        if _says_anything(asked.permissions):
            raise BadRequest(b"Role JSON contains both permissions and grant/revoke")
        grant, revoke = asked.grant or Patterns(None, None), asked.revoke or Patterns(None, None)
        command = UpdateRole(asked.name, grant.read or (), grant.write or (), revoke.read or (), revoke.write or ())
        role = cast(Role, await self._change(request, command))
        return self._answer(200, _encode_role(role) + b"\n")

    async def _delete_role(self, request: Request) -> Answer:
        await self._change(request, DeleteRole(_name(request.path, ROLES)))
        return self._answer(200, b"")


def _name(path: bytes, prefix: bytes) -> bytes:
    return path[len(prefix) :].rstrip(b"/")


def _says_anything(patterns: Patterns | None) -> bool:
    return patterns is not None and bool(patterns.read or patterns.write)


# --- JSON -----------------------------------------------------------------------------------------------------------


def _list(texts: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(b'"%b"' % quote(text) for text in texts)


def _listed(texts: Listed) -> bytes:
    return b"null" if texts is None else _list(texts)


def _encode_user(user: User) -> bytes:
    """The answer to a PUT: names of roles, no hash."""
    return b'{"user":"%b","roles":%b}\n' % (quote(user.name), _listed(user.roles))


def _user_with_roles(name: bytes, roles: list[Role]) -> bytes:
    shown = b',"roles":[%b]' % b",".join(map(_encode_role, roles)) if roles else b""
    return b'{"user":"%b"%b}' % (quote(name), shown)


def _encode_patterns(patterns: Patterns) -> bytes:
    return b'{"kv":{"read":%b,"write":%b}}' % (_listed(patterns.read), _listed(patterns.write))


def _encode_role(role: Role) -> bytes:
    return b'{"role":"%b","permissions":%b}' % (quote(role.name), _encode_patterns(Patterns(role.read, role.write)))


def _encode_role_body(asked: RoleBody) -> bytes:
    """A new role as it was asked for, empty grants and all."""
    extra = b""
    for field, patterns in ((b"grant", asked.grant), (b"revoke", asked.revoke)):
        if patterns is not None:
            extra += b',"%b":%b' % (field, _encode_patterns(patterns))
    return b'{"role":"%b","permissions":%b%b}' % (quote(asked.name), _encode_patterns(asked.permissions), extra)
