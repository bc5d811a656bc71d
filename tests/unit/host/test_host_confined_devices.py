"""A confined process may open the devices that it is let through to, whatever the daemon's umask."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from bastide.base.errors import HostFailure
from bastide.host import confined, processes
from bastide.host.confined import Walls
from bastide.host.run import run

pytestmark = [pytest.mark.anyio, pytest.mark.system]
UID = 1_900_123


@pytest.fixture
def closed() -> Iterator[None]:
    """The daemon's umask."""
    before = os.umask(0o077)
    yield
    os.umask(before)


async def test_devices_can_be_opened(closed: None, tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        argv = ["/bin/dd", "if=/dev/zero", "of=/dev/full", "count=1", "status=none"]
        handle = await confined.start(argv, Walls(UID), log=log)
        await processes.ended(handle)
        handle.close()
    finally:
        os.close(log)
    said = (tmp_path / "log").read_text()
    assert "No space left on device" in said, said


async def test_nothing_begins_when_the_daemon_has_ended() -> None:
    """kill -9 may come while the helper still starts: what came to life then would be in no control group."""
    helper = await _helper(["/bin/true"])
    orphan = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    ended = await run([sys.executable, "-c", orphan, *helper], check=False)
    assert "the daemon has ended" in ended.stderr
    assert ended.stdout == b""


async def _helper(argv: list[str]) -> list[str]:
    """The argument list that `start` runs."""
    kept: list[str] = []

    async def spawn(helper: list[str], **_options: object) -> None:
        kept.extend(helper)
        raise HostFailure("")

    with mock.patch.object(confined, "spawn", spawn), contextlib.suppress(HostFailure):
        await confined.start(argv, Walls(UID), log=2)
    return kept
