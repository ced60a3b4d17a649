"""`user`, `role` and `auth`: who may do what, and whether that counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from kvctl.command import Command, Context, Failure, Subcommand
from kvctl.flags import MANY, TEXT, Flag
from kvctl.password import ask
from kvstore.client import ClientError
from kvstore.client.auth import Auth
from kvstore.client.endpoint import canonical

_NO_ARGUMENTS = "No arguments accepted"


@contextmanager
def _plain_errors() -> Iterator[None]:
    """These commands print an error without a word in front, and end with 1."""
    try:
        yield
    except ClientError as error:
        raise Failure(str(error)) from None


def _asks(work: Callable[[Context, Auth], Awaitable[None]]) -> Callable[[Context], Awaitable[None]]:
    """Connects, and does it."""

    async def run(context: Context) -> None:
        async with await context.connect() as client:
            if context.options.switch("debug"):
                context.complain(f"Cluster-Endpoints: {', '.join(client.endpoints)}")
            with _plain_errors():
                await work(context, Auth(client))

    return run


def _of_one(
    what: str, work: Callable[[Context, Auth, str], Awaitable[None]], check: Callable[[Context], None] | None = None
) -> Callable[[Context], Awaitable[None]]:
    """Takes one name. `check` looks at the flags before that."""

    async def run(context: Context) -> None:
        if check is not None:
            check(context)
        if len(context.words) != 1:
            raise Failure(f"Please provide a {what}")
        await _asks(lambda context, auth: work(context, auth, context.words[0]))(context)

    return run


def _of_none(work: Callable[[Context, Auth], Awaitable[None]]) -> Callable[[Context], Awaitable[None]]:
    async def run(context: Context) -> None:
        if context.words:
            raise Failure(_NO_ARGUMENTS)
        await _asks(work)(context)

    return run


# --- users --------------------------------------------------------------------------------------------------------


async def _user_list(context: Context, auth: Auth) -> None:
    for name in await auth.users():
        context.say(name)


async def _user_get(context: Context, auth: Auth, name: str) -> None:
    user = await auth.user(name)
    # etcdctl reads the roles twice, the first time as empty names; scripts may count on the spaces.
    context.say(f"User: {user.name}\nRoles: {' '.join(['' for _ in user.roles] + [*user.roles])}")


async def _user_add(context: Context, auth: Auth, word: str) -> None:
    name, colon, password = word.partition(":")
    await auth.add_user(name, password if colon else ask(context, "New password: "))
    context.say(f"User {name} created")


async def _user_remove(context: Context, auth: Auth, name: str) -> None:
    await auth.remove_user(name)
    context.say(f"User {name} removed")


async def _user_passwd(context: Context, auth: Auth, name: str) -> None:
    await auth.change_password(name, ask(context, "New password: "))
    context.say("Password updated")


async def _user_grant(context: Context, auth: Auth, name: str) -> None:
    await auth.grant_roles(name, context.flags.many("roles"))
    context.say(f"User {name} updated")


async def _user_revoke(context: Context, auth: Auth, name: str) -> None:
    await auth.revoke_roles(name, context.flags.many("roles"))
    context.say(f"User {name} updated")


def _needs_roles(context: Context) -> None:
    if not context.flags.many("roles"):
        raise Failure("No roles specified; please use `--roles`")


# --- roles --------------------------------------------------------------------------------------------------------


async def _role_list(context: Context, auth: Auth) -> None:
    for name in await auth.roles():
        context.say(name)


async def _role_get(context: Context, auth: Auth, name: str) -> None:
    role = await auth.role(name)
    context.say("\n".join([f"Role: {role.name}", "KV Read:", *(f"\t{pattern}" for pattern in role.read)]))
    context.say("\n".join(["KV Write:", *(f"\t{pattern}" for pattern in role.write)]))


async def _role_add(context: Context, auth: Auth, name: str) -> None:
    try:
        await auth.role(name)
    except ClientError:
        await auth.add_role(name)
        context.say(f"Role {name} created")
    else:
        raise Failure(f"Role {name} already exists")


async def _role_remove(context: Context, auth: Auth, name: str) -> None:
    await auth.remove_role(name)
    context.say(f"Role {name} removed")


def _needs_pattern(context: Context) -> None:
    path = context.flags.text("path")
    if not path:
        raise Failure("No path specified; please use `--path`")
    if canonical(path) != path:
        raise Failure(f"Not canonical path; please use `--path={canonical(path)}`")
    if sum(map(context.flags.switch, ("read", "write", "readwrite"))) != 1:
        raise Failure("Please specify exactly one of --read, --write or --readwrite")


def _changes_role(*, grant: bool) -> Callable[[Context, Auth, str], Awaitable[None]]:
    async def work(context: Context, auth: Auth, name: str) -> None:
        before = await auth.role(name)
        both = context.flags.switch("readwrite")
        pattern = [context.flags.text("path")]
        read = pattern if both or context.flags.switch("read") else []
        write = pattern if both or context.flags.switch("write") else []
        after = await (auth.grant_patterns if grant else auth.revoke_patterns)(name, read, write)
        unchanged = f"Role unchanged; already {'granted' if grant else 'revoked'}" if after == before else ""
        context.say(f"{unchanged}Role {name} updated")

    return work


# --- on and off ---------------------------------------------------------------------------------------------------


async def _enable(context: Context, auth: Auth) -> None:
    await auth.enable()
    context.say("Authentication Enabled")


async def _disable(context: Context, auth: Auth) -> None:
    await auth.disable()
    context.say("Authentication Disabled")


# --- the commands -------------------------------------------------------------------------------------------------

_ROLES = (Flag("roles", "List of roles to grant or revoke", MANY),)


def _pattern_flags(past: str, verb: str) -> tuple[Flag, ...]:
    only = "-only" if verb == "Grant" else ""
    return (
        Flag("path", f"Path {past} for the role to access", TEXT),
        Flag("read", f"{verb} read{only} access"),
        Flag("write", f"{verb} write{only} access"),
        Flag("readwrite, rw", f"{verb} read-write access"),
    )


USER = Command(
    example="kvctl user list",
    subcommands=(
        Subcommand(
            "add",
            "add a new user for the etcd cluster",
            Command(_of_one("username", _user_add), usage="<user>", example="kvctl user add anna:rose"),
        ),
        Subcommand(
            "get",
            "get details for a user",
            Command(_of_one("username", _user_get), usage="<user>", example="kvctl user get anna"),
        ),
        Subcommand(
            "list",
            "list all current users",
            Command(_of_none(_user_list), usage="<user>", example="kvctl user list"),
        ),
        Subcommand(
            "remove",
            "remove a user for the etcd cluster",
            Command(_of_one("username", _user_remove), usage="<user>", example="kvctl user remove anna"),
        ),
        Subcommand(
            "grant",
            "grant roles to an etcd user",
            Command(
                _of_one("username", _user_grant, _needs_roles),
                usage="<user>",
                flags=_ROLES,
                example="kvctl user grant anna --roles gardener",
            ),
        ),
        Subcommand(
            "revoke",
            "revoke roles for an etcd user",
            Command(
                _of_one("username", _user_revoke, _needs_roles),
                usage="<user>",
                flags=_ROLES,
                example="kvctl user revoke anna --roles gardener",
            ),
        ),
        Subcommand(
            "passwd",
            "change password for a user",
            Command(_of_one("username", _user_passwd), usage="<user>", example="kvctl user passwd anna"),
        ),
    ),
)
ROLE = Command(
    example="kvctl role list",
    subcommands=(
        Subcommand(
            "add",
            "add a new role for the etcd cluster",
            Command(_of_one("role name", _role_add), usage="<role> ", example="kvctl role add gardener"),
        ),
        Subcommand(
            "get",
            "get details for a role",
            Command(_of_one("role name", _role_get), usage="<role>", example="kvctl role get gardener"),
        ),
        Subcommand(
            "list",
            "list all roles",
            Command(_of_none(_role_list), usage=" ", example="kvctl role list"),
        ),
        Subcommand(
            "remove",
            "remove a role from the etcd cluster",
            Command(_of_one("role name", _role_remove), usage="<role>", example="kvctl role remove gardener"),
        ),
        Subcommand(
            "grant",
            "grant path matches to an etcd role",
            Command(
                _of_one("role name", _changes_role(grant=True), _needs_pattern),
                usage="<role>",
                flags=_pattern_flags("granted", "Grant"),
                example="kvctl role grant gardener --path '/garden*' --readwrite",
            ),
        ),
        Subcommand(
            "revoke",
            "revoke path matches for an etcd role",
            Command(
                _of_one("role name", _changes_role(grant=False), _needs_pattern),
                usage="<role>",
                flags=_pattern_flags("revoked", "Revoke"),
                example="kvctl role revoke gardener --path '/garden*' --write",
            ),
        ),
    ),
)
AUTH = Command(
    example="kvctl auth enable",
    subcommands=(
        Subcommand(
            "enable",
            "enable auth access controls",
            Command(_of_none(_enable), usage=" ", example="kvctl auth enable"),
        ),
        Subcommand(
            "disable",
            "disable auth access controls",
            Command(_of_none(_disable), usage=" ", example="kvctl --username root auth disable"),
        ),
    ),
)
