"""The replicated state machine's tree of keys, pure: no I/O, no clock, no JSON, no HTTP."""
