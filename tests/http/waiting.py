"""Waiting for a condition that nothing reports: it is asked at each turn of the event loop, up to a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.http.client import DEADLINE


async def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # no event stands for it
            await asyncio.sleep(0)
