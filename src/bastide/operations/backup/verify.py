"""Verification: backups are read to their ends, and what they hold is compared with its checksums.

A file's SHA-256 is compared with the one beside it, which its first verification writes; compression and VMA have
checksums of their own, and tar tells whether a stream is whole. A storage with a store of its own knows how to verify.
"""

import asyncio
import hashlib
import os
import stat
import threading
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bastide.backup.vma_stages import unpack_stage
from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotFound, named_by
from bastide.base.ids import Upid, VolumeId
from bastide.base.units import MIB, readable
from bastide.host import filesystems
from bastide.host.pipeline import Stage, run_pipeline
from bastide.host.sandbox import Bounds, sandboxed
from bastide.model.access import Identity
from bastide.model.backup import BackupName
from bastide.model.storage import Volume
from bastide.operations.backup import proofs
from bastide.operations.backup.archives import Archive, open_archive
from bastide.operations.backup.proofs import Verification
from bastide.operations.backup.prune import backup_storage
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import ArchiveStorage, FileStorage
from bastide.tasks.tasks import Task

_TAR = "/usr/bin/tar"
_DAY = 86_400
_BOUNDS = Bounds(seconds=_DAY)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which backups of a storage: one, a guest's, or all; with `outdated_after` none that was fine as many days ago."""

    storage: str
    volid: str | None = None
    vmid: int | None = None
    outdated_after: int | None = None


async def start_verify(rooms: Rooms, by: Identity, wanted: Wanted) -> Upid:
    """Verify backups as a task `verify`, which fails when one is damaged.

    Raises InvalidParameter naming `storage` or `volume`.
    """
    await check_storage(rooms, wanted.storage)
    if wanted.volid is not None:
        with named_by("volume"):
            await open_archive(rooms, wanted.volid)

    async def work(task: Task) -> None:
        await verify(rooms, wanted, task)

    what = "" if wanted.vmid is None else f"{wanted.vmid}@"
    return await rooms.tasks.start("verify", f"{what}{wanted.storage}", by, work)


async def check_storage(rooms: Rooms, storage_id: str) -> None:
    """Raise InvalidParameter naming `storage` unless it is there and holds backups."""
    with named_by("storage"):
        await backup_storage(rooms, storage_id)


async def verify(rooms: Rooms, wanted: Wanted, task: Task) -> None:
    """Verify one backup after the other. Raises HostFailure in the end when some are damaged or cannot be read."""
    volumes = await _volumes(rooms, wanted)
    damaged = 0
    for number, volume in enumerate(volumes, 1):
        task.log(f"verifying '{volume.volid}' ({number} of {len(volumes)}, {readable(volume.size)})")
        began = time.monotonic()
        try:
            await verify_backup(rooms, volume.volid, task)
        except NotFound:
            task.log(f"'{volume.volid}' has been removed meanwhile")
            continue
        except BastideError as error:
            damaged += 1
            task.log(f"ERROR: '{volume.volid}': {error}")
            result = Verification("failed", str(task.upid), int(time.time()), str(error)[:500])
        else:
            task.log(f"'{volume.volid}' is whole ({time.monotonic() - began:.1f} s)")
            result = Verification("ok", str(task.upid), int(time.time()))
        await proofs.verified(rooms, volume.volid, result)
    task.log(f"{len(volumes) - damaged} of {len(volumes)} backups are whole")
    if damaged:
        raise HostFailure(f"{damaged} of {len(volumes)} backups are damaged or cannot be read: see the log")


async def verify_backup(rooms: Rooms, volid: str, task: Task) -> None:
    """Read a backup to its end. Raises HostFailure that says what is damaged, NotFound."""
    archive = await open_archive(rooms, volid)
    storage, name = await rooms.storages.resolve(volid)
    if storage.capabilities.archives:
        await cast(ArchiveStorage, storage).verify(name)
        return
    files = cast(FileStorage, storage)
    await archive.config()
    digest, _ = await _both(_digest(await files.file_path(name)), _read(archive))
    kept = await files.checksum(name)
    if kept is None:
        await files.keep_checksum(name, digest)
        task.log(f"its SHA-256 is written down now: {digest}")
    elif kept != digest:
        raise HostFailure(f"its SHA-256 is {digest}, and was {kept}: the file has changed since")


async def _volumes(rooms: Rooms, wanted: Wanted) -> Sequence[Volume]:
    storage = await backup_storage(rooms, wanted.storage)
    if wanted.volid is not None:
        return [await storage.info(VolumeId.parse(wanted.volid).name)]
    volumes = [volume for volume in await storage.list("backup", wanted.vmid) if _is_backup(volume)]
    if wanted.vmid is None:
        await proofs.forget_lost(rooms, wanted.storage, [volume.volid for volume in volumes])
    if wanted.outdated_after is None:
        return volumes
    known, oldest = await proofs.verifications(rooms, wanted.storage), time.time() - wanted.outdated_after * _DAY
    fine = {volid for volid, one in known.items() if one.state == "ok" and one.time > oldest}
    return [volume for volume in volumes if volume.volid not in fine]


def _is_backup(volume: Volume) -> bool:
    try:
        BackupName.parse(VolumeId.parse(volume.volid).name)
    except InvalidParameter:
        return False
    return True


async def _both(digest: Coroutine[Any, Any, str], reading: Coroutine[Any, Any, None]) -> tuple[str, None]:
    """Both at once, so that what one reads is there for the other; the first failure ends both."""
    try:
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(digest), group.create_task(reading)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return first.result(), second.result()


async def _digest(path: Path) -> str:
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_sha256, path, stop)
    finally:
        stop.set()


def _sha256(path: Path, stop: threading.Event) -> str:
    found, part = hashlib.sha256(), bytearray(4 * MIB)
    with filesystems.translated(f"read '{path.name}'"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise HostFailure(f"'{path.name}' is not a file")
            while not stop.is_set() and (length := file.readinto(part)):
                found.update(memoryview(part)[:length])
    return found.hexdigest()


async def _read(archive: Archive) -> None:
    """Read the stream and look at its structure. Raises HostFailure."""
    async with archive.stream() as (source, stdin), _checking(archive) as sink:
        await run_pipeline([source, sink], stdin=DEVNULL if stdin is None else stdin)


@asynccontextmanager
async def _checking(archive: Archive) -> AsyncIterator[Stage]:
    """The process that reads a stream of the archive's kind to its end."""
    if archive.name.kind == "qemu":
        with unpack_stage({}) as stage:
            yield stage
    else:
        yield Stage(sandboxed([_TAR, "--list", "--file=-"], (), _BOUNDS), "verified")
