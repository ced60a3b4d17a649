"""The Raft algorithm, pure: messages and ticks in, writes and messages out. No I/O, no clock, no global random."""
