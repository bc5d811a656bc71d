"""Fetching images from elsewhere: from a URL, or from an image server by an alias such as `images:alpine/3.20`."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bastide.base.errors import HostFailure, NotFound
from bastide.base.ids import Upid
from bastide.base.units import MIB
from bastide.host import archive, disk_image, qemu_img
from bastide.host.download import Guard, Network, check_url
from bastide.host.filesystems import remove_tree
from bastide.host.unpacked import SUFFIXES, compressed
from bastide.model.access import Identity
from bastide.model.guest import Kind
from bastide.model.storage import Content
from bastide.operations.content import Source, check_checksum, download_url, fetch_file, fetch_volume
from bastide.operations.image_servers import find_image, server_guard
from bastide.operations.incoming import free_name, unpack
from bastide.operations.manifests import write_manifest
from bastide.operations.rooms import Rooms
from bastide.operations.simplestreams import Image
from bastide.storage.protocol import FileStorage
from bastide.tasks.tasks import Task

DISK_SUFFIXES = (".qcow2", ".img", ".raw", ".vmdk", ".vdi", ".vhdx", ".vhd")
"""What the name of a disk image ends with, as cloud images are published."""

_BOOT_SIGNATURE = b"\x55\xaa"  # at 510: a partition table, protective where it is GPT


async def pull_image(
    rooms: Rooms,
    by: Identity,
    source: str,
    storage: str = "local",
    *,
    kind: Kind = "lxc",
    checksum: str | None = None,
    checksum_algorithm: str | None = None,
    filename: str | None = None,
    verify_certificates: bool = True,
    allow_private: bool = False,
    allowed_networks: Sequence[Network] = (),
) -> Upid:
    """Fetch a container template or a VM's disk image, as a task.

    A disk image may be of any format and compressed; it is kept as `import/NAME.qcow2`. Raises InvalidParameter,
    AlreadyExists, NotFound for an alias that no configured server has, HostFailure.
    """
    if re.match(r"https?://", source) is None:
        expected = check_checksum(checksum, checksum_algorithm)
        guard = server_guard(Guard(networks=tuple(allowed_networks)))
        image = await find_image(rooms, source, guard, kind)
        wanted = expected or ("sha256", image.sha256)
        origin = Source(image.url, wanted, verify_certificates, guard)
        return await _pull_alias(rooms, by, storage, image, origin, filename=filename)
    file = filename or urlsplit(source).path.rpartition("/")[2]
    if kind == "qemu":
        guard = Guard(private=allow_private, networks=tuple(allowed_networks))
        expected = check_checksum(checksum, checksum_algorithm)
        origin = Source(check_url(source), expected, verify_certificates, guard)
        return await _pull_disk(rooms, by, storage, file, origin)
    return await download_url(
        rooms,
        by,
        storage,
        "vztmpl",
        file,
        url=source,
        checksum=checksum,
        checksum_algorithm=checksum_algorithm,
        verify_certificates=verify_certificates,
        allow_private=allow_private,
        allowed_networks=allowed_networks,
    )


def kind_of(source: str) -> Kind:
    """What kind of guest a URL's file is for, by its name: `disk.img.xz` is a VM's, anything else a container's."""
    file = urlsplit(source).path.lower()
    for suffix in SUFFIXES:
        file = file.removesuffix(suffix)
    return "qemu" if "://" in source and file.endswith(DISK_SUFFIXES) else "lxc"


async def _pull_alias(
    rooms: Rooms, by: Identity, storage: str, image: Image, source: Source, *, filename: str | None
) -> Upid:
    content: Content = "import" if image.kind == "qemu" else "vztmpl"
    files = await rooms.storages.files(storage, content)
    file = filename or image.filename
    name = f"{content}/{_disk_file(file) if image.kind == 'qemu' else file}"
    await files.file_path(name)

    async def work(task: Task) -> None:
        with contextlib.suppress(NotFound):
            task.log(f"'{(await files.info(name)).volid}' is there already")
            return
        manifest: dict[str, Any] = {
            "distribution": image.distribution,
            "release": image.release,
            "variant": image.variant,
            "architecture": image.architecture,
            "version": image.version,
            "source": image.url,
            "sha256": image.sha256,
        }
        if image.kind == "qemu":
            await _fetch_disk(files, name, source, task, manifest)
        else:
            volume = await fetch_volume(files, name, source, task)
            await asyncio.to_thread(write_manifest, await files.file_path(name), {**manifest, "size": volume.size})

    label = f"{image.distribution}-{image.release}"
    return await rooms.tasks.start("download", re.sub(r"[^A-Za-z0-9._-]", "_", label)[:100], by, work)


async def _pull_disk(rooms: Rooms, by: Identity, storage: str, file: str, source: Source) -> Upid:
    files = await rooms.storages.files(storage, "import")
    name = await free_name(files, "import", _disk_file(file))

    async def work(task: Task) -> None:
        # What a URL asks for, or proves who asks, is nobody else's to read.
        parts = urlsplit(source.url)
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        await _fetch_disk(files, name, source, task, {"source": plain})

    return await rooms.tasks.start("download", re.sub(r"[^A-Za-z0-9._-]", "_", file)[:100], by, work)


def _disk_file(file: str) -> str:
    for suffix in SUFFIXES:
        file = file.removesuffix(suffix)
    for suffix in DISK_SUFFIXES:
        file = file.removesuffix(suffix)
    return f"{file}.qcow2"


async def _fetch_disk(files: FileStorage, name: str, source: Source, task: Task, manifest: dict[str, Any]) -> None:
    """Download, unpack, check and convert a disk image, and publish it as the qcow2 volume `name`."""
    part = await fetch_file(files, name, source, task)
    made = [part]
    try:
        disk = await _unpacked(files, name, part, made, task)
        form = await asyncio.to_thread(_checked, disk)
        if form != "qcow2":
            task.log(f"converting from {form}")
            target = files.incoming(name)
            made.append(target)
            await qemu_img.convert(disk, form, target, "qcow2", progress=_tenths(task))
            disk = target
        volume = await files.publish(disk, name)
        said = {**manifest, "format": form, "size": volume.size}
        await asyncio.to_thread(write_manifest, await files.file_path(name), said)
        task.log(f"{volume.volid}: {volume.size // MIB} MiB")
    finally:
        for path in made:
            await remove_tree(path)


async def _unpacked(files: FileStorage, name: str, part: Path, made: list[Path], task: Task) -> Path:
    if not await asyncio.to_thread(compressed, part):
        return part
    disk = await unpack(files, name, part, task, await asyncio.to_thread(archive.compression, part))
    made.append(disk)
    return disk


def _tenths(task: Task) -> Callable[[float], None]:
    shown = [0]

    def tell(percent: float) -> None:
        if percent >= shown[0] + 10:
            shown[0] = int(percent) // 10 * 10
            task.log(f"{shown[0]:3d}% converted")

    return tell


def _checked(disk: Path) -> str:
    """The format of a disk image that may be used. Raises HostFailure that says why it may not."""
    form = disk_image.detect(disk) or "raw"
    disk_image.check(disk, form)
    if form == "raw":
        with disk.open("rb") as file:
            if file.read(512)[510:] != _BOOT_SIGNATURE:
                raise HostFailure("the file is no disk image: it has neither a known header nor a partition table")
    return form
