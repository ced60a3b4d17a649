"""Everything that the disk can do to us, as one small tree of errors.

A refusal names the file, the offset in it, what is wrong there and what the operator can do. Nothing on the disk was
changed when a refusal is raised. `DiskFailed` is the other branch: the disk itself gave an error, and what its page
cache says can no longer be believed, so the server stops.
"""

from __future__ import annotations

from kvstore.wire import LATER

RESTORE = (
    "Nothing was changed. In a cluster, remove this member and add it again with an empty data folder: a copy of an "
    "earlier moment has forgotten what the member promised since. A member that is alone is restored from a copy"
)


class StorageError(Exception):
    """The root of the tree."""


class Refused(StorageError):
    """What is on the disk cannot be used. `offset` is in bytes from the start of `file`."""

    def __init__(self, file: str, offset: int, what: str, advice: str = RESTORE) -> None:
        super().__init__(f"{file} at offset {offset}: {what}. {advice}.")
        self.file = file
        self.offset = offset
        self.what = what
        self.advice = advice


class DamagedWAL(Refused):
    """Bytes that were durable once are not what they were, and the log cannot be trusted."""


class MissingSegment(DamagedWAL):
    """A segment that must be there is not; `file` is the one that was looked for."""


class EmptyWAL(MissingSegment):
    """A folder that should hold a log holds none."""


class DamagedSnapshot(Refused):
    """A snapshot file that fails its checks; an older one may do."""


class DamagedFile(Refused):
    """One of the small checked text files of the data folder fails its check."""


class WrongIdentity(Refused):
    """The files belong to another cluster, another member, or an earlier life of this member."""


class UnknownFormat(Refused):
    """Written in a format that this version does not read."""

    def __init__(self, file: str, offset: int, found: int, known: int) -> None:
        super().__init__(
            file,
            offset,
            f"format version {found} is not known, this kvstored reads version {known}",
            "Nothing was changed. Start the version of kvstored that wrote this folder",
        )


class LaterRecord(Refused):
    """A sound record of a kind that this version does not know."""

    def __init__(self, file: str, offset: int, kind: int) -> None:
        super().__init__(
            file,
            offset,
            f"a record of the kind {kind} was {LATER}",
            "Nothing was changed",
        )


class FolderInUse(StorageError):
    """Another process holds the lock. `holder` is what it wrote there, most often its pid; may be empty."""

    def __init__(self, path: str, holder: str) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(f"{path}: in use by {who}. Stop it first, or give this member its own data folder.")
        self.path = path
        self.holder = holder


class DiskFailed(StorageError):
    """A write, an fsync or a read gave an error. Never retried; the server stops."""

    def __init__(self, file: str, operation: str, cause: OSError) -> None:
        reason = cause.strerror or str(cause)
        super().__init__(f"{file}: {operation} failed: {reason}")
        self.file = file
        self.operation = operation
        self.cause = cause


class SnapshotFailed(StorageError):
    """A snapshot could not be written; its temporary file is gone. The log is whole, so the server goes on."""

    def __init__(self, file: str, cause: OSError) -> None:
        super().__init__(f"{file}: the snapshot was not written: {cause.strerror or cause}. Free some space.")
        self.file = file
        self.cause = cause


class SnapshotTooLarge(StorageError):
    """One piece of the state is larger than a snapshot file can hold in one chunk, so no snapshot can be written."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"one piece of the state takes {size} bytes, and a snapshot holds at most {limit} in one chunk"
        )


class SnapshotGone(StorageError):
    """A snapshot that was asked for is not there any more: a newer one took its place."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file}: this snapshot is not there any more")
        self.file = file
