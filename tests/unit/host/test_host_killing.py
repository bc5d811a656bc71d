"""Ending what was started: a full pipe that nobody reads does not hold it up."""

import asyncio
from asyncio.subprocess import PIPE

import pytest

from bastide.base.errors import DeadlineExceeded
from bastide.host.run import kill_group, run, spawn


@pytest.mark.anyio
async def test_a_process_with_unread_output_is_reaped() -> None:
    for _ in range(5):
        process = await spawn(["cat", "/dev/zero"], stdout=PIPE, stderr=PIPE)
        assert process.stdout is not None
        await process.stdout.readexactly(10)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(kill_group(process), 5)
        assert process.returncode == -9


@pytest.mark.anyio
async def test_a_deadline_ends_a_talkative_process() -> None:
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(run(["sh", "-c", "yes & yes >&2"], deadline=0.2), 10)
