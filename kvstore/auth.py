"""Who may do what: users, roles and whether anybody asks, as replicated state (docs/api-v2.md, *Users and roles*).

Users and roles change by commands out of the log alone and are checked again as they are applied, so that every
member decides alike. Names, patterns and keys are bytes, as keys are everywhere; a pattern that ends in `*` covers
every key that starts with what stands before it, any other one exactly that key. Knows hashes and no password, no
HTTP, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from kvstore.wire import (
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    PutUser,
    SwitchAuth,
    UpdateRole,
    UpdateUser,
    check_flag,
    check_number,
    checker_of,
)

ROOT = b"root"  # the user that must exist while auth is on, and the role that may do everything
GUEST = b"guest"  # the role of those who do not say who they are
_EVERYTHING = (b"/*",)

#: None: never changed since it was created without a list (etcd shows `null`); patterns and names else.
Listed: TypeAlias = tuple[bytes, ...] | None


class AuthError(Exception):
    """The change does not fit the users and roles that there are; nothing has changed."""


class NamedRefusal(AuthError):
    """A refusal that concerns one user or role."""

    def __init__(self, name: bytes) -> None:
        super().__init__(f"{type(self).__name__}: {name!r}")
        self.name = name


class UnknownUser(NamedRefusal):
    pass


class UserExists(NamedRefusal):
    pass


class PasswordMissing(NamedRefusal):
    """A user cannot be created without a password."""


class UserUnchanged(NamedRefusal):
    pass


class RootUserNeeded(NamedRefusal):
    """Root cannot be deleted while auth is on."""


class UnknownRole(NamedRefusal):
    pass


class RoleExists(NamedRefusal):
    pass


class RoleUnchanged(NamedRefusal):
    pass


class RootRoleFixed(NamedRefusal):
    """The role root is as it is."""


class RoleHeld(NamedRefusal):
    """`role` is granted to a user who has it."""

    def __init__(self, name: bytes, role: bytes) -> None:
        super().__init__(name)
        self.role = role


class RoleNotHeld(RoleHeld):
    """`role` is revoked from a user who does not have it."""


class PatternHeld(NamedRefusal):
    """A pattern is granted to a role that has it; `write`: to write, not to read."""

    def __init__(self, name: bytes, pattern: bytes, write: bool) -> None:
        super().__init__(name)
        self.pattern = pattern
        self.write = write


class NoRootUser(AuthError):
    """Auth cannot be switched on before there is somebody to switch it off."""


class AlreadySwitched(AuthError):
    def __init__(self, enabled: bool) -> None:
        super().__init__(f"already {'enabled' if enabled else 'disabled'}")
        self.enabled = enabled


class AuthChanged(AuthError):
    """The command was allowed by users and roles that have changed since: whoever proposed it has to ask again."""


class DirectoryNotAllowed(AuthError):
    """The command was allowed for a file, and its key is a directory: what is in it would go with it."""


class User(NamedTuple):
    """`password_hash` is bcrypt's. Equal values are the same user with the same password and roles."""

    name: bytes
    password_hash: bytes
    roles: Listed  # root's always hold the role root; they need not exist

    def __repr__(self) -> str:
        return f"User({self.name!r}, roles={self.roles!r})"


class Role(NamedTuple):
    """Patterns of keys that its holders may read and write."""

    name: bytes
    read: Listed
    write: Listed


_check_user = checker_of(User)
_check_role = checker_of(Role)


class UserChange(NamedTuple):
    """The outcome of a command that made or changed a user."""

    user: User
    created: bool


AuthCommand: TypeAlias = (
    CreateUser | PutUser | UpdateUser | DeleteUser | CreateRole | UpdateRole | DeleteRole | SwitchAuth
)
AuthOutcome: TypeAlias = UserChange | Role | None


def covers(patterns: Listed, key: bytes, subtree: bool) -> bool:
    """Whether a pattern covers `key`; `subtree`: and every key that starts with it. An empty pattern covers
    nothing."""
    for pattern in patterns or ():
        if pattern[-1:] == b"*":
            if key.startswith(pattern[:-1]):
                return True
        elif not subtree and pattern and pattern == key:
            return True
    return False


class Auth:
    """`enabled`, and `revision`, which counts the changes so far, are for others to read."""

    def __init__(self) -> None:
        self.enabled = False
        self.revision = 0
        self._users: dict[bytes, User] = {}
        self._roles: dict[bytes, Role] = {}
        self._observers: list[Callable[[], None]] = []

    # --- questions ------------------------------------------------------------------------------------------------

    def user(self, name: bytes) -> User | None:
        user = self._users.get(name)
        return None if user is None else _with_root_role(user)

    def users(self) -> list[User]:
        """By name."""
        return [_with_root_role(self._users[name]) for name in sorted(self._users)]

    def role(self, name: bytes) -> Role | None:
        return Role(ROOT, _EVERYTHING, _EVERYTHING) if name == ROOT else self._roles.get(name)

    def roles(self) -> list[Role]:
        """By name; the role root is always among them."""
        return sorted([*self._roles.values(), Role(ROOT, _EVERYTHING, _EVERYTHING)], key=lambda role: role.name)

    def allows(self, user: User | None, key: bytes, write: bool, subtree: bool) -> bool:
        """Whether any role of `user` (None: of guests) covers `key`, `subtree`: and all that starts with it.

        Says nothing of `enabled`. Roles that do not exist are skipped.
        """
        for name in (GUEST,) if user is None else user.roles or ():
            if name == ROOT:
                return True
            role = self._roles.get(name)
            if role is not None and covers(role.write if write else role.read, key, subtree):
                return True
        return False

    @staticmethod
    def is_root(user: User) -> bool:
        """Whether `user` may change users, roles and members."""
        return ROOT in (user.roles or ())

    def observe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """`changed` is called behind every change; it must not raise. Gives what ends that."""
        self._observers.append(changed)
        return lambda: self._observers.remove(changed)

    # --- changes --------------------------------------------------------------------------------------------------

    def apply(self, command: AuthCommand) -> AuthOutcome:
        """Carries out one command. Raises AuthError, and then nothing has changed."""
        outcome = _APPLIERS[type(command)](self, command)
        self._changed(self.revision + 1)
        return outcome

    def _changed(self, revision: int) -> None:
        self.revision = revision
        for observer in tuple(self._observers):
            observer()

    def _create_user(self, command: CreateUser) -> UserChange:
        if command.name in self._users:
            raise UserExists(command.name)
        user = self._users[command.name] = _with_root_role(User._make(command))
        return UserChange(user, created=True)

    def _put_user(self, command: PutUser) -> UserChange:
        """PUT without roles, grant and revoke: a new user, or a new password."""
        if command.name in self._users:
            return self._update_user(UpdateUser(command.name, command.password_hash, (), ()))
        if command.password_hash is None:
            raise PasswordMissing(command.name)
        return self._create_user(CreateUser(command.name, command.password_hash, None))

    def _update_user(self, command: UpdateUser) -> UserChange:
        old = self.user(command.name)
        if old is None:
            raise UnknownUser(command.name)
        roles = set(old.roles or ())
        for role in command.grant:
            if role in roles:
                raise RoleHeld(old.name, role)
            roles.add(role)
        for role in command.revoke:
            if role not in roles:
                raise RoleNotHeld(old.name, role)
            roles.remove(role)
        user = User(old.name, command.password_hash or old.password_hash, tuple(sorted(roles)))
        if user == old:
            raise UserUnchanged(old.name)
        self._users[user.name] = user
        return UserChange(user, created=False)

    def _delete_user(self, command: DeleteUser) -> None:
        if self.enabled and command.name == ROOT:
            raise RootUserNeeded(command.name)
        if self._users.pop(command.name, None) is None:
            raise UnknownUser(command.name)

    def _create_role(self, command: CreateRole) -> Role:
        if command.name == ROOT:
            raise RootRoleFixed(command.name)
        if command.name in self._roles:
            raise RoleExists(command.name)
        role = self._roles[command.name] = Role._make(command)
        return role

    def _update_role(self, command: UpdateRole) -> Role:
        name = command.name
        if name == ROOT:
            raise RootRoleFixed(name)
        old = self._roles.get(name)
        if old is None:
            raise UnknownRole(name)
        read = _granted(name, old.read, command.grant_read, write=False)
        write = _granted(name, old.write, command.grant_write, write=True)
        role = Role(
            name,
            tuple(sorted(read.difference(command.revoke_read))),  # what is not held is revoked in silence
            tuple(sorted(write.difference(command.revoke_write))),
        )
        if role == old:
            raise RoleUnchanged(name)
        self._roles[name] = role
        return role

    def _delete_role(self, command: DeleteRole) -> None:
        if command.name == ROOT:
            raise RootRoleFixed(command.name)
        if self._roles.pop(command.name, None) is None:
            raise UnknownRole(command.name)

    def _switch(self, command: SwitchAuth) -> None:
        if command.enabled == self.enabled:
            raise AlreadySwitched(self.enabled)
        if command.enabled:
            if ROOT not in self._users:
                raise NoRootUser("there is no user root")
            self._roles.setdefault(GUEST, Role(GUEST, _EVERYTHING, _EVERYTHING))
        self.enabled = command.enabled

    # --- snapshots ------------------------------------------------------------------------------------------------

    def freeze(self) -> tuple[Any, ...]:
        """All of it as plain tuples, in an order that is the same on every member."""
        return (self.revision, self.enabled, _sorted(self._users), _sorted(self._roles))

    @classmethod
    def restore(cls, frozen: tuple[Any, ...]) -> Auth:
        """The inverse of `freeze`. Raises WireError, TypeError and ValueError for what is none."""
        auth = cls()
        revision, enabled, users, roles = frozen
        auth.revision, auth.enabled = check_number(revision), check_flag(enabled)
        auth._users = {user.name: user for user in map(_check_user, users)}
        auth._roles = {role.name: role for role in map(_check_role, roles)}
        return auth

    def adopt(self, restored: Auth) -> None:
        """Goes on from a later state; whoever observes goes on to."""
        changed = restored.revision != self.revision
        self.enabled, self._users, self._roles = restored.enabled, restored._users, restored._roles
        if changed:
            self._changed(restored.revision)


#: By class, for what `store.py` says of its own table.
_APPLIERS: dict[type[AuthCommand], Callable[[Auth, Any], AuthOutcome]] = {
    CreateUser: Auth._create_user,
    PutUser: Auth._put_user,
    UpdateUser: Auth._update_user,
    DeleteUser: Auth._delete_user,
    CreateRole: Auth._create_role,
    UpdateRole: Auth._update_role,
    DeleteRole: Auth._delete_role,
    SwitchAuth: Auth._switch,
}


def _with_root_role(user: User) -> User:
    """Root has its role, even when that was revoked."""
    if user.name != ROOT or ROOT in (user.roles or ()):
        return user
    return user._replace(roles=(*(user.roles or ()), ROOT))


def _granted(name: bytes, held: Listed, grant: Iterable[bytes], write: bool) -> set[bytes]:
    patterns = set(held or ())
    for pattern in grant:
        if pattern in patterns:
            raise PatternHeld(name, pattern, write)
        patterns.add(pattern)
    return patterns


def _sorted(records: dict[bytes, Any]) -> tuple[Any, ...]:
    return tuple(tuple(records[name]) for name in sorted(records))
