"""What a leader refuses of the commands that other members forward, and what becomes of the client who asked."""

from __future__ import annotations

import pytest

from kvstore.limits import MOST_KEY_BYTES, MOST_KEY_COMPONENTS
from kvstore.proposals import Refused
from kvstore.raft.types import AppendRequest, ProposeRefusal, ProposeRequest, Refusal
from kvstore.store.operations import Create, Delete, Set
from kvstore.wire import Command, Guarded, MessagePacker, pack_command, unpack_message
from tests.node_bench import ME, SECOND, Bench, entries_of

DEEP = b"/a" * (MOST_KEY_COMPONENTS + 1)
LONG = b"/" + b"a" * MOST_KEY_BYTES
GOOD = Set(b"/a", b"v", False, None, False)


def forwarded(bench: Bench, *commands: Command, to: int = ME, sender: int = SECOND) -> ProposeRequest:
    """As it comes over the wire."""
    payloads = tuple(pack_command(number, command) for number, command in enumerate(commands, 5))
    message = ProposeRequest(to, sender, bench.node.raft.term, 1, 1, 0, payloads)
    received = unpack_message(MessagePacker().pack(message))
    assert isinstance(received, ProposeRequest)
    return received


@pytest.mark.parametrize("key", [DEEP, LONG])
@pytest.mark.parametrize(
    "make",
    [
        lambda key: Set(key, b"v", False, None, False),
        lambda key: Create(key, b"", True, None),
        lambda key: Delete(key, False, True),
        lambda key: Guarded(3, False, Delete(key, False, True)),
    ],
)
def test_a_key_beyond_the_highest_limit_is_refused_with_a_word(key: bytes, make: type) -> None:
    bench = Bench()
    bench.lead()
    last = bench.node.raft.log.last_index
    bench.receive(forwarded(bench, GOOD, make(key)))
    assert bench.node.raft.log.last_index == last
    term = bench.node.raft.term
    assert bench.wire.take(ProposeRefusal) == [ProposeRefusal(SECOND, ME, term, 1, 1, Refusal.ENTRY_TOO_LARGE)]


@pytest.mark.parametrize("key", [DEEP[:-2], LONG[:-1]])
def test_the_longest_key_that_any_setting_allows_is_appended(key: bytes) -> None:
    bench = Bench()
    bench.lead()
    bench.receive(forwarded(bench, Set(key, b"v", False, None, False)))
    assert len(entries_of(bench.wire.take(AppendRequest))) == 1
    assert bench.wire.take(ProposeRefusal) == []


def test_what_is_in_a_log_already_is_applied() -> None:
    """A member of an earlier version let it in, and every member has to apply it alike."""
    bench = Bench(members=1)
    bench.settle_disk()
    bench.propose(DEEP)
    bench.settle_disk()
    assert bench.node.machine.store.get(DEEP, False, False, bench.time).value == b"v"


def test_the_client_of_the_member_that_forwarded_it_gets_an_error() -> None:
    bench = Bench()
    bench.follow()
    outcomes = bench.propose(DEEP)
    (message,) = bench.wire.take(ProposeRequest)
    assert isinstance(message, ProposeRequest)
    bench.receive(
        ProposeRefusal(ME, message.to, message.term, message.session, message.sequence, Refusal.ENTRY_TOO_LARGE)
    )
    (outcome,) = outcomes
    assert isinstance(outcome, Refused)
    assert outcome.message == "etcdserver: request is too large"
