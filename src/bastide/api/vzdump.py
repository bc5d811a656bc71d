"""`/nodes/{node}/vzdump`: backing up guests, and looking at the configuration in a backup."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.backup_permissions import check_options, open_backup
from bastide.api.fields import NodePath
from bastide.api.routing import Branch, Call
from bastide.api.volume_permissions import most_protected
from bastide.base.errors import InvalidParameter, named_by
from bastide.model.backup_options import BackupOptions
from bastide.model.types import StorageId
from bastide.operations.backup import vzdump

_AUDIT = ("Datastore.Audit", "Datastore.AllocateSpace")

branch = Branch("/nodes/{node}/vzdump")


class Vzdump(BackupOptions, NodePath):
    """What to back up, and how."""

    job_id: Annotated[str | None, Field(alias="job-id", pattern=r"^\S+$", max_length=50)] = None
    stdout: bool | None = None


class Defaults(NodePath):
    """Of which storage."""

    storage: StorageId | None = None


class InArchive(NodePath):
    """A backup, by its volume id."""

    volume: Annotated[str, Field(min_length=1, max_length=4096)]


@branch.post("", Vzdump, user="all", needs=("perm", "/vms/{vmid}", ("VM.Backup",)))
async def back_up(call: Call, p: Vzdump) -> str:
    """Back up guests as a task."""
    if p.stdout:
        raise InvalidParameter({"stdout": "option is only allowed on the command line interface."})
    options = p.options()
    storage = options.storage or vzdump.DEFAULT
    await check_options(call, options, p.given)
    await call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    if options.keep is not None:
        await call.require(f"/storage/{storage}", "Datastore.Allocate")
    options.check_selection()
    if options.stop:
        await vzdump.stop(call.rooms, call.identity, all_users=await call.may(f"/nodes/{p.node}", "Sys.Modify"))
        if not (options.vmids or options.every or options.pool):
            return "OK"

    async def permit(vmid: int) -> bool:
        return await call.may(f"/vms/{vmid}", "VM.Backup")

    most = await most_protected(call, storage)
    upid = await vzdump.start(call.rooms, call.identity, options, permit=permit, most_protected=most, job=p.job_id)
    return str(upid)


@branch.get("/defaults", Defaults, user="all")
async def read_defaults(call: Call, p: Defaults) -> dict[str, Any]:
    """What holds where nothing is said."""
    storage_id = p.storage or vzdump.DEFAULT
    await call.require(f"/storage/{storage_id}", *_AUDIT, any_of=True)
    with named_by("storage"):
        storage = await call.rooms.storages.get(storage_id)
    defaults: dict[str, Any] = {
        key: value for key, value in BackupOptions().to_text().items() if BackupOptions.knows(key)
    }
    if p.storage is None:
        defaults["storage"] = storage_id
    keep = storage.config.prune_backups
    return {**defaults, "prune-backups": str(keep) if keep is not None else "keep-all=1"}


@branch.get("/extractconfig", InArchive, user="all")
async def read_config(call: Call, p: InArchive) -> str:
    """The guest's configuration in a backup."""
    return await (await open_backup(call, "volume", p.volume)).config()
