"""Commands of an operator's that run for a moment: checks and reloads. `sh -c` runs them, as confd does."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress


async def run(command: str, seconds: float, *, is_shown: bool) -> str:
    """Why it failed, or nothing. After `seconds` all of it is killed. What it prints goes to our standard error, or
    nowhere; it is never our output."""
    output = 2 if is_shown else asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            status = await process.wait()
    except TimeoutError:
        return f"it took longer than {seconds:g} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else ""
