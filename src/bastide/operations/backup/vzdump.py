"""`vzdump`: the task that backs up guests, one after the other, as Proxmox VE's does.

A guest's own story is told in `ct/backup.py` and `vm/backup.py`, where it goes in `sinks.py`. One that fails does not
keep the others from being saved.
"""

import asyncio
import logging
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotSupported, WrongState, named_by
from bastide.base.ids import Upid
from bastide.host.programs import lacking, missing
from bastide.model.access import Identity
from bastide.model.backup import BackupName
from bastide.model.backup_options import BackupOptions, notes
from bastide.model.guest import Guest, Kind
from bastide.model.storage import PruneBackups
from bastide.operations import content, snapshots
from bastide.operations.backup import prune, sinks
from bastide.operations.backup.guest_log import GuestLog
from bastide.operations.backup.hook import Phase, check_script, run_script
from bastide.operations.backup.notify import Outcome, notify
from bastide.operations.backup.saving import Backup, Turn
from bastide.operations.backup.selection import Permit, anybody, permitted
from bastide.operations.ct.backup import save_container
from bastide.operations.rooms import Rooms
from bastide.operations.vm.backup import save_vm
from bastide.storage.protocol import FileStorage, Storage
from bastide.tasks.tasks import Task

DEFAULT = "local"
"""The storage where nobody says one."""

_STORIES: Mapping[Kind, Callable[[Rooms, Backup], Awaitable[None]]] = {"lxc": save_container, "qemu": save_vm}
_log = logging.getLogger(__name__)


async def start(
    rooms: Rooms,
    by: Identity,
    options: BackupOptions,
    *,
    permit: Permit = anybody,
    most_protected: int | None = None,
    job: str | None = None,
) -> Upid:
    """Back up guests as a task `vzdump`, which ends as `job errors` when one of them failed.

    `permit` says whose backup the caller may make. `most_protected` is how many backups of a guest may be protected
    where the storage says nothing. `job` is the id of the job that it is: then a named guest that is gone is a failure
    of its own. Raises InvalidParameter, PermissionDenied, NotSupported.
    """
    options.check_selection()
    guests, absent = await permitted(rooms, options, permit)
    if absent and job is None:
        raise InvalidParameter({"vmid": f"guest {absent[0]} does not exist"})
    storage = await place(rooms, options)
    await check_script(options.script)
    if options.dumpdir is not None:
        try:
            await sinks.check_folder(Path(options.dumpdir))
        except HostFailure as error:
            raise InvalidParameter({"dumpdir": str(error)}) from None
    if storage is None or not storage.capabilities.archives:
        program = sinks.compressor(options)[0]
        if lacking([program]):
            raise NotSupported(missing(program))
    ids = [*absent, *(guest.vmid for guest in guests)]

    async def work(task: Task) -> None:
        await _Run(rooms, options, task, storage, most_protected, job).run(guests, absent)

    return await rooms.tasks.start("vzdump", str(ids[0]) if len(ids) == 1 else "", by, work)


async def stop(rooms: Rooms, by: Identity, *, all_users: bool) -> int:
    """Stop the backups that run on this host, those of the caller or of all, and wait until they are undone."""
    running = [
        record.upid
        for record in await rooms.tasks.list(typefilter="vzdump", source="active", limit=1000)
        if all_users or record.upid.user == str(by)
    ]
    for upid in running:
        await rooms.tasks.stop(upid)
    for upid in running:
        await rooms.tasks.wait(upid)
    return len(running)


async def place(rooms: Rooms, options: BackupOptions) -> Storage | None:
    """The storage that backups go to, None for a folder. Raises InvalidParameter naming `storage` or `fleecing`."""
    if options.fleecing is not None and options.fleecing.storage is not None:
        with named_by("fleecing"):
            await rooms.storages.disks(options.fleecing.storage)
    if options.dumpdir is not None:
        return None
    with named_by("storage"):
        return await prune.backup_storage(rooms, options.storage or DEFAULT)


@dataclass(slots=True)
class _Saved:
    """A guest's backup on its way: what hooks and messages are told of it."""

    guest: Guest
    log: GuestLog
    destination: sinks.Destination | None = None
    name: BackupName | None = None
    size: int = 0
    logfile: Path | None = None
    words: tuple[str, ...] = field(default=())


@dataclass(slots=True)
class _Run:
    """One run of vzdump."""

    rooms: Rooms
    options: BackupOptions
    task: Task
    storage: Storage | None
    most_protected: int | None
    job: str | None

    async def run(self, guests: Sequence[Guest], absent: Sequence[int]) -> None:
        """Back up the guests; HostFailure `job errors` when something failed."""
        began = time.time()
        self.task.log(f"INFO: starting new backup job: {_command(self.options)}")
        outcomes = [self._absent(vmid) for vmid in absent]
        try:
            await self._job_hook("job-init")
            await self._job_hook("job-start")
            for guest in guests:
                outcomes.append(await self._guest(guest))  # noqa: PERF401 - those before an error count
            await self._job_hook("job-end")
        except (BastideError, asyncio.CancelledError):
            await self._told(self._job_hook("job-abort"))
            raise
        failed = any(outcome.error is not None for outcome in outcomes)
        self.task.log(f"INFO: Backup job finished {'with errors' if failed else 'successfully'}")
        await notify(self.rooms, self.options, outcomes, self.task, job=self.job, began=began)
        if failed:
            raise HostFailure("job errors")

    def _absent(self, vmid: int) -> Outcome:
        self.task.log(f"ERROR: Backup of VM {vmid} failed - unable to find VM '{vmid}'")
        return Outcome(vmid, None, str(vmid), error=f"unable to find VM '{vmid}'")

    async def _guest(self, guest: Guest) -> Outcome:
        """Back up one guest, whatever becomes of it."""
        log = GuestLog(self.task)
        saved = _Saved(guest, log, words=(self.options.mode, str(guest.vmid)))
        log.log(f"Starting Backup of VM {guest.vmid} ({guest.kind})")
        log.log(f"Backup started at {_now()}")
        began, failure = time.monotonic(), None
        try:
            await self._save(saved)
        except Exception as error:
            if not isinstance(error, BastideError):
                _log.error("the backup of guest %d failed", guest.vmid, exc_info=error)
            failure = " ".join(str(error).split()) or type(error).__name__
            log.error(f"Backup of VM {guest.vmid} failed - {failure}")
            log.log(f"Failed at {_now()}")
        seconds = time.monotonic() - began
        if failure is None:
            log.log(f"Finished Backup of VM {guest.vmid} ({_clock(seconds)})")
            log.log(f"Backup finished at {_now()}")
        await self._keep_log(saved, whole=failure is None)
        await self._told(self._hook(saved, "log-end"))
        shown = saved.destination.shown if saved.destination is not None else None
        return Outcome(guest.vmid, guest.kind, guest.name, shown, saved.size, round(seconds, 3), failure)

    async def _save(self, saved: _Saved) -> None:
        rooms, options, vmid = self.rooms, self.options, saved.guest.vmid
        busy = await rooms.locks.get(vmid)
        if busy is not None and options.lockwait:
            saved.log.log(f"{busy.owner} ({busy.action}) works on it: waiting up to {options.lockwait} minutes")
        async with (
            rooms.locks.hold(vmid, self.task.upid, "backup", options.lockwait * 60.0) as held,
            AsyncExitStack() as undo,
        ):
            guest = saved.guest = await rooms.guests.get(vmid)
            snapshots.check_unlocked(guest)
            await self._check_room(guest)
            destination = await self._destination(saved)
            undo.push_async_callback(destination.discard)
            saved.log.log(f"status = {rooms.engine(guest).state(vmid)}")
            saved.log.log(f"{'CT' if guest.kind == 'lxc' else 'VM'} Name: {guest.name}")

            async def hook(turn: Turn) -> None:
                await self._hook(saved, turn)

            backup = Backup(
                guest, options.mode, destination, held, saved.log, self._fleecing(), options.stopwait * 60.0,
                Path(options.tmpdir) if options.tmpdir else None, options.excludes, sinks.rate(options), hook,
            )  # fmt: skip
            try:
                await self._hook(saved, "backup-start")
                await _STORIES[guest.kind](rooms, backup)
                saved.size = await destination.publish()
                undo.pop_all()
                await self._annotate(saved)
                await self._hook(saved, "backup-end")
            except (Exception, asyncio.CancelledError):
                await self._told(self._hook(saved, "backup-abort"))
                raise
        await self._prune(saved)

    def _fleecing(self) -> str | None:
        fleecing = self.options.fleecing
        return fleecing.storage if fleecing is not None and fleecing.enabled else None

    async def _destination(self, saved: _Saved) -> sinks.Destination:
        """Where the guest's backup goes, under a name that no other has."""
        while True:
            saved.name = BackupName(saved.guest.kind, saved.guest.vmid, int(time.time()))
            found = await sinks.destination(self.rooms, self.storage, self.options, saved.name, saved.log)
            if found is not None:
                saved.destination = found
                return found
            await asyncio.sleep(1)

    async def _check_room(self, guest: Guest) -> None:
        """Raise WrongState when another backup of the guest is not wanted there, or the storage is away."""
        if self.storage is None:
            return
        if not (await self.storage.usage()).active:
            # Else a folder whose disk is not mounted would be filled in that disk's stead.
            raise WrongState(f"storage '{self.storage.config.storage}' is not active: is its disk mounted?")
        if self.options.protected:
            await content.check_protected(self.storage, guest.vmid, self.most_protected)
        keep = self._keep()
        if self.options.remove or keep is None:
            return
        limit = sum(int(value) for key, value in keep.to_text().items() if key != "keep-all")
        present = [each for each in await self.storage.list("backup", guest.vmid) if each.subtype == guest.kind]
        if limit and len([each for each in present if not each.protected]) >= limit:
            raise WrongState(
                f"There is a max backup limit of {limit} enforced by the target storage or the vzdump parameters."
                " Either increase the limit or delete old backups."
            )

    def _keep(self) -> PruneBackups | None:
        """The rules by which backups are pruned; None when all stay."""
        keep = self.options.keep or (self.storage.config.prune_backups if self.storage is not None else None)
        return None if keep is None or keep.keep_all else keep

    async def _annotate(self, saved: _Saved) -> None:
        if self.storage is None or saved.name is None or not (self.options.notes_template or self.options.protected):
            return
        text = None
        if self.options.notes_template is not None:
            saved.log.log("adding notes to backup")
            guest = saved.guest
            values = {
                "guestname": guest.name,
                "node": self.rooms.node,
                "vmid": str(guest.vmid),
                "cluster": "standalone node",
            }
            text = notes(self.options.notes_template, values)
        if self.options.protected:
            saved.log.log("marking backup as protected")
        try:
            name = sinks.volume_name(self.storage, self.options, saved.name)
            await cast(FileStorage, self.storage).annotate(name, text, self.options.protected)
        except BastideError as error:
            saved.log.warn(f"unable to add notes or protection to the backup: {error}")

    async def _prune(self, saved: _Saved) -> None:
        keep = self._keep() if self.options.remove else None
        if keep is None or self.storage is None or saved.name is None:
            return
        guest, storage_id = saved.guest, self.storage.config.storage
        made = f"{storage_id}:{sinks.volume_name(self.storage, self.options, saved.name)}"
        saved.log.log(f"prune older backups with retention: {keep}")
        try:
            gone = await prune.prune(
                self.rooms, storage_id, keep, vmid=guest.vmid, kind=guest.kind, spared=made, task=saved.log
            )
        except BastideError as error:
            saved.log.warn(f"pruning older backups failed: {error}")
        else:
            saved.log.log(f"pruned {gone} backup(s) not covered by keep-retention policy")

    async def _keep_log(self, saved: _Saved, *, whole: bool) -> None:
        """Write the guest's log where the host keeps the last one, and beside the backup."""
        path = self.rooms.layout.logs / "vzdump" / f"{saved.guest.kind}-{saved.guest.vmid}.log"
        try:
            await asyncio.to_thread(saved.log.write, path)
            saved.logfile = path
            if whole and saved.destination is not None:
                saved.logfile = await saved.destination.keep_log(saved.log.text) or path
        except BastideError as error:
            self.task.warn(f"the log of VM {saved.guest.vmid} is not kept: {error}")

    async def _job_hook(self, phase: Phase) -> None:
        await run_script(self.options.script, phase, (), self._env(None), self.task)

    async def _hook(self, saved: _Saved, phase: Phase) -> None:
        await run_script(self.options.script, phase, saved.words, self._env(saved), saved.log)

    def _env(self, saved: _Saved | None) -> Mapping[str, str]:
        known: dict[str, str | None] = {
            "STOREID": self.storage.config.storage if self.storage is not None else None,
            "DUMPDIR": self.options.dumpdir,
        }
        if saved is not None:
            target = saved.destination.shown if saved.destination is not None else None
            folder = str(Path(target).parent) if target is not None and target.startswith("/") else None
            known |= {"VMTYPE": saved.guest.kind, "HOSTNAME": saved.guest.name, "TARGET": target}
            known |= {"DUMPDIR": folder, "LOGFILE": str(saved.logfile) if saved.logfile is not None else None}
        return {key: value for key, value in known.items() if value is not None}

    async def _told(self, call: Awaitable[None]) -> None:
        """Do what may fail without changing anything."""
        try:
            await call
        except BastideError as error:
            self.task.warn(str(error))


def _command(options: BackupOptions) -> str:
    """The call as a command line; a webhook's address may hold a secret."""
    words = ["vzdump", *(str(vmid) for vmid in options.vmids)]
    for key, value in options.to_stored().items():
        if key in ("vmid", "webhook"):
            continue
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{key}", str(each)]
    return shlex.join(words)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _clock(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{left:02d}"
