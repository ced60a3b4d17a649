"""The window of appends, and what answers do to a member's progress."""

from __future__ import annotations

import pytest

from kvstore.raft.progress import Inflights, Progress, ProgressState


def progress_at(match: int, next_index: int, state: ProgressState) -> Progress:
    progress = Progress(2, next_index, 0, Inflights(4, 1_000))
    progress.match, progress.state = match, state
    return progress


def test_window_is_limited_in_messages() -> None:
    window = Inflights(2, 1_000)
    window.add(1, 1)
    assert not window.is_full
    window.add(2, 1)
    assert window.is_full
    with pytest.raises(AssertionError):
        window.add(3, 1)
    window.free_to(1)
    assert not window.is_full
    assert len(window) == 1


def test_window_is_limited_in_bytes() -> None:
    window = Inflights(100, 10)
    window.add(1, 9)
    assert not window.is_full
    window.add(2, 50)  # one may be larger than what is left
    assert window.is_full
    window.free_to(1)
    assert window.is_full
    window.free_to(2)
    assert not window.is_full


def test_an_answer_frees_everything_before_it() -> None:
    window = Inflights(9, 1_000)
    for index in (3, 5, 8):
        window.add(index, 1)
    window.free_to(2)
    assert len(window) == 3
    window.free_to(7)
    assert len(window) == 1


def test_the_first_answer_turns_a_probe_into_a_stream() -> None:
    progress = progress_at(0, 8, ProgressState.PROBE)
    assert progress.acked(7, 0)
    assert (progress.state, progress.match, progress.next) == (ProgressState.REPLICATE, 7, 8)


def test_a_member_before_our_log_goes_on_being_probed() -> None:
    progress = progress_at(0, 8, ProgressState.PROBE)
    progress.paused = True
    progress.acked(3, 5)
    assert progress.state is ProgressState.PROBE
    assert not progress.paused


def test_a_late_refusal_changes_nothing() -> None:
    progress = progress_at(2, 8, ProgressState.PROBE)
    assert not progress.rejected(5, 1)
    assert progress.next == 8


def test_a_refusal_goes_back_to_the_agreement_but_not_behind_what_matched() -> None:
    progress = progress_at(2, 9, ProgressState.REPLICATE)
    progress.rejected(8, 5)
    assert (progress.state, progress.next) == (ProgressState.PROBE, 6)
    progress.rejected(5, 1)
    assert progress.next == 3


def test_a_member_that_lost_what_it_had_is_believed() -> None:
    progress = progress_at(7, 8, ProgressState.REPLICATE)
    progress.rejected(7, 4)  # perhaps only an old message: look again
    assert (progress.match, progress.next, progress.state) == (7, 8, ProgressState.PROBE)
    progress.rejected(7, 4)
    assert (progress.match, progress.next) == (0, 5)


def test_after_a_snapshot_the_log_goes_on() -> None:
    progress = progress_at(2, 3, ProgressState.REPLICATE)
    progress.become_snapshot(9)
    progress.become_probe()
    assert progress.next == 10
    progress.become_snapshot(9)
    progress.snapshot_failed()
    assert progress.next == 3
