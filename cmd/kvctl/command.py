"""The shape of a command, and the context of one run of it.

A command is a `Command` value in a module of its own, named by `kvctl.table`. Its `run` gets a `Context` and returns
the exit status (None: 0); it may be a coroutine function. It may raise `Failure`, or let a `ClientError` through, which
is printed as etcdctl would, with status 4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from kvctl import streams
from kvctl.flags import Flag, Values
from kvstore.client import (
    Client,
    ClientError,
    InvalidEndpoint,
    InvalidTls,
    Tls,
    Unreachable,
)
from kvstore.client.client import is_connection_failure
from kvstore.client.errors import NoEndpoints

# etcdctl's exit statuses.
BAD_ARGUMENTS = 1
BAD_CONNECTION = 2
BAD_AUTHENTICATION = 3
SERVER_ERROR = 4
NOT_HEALTHY = 5
# Beside the status of a command that kvctl runs: kvctl itself failed.
OWN_FAILURE = 125

DEFAULT_ENDPOINTS = "http://127.0.0.1:2379,http://127.0.0.1:4001"


class Failure(Exception):
    """Ends kvctl with `status`; the text goes to standard error unchanged, followed by `end`."""

    def __init__(self, text: str, status: int = BAD_ARGUMENTS, end: str = "\n") -> None:
        super().__init__(text)
        self.status = status
        self.end = end


class Command(NamedTuple):
    """One command. `usage` follows its name in the help, as `<key> <value>`; `example` is one or more command lines.

    With `subcommands`, `run` and `flags` are not used. `is_ours` means that etcdctl has no such command, so flags may
    be anywhere before a `--`, and each error is one line. `runs_command` means that it runs the command line after the
    `--` and returns its exit status, so that kvctl's own failures have a separate status.
    """

    run: Callable[[Context], Awaitable[int | None] | int | None] | None = None
    usage: str = ""
    flags: tuple[Flag, ...] = ()
    example: str = ""
    description: str = ""
    subcommands: tuple[Subcommand, ...] = ()
    is_ours: bool = False
    runs_command: bool = False


class Subcommand(NamedTuple):
    """One of `member`, `user`, `role`, `auth`."""

    name: str
    summary: str
    command: Command


class Context:
    """The arguments of one run of a command, and its output.

    `options` are the global flags, `flags` those of the command, `words` the other arguments, `raw` all arguments
    after the command's name; `command_line` holds the arguments after a `--`, for commands that etcdctl does not have.
    """

    def __init__(
        self,
        options: Values,
        flags: Values,
        words: Sequence[str],
        raw: Sequence[str],
        environment: Mapping[str, str],
        command_line: Sequence[str] = (),
    ) -> None:
        self.options = options
        self.flags = flags
        self.words = tuple(words)
        self.raw = tuple(raw)
        self.environment = environment
        self.command_line = tuple(command_line)

    @property
    def output(self) -> str:
        """The value of `--output`: simple, extended or json; any other value prints nothing."""
        return self.options.text("output")

    def split(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The arguments before the first `--`, and the command line after it."""
        if "--" not in self.raw:
            return self.words, ()
        behind = self.raw[self.raw.index("--") + 1 :]
        before = self.words[: len(self.words) - len(behind)]
        return before[:-1] if before[-1:] == ("--",) else before, behind

    def say(self, line: str) -> None:
        """Write a line to standard output immediately. BrokenPipeError ends kvctl as SIGPIPE would."""
        streams.put(line + "\n")

    def complain(self, line: str) -> None:
        """A line to standard error."""
        streams.complain(line + "\n")

    def setting(self, flag: str, *variables: str) -> str:
        """A global flag, or the first of the variables that is not empty."""
        candidates = (self.options.text(flag), *(self.environment.get(name, "") for name in variables))
        return next(filter(None, candidates), "")

    def value(self, place: int) -> str:
        """The word at `place`, or all of standard input. Raises Failure when that is empty."""
        if place < len(self.words):
            return self.words[place]
        if text := streams.read_all():
            return text.decode(errors="surrogateescape")
        raise Failure("Error:  value required")

    def tls(self) -> Tls:
        return Tls(
            self.setting("ca-file", "ETCDCTL_CA_FILE"),
            self.setting("cert-file", "ETCDCTL_CERT_FILE"),
            self.setting("key-file", "ETCDCTL_KEY_FILE"),
            "" if self._accepts_insecure_discovery() else self._domain(),
        )

    def client(self) -> Client:
        """A client of the endpoints that were given. Raises Failure."""
        try:
            username, password = self._credentials()
            return Client(
                self.endpoints(),
                username=username,
                password=password,
                tls=self.tls(),
                timeout=max(self.options.seconds("timeout"), 0.0),
                total_timeout=max(self.options.seconds("total-timeout"), 1e-9),
                trace=self._trace if self.options.switch("debug") else None,
            )
        except (InvalidEndpoint, InvalidTls, NoEndpoints) as error:
            raise Failure(str(error)) from None

    async def connect(self) -> Client:
        """A client of the whole cluster: unless --no-sync is given, the members' client URLs are looked up first.

        Raises Failure, ClientError. Use it as `async with await context.connect() as client`.
        """
        client = self.client()
        debug = self.options.switch("debug")
        if not self.options.switch("no-sync"):
            if debug:
                self.complain(f"start to sync cluster using endpoints({','.join(client.endpoints)})")
            await self._sync(client)
            if debug:
                self.complain(f"got endpoints({','.join(client.endpoints)}) after sync")
        if debug:
            self.complain(f"Cluster-Endpoints: {', '.join(client.endpoints)}")
        return client

    async def _sync(self, client: Client) -> None:
        try:
            await client.sync()
        except NoEndpoints as error:
            client.close()
            text = (
                "etcd cluster has no published client endpoints.\n"
                f"Try '--no-sync' if you want to access non-published client endpoints({','.join(client.endpoints)})."
            )
            raise Failure(f"{text}\n{self.words_for(error)}", SERVER_ERROR) from None
        except InvalidTls:
            client.close()
            raise
        except ClientError as error:
            if is_connection_failure(error):
                client.close()
                raise Failure(self.words_for(error), BAD_CONNECTION) from None

    def words_for(self, error: ClientError) -> str:
        """What etcdctl prints for an error of the cluster."""
        text = f"Error:  {error}"
        return f"{text}\n{error.detail}" if isinstance(error, Unreachable) else text

    def endpoints(self) -> list[str]:
        """From --discovery-srv, --endpoints, its older names, or their variables. Raises Failure."""
        if domain := self._domain():
            from kvctl.discovery import discover

            if found := discover(self, domain, insecure=self._accepts_insecure_discovery()):
                return found
        text = (
            self.setting("endpoints", "ETCDCTL_ENDPOINTS")
            or self.setting("endpoint", "ETCDCTL_ENDPOINT")
            or self.setting("peers", "ETCDCTL_PEERS")
        )
        return (text or DEFAULT_ENDPOINTS).split(",")

    def _domain(self) -> str:
        return self.setting("discovery-srv", "ETCDCTL_DISCOVERY_SRV")

    def _accepts_insecure_discovery(self) -> bool:
        return self.options.switch("insecure-discovery") or bool(self.environment.get("ETCDCTL_INSECURE_DISCOVERY"))

    def _credentials(self) -> tuple[str, str]:
        given = self.setting("username", "ETCDCTL_USERNAME")
        username, colon, password = given.partition(":")
        if given and not colon:
            from kvctl.password import ask

            password = ask(self, "Password: ")
        return username, password

    def _trace(self, method: str, url: str, body: bytes | None) -> None:
        from kvctl.printing import go_quoted

        data = "" if body is None else f" -d {go_quoted(body)}"
        self.complain(f"cURL Command: curl -X {method} {url}{data}")
