"""`backup`: a copy of a stopped member's folder that can start as a cluster of its own.

This is work on a disk, not on the API. It is the one place where kvctl reaches into the server's code, and only when
it runs; everything else in kvctl goes over HTTP.
"""

from __future__ import annotations

from kvctl.command import Command, Context, Failure
from kvctl.flags import TEXT, Flag
from kvctl.progress import Progress


def _backup(context: Context) -> None:
    from kvstore.backup import BackupError, backup
    from kvstore.storage.errors import StorageError

    source, target = context.flags.text("data-dir"), context.flags.text("backup-dir")
    if not source or not target:
        raise Failure("Error:  --data-dir and --backup-dir required")
    if context.flags.switch("with-v3"):
        context.complain("kvctl: --with-v3 has no effect: there is one tree of keys, and all of it is copied")
    try:
        with Progress("applying the log") as progress:
            done = backup(
                source,
                context.flags.text("wal-dir"),
                target,
                context.flags.text("backup-wal-dir"),
                progress=progress.show,
            )
    except (BackupError, StorageError) as error:
        raise Failure(f"Error:  {error}") from None
    except OSError as error:
        raise Failure(f"Error:  {error.filename or target}: {error.strerror}") from None
    if done.missing:
        context.complain(
            f"kvctl: this member had acknowledged entries up to {done.missing} and holds {done.raft_index}:"
            " the rest is lost here. If another member has them, back that one up"
        )
    context.say(f"Backed up the keys up to index {done.etcd_index} (entry {done.raft_index}) into {target}")


BACKUP = Command(
    _backup,
    usage=" ",
    flags=(
        Flag("data-dir", "Path to the etcd data dir", TEXT),  # etcdctl's words: they are compared
        Flag("wal-dir", "Path to the etcd wal dir", TEXT),
        Flag("backup-dir", "Path to the backup dir", TEXT),
        Flag("backup-wal-dir", "Path to the backup wal dir", TEXT),
        Flag("with-v3", "Backup v3 backend data"),
    ),
    description="""The member must be stopped; its folder is not changed. The copy starts as the only member of a new
   cluster, under any --name; add members to it as usual. docs/kvctl.md says how.""",
    example="""kvctl backup --data-dir /var/lib/kvstored --backup-dir /backup/kvstored
kvstored --name n1 --data-dir /backup/kvstored""",
)
