"""A storage without a disk layout, quotas or mounts: what is there is kept in memory, contents in plain folders.

For tests of whatever works with storages; faults can be planted in it.
"""

import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from bastide.base.errors import AlreadyExists, InvalidParameter, NoSpace, NotFound, WrongState
from bastide.base.layout import Layout
from bastide.base.units import GIB
from bastide.host import disk_image
from bastide.model.storage import Content, DiskFormat, DiskImage, StorageConfig, StorageUsage, Volume
from bastide.storage import names, sidecars
from bastide.storage.names import FILE_CONTENTS, VolumeName, parse_disk_name, parse_name
from bastide.storage.protocol import Capabilities, Progress


class FakeStorage:
    """Every protocol over a scratch folder. Disks of any format are plain bytes; copies are whole.

    `faults` maps a method's name to an exception that its next call raises; `active_volumes` holds what `activate`
    has handed out; `total` is the space in bytes that sizes of volumes are taken from; `rates` are the limits of copies
    and imports, one after the other.
    """

    programs: Sequence[str] = ()

    def __init__(self, config: StorageConfig, layout: Layout, total: int = 100 * GIB) -> None:
        self.config = config
        self.total = total
        self.faults: dict[str, Exception] = {}
        self.active_volumes: set[str] = set()
        self.rates: list[int] = []
        self._path = Path(config.path or layout.local_storage)
        self._layout = layout
        self._volumes: dict[str, Volume] = {}
        self._snapshots: dict[str, dict[str, Volume]] = {}
        self._bases: dict[str, int] = {}

    @property
    def capabilities(self) -> Capabilities:
        """All that the configuration names; sizes are counted, not enforced."""
        return Capabilities(
            contents=self.config.contents & {*FILE_CONTENTS, "images", "rootdir"},
            container_format="subvol",
            enforces_size=False,
            shared=self.config.shared,
            disk_formats=frozenset({"raw", "qcow2"} if "images" in self.config.contents else ()),
            snapshots=frozenset({"raw", "qcow2", "subvol"}),
            instant=frozenset({"raw", "qcow2", "subvol"}),
            clones=frozenset({"raw", "qcow2", "subvol"}),
            copy_on_write="copies that are counted as none",
            shrinks=True,
        )

    async def prepare(self) -> None:
        """Make the scratch folder."""
        self._fault("prepare")
        (self._path / "incoming").mkdir(parents=True, exist_ok=True)

    async def usage(self) -> StorageUsage:
        """The planned total less the sizes of the volumes."""
        self._fault("usage")
        used = sum(volume.size for volume in self._volumes.values())
        return StorageUsage(True, self.total, used, max(0, self.total - used), allocated=used)

    async def list(self, content: Content | None = None, vmid: int | None = None) -> Sequence[Volume]:
        """Its volumes."""
        self._fault("list")
        contents = self.capabilities.contents if content is None else {content}
        found = [volume for volume in self._volumes.values() if volume.content in contents]
        return sorted(
            (volume for volume in found if vmid is None or volume.vmid == vmid),
            key=lambda volume: (volume.content, volume.volid),
        )

    async def info(self, name: str) -> Volume:
        """One volume. Raises NotFound."""
        self._fault("info")
        parse_name(name)
        if name not in self._volumes:
            raise NotFound(f"volume '{self.config.storage}:{name}' does not exist")
        return self._volumes[name]

    async def delete(self, name: str) -> None:
        """Remove a volume. Raises WrongState when it is protected."""
        self._fault("delete")
        path = self.path(name)
        volume = self._volumes.get(name)
        if volume is not None and volume.protected:
            raise WrongState(f"can't remove protected volume '{volume.volid}'")
        if clones := await self.clones_of(name):
            raise WrongState(f"can't remove volume '{self.config.storage}:{name}': '{clones[0]}' builds on it")
        self._volumes.pop(name, None)
        for snapshot in list(self._snapshots.pop(name, {})):
            _remove(self._kept(name, snapshot))
        self.active_volumes.discard(name)
        _remove(path)
        sidecars.write(path, ".sha256", None)
        if (log := names.log_path(path)) is not None:
            log.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Where a volume's content lies. Raises InvalidParameter."""
        path = self._path / parse_name(name).relative
        if path.is_symlink():
            raise InvalidParameter({"volume": f"'{name}' leads through a symbolic link"})
        return path

    async def file_path(self, name: str) -> Path:
        """The same."""
        return self.path(name)

    def incoming(self, name: str) -> Path:
        """A fresh path to write a file to."""
        parse_name(name)
        return self._path / "incoming" / secrets.token_hex(8)

    async def publish(self, incoming: Path, name: str) -> Volume:
        """Give a file its name. Raises AlreadyExists."""
        self._fault("publish")
        parsed = parse_name(name)
        if name in self._volumes:
            raise AlreadyExists(f"file '{self.path(name).name}' already exists")
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming.rename(target)
        return self._keep(parsed, target.stat().st_size)

    async def annotate(self, name: str, notes: str | None = None, protected: bool | None = None) -> None:
        """Set notes and protection. Raises NotFound."""
        volume = await self.info(name)
        self._volumes[name] = replace(
            volume,
            notes=volume.notes if notes is None else notes or None,
            protected=volume.protected if protected is None else protected,
        )

    async def keep_log(self, name: str, log: str) -> None:
        """Put the log of a backup beside it."""
        path = names.log_path(self.path(name))
        if path is not None:
            path.write_text(log)

    async def checksum(self, name: str) -> str | None:
        """The checksum that was kept."""
        return sidecars.read_checksum(self.path(name))

    async def keep_checksum(self, name: str, digest: str) -> None:
        """Put a checksum beside a file. Raises NotFound."""
        await self.info(name)
        sidecars.write(self.path(name), ".sha256", f"{digest}  {self.path(name).name}\n")

    def volume_name(self, vmid: int, number: int, size: int) -> str:
        """`100/vm-100-disk-0.subvol`, whatever the size."""
        del size
        return f"{vmid}/vm-{vmid}-disk-{number}.subvol"

    async def allocate(self, name: str, size: int) -> None:
        """Make an empty volume. Raises AlreadyExists, NoSpace."""
        self._fault("allocate")
        parsed = _container_name(name)
        if name in self._volumes:
            raise AlreadyExists(f"volume '{self.config.storage}:{name}' already exists")
        if size > (await self.usage()).available:
            raise NoSpace(f"storage '{self.config.storage}' is full")
        self.path(name).mkdir(parents=True)
        self._keep(parsed, size)

    async def activate(self, name: str, first_id: int = 0) -> Path:
        """The volume's folder. Raises NotFound."""
        self._fault("activate")
        _container_name(name)
        await self.info(name)
        self.active_volumes.add(name)
        return self.path(name)

    async def deactivate(self, name: str) -> None:
        """Note that the volume is not in use."""
        self._fault("deactivate")
        _container_name(name)
        self.active_volumes.discard(name)

    async def resize(self, name: str, size: int) -> None:
        """Grow or shrink a volume. Raises InvalidParameter when it shrinks below what it holds, or while active."""
        self._fault("resize")
        volume = await self.info(name)
        held = sum(file.stat().st_size for file in self.path(name).rglob("*") if file.is_file())
        if size < volume.size and (name in self.active_volumes or size < held or volume.format != "subvol"):
            raise InvalidParameter({"size": f"unable to shrink disk size from {volume.size} to {size} bytes"})
        self._volumes[name] = replace(volume, size=size)

    async def used(self, name: str) -> int | None:
        """Nothing is measured."""
        await self.info(name)
        return None

    def disk_name(self, vmid: int, label: int | str, form: DiskFormat | None = None) -> str:
        """`100/vm-100-disk-0.raw`, or `100/vm-100-cloudinit.raw`."""
        return names.disk_name(vmid, label, form or "raw")

    async def allocate_disk(self, name: str, size: int) -> None:
        """Make an empty disk. Raises AlreadyExists, NoSpace, InvalidParameter."""
        self._fault("allocate_disk")
        if size <= 0:
            raise InvalidParameter({"size": f"a disk cannot have {size} bytes"})
        await self._new_disk(name, size)

    async def disk_path(self, name: str) -> Path:
        """The file of a disk. Raises NotFound."""
        self._fault("disk_path")
        parse_disk_name(name)
        await self.info(name)
        return self.path(name)

    async def resize_disk(self, name: str, size: int) -> None:
        """Grow a disk. Raises InvalidParameter when it would shrink."""
        self._fault("resize_disk")
        path = await self.disk_path(name)
        volume = await self.info(name)
        if size < volume.size:
            raise InvalidParameter({"size": f"unable to shrink disk size from {volume.size} to {size} bytes"})
        self._volumes[name] = replace(volume, size=size)
        os.truncate(path, max(size, path.stat().st_size))

    async def import_disk(
        self,
        source: Path | DiskImage,
        source_format: str,
        name: str,
        progress: Progress | None = None,
        *,
        ours: bool = False,
        rate: int = 0,
    ) -> None:
        """Check an image and copy its bytes as they are. Raises AlreadyExists, NoSpace, HostFailure."""
        self._fault("import_disk")
        self.rates.append(rate)
        if isinstance(source, DiskImage):
            # Another fake's disk, which has no header.
            path = source.path
            size = path.stat().st_size
        else:
            path = source
            with disk_image.opened(source) as opened:
                size = (disk_image.check_chain if ours else disk_image.check)(opened, source_format).virtual_size
        target = await self._new_disk(name, size)
        target.write_bytes(path.read_bytes())
        if progress is not None:
            progress(100.0)

    async def write_file(self, name: str, data: bytes) -> None:
        """Make or replace a small raw volume."""
        self._fault("write_file")
        parsed = parse_disk_name(name)
        if parsed.format != "raw":
            raise InvalidParameter({"volume": f"'{name}' is not a raw volume"})
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._keep(parsed, len(data))

    async def disk_image(self, name: str, snapshot: str | None = None) -> DiskImage:
        """The file of a disk, or of its state at a snapshot. Raises NotFound."""
        path = await self.disk_path(name)
        form = cast(DiskFormat, parse_disk_name(name).format)
        return DiskImage(path if snapshot is None else self._at(name, snapshot), form)

    async def snapshot(self, name: str, snapshot: str) -> None:
        """Copy the volume aside. Raises AlreadyExists."""
        self._fault("snapshot")
        volume = await self.info(name)
        kept = self._snapshots.setdefault(name, {})
        if snapshot in kept:
            raise AlreadyExists(f"volume '{volume.volid}' has a snapshot '{snapshot}' already")
        _copy(self.path(name), self._kept(name, snapshot))
        kept[snapshot] = volume

    async def rollback(self, name: str, snapshot: str) -> None:
        """Put the copy in the volume's place. Raises NotFound."""
        self._fault("rollback")
        source = self._at(name, snapshot)
        _remove(self.path(name))
        _copy(source, self.path(name))
        self._volumes[name] = self._snapshots[name][snapshot]

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Remove the copy; one that is gone is fine."""
        self._fault("delete_snapshot")
        if self._snapshots.get(name, {}).pop(snapshot, None) is not None:
            _remove(self._kept(name, snapshot))

    async def snapshots(self, name: str) -> Sequence[str]:
        """The snapshots of a volume."""
        await self.info(name)
        return list(self._snapshots.get(name, {}))

    @asynccontextmanager
    async def reading_snapshot(self, name: str, snapshot: str, first_id: int = 0) -> AsyncIterator[Path]:
        """The copy. Raises NotFound."""
        self._fault("reading_snapshot")
        del first_id
        yield self._at(name, snapshot)

    async def make_base(self, name: str) -> str:
        """Rename the volume; may be repeated."""
        self._fault("make_base")
        target = names.base_name(name)
        if target in self._volumes and name not in self._volumes:
            return target
        volume = await self.info(name)
        if self._snapshots.get(name):
            raise WrongState(f"volume '{volume.volid}' has snapshots")
        self.path(name).rename(self.path(target))
        del self._volumes[name]
        self._keep(parse_name(target), volume.size)
        return target

    def clone_name(self, base: str, vmid: int, number: int, content: Literal["images", "rootdir"]) -> str:
        """`BASE/101/vm-101-disk-0.subvol`."""
        del content
        return names.clone_name(base, vmid, number)

    async def clone(self, base: str, name: str) -> None:
        """Copy the base. Raises NotFound, AlreadyExists."""
        self._fault("clone")
        await self._copied(base, self.path(base), name, (await self.info(base)).size)

    async def clones_of(self, base: str) -> Sequence[str]:
        """The volumes whose names begin with the base's."""
        return [name for name in self._volumes if name.startswith(f"{base}/")]

    async def copy(
        self,
        name: str,
        target: str,
        snapshot: str | None = None,
        progress: Progress | None = None,
        *,
        rate: int = 0,
    ) -> None:
        """Copy a volume or its snapshot. Raises NotFound, AlreadyExists, NoSpace."""
        self._fault("copy")
        self.rates.append(rate)
        volume = await self.info(name)
        source = self.path(name) if snapshot is None else self._at(name, snapshot)
        await self._copied(name, source, target, volume.size)
        if progress is not None:
            progress(100.0)

    async def bases(self) -> Sequence[str]:
        """The keys of the bases."""
        return sorted(self._bases)

    @asynccontextmanager
    async def making_base(self, key: str, size: int) -> AsyncIterator[Path]:
        """A folder that becomes a base. Raises AlreadyExists."""
        self._fault("making_base")
        if key in self._bases:
            raise AlreadyExists(f"base '{key}' already exists")
        folder = self._path / "incoming" / secrets.token_hex(8)
        folder.mkdir()
        try:
            yield folder
            folder.rename(self._base(key))
            self._bases[key] = size
        except BaseException:
            _remove(folder)
            raise

    async def import_base(
        self, key: str, source: Path, source_format: str, progress: Progress | None = None, *, rate: int = 0
    ) -> None:
        """Check an image and copy its bytes. Raises AlreadyExists, HostFailure."""
        self._fault("import_base")
        self.rates.append(rate)
        if key in self._bases:
            raise AlreadyExists(f"base '{key}' already exists")
        with disk_image.opened(source) as opened:
            info = disk_image.check(opened, source_format)
        _copy(source, self._base(key))
        self._bases[key] = info.virtual_size
        if progress is not None:
            progress(100.0)

    async def from_base(self, key: str, name: str, size: int) -> None:
        """Copy a base into a volume. Raises NotFound, AlreadyExists, InvalidParameter when the base is larger."""
        self._fault("from_base")
        if key not in self._bases:
            raise NotFound(f"base '{key}' does not exist")
        if parse_name(name).content == "images" and size < self._bases[key]:
            raise InvalidParameter({"size": f"the image has {self._bases[key]} bytes"})
        await self._copied(name, self._base(key), name, size)

    async def drop_base(self, key: str) -> bool:
        """Remove a base: nothing builds on it."""
        self._fault("drop_base")
        if self._bases.pop(key, None) is not None:
            _remove(self._base(key))
        return True

    async def _copied(self, name: str, source: Path, target: str, size: int) -> None:
        parsed = parse_name(target)
        if target in self._volumes:
            raise AlreadyExists(f"volume '{self.config.storage}:{target}' already exists")
        if size > (await self.usage()).available:
            raise NoSpace(f"storage '{self.config.storage}' is full")
        _copy(source, self.path(target))
        volume = self._keep(parsed, size)
        if target.startswith(f"{name}/"):
            self._volumes[target] = replace(volume, parent=f"{self.config.storage}:{name}")

    def _base(self, key: str) -> Path:
        (self._path / "bases").mkdir(exist_ok=True)
        return self._path / "bases" / key

    def _kept(self, name: str, snapshot: str) -> Path:
        (self._path / "snapshots").mkdir(exist_ok=True)
        return self._path / "snapshots" / f"{snapshot}@{name.replace('/', ':')}"

    def _at(self, name: str, snapshot: str) -> Path:
        if snapshot not in self._snapshots.get(name, {}):
            raise NotFound(f"volume '{self.config.storage}:{name}' has no snapshot '{snapshot}'")
        return self._kept(name, snapshot)

    async def _new_disk(self, name: str, size: int) -> Path:
        parsed = parse_disk_name(name)
        if name in self._volumes:
            raise AlreadyExists(f"volume '{self.config.storage}:{name}' already exists")
        if size > (await self.usage()).available:
            raise NoSpace(f"storage '{self.config.storage}' is full")
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        self._keep(parsed, size)
        return path

    def _fault(self, method: str) -> None:
        fault = self.faults.pop(method, None)
        if fault is not None:
            raise fault

    def _keep(self, parsed: VolumeName, size: int) -> Volume:
        backup = names.backup_name(parsed.text)
        volume = Volume(
            volid=f"{self.config.storage}:{parsed.text}",
            content=parsed.content,
            format=parsed.format,
            size=size,
            ctime=backup.time if backup else int(time.time()),
            vmid=parsed.vmid,
            subtype=backup.kind if backup else None,
        )
        self._volumes[parsed.text] = volume
        return volume


def _container_name(name: str) -> VolumeName:
    parsed = parse_name(name)
    if parsed.format not in ("subvol", "raw") or parsed.content in FILE_CONTENTS:
        raise InvalidParameter({"volume": f"'{name}' is not a container's volume"})
    return parsed


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
