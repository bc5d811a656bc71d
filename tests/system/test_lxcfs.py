"""lxcfs of our own: its death leaves a mount that nobody can look at, over which neither start nor purge may trip."""

import asyncio
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.guest.lxc import lxcfs
from bastide.guest.lxc.lxcfs import Lxcfs
from bastide.host import processes, syscalls
from bastide.host.filesystems import mount_at
from framework.patience import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.anyio]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where one of our own is mounted, whatever the machine has."""
    monkeypatch.setattr(lxcfs, "_SYSTEM", tmp_path / "none")
    place = tmp_path / "lxcfs"
    yield place
    while mount_at(place) is not None:
        syscalls.unmount(place)


async def dead(own: Path) -> Lxcfs:
    """One whose process was killed."""
    subject = Lxcfs(own, own.with_name("lxcfs.pid"))
    await subject.prepare()
    assert subject.mounted() == own
    (pid,) = processes.find(lambda argv: argv[:1] == [b"/usr/bin/lxcfs"] and argv[-1] == bytes(own))
    os.kill(pid, signal.SIGKILL)
    await processes.until(lambda: processes.started(pid) is None, 0.02)
    async with asyncio.timeout(20 * PATIENCE):
        await processes.until(lambda: not looked_at(own), 0.02)
    assert mount_at(own) is not None
    return subject


def looked_at(place: Path) -> bool:
    """Whether it can be looked at: for a second the kernel remembers what it was."""
    try:
        os.stat(place)
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


async def test_a_dead_one_is_replaced(own: Path) -> None:
    """Without asking the kernel's table this fails: to `os.path.ismount` a dead mount is none."""
    subject = await dead(own)
    assert subject.mounted() is None
    await subject.prepare()
    assert subject.mounted() == own
    assert (own / "proc/uptime").read_text()
    await subject.stop()
    assert not own.exists()


async def test_a_dead_one_is_purged(own: Path) -> None:
    """Without asking the kernel's table this fails, and leaves the mount."""
    subject = await dead(own)
    await subject.stop()
    assert mount_at(own) is None
    assert not own.exists()
