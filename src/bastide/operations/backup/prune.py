"""Retention on storages: which backups would go, and removing them. Names and protection count, contents do not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bastide.backup.retention import Kept, Mark, verdicts
from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotSupported, WrongState
from bastide.base.ids import Upid, VolumeId
from bastide.host import facts
from bastide.model.access import Identity
from bastide.model.backup import BackupName
from bastide.model.guest import Kind
from bastide.model.storage import PruneBackups, Volume
from bastide.operations.backup import proofs
from bastide.operations.rooms import Rooms
from bastide.storage.protocol import Storage
from bastide.tasks.tasks import Task


@dataclass(frozen=True, slots=True)
class Marked:
    """A backup and what becomes of it, and by which rule, as `retention.Verdict` has it.

    `ctime` in seconds since the epoch; `kind` is None where the name is no help.
    """

    volid: str
    ctime: int
    mark: Mark
    kind: Kind | None = None
    vmid: int | None = None
    rule: str | None = None


async def preview(
    rooms: Rooms,
    storage_id: str,
    keep: PruneBackups | None = None,
    *,
    vmid: int | None = None,
    kind: Kind | None = None,
) -> Sequence[Marked]:
    """The backups on a storage, all or a guest's, newest first, and what a `prune` would do with each.

    Without `keep` the storage's own rules hold. Raises InvalidParameter naming `prune-backups` when it has none,
    NotFound, NotSupported for a storage without backups, HostFailure.
    """
    storage = await backup_storage(rooms, storage_id)
    rules = keep or storage.config.prune_backups
    if rules is None:
        raise InvalidParameter({"prune-backups": f"storage '{storage_id}' has no rules of its own: give some"})
    rows = [_row(volume) for volume in await storage.list("backup", vmid)]
    if kind is not None:
        rows = [row for row in rows if row.kind == kind]
    found = verdicts(map(_kept, rows), rules, facts.zone())
    rows = [replace(row, mark=found[row.volid].mark, rule=found[row.volid].rule) for row in rows]
    return sorted(rows, key=lambda row: (-row.ctime, row.volid))


async def prune(
    rooms: Rooms,
    storage_id: str,
    keep: PruneBackups | None = None,
    *,
    vmid: int | None = None,
    kind: Kind | None = None,
    spared: str | None = None,
    task: Task,
) -> int:
    """Remove what the rules do not keep, one whole backup after the other, the oldest first; how many are gone.

    The volume id `spared` stays in any case: that of a backup that was just made, whatever the clock says.
    Raises what `preview` does, and HostFailure in the end when some could not be removed.
    """
    rows = await preview(rooms, storage_id, keep, vmid=vmid, kind=kind)
    storage = await rooms.storages.get(storage_id)
    gone, failed = 0, 0
    for row in reversed(rows):
        if row.mark != "remove":
            continue
        if row.volid == spared:
            task.warn(f"backup '{row.volid}' is not removed: it was just made, and what is kept has a later time")
            continue
        try:
            await storage.delete(VolumeId.parse(row.volid).name)
        except BastideError as error:
            # One that somebody has protected since stays, as do those that cannot be removed now.
            task.warn(f"backup '{row.volid}' is not removed: {error}")
            failed += not isinstance(error, WrongState)
            continue
        await proofs.forget(rooms, row.volid)
        task.log(f"removed backup '{row.volid}'")
        gone += 1
    if failed:
        raise HostFailure(f"{failed} backups could not be removed from '{storage_id}': see the log")
    return gone


async def start_prune(
    rooms: Rooms,
    by: Identity,
    storage_id: str,
    keep: PruneBackups | None = None,
    *,
    vmid: int | None = None,
    kind: Kind | None = None,
) -> Upid:
    """The same as a task `prunebackups`. Raises what `preview` does."""
    await preview(rooms, storage_id, keep, vmid=vmid, kind=kind)

    async def work(task: Task) -> None:
        gone = await prune(rooms, storage_id, keep, vmid=vmid, kind=kind, task=task)
        task.log(f"{gone} backups removed from '{storage_id}'")

    return await rooms.tasks.start("prunebackups", f"{'' if vmid is None else f'{vmid}@'}{storage_id}", by, work)


async def backup_storage(rooms: Rooms, storage_id: str) -> Storage:
    """A usable storage that holds backups, as files or in a store of its own.

    Raises NotFound, WrongState, NotSupported.
    """
    storage = await rooms.storages.get(storage_id)
    if not rooms.storages.enabled(storage.config):
        raise WrongState(f"storage '{storage_id}' is disabled, or not for this node")
    if "backup" not in storage.capabilities.contents:
        raise NotSupported(f"storage '{storage_id}' does not support content type 'backup'")
    return storage


def _row(volume: Volume) -> Marked:
    """A backup with its mark so far. Its name tells when it was made, which a copy of the file does not."""
    mark: Mark = "protected" if volume.protected else "keep"
    try:
        name = BackupName.parse(VolumeId.parse(volume.volid).name)
    except InvalidParameter:
        return Marked(volume.volid, volume.ctime or 0, mark, vmid=volume.vmid)
    return Marked(volume.volid, name.time, mark, name.kind, name.vmid)


def _kept(row: Marked) -> Kept:
    group = None if row.kind is None or row.vmid is None else (row.kind, row.vmid)
    return Kept(row.volid, row.ctime, group, row.mark == "protected")
