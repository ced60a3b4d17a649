"""Mends taken out again, one name each, to show that the simulator finds what they mended.

Raft's own are `PlantedBug`; these lie around the core. Each is honoured in one place, found by searching for its name.
"""

from __future__ import annotations

from enum import StrEnum

from kvstore.raft.config import PlantedBug


class PlantedFault(StrEnum):
    SNAPSHOT_NAME_BELIEVED = "snapshot-name-believed-unsynced"  # what a folder names counts, synced or not
    TIME_FOLLOWS_WALL = "time-follows-wall-step"  # the pace comes from the wall clock
    SNAPSHOT_BY_ROWS = "snapshot-by-rows"  # chunks are cut by the number of rows, however large they are
    INSTALL_LEAKS = "install-leak"  # the state that was read from a snapshot is kept beside the one that goes on
    MOVED_MEMBER_REFUSED = "moved-member-refused"  # ids that follow from today's URLs are compared at every start
    DEAF_AFTER_MOVE = "deaf-after-move"  # what a peer says of its URLs is not believed
    EMPTY_DISK_WELCOMED = "empty-disk-welcomed"  # incarnations are not compared
    REFUSED_APPEND_SETS_TIME = "refused-append-sets-time"  # the stamps of every append that arrives count
    OWN_SNAPSHOT_TRUSTED = "own-snapshot-trusted"  # a snapshot that was refused is not verified here, but sent again
    UNKNOWN_COMMAND_TAKEN = "unknown-command-taken"  # a leader appends commands that it does not know
    UNKNOWN_MESSAGE_CRASHES = "unknown-message-crashes"  # a message that is not known ends the process
    WATCHERS_MISS_INSTALL = "watchers-miss-install"  # what a snapshot brings is not shown to watchers
    STORE_REPLACED = "store-replaced"  # readers keep the store that an installed snapshot took the place of
    ROT_UNSEEN = "rot-unseen"  # `check` reads of snapshots the head alone


ALL = (*PlantedBug, *PlantedFault)
