"""The users, roles and keys that the attacks run against, and how to ask as one of them."""

from __future__ import annotations

import base64

import bcrypt

from kvstore.store.operations import Set
from kvstore.wire import Checked, CreateRole, CreateUser, Guarded, SwitchAuth
from tests.http.backend import LocalBackend
from tests.http.client import FORM, RawClient, Response, request

SECRET = b"classified"
KEYS = (
    b"/app/a",
    b"/app/w/k",
    b"/app/_hidden/h",
    b"/apple",
    b"/only",  # a file where a grant speaks of a directory
    b"/exact",
    b"/dir/x",
    b"/dir/sub/y",
    b"/pub/x",
    b"/pub/sub/y",
    b"/open/a",
    b"/drop/old",
    b"/_hidden/h",
)
ROLES = (
    CreateRole(b"guest", (b"/pub", b"/open/*"), (b"/drop/*", b"/pub")),
    CreateRole(b"app", (b"/app/*",), (b"/app/w/*",)),
    CreateRole(b"exact", (b"/exact", b"/dir"), (b"/exact", b"/dir", b"/queue")),
    CreateRole(b"only", (b"/only/*",), (b"/only/*",)),
    CreateRole(b"empty", (b"",), (b"",)),
    CreateRole(b"everything", (b"/*",), (b"/*",)),
)
USERS = {
    b"root": None,
    b"alice": (b"app", b"gone"),
    b"bob": (b"exact",),
    b"olga": (b"only",),
    b"eve": (b"empty",),
    b"max": (b"everything",),
    b"nemo": None,
}


def basic(name: bytes, password: bytes = b"pw") -> str:
    return "Authorization: Basic " + base64.b64encode(name + b":" + password).decode()


#: Who asks: header lines.
WHO: dict[str, tuple[str, ...]] = {
    "guest": (),
    "wrong password": (basic(b"root", b"wrong"),),
    "no password": (basic(b"root", b""),),
    "the hash itself": (),  # filled in below
    "other case": (basic(b"ROOT"),),
    "unknown": (basic(b"nobody"),),
    "path for a name": (basic(b"../users/root"),),
    "bearer": ("Authorization: Bearer " + base64.b64encode(b"root:pw").decode(),),
    "no base64": ("Authorization: Basic root:pw",),
    "no colon": ("Authorization: Basic " + base64.b64encode(b"root").decode(),),
    "scheme alone": ("Authorization: Basic",),
    **{name.decode(): (basic(name),) for name in USERS},
}
HASH = bcrypt.hashpw(b"pw", bcrypt.gensalt(4))
WHO["the hash itself"] = (basic(b"root", HASH),)
OUTSIDERS = [who for who in WHO if who not in {name.decode() for name in USERS} | {"guest"}]


def furnish(backend: LocalBackend) -> LocalBackend:
    for key in KEYS:
        backend.apply(Set(key, SECRET, False, None, False))
    for role in ROLES:
        backend.apply(role)
    for name, roles in USERS.items():
        backend.apply(CreateUser(name, HASH, roles))
    backend.apply(SwitchAuth(True))
    return backend


def change(backend: LocalBackend, command: Checked) -> None:
    """As root would, on another member."""
    backend.apply(Guarded(backend.auth.revision, False, command))


async def ask(client: RawClient, who: str, line: str, form: str = "", *headers: str) -> Response:
    lines = (*WHO[who], *headers)
    return await client.ask(request(line, *lines, *((FORM,) if form else ()), body=form.encode()))
