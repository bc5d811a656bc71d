"""Files and volumes on storages: what is there, uploads, downloads, removal."""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import MIB, parse_size
from bastide.host import disk_image
from bastide.host.download import Guard, Network, check_url, download
from bastide.host.filesystems import remove_tree
from bastide.model.access import Identity
from bastide.model.guest import Kind
from bastide.model.record import Scalar
from bastide.model.storage import Content, DiskFormat, Volume
from bastide.operations import bases
from bastide.operations.backup import proofs
from bastide.operations.incoming import RESERVE, accept, free_name, split_compression
from bastide.operations.rooms import Rooms
from bastide.operations.storages import Wanted, check_fits
from bastide.operations.volumes import volumes_of
from bastide.storage.protocol import ContainerStorage, DiskStorage, FileStorage, Storage
from bastide.tasks.tasks import Task

Algorithm = Literal["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
ALGORITHMS: tuple[Algorithm, ...] = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")

FILES = frozenset({"vztmpl", "iso", "backup", "snippets", "import"})

_NUMBERED = re.compile(r"disk-(\d{1,5})", re.ASCII)
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where a download comes from: its URL, what to verify, and which networks its caller may reach."""

    url: str
    checksum: tuple[str, str] | None = None
    verify: bool = True
    guard: Guard = field(default_factory=Guard)


async def list_content(
    rooms: Rooms, storage_id: str, content: Content | None = None, vmid: int | None = None
) -> list[dict[str, Any]]:
    """A storage's volumes as Proxmox VE shows them. Raises NotFound, HostFailure.

    Of backups there is what `proofs.shown` knows besides.
    """
    storage = await rooms.storages.get(storage_id)
    kinds = {guest.vmid: guest.kind for guest in await rooms.guests.list()}
    known = await proofs.shown(rooms, storage_id)
    shown = []
    for volume in await storage.list(content, vmid):
        # A raw image is a machine's disk or a container's file system: the guest that owns it says which.
        holds = volume.content
        if volume.format == "raw" and volume.vmid is not None and kinds.get(volume.vmid) == "lxc":
            holds = "rootdir"
        if content is None or holds == content:
            shown.append({**_shown(volume, holds), **known.get(volume.volid, {})})
    return shown


async def volume_info(rooms: Rooms, volid: str) -> dict[str, Scalar]:
    """One volume with its path; a disk image's size is what a guest would see. Raises NotFound, InvalidParameter."""
    storage, name = await rooms.storages.resolve(volid)
    volume = await storage.info(name)
    if storage.capabilities.archives:
        path = Path(name)
    elif volume.format == "subvol" or volume.content in FILES:
        path = await cast(FileStorage, storage).file_path(name)
    else:
        path = await cast(DiskStorage, storage).disk_path(name)
    if volume.content == "import":
        with contextlib.suppress(HostFailure):
            found = await asyncio.to_thread(disk_image.inspect, path, volume.format)
            volume = replace(volume, size=found.virtual_size)
    return {**_shown(volume, volume.content), "path": str(path), "used": volume.used or 0}


async def annotate(
    rooms: Rooms, volid: str, notes: str | None = None, protected: bool | None = None, *, most: int | None = None
) -> None:
    """Set a volume's notes and protection; `most` backups of a guest may be protected where the storage says nothing.

    Raises NotFound, WrongState.
    """
    storage, name = await rooms.storages.resolve(volid)
    if protected:
        volume = await storage.info(name)
        if volume.content == "backup" and not volume.protected and volume.vmid is not None:
            await check_protected(storage, volume.vmid, most)
    await cast(FileStorage, storage).annotate(name, notes, protected)


async def check_protected(storage: Storage, vmid: int, most: int | None) -> None:
    """Raise WrongState unless one more backup of a guest may be protected; `most` where the storage says nothing."""
    configured = storage.config.max_protected_backups
    limit = most if configured is None else configured
    if limit is None or limit < 0:
        return
    present = [other for other in await storage.list("backup", vmid) if other.protected]
    if len(present) >= limit:
        raise WrongState(
            f"cannot protect a backup of guest {vmid} on '{storage.config.storage}': {len(present)} are, and at most"
            f" {limit} may be"
        )


async def create_volume(
    rooms: Rooms, storage_id: str, vmid: int, filename: str, *, size: str, form: str | None = None
) -> str:
    """Allocate an empty volume and return its id. `size` is in KiB, or has the unit M or G.

    It is a disk or a container's file system by the kind of the guest; without a guest, by its format.
    Raises InvalidParameter, AlreadyExists, NoSpace, NotSupported.
    """
    match = re.fullmatch(rf"vm-{vmid}-[a-z0-9-]+(?:\.(raw|subvol|qcow2|vmdk))?", filename, re.ASCII)
    if match is None:
        raise InvalidParameter({"filename": f"'{filename[:80]}' is not of the form vm-{vmid}-disk-N"})
    if form is not None and match[1] not in (None, form):
        raise InvalidParameter({"format": "does not match the file name"})
    chosen = match[1] or form
    length = parse_size(size if size[-1] in "MG" else f"{size}K")
    label = filename.partition(".")[0].removeprefix(f"vm-{vmid}-")
    await check_fits(rooms, {"size": Wanted(storage_id, length)})
    if await _for_container(rooms, vmid, chosen):
        containers = await rooms.storages.containers(storage_id)
        name = _container_volume(containers, vmid, label, length, chosen)
        await containers.allocate(name, length)
    else:
        disks = await rooms.storages.disks(storage_id)
        disk_format = cast(DiskFormat, chosen or disks.capabilities.default_disk_format)
        if disk_format not in disks.capabilities.disk_formats:
            raise InvalidParameter({"format": f"storage '{storage_id}' has no disks of the format '{disk_format}'"})
        number = _NUMBERED.fullmatch(label)
        name = disks.disk_name(vmid, int(number[1]) if number else label, disk_format)
        await disks.allocate_disk(name, length)
    return f"{storage_id}:{name}"


def _container_volume(storage: ContainerStorage, vmid: int, label: str, size: int, form: str | None) -> str:
    number = _NUMBERED.fullmatch(label)
    if number is None:
        raise InvalidParameter({"filename": f"a container's volume is vm-{vmid}-disk-N"})
    name = storage.volume_name(vmid, int(number[1]), size)
    before, dot, _ = name.rpartition(".")
    return f"{before}.{form}" if dot and form is not None else name


async def _for_container(rooms: Rooms, vmid: int, form: str | None) -> bool:
    kind: Kind | None = next((guest.kind for guest in await rooms.guests.list() if guest.vmid == vmid), None)
    if kind == "lxc" and form in ("qcow2", "vmdk"):
        raise InvalidParameter({"format": "a container's volume is raw or subvol"})
    if kind == "qemu" and form == "subvol":
        raise InvalidParameter({"format": "a VM's disk is raw, qcow2 or vmdk"})
    return kind == "lxc" or (kind is None and form in (None, "subvol"))


async def delete_volume(rooms: Rooms, by: Identity, volid: str) -> Upid:
    """Remove a volume as a task. Raises NotFound, and WrongState when a guest uses it or it is protected."""
    storage, name = await rooms.storages.resolve(volid)
    volume = await storage.info(name)
    await _refuse_used(rooms, volid)
    if volume.protected:
        raise WrongState(f"can't remove protected volume '{volid}'")

    async def work(task: Task) -> None:
        await _refuse_used(rooms, volid)
        await storage.delete(name)
        task.log(f"removed volume '{volid}'")
        await proofs.forget(rooms, volid)
        await bases.forget_source(rooms, volid, task)

    return await rooms.tasks.start("imgdel", f"{volume.vmid or ''}@{volume.volid.partition(':')[0]}", by, work)


async def upload_path(rooms: Rooms, storage_id: str, content: Content, filename: str) -> Path:
    """A fresh path to spool an upload to, on the storage itself. Raises what is wrong before a body is read.

    Raises NotFound, NotSupported, WrongState, InvalidParameter, AlreadyExists, NoSpace (by the caller's writing).
    """
    storage = await rooms.storages.files(storage_id, content)
    name = await free_name(storage, content, split_compression(content, filename)[0])
    return storage.incoming(name)


async def upload(
    rooms: Rooms,
    by: Identity,
    storage_id: str,
    content: Content,
    filename: str,
    *,
    spooled: Path,
    checksum: str | None = None,
    checksum_algorithm: str | None = None,
) -> Upid:
    """Check a spooled file and publish it as a task. The file is gone in the end, whatever happens."""
    try:
        storage = await rooms.storages.files(storage_id, content)
        plain, compression = split_compression(content, filename)
        name = await free_name(storage, content, plain)
        expected = check_checksum(checksum, checksum_algorithm)
    except BaseException:
        await asyncio.to_thread(spooled.unlink, missing_ok=True)
        raise

    async def work(task: Task) -> None:
        try:
            task.log(f"target file '{storage_id}:{name}', {(await asyncio.to_thread(spooled.stat)).st_size} bytes")
            if expected is not None:
                found = await asyncio.to_thread(file_digest, spooled, expected[0])
                if found != expected[1]:
                    raise HostFailure(f"checksum mismatch: got '{found}' != expect '{expected[1]}'")
                task.log(f"checksum verified ({expected[0]})")
            await accept(storage, name, spooled, task, compression)
            task.log("finished file import successfully")
        finally:
            await asyncio.to_thread(spooled.unlink, missing_ok=True)

    try:
        return await rooms.tasks.start("imgcopy", "", by, work)
    except BaseException:
        await asyncio.to_thread(spooled.unlink, missing_ok=True)
        raise


async def download_url(
    rooms: Rooms,
    by: Identity,
    storage_id: str,
    content: Content,
    filename: str,
    *,
    url: str,
    checksum: str | None = None,
    checksum_algorithm: str | None = None,
    compression: str | None = None,
    verify_certificates: bool = True,
    allow_private: bool = False,
    allowed_networks: Sequence[Network] = (),
) -> Upid:
    """Download a file as a task.

    `compression`: what the file is unpacked from, where `filename` does not say it; the checksum is that of the file as
    it is downloaded. `allow_private`: the caller has Sys.Modify on `/` and may reach private networks.
    `allowed_networks` are reached in any case (tests; empty otherwise). Raises InvalidParameter, NotFound,
    NotSupported, AlreadyExists.
    """
    storage = await rooms.storages.files(storage_id, content)
    plain, packed = split_compression(content, filename, compression)
    name = await free_name(storage, content, plain)
    expected = check_checksum(checksum, checksum_algorithm)
    guard = Guard(private=allow_private, networks=tuple(allowed_networks))
    source = Source(check_url(url), expected, verify_certificates, guard)

    async def work(task: Task) -> None:
        await fetch_volume(storage, name, source, task, packed)

    return await rooms.tasks.start("download", re.sub(r"[^A-Za-z0-9._-]", "_", filename)[:100], by, work)


async def fetch_volume(
    storage: FileStorage, name: str, source: Source, task: Task, compression: str | None = None
) -> Volume:
    """Download, unpack, check and publish a file. A broken download is carried on by the next one of the same URL."""
    return await accept(storage, name, await fetch_file(storage, name, source, task), task, compression)


async def fetch_file(storage: FileStorage, name: str, source: Source, task: Task) -> Path:
    """Download what shall become the volume `name`, or be made into it; the caller checks and removes the file."""
    key = hashlib.sha256(f"{name}\n{source.url}".encode()).hexdigest()[:40]
    part = storage.incoming(name).with_name(f"partial.{key}")
    room = (await storage.usage()).available - RESERVE
    task.log(f"downloading {source.url} to {name}")
    try:
        done = await download(
            source.url,
            part,
            source.guard,
            checksum=source.checksum,
            limit=max(room, 0),
            verify=source.verify,
            progress=_Progress(task),
        )
    except asyncio.CancelledError:
        await remove_tree(part)
        await remove_tree(part.with_name(f"{part.name}.note"))
        raise
    task.log(f"download finished, {done.size} bytes, sha256 {done.sha256}")
    if source.checksum is None:
        task.log("no checksum was given: the content was not verified")
    return part


def check_checksum(checksum: str | None, algorithm: str | None) -> tuple[str, str] | None:
    """(algorithm, hexadecimal) of a checksum, or None without one. Raises InvalidParameter."""
    if checksum is None and algorithm is None:
        return None
    if checksum is None or algorithm is None:
        missing, given = ("checksum", "checksum-algorithm") if checksum is None else ("checksum-algorithm", "checksum")
        raise InvalidParameter({given: f"missing '{missing}' - requires '{missing}'"})
    if algorithm not in ALGORITHMS:
        raise InvalidParameter({"checksum-algorithm": f"'{algorithm[:20]}' is none of {', '.join(ALGORITHMS)}"})
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    if re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", checksum, re.ASCII) is None:
        raise InvalidParameter({"checksum": f"a {algorithm} checksum has {length} hexadecimal digits"})
    return algorithm, checksum.lower()


def file_digest(path: Path, algorithm: str) -> str:
    """The digest of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


class _Progress:
    """Logs how far a download is, about once a second."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + _PROGRESS_SECONDS
        if total:
            self._task.log(f"{done * 100 // total:3d}% {done // MIB} MiB of {total // MIB} MiB")
        else:
            self._task.log(f"{done // MIB} MiB")


async def _refuse_used(rooms: Rooms, volid: str) -> None:
    wanted = VolumeId.parse(volid)
    for guest in await rooms.guests.list():
        try:
            used = wanted in volumes_of(guest)
        except BastideError:
            continue
        if used:
            raise WrongState(f"volume '{volid}' is in use by guest {guest.vmid}")
    for vmid in rooms.guests.unreadable():
        if f"-{vmid}-" in volid or vmid in rooms.guests.naming(volid):
            raise WrongState(f"volume '{volid}' may be in use by guest {vmid}, whose record cannot be read: mend that")


def _shown(volume: Volume, content: Content) -> dict[str, Scalar]:
    shown: dict[str, Scalar | None] = {
        "volid": volume.volid,
        "content": content,
        "format": volume.format,
        "size": volume.size,
        "used": volume.used,
        "ctime": volume.ctime,
        "vmid": volume.vmid,
        "parent": volume.parent,
        "subtype": volume.subtype,
        "notes": volume.notes,
        "protected": 1 if volume.protected else None,
    }
    return {key: value for key, value in shown.items() if value is not None}
