"""Backups to read, wherever they are kept: their configuration, a container's files, a VM's disks."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from bastide.base.ids import VolumeId
from bastide.host.pipeline import Stage
from bastide.model.backup import BackupName


class Archive(Protocol):
    """A backup. What is in it may come from anybody: nothing of it is believed.

    `random_access`: whether `disks` gives files; else a VM's archive is a stream to be read from its beginning.
    """

    volid: VolumeId
    name: BackupName
    random_access: bool

    async def config(self) -> str:
        """The guest's configuration as Proxmox VE writes it, at most 1 MiB. Raises HostFailure when there is none."""

    def stream(self, paths: Sequence[str] = ()) -> AbstractAsyncContextManager[tuple[Stage, int | None]]:
        """While entered, the process that writes the tar or VMA stream, and the descriptor that is its standard input.

        `paths` limit a container's to what lies at and below them, where the storage can; it may be more.
        """

    def disks(self) -> AbstractAsyncContextManager[Mapping[str, Path]]:
        """While entered, a file for each disk of a VM, to be read at any place. Raises NotSupported for a stream."""
