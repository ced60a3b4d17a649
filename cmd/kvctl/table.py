"""The table of all commands. Each lives in a module that is imported only when it runs, so that kvctl starts fast.

To add one: a module of its own with a `Command` value, and an `Entry` here. See `kvctl.command`.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from kvctl.command import Command
from kvctl.flags import SECONDS, TEXT, Flag


class Entry(NamedTuple):
    """One command: where its `Command` is, as module:name, and one line about it."""

    name: str
    where: str
    summary: str

    def load(self) -> Command:
        module, _, name = self.where.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, Command)
        return command


TABLE = (
    Entry("backup", "kvctl.backup:BACKUP", "backup an etcd directory"),
    Entry("cluster-health", "kvctl.cluster_health:CLUSTER_HEALTH", "check the health of the etcd cluster"),
    Entry("mk", "kvctl.write:MK", "make a new key with a given value"),
    Entry("mkdir", "kvctl.write:MKDIR", "make a new directory"),
    Entry("rm", "kvctl.write:RM", "remove a key or a directory"),
    Entry("rmdir", "kvctl.write:RMDIR", "removes the key if it is an empty directory or a key-value pair"),
    Entry("get", "kvctl.read:GET", "retrieve the value of a key"),
    Entry("ls", "kvctl.read:LS", "retrieve a directory"),
    Entry("set", "kvctl.write:SET", "set the value of a key"),
    Entry("setdir", "kvctl.write:SETDIR", "create a new directory or update an existing directory TTL"),
    Entry("update", "kvctl.write:UPDATE", "update an existing key with a given value"),
    Entry("updatedir", "kvctl.write:UPDATEDIR", "update an existing directory"),
    Entry("watch", "kvctl.watch:WATCH", "watch a key for changes"),
    Entry("exec-watch", "kvctl.watch:EXEC_WATCH", "watch a key for changes and exec an executable"),
    Entry("member", "kvctl.member:MEMBER", "member add, remove and list subcommands"),
    Entry("user", "kvctl.auth:USER", "user add, grant and revoke subcommands"),
    Entry("role", "kvctl.auth:ROLE", "role add, grant and revoke subcommands"),
    Entry("auth", "kvctl.auth:AUTH", "overall auth controls"),
    Entry("certs", "kvctl.certs:CERTS", "make an authority and certificates for servers, clients and peers"),
    Entry("levels", "kvctl.levels:LEVELS", "show the level of the cluster and what each member takes part in"),
    Entry("import", "kvctl.import_tree:IMPORT", "import a snapshot to a cluster"),
    Entry("exec", "kvctl.containers.exec:EXEC", "run a command with keys in its environment"),
    Entry("env", "kvctl.containers.env:ENV", "print keys as environment variables"),
    Entry("render", "kvctl.containers.render:RENDER", "fill templates with keys and replace files"),
    Entry("wait", "kvctl.containers.wait:WAIT", "wait until a key exists, or has a value"),
    Entry("register", "kvctl.containers.register:REGISTER", "keep a service announced while it lives"),
    Entry("lock", "kvctl.containers.lock:LOCK", "run a command while holding a lock"),
    Entry("semaphore", "kvctl.containers.semaphore:SEMAPHORE", "run a command on at most so many machines at once"),
    Entry("completion", "kvctl.completion:COMPLETION", "print a script that completes commands and flags in a shell"),
)

_OLDER = 'DEPRECATED - "--endpoints" should be used instead'

#: The flags in front of the command.
GLOBAL = (
    Flag("debug", "output cURL commands which can be used to reproduce the request"),
    Flag("no-sync", "don't synchronize cluster information before sending request"),
    Flag(
        "output, o",
        "output response in the given format (simple, `extended` or `json`)",
        TEXT,
        "simple",
        '"simple"',
        value="simple",
    ),
    Flag("discovery-srv, D", "domain name to query for SRV records describing cluster endpoints", TEXT),
    Flag("insecure-discovery", "accept insecure SRV records describing cluster endpoints"),
    Flag("peers, C", _OLDER, TEXT),
    Flag("endpoint", _OLDER, TEXT),
    Flag(
        "endpoints",
        "a comma-delimited list of machine addresses in the cluster"
        ' (default: "http://127.0.0.1:2379,http://127.0.0.1:4001")',
        TEXT,
    ),
    Flag("cert-file", "identify HTTPS client using this SSL certificate file", TEXT),
    Flag("key-file", "identify HTTPS client using this SSL key file", TEXT),
    Flag("ca-file", "verify certificates of HTTPS-enabled servers using this CA bundle", TEXT),
    Flag("username, u", "provide username[:password] and prompt if password is not supplied.", TEXT),
    Flag("timeout", "connection timeout per request", SECONDS, 2.0, "2s"),
    Flag("total-timeout", "timeout for the command execution (except watch)", SECONDS, 5.0, "5s"),
)


VERSION_FLAG = Flag("version, v", "print the version")


def find(name: str) -> Entry | None:
    return next((entry for entry in TABLE if entry.name == name), None)
