"""Restore tests: the newest backup of a guest is restored beside it, booted, asked, and removed again.

The copy has a vmid from 910,000,000 on, hardware addresses and a name of its own. Its network cards are unplugged and
on no bridge, so that nothing it sends ever reaches anybody, and it gets no folder or device of the host: see `alone`.
It is written down under `trying/<vmid>` before it is made and struck out when it is gone; what stands there after a
daemon's death is removed by the next one.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from bastide.base import propstring
from bastide.base.errors import BastideError, DeadlineExceeded, HostFailure, InvalidParameter, NotFound, named_by
from bastide.base.ids import Upid, VolumeId
from bastide.model.access import ROOT, Identity
from bastide.model.backup import BackupName
from bastide.model.backup_proof import RestoreTestOptions
from bastide.model.container import ContainerOptions
from bastide.model.guest import Guest, Kind
from bastide.model.record import Scalar
from bastide.model.storage import Volume
from bastide.model.types import split_list
from bastide.model.vm import VmConfig, VmOptions
from bastide.operations import booting, temporary
from bastide.operations.architect import inside
from bastide.operations.architect.subtasks import Part, finished
from bastide.operations.backup import proofs
from bastide.operations.backup.archives import open_archive
from bastide.operations.backup.proofs import RestoreTest
from bastide.operations.backup.prune import backup_storage
from bastide.operations.backup.restoring import Restore
from bastide.operations.ct import power as ct_power
from bastide.operations.ct.restore import restore_container
from bastide.operations.destroy import destroy_guest
from bastide.operations.rooms import Rooms
from bastide.operations.vm import power as vm_power
from bastide.operations.vm.restore import restore_vm
from bastide.tasks.tasks import Task

FIRST_VMID = 910_000_000

_TAIL = 4096
_SILENT_SECONDS = 60.0
_LOGIN = b"login:"
_SILENCE = 15.0
_DROPPED = frozenset(
    {"args", "hookscript", "hugepages", "ivshmem", "keephugepages", "onboot", "protection", "startup", "vmstatestorage"}
)
_DEVICES = frozenset({"dev", "hostpci", "parallel", "usb", "virtiofs"})
_log = logging.getLogger(__name__)
_CARD = re.compile(r"net\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup to try: its volume id, and of what and when it is."""

    volid: str
    name: BackupName


@dataclass(slots=True)
class _Progress:
    """How far a test has come, and what was seen."""

    step: str = "restore"
    seen: list[str] = field(default_factory=list)


async def start_tests(rooms: Rooms, by: Identity, options: RestoreTestOptions) -> Upid:
    """Try the newest backup of each guest that is meant, one after the other, as a task `restoretest`.

    It fails when one of them cannot be restored, booted or asked. Raises NotFound when there is no backup yet, and what
    `check_places` and `candidates` do.
    """
    await check_places(rooms, options)
    chosen = await candidates(rooms, options)
    if not chosen:
        raise NotFound("a backup to try does not exist yet: make one first")

    async def work(task: Task) -> None:
        results = [await run_test(rooms, one, options, task) for one in chosen]
        failed = [result for result in results if not result.ok]
        task.log(f"{len(results) - len(failed)} of {len(results)} backups came back to life")
        if failed:
            raise HostFailure(f"{len(failed)} of {len(results)} restore tests failed: see the log")

    return await rooms.tasks.start("restoretest", str(chosen[0].name.vmid) if len(chosen) == 1 else "", by, work)


async def check_places(rooms: Rooms, options: RestoreTestOptions) -> None:
    """Raise InvalidParameter naming `storage` or `backup-storage` when it is not there, or not for that."""
    with named_by("storage"):
        await rooms.storages.get(options.storage)
    if options.backup_storage is not None:
        with named_by("backup-storage"):
            await backup_storage(rooms, options.backup_storage)


async def candidates(rooms: Rooms, options: RestoreTestOptions) -> Sequence[Candidate]:
    """The newest backup of each guest that is meant, by vmid. Raises NotFound, and InvalidParameter naming `vmid`."""
    newest: dict[tuple[int, Kind], Candidate] = {}
    for volume in await _backups(rooms, options.backup_storage):
        with contextlib.suppress(InvalidParameter):
            found = Candidate(volume.volid, BackupName.parse(VolumeId.parse(volume.volid).name))
            key = (found.name.vmid, found.name.kind)
            if key not in newest or newest[key].name.time < found.name.time:
                newest[key] = found
    named, excluded = ({int(vmid) for vmid in split_list(text or "")} for text in (options.vmid, options.exclude))
    if absent := sorted(named - {vmid for vmid, _ in newest}):
        raise InvalidParameter({"vmid": f"there is no backup of guest {absent[0]}"})
    return [one for (vmid, _), one in sorted(newest.items()) if vmid in named or (options.all and vmid not in excluded)]


async def _backups(rooms: Rooms, storage_id: str | None) -> Sequence[Volume]:
    """The backups on a storage, or on all that answer."""
    if storage_id is not None:
        return await (await backup_storage(rooms, storage_id)).list("backup")
    found: list[Volume] = []
    for storage in await rooms.storages.all():
        if not rooms.storages.enabled(storage.config) or "backup" not in storage.capabilities.contents:
            continue
        try:
            found += await storage.list("backup")
        except BastideError as error:
            _log.warning("backups on storage '%s' are not tried: %s", storage.config.storage, error)
    return found


async def run_test(rooms: Rooms, backup: Candidate, options: RestoreTestOptions, task: Task) -> RestoreTest:
    """Try one backup and remember how it went; whatever happens, nothing of it stays."""
    part = Part(task, f"{'CT' if backup.name.kind == 'lxc' else 'VM'} {backup.name.vmid}")
    part.log(f"trying '{backup.volid}'")
    began, started, progress = time.monotonic(), int(time.time()), _Progress()
    reason = None
    try:
        await _try(rooms, backup, options, progress, part)
        progress.step = "done"
    except BastideError as error:
        reason = str(error)[:1000]
        part.log(f"ERROR: {progress.step}: {reason}")
    result = RestoreTest(
        backup=backup.volid,
        vmid=backup.name.vmid,
        kind=backup.name.kind,
        started=started,
        duration=round(time.monotonic() - began, 1),
        ok=reason is None,
        step=progress.step,
        upid=str(task.upid),
        reason=reason,
        output="\n".join(progress.seen)[-_TAIL:] or None,
    )
    await proofs.tested(rooms, result)
    part.log(f"{'it came back to life' if result.ok else 'it failed'} ({result.duration:g} s)")
    return result


def alone(config: Mapping[str, Scalar], kind: Kind) -> dict[str, Scalar]:
    """A restored guest's options without anything by which it could reach beyond itself.

    Network cards are on no bridge and unplugged. Folders and devices of the host's, hook scripts, arguments for QEMU,
    and what starts or protects it go.
    """
    return {
        key: _unplugged(str(value)) if _CARD.fullmatch(key) else value
        for key, value in config.items()
        if not _reaches_out(key, str(value), kind)
    }


def _reaches_out(key: str, value: str, kind: Kind) -> bool:
    name = key.rstrip("0123456789")
    if key in _DROPPED or name in _DEVICES:
        return True
    if name == "mp":
        return propstring.parse(value, "volume").get("volume", "").startswith("/")
    return name == "serial" and kind == "qemu" and value != "socket"


def _unplugged(text: str) -> str:
    parts = propstring.parse(text, "model")
    for key in ("bridge", "firewall", "tag", "trunks"):
        parts.pop(key, None)
    return propstring.render({**parts, "link_down": "1"}, "model")


async def _try(rooms: Rooms, backup: Candidate, options: RestoreTestOptions, progress: _Progress, task: Task) -> None:
    async with AsyncExitStack() as undo:
        name = f"restore-test-{secrets.token_hex(4)}"
        vmid = await rooms.guests.next_vmid(FIRST_VMID)
        await temporary.enter(rooms, "trying", vmid, name)
        undo.push_async_callback(_removed, rooms, vmid, name)
        guest = await _restore(rooms, backup, options, vmid, name)
        task.log(f"restored as {guest.title}")
        if guest.is_template:
            progress.seen.append("a template: it was restored, and is never started")
            return
        progress.step = "start"
        power = ct_power if guest.kind == "lxc" else vm_power
        await finished(rooms, power.start(rooms, ROOT, vmid))
        progress.step = "boot"
        await _boot(rooms, guest, options.timeout, progress, task)
        if options.command is not None:
            progress.step = "probe"
            await _probe(rooms, guest, options, progress, task)


async def _restore(rooms: Rooms, backup: Candidate, options: RestoreTestOptions, vmid: int, name: str) -> Guest:
    """The copy, stopped and alone."""
    archive = await open_archive(rooms, backup.volid)
    wish = Restore(storage=options.storage, unique=True)
    if backup.name.kind == "lxc":
        # Whoever can write to a storage shall not get a container run that is the host's root.
        asked = ContainerOptions.parse({"hostname": name, "unprivileged": 1, "onboot": 0, "protection": 0})
        await finished(rooms, restore_container(rooms, ROOT, vmid, archive, asked, wish=wish))
    else:
        vm_options = VmOptions.parse({"name": name, "onboot": 0, "protection": 0})
        await finished(rooms, restore_vm(rooms, ROOT, vmid, archive, vm_options, wish))
    guest = await rooms.guests.get(vmid)
    return await rooms.guests.update(replace(guest, config=alone(guest.config, guest.kind), pending={}, removed=()))


async def _removed(rooms: Rooms, vmid: int, name: str) -> None:
    await asyncio.shield(asyncio.ensure_future(_remove(rooms, vmid, name)))


async def _remove(rooms: Rooms, vmid: int, name: str) -> None:
    guest = await temporary.entered(rooms, vmid, name)
    if guest is not None:
        await finished(rooms, destroy_guest(rooms, ROOT, vmid, force=True))
    await temporary.strike_out(rooms, "trying", vmid)


async def _boot(rooms: Rooms, guest: Guest, limit: float, progress: _Progress, task: Task) -> None:
    """Return when the system is up, by the best witness there is."""
    begun = time.monotonic()
    try:
        async with asyncio.timeout(limit):
            state = await (_container_up if guest.kind == "lxc" else _vm_up)(rooms, guest, limit)
    except TimeoutError:
        raise DeadlineExceeded(f"it was not up within {limit:g} seconds") from None
    progress.seen.append(state)
    task.log(f"{state} ({time.monotonic() - begun:.1f} s)")


async def _container_up(rooms: Rooms, guest: Guest, limit: float) -> str:
    return await _system(rooms, guest, limit)


async def _vm_up(rooms: Rooms, guest: Guest, limit: float) -> str:
    config = VmConfig.parse(guest.config)
    if config.agent is not None and config.agent.enabled:
        await booting.agent_up(rooms, guest)
        try:
            return await _system(rooms, guest, limit)
        except DeadlineExceeded:
            raise
        except HostFailure as error:
            return f"the agent answers, and may not run commands: {error}"
    if config.serial:
        return await _login(rooms, guest, min(config.serial))
    # Neither agent nor serial port: that it runs on is all that can be seen from outside.
    until = time.monotonic() + min(_SILENT_SECONDS, limit)
    while time.monotonic() < until:
        if guest.vmid not in rooms.vms.running():
            raise HostFailure("the VM ended while it booted")
        await asyncio.sleep(1)
    return "it runs; there is neither an agent nor a serial port to ask"


async def _system(rooms: Rooms, guest: Guest, limit: float) -> str:
    state = await booting.system_up(rooms, guest, limit)
    if state is None:
        return "commands run in it; it has no systemd to ask"
    if state == "running":
        return "systemd: running"
    argv = ["systemctl", "--failed", "--plain", "--no-legend"]
    failed = await inside.run(rooms, guest, argv, check=False)
    units = " ".join(line.split()[0] for line in failed.output.splitlines() if line.split())
    return f"systemd: degraded, of its units failed: {units[:500]}"


async def _login(rooms: Rooms, guest: Guest, port: int) -> str:
    """Return when a serial port asks for a name."""
    descriptor = await rooms.vms.serial(guest.vmid, port)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    try:
        seen = b""
        while _LOGIN not in seen:
            try:
                async with asyncio.timeout(_SILENCE):
                    part = await reader.read(_TAIL)
            except TimeoutError:
                writer.write(b"\r")  # what asked before anybody listened asks again
                continue
            if not part:
                raise HostFailure("the VM ended while it booted")
            seen = (seen + part)[-_TAIL:]
    finally:
        writer.close()
    return f"serial port {port} asks for a login"


async def _probe(rooms: Rooms, guest: Guest, options: RestoreTestOptions, progress: _Progress, task: Task) -> None:
    argv = ["/bin/sh", "-c", options.command or ""]
    ended = await inside.run(rooms, guest, argv, deadline=options.timeout, check=False)
    output = (ended.output + ended.errors)[-_TAIL:].strip()
    progress.seen.append(output)
    for line in output.splitlines()[-20:]:
        task.log(f"| {line[:500]}")
    if ended.code != 0:
        said = f": {output.splitlines()[-1][:300]}" if output else ""
        raise HostFailure(f"the command ended with {ended.code}{said}")
