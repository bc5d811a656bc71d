"""All that a storage in a folder can do; plugins add how the folder comes to be there."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bastide.host import filesystems, idmap
from bastide.model.storage import VolumeFormat
from bastide.storage import sidecars
from bastide.storage.folder import RUN, SNAPSHOTS
from bastide.storage.folder_bases import FolderBases
from bastide.storage.folder_disks import DISK_FORMATS
from bastide.storage.protocol import Capabilities


class FolderStorage(FolderBases):
    """Every protocol of a storage, in a folder."""

    programs: Sequence[str] = ()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as the folder was seen; sizes of folders are enforced where it has quotas."""
        form = self.container_format
        instant: set[VolumeFormat] = {"qcow2"}
        instant |= {"raw"} if self._reflink else set()
        instant |= {"subvol"} if self.shares_folders else set()
        clones: set[VolumeFormat] = {"qcow2", "raw"}
        clones |= {"subvol"} if self.shares_folders or self.overlays else set()
        return Capabilities(
            contents=self.contents,
            container_format=form,
            enforces_size=form == "raw" or self._enforces_folders,
            shared=self.config.shared,
            disk_formats=DISK_FORMATS if "images" in self.contents else frozenset(),
            default_disk_format=self.default_format,
            snapshots=frozenset({"raw", "qcow2", "subvol"}),
            instant=frozenset(instant),
            clones=frozenset(clones),
            copy_on_write=self._means,
            layered=self.layers,
            shrinks=True,
        )

    async def prepare(self) -> None:
        """Make the folders, clear away what an earlier daemon left half done. Raises HostFailure."""
        self._let_go()
        await super().prepare()

    def _leftovers(self) -> Sequence[Path]:
        # Of a shared storage, another node may be writing them.
        places = () if self.config.shared else self._beside_volumes()
        dump = self._path / self._folders["backup"]
        left = [file for place in places for file in sidecars.unfinished(place)]
        left += sidecars.widows(dump) if "backup" in self.contents and not self.config.shared and dump.is_dir() else ()
        return [*super()._leftovers(), *left]

    def _beside_volumes(self) -> Iterator[Path]:
        """The folders in which something can lie beside a volume or a snapshot."""
        for content, name in self._folders.items():
            folder = self._path / name
            if content not in self.contents or not folder.is_dir():
                continue
            yield folder
            for guest in _folders_in(folder) if content in ("images", "rootdir") else ():
                yield guest
                yield from (inside for inside in _folders_in(guest) if inside.name.endswith(SNAPSHOTS))

    @property
    def _enforces_folders(self) -> bool:
        return self._quotas is not None

    @property
    def _means(self) -> str:
        """By what means guests share a base, in words."""
        disks = "shared blocks (reflink)" if self._reflink else "a backing file"
        if self.shares_folders and self.container_format == "subvol":
            containers = "snapshots of subvolumes"
        elif self._reflink and self.container_format == "raw":
            return "shared blocks (reflink)"
        elif self.overlays:
            containers = "an overlay"
        else:
            return f"{disks} for disks"
        return f"{containers} for containers, {disks} for disks"

    def _let_go(self) -> None:
        """Undo what a killed daemon left frozen, or mounted for a moment."""
        self._thaw_left()
        for entry in reversed(filesystems.mounts_within(self._mounts)):
            below = entry.relative_to(self._mounts.resolve()).parts
            if below and below[0].startswith(".") and below[0] != f".{RUN}":
                idmap.unmount_folder(entry)
        for folder in self._mounts.glob(".*"):
            if folder.name != f".{RUN}":
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _folders_in(folder: Path) -> Sequence[Path]:
    """The folders right in a folder, links left out."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
