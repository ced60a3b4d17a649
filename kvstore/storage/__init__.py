"""The disk: write-ahead log and snapshots."""
