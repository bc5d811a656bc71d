"""A confined process may open the devices that it is let through to, whatever the daemon's umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.host import confined, processes
from bastide.host.confined import Walls

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
