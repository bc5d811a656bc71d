"""Who may set which option of a backup, and open which one, as Proxmox VE decides it."""

from collections.abc import Set

from bastide.api.guest_permissions import root_only
from bastide.api.routing import Call
from bastide.api.volume_permissions import check_volume
from bastide.base.errors import InvalidParameter, named_by
from bastide.model.backup_options import BackupOptions
from bastide.operations.backup.archives import Archive, open_archive

_ROOT_ONLY = ("dumpdir", "job-id", "script", "tmpdir")
_OF_THE_HOST = frozenset({"bwlimit", "ionice", "performance", "webhook"})


async def check_options(call: Call, options: BackupOptions, given: Set[str]) -> None:
    """Raise unless the caller may set the options, of which `given` are the keys that are set, or deleted.

    InvalidParameter for what is root@pam's alone, in Proxmox VE's words, else PermissionDenied. What the place of the
    backup takes is the method's own.
    """
    if call.is_root:
        return
    wrong = {key: "Only root may set this option." for key in _ROOT_ONLY if key in given}
    if wrong:
        raise InvalidParameter(wrong)
    if given & _OF_THE_HOST:
        await call.require("/", "Sys.Modify")
    if "fleecing" in given and options.fleecing is not None and options.fleecing.storage is not None:
        await call.require(f"/storage/{options.fleecing.storage}", "Datastore.AllocateSpace")


async def open_backup(call: Call, key: str, volid: str, vmid: int | None = None) -> Archive:
    """The backup that a parameter names, by its volume id or, for root@pam alone, by its path; `vmid` gets it.

    Raises PermissionDenied, InvalidParameter naming `key` where there is no such backup, HostFailure.
    """
    with named_by(key):
        if not volid.startswith("/"):
            await check_volume(call, volid, vmid)
        elif not call.is_root:
            raise root_only("only root can pass arbitrary filesystem paths")
        return await open_archive(call.rooms, volid)
