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


ALL = (*PlantedBug, *PlantedFault)
