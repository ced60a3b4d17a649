"""The members of a simulated cluster log through the ordinary loggers; nobody reads that here."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from kvstore.logs import ROOT


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger(ROOT)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)
