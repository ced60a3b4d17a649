"""A few mutated inputs for each target, drawn by Hypothesis; and that the fuzzer sees what goes wrong.

`make fuzz` tries a million.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvstore import apply, transport, wire
from kvstore.http.connection import Parser
from kvstore.http.v2 import auth_bodies
from kvstore.http.v2.parameters import KeyRequest
from kvstore.storage import replay, scan, snapshot_file
from tests.fuzz import http_targets, run
from tests.fuzz.mutate import LONGEST, mutated
from tests.fuzz.run import Finding, examine, fuzz
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS
from tests.http import general

BY_NAME = {target.name: target for target in TARGETS}
ENOUGH = 3_000  # inputs for each planted bug


@pytest.fixture(scope="module", autouse=True)
def closed_servers() -> Iterator[None]:
    yield
    http_targets.close()


@pytest.mark.parametrize("target", TARGETS, ids=BY_NAME)
def test_good_inputs_and_none_at_all_are_taken(target: Target) -> None:
    for octets in (*target.seeds, b""):
        assert examine(target, octets) is None


@pytest.mark.parametrize("target", TARGETS, ids=BY_NAME)
@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bent_inputs_are_taken(target: Target, random: Random) -> None:
    assert examine(target, mutated(random, target.seeds, target.tokens)) is None


def first_finding(target: Target) -> Finding | None:
    return next(filter(None, islice(fuzz(target, ENOUGH, 0), ENOUGH)), None)


class Untyped(Exception):
    """What nobody catches."""


#: A bug for each target: what is put in the place of what.
PLANTED: dict[str, tuple[object, str, object]] = {
    "message": (wire, "_by_tag", lambda checks, tag, what: checks[tag]),
    "command": (wire, "_by_tag", lambda checks, tag, what: checks[tag]),
    "forwarded": (wire, "_check_proposal", lambda kind, payload: None),
    "peer": (transport, "WireError", Untyped),
    "wal": (scan, "DamagedWAL", Untyped),
    "wal records": (replay, "UnreadablePayload", Untyped),
    "snapshot": (snapshot_file, "DamagedSnapshot", Untyped),
    "snapshot chunks": (apply, "UnreadableSnapshot", Untyped),
    "http": (Parser, "release", lambda self: None),
    "http sockets": (Parser, "release", lambda self: None),
    "http parts": (auth_bodies, "BadBody", Untyped),
    "shortcut": (general, "take", lambda rest, at, *more: (len(rest), KeyRequest("GET", b"/"))),
}


@pytest.mark.parametrize("target", TARGETS, ids=BY_NAME)
def test_a_planted_bug_is_found(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*PLANTED[target.name])
    assert first_finding(target) is not None


def test_a_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SECONDS", 0.05)

    def loop(octets: bytes) -> None:
        while len(octets) > 3:
            pass

    found = first_finding(Target("loop", (b"seed",), (b"x",), loop))
    assert found is not None
    assert "seconds" in found.problem


def test_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WARM_UP", 0)
    monkeypatch.setattr(run, "MEMORY", 1 << 20)

    def hold(octets: bytes) -> None:
        if octets.startswith(b"x"):
            bytearray(run._peak())

    found = first_finding(Target("hold", (b"seed",), (b"x",), hold))
    assert found is not None
    assert "MiB" in found.problem


def test_the_same_seed_gives_the_same_inputs_of_bounded_length() -> None:
    target = BY_NAME["http"]
    first, second = (Random(7), Random(7))
    for _ in range(200):
        octets = mutated(first, target.seeds, target.tokens)
        assert octets == mutated(second, target.seeds, target.tokens)
        assert len(octets) <= LONGEST
