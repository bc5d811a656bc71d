"""Archives that are files, where the disk does not answer as it should."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure
from bastide.model.backup import BackupName
from bastide.operations.backup.archives import FileArchive

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("extension", [".tar", ".tar.zst"])
async def test_one_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str) -> None:
    """The failure is the host's, and named."""
    file = tmp_path / f"vzdump-lxc-100-2026_01_01-00_00_00{extension}"
    file.write_bytes(bytes(4096))

    def broken(*_arguments: object) -> bytes:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "pread", broken)
    archive = FileArchive("local:backup/x", BackupName.parse(file.name), 4096, file)
    with pytest.raises(HostFailure, match=r"could not read 'vzdump-lxc-100-.*Input/output error"):
        await archive.config()


async def test_a_disk_that_takes_its_time_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has to turn first answers after seconds, a share perhaps never."""
    file = tmp_path / "vzdump-lxc-100-2026_01_01-00_00_00.tar"
    file.write_bytes(bytes(4096))
    asked, awake, read = threading.Event(), threading.Event(), os.pread

    def slowly(*arguments: Any) -> bytes:
        asked.set()
        awake.wait(5)
        return read(*arguments)

    monkeypatch.setattr(os, "pread", slowly)
    archive = FileArchive("local:backup/x", BackupName.parse(file.name), 4096, file)

    async def opened() -> None:
        async with archive.stream():
            pass

    opening = asyncio.create_task(opened())
    await asyncio.to_thread(asked.wait, 5)
    assert not opening.done(), "everybody waited for the disk"
    awake.set()
    await opening
