"""Why the store refused: one class for each reason, with the fields that an answer needs.

Numbers, messages and statuses of the v2 API belong to the HTTP floor. A refused operation changes nothing.
"""

from __future__ import annotations


class StoreError(Exception):
    """`index` is the store's index at the time of the refusal."""

    def __init__(self, index: int, detail: str) -> None:
        super().__init__(f"{detail} (at index {index})")
        self.index = index


class KeyRefused(StoreError):
    """A refusal that concerns one key."""

    def __init__(self, index: int, key: bytes) -> None:
        super().__init__(index, f"{type(self).__name__}: {key!r}")
        self.key = key


class KeyNotFound(KeyRefused):
    """`key` is the first missing component of the path, not the key that was asked for (docs/api-v2.md, *Errors*)."""


class NotAFile(KeyRefused):
    """`key` is a directory where a file is needed."""


class NotADirectory(KeyRefused):
    """`key` is the file that stands in the way."""


class KeyExists(KeyRefused):
    """`key` is there already."""


class DirectoryNotEmpty(KeyRefused):
    """`key` is a directory with children (perhaps only hidden ones)."""


class RootReadOnly(StoreError):
    """The root can be neither changed nor removed."""

    def __init__(self, index: int) -> None:
        super().__init__(index, "the root is read only")


class CompareFailed(StoreError):
    """A condition does not hold. `values` and `indices` are (given, actual), None where it held."""

    def __init__(
        self, index: int, key: bytes, values: tuple[bytes, bytes] | None, indices: tuple[int, int] | None
    ) -> None:
        super().__init__(index, f"compare failed: {key!r}")
        self.key = key
        self.values = values
        self.indices = indices


class HistoryCleared(StoreError):
    """A watch asked for events since `asked`, but the history begins at `oldest`."""

    def __init__(self, index: int, oldest: int, asked: int) -> None:
        super().__init__(index, f"history begins at {oldest}, asked for {asked}")
        self.oldest = oldest
        self.asked = asked


class UnreadableSnapshot(Exception):
    """Rows that are no frozen store: some are missing, too many, or out of order."""
