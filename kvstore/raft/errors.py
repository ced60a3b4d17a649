"""What the core can refuse. Nothing here is raised for a message: those are answered or ignored."""

from __future__ import annotations

from .types import Refusal


class RaftError(Exception):
    """The root of what the Raft core raises."""


class ProposalRefused(RaftError):
    """The proposal was certainly not appended, neither here nor elsewhere."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.name)
        self.reason = reason


class ChangeRefused(RaftError):
    """A configuration change that leads nowhere; the configuration stays as it is."""
