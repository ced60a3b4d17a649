"""Lets pytest explain the assertions of the modules that the tests share."""

import pytest

pytest.register_assert_rewrite("tests.raft.cluster", "tests.raft.scenario")
