"""Giving PCI devices to VMs: whole functions by vfio-pci, and mediated devices.

    held = await vfio.acquire(["0000:01:00.0", "0000:01:00.1"], uid)     # before QEMU starts
    await vfio.release(["0000:01:00.0", "0000:01:00.1"], uid)            # after QEMU ended

What is held is known to the kernel (the driver, and whose `/dev/vfio/GROUP` is). The driver that a device had before
lies in a file of /run, so that a daemon that was started again releases what the one before it acquired.

Sources: `Documentation/driver-api/vfio.rst` and `vfio-mediated-device.rst`, `Documentation/ABI/testing/sysfs-bus-pci`
(driver_override, drivers_probe). QEMU pins the guest's memory, so its limit of locked memory (RLIMIT_MEMLOCK) must be
that much.
"""

import asyncio
import contextlib
import os
import uuid as uuids
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bastide.base.errors import HostFailure, NotFound, NotSupported, RunError, WrongState
from bastide.host import abilities, device_use, pci
from bastide.host.pci import PciDevice
from bastide.host.run import run

_DRIVER = "vfio-pci"
_KEEPING = frozenset({_DRIVER, "pci-stub"})  # drivers that leave a group viable; what has none does, too
_NODE_DEADLINE = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """A function that a VM may now open: its IOMMU group, and the device file that its uid owns."""

    address: str
    group: int
    node: Path


def _write(path: Path, text: str) -> None:
    """sysfs takes a value in one write; a file that is not there is not made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


async def _load_module() -> None:
    try:
        await run(["modprobe", _DRIVER], deadline=30)
    except (RunError, NotSupported) as error:
        raise NotSupported(f"this kernel cannot give devices to virtual machines: {error}") from error


@dataclass(frozen=True)
class Vfio:
    """Where the kernel shows its devices. Tests have a tree and a `write` of their own."""

    sysfs: Path = Path("/sys")
    dev: Path = Path("/dev")
    marks: Path = Path("/run/bastide-vfio")
    write: Callable[[Path, str], None] = _write
    uses: Callable[[str], Awaitable[Sequence[str]]] = device_use.uses
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One change at a time: a VM that starts again waits until what it had is released."""

    async def plan(self, addresses: Collection[str], uid: int) -> list[PciDevice]:
        """The devices, when they can be given to `uid` together; nothing is changed.

        Raises NotFound for a device that is not there, NotSupported without an IOMMU, WrongState for a group that is
        shared with devices that are not given, and for a device that the host or another VM uses.
        """
        wanted = [pci.device(address, self.sysfs) for address in dict.fromkeys(addresses)]
        for known in wanted:
            if known.group is None:
                raise NotSupported(
                    f"{_who(known)} is in no IOMMU group, so it cannot be given to a virtual machine. "
                    f"{abilities.iommu_advice()}"
                )
            if known.bridge:
                raise WrongState(f"{_who(known)} leads to other devices and cannot be given to a virtual machine")
        names = {known.address for known in wanted}
        for group in sorted({known.group for known in wanted if known.group is not None}):
            self._check_group(group, names)
            owner = self._owner(group)
            if owner not in (None, 0, uid):
                members = ", ".join(known.address for known in wanted if known.group == group)
                raise WrongState(f"{members} is given to another virtual machine, which runs")
        for known in wanted:
            found = [] if known.driver == _DRIVER else await self.uses(known.address)
            if found:
                raise WrongState(f"{_who(known)} is in use by this host: {'; '.join(found)}")
        return wanted

    def _check_group(self, group: int, wanted: Collection[str]) -> None:
        others = [
            known for known in pci.group_members(group, self.sysfs) if known.address not in wanted and not known.bridge
        ]
        if others:
            shown = ", ".join(map(_who, others))
            given = ", ".join(sorted(wanted))
            raise WrongState(
                f"IOMMU group {group} of {given} is shared with {shown}: all of a group must be given to the same "
                "virtual machine. Give them together, or put the card into another slot."
            )

    def _owner(self, group: int) -> int | None:
        try:
            return (self.dev / "vfio" / str(group)).stat().st_uid
        except FileNotFoundError:
            return None

    async def acquire(self, addresses: Collection[str], uid: int) -> list[Held]:
        """Bind the functions to vfio-pci and let `uid` open them. What they are already is left as it is.

        Raises what `plan` raises, and HostFailure when the kernel refuses; nothing has changed then.
        """
        async with self.lock:
            return await self._acquire(addresses, uid)

    async def _acquire(self, addresses: Collection[str], uid: int) -> list[Held]:
        wanted = await self.plan(addresses, uid)
        if any(known.driver != _DRIVER for known in wanted):
            await _load_module()
        with contextlib.ExitStack() as undo:
            for known in wanted:
                if known.driver != _DRIVER:
                    undo.callback(self._undo, known.address)
                    with _told(known.address):
                        await asyncio.to_thread(self._take, known)
            held = [self._held(known) for known in wanted]
            for group in {one.group: one for one in held}.values():
                before = await self._await_node(group.node)
                undo.callback(os.chown, group.node, before, -1)
                os.chown(group.node, uid, -1)
            undo.pop_all()
        return held

    async def release(self, addresses: Collection[str], uid: int | None = None) -> None:
        """Give the functions back to the drivers they had. What is not held, or not there, is left as it is.

        A mediated device, named by its folder in sysfs, is removed.
        With `uid`, so is what another one holds. No process may have them open any more: the kernel waits for it.
        Raises HostFailure when the kernel refuses; the others are released nevertheless.
        """
        async with self.lock:
            await self._release(addresses, uid)

    async def _release(self, addresses: Collection[str], uid: int | None) -> None:
        failures: list[str] = []
        for address in dict.fromkeys(addresses):
            if address.startswith("/"):
                await self.remove_mdev(Path(address).name)
                continue
            try:
                known = pci.device(address, self.sysfs)
            except NotFound:
                self._mark(address).unlink(missing_ok=True)
                continue
            if uid is not None and known.group is not None and self._owner(known.group) not in (None, 0, uid):
                continue
            try:
                if known.group is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.chown(self.dev / "vfio" / str(known.group), 0, -1)
                with _told(address):
                    await asyncio.to_thread(self._give_back, known.address)
            except HostFailure as error:
                failures.append(str(error))
        with contextlib.suppress(OSError):
            self.marks.rmdir()
        if failures:
            raise HostFailure("; ".join(failures))

    def holds(self) -> list[str]:
        """The addresses of the functions that were acquired and not released, whoever did it."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in self.marks.iterdir())
        return []

    def _held(self, known: PciDevice) -> Held:
        group = known.group if known.group is not None else -1
        return Held(known.address, group, self.dev / "vfio" / str(group))

    def _take(self, known: PciDevice) -> None:
        folder = self._folder(known.address)
        self.marks.mkdir(mode=0o700, exist_ok=True)
        self._mark(known.address).write_text(known.driver or "")
        self.write(folder / "driver_override", _DRIVER)
        if known.driver is not None:
            self.write(folder / "driver/unbind", known.address)
        self.write(self.sysfs / "bus/pci/drivers_probe", known.address)
        bound = pci.device(known.address, self.sysfs).driver
        if bound != _DRIVER:
            raise HostFailure(f"the kernel gave it to {bound or 'no driver'} instead of {_DRIVER}")

    def _give_back(self, address: str) -> None:
        mark = self._mark(address)
        if not mark.exists():
            return
        folder = self._folder(address)
        former = mark.read_text()
        # An empty line takes the override away: any driver that knows the device may have it again.
        self.write(folder / "driver_override", "\n")
        if pci.device(address, self.sysfs).driver == _DRIVER:
            self.write(folder / "driver/unbind", address)
        if former:
            self.write(self.sysfs / "bus/pci/drivers_probe", address)
        mark.unlink(missing_ok=True)

    def _undo(self, address: str) -> None:
        with contextlib.suppress(OSError):  # what was refused first is what the user gets to read
            self._give_back(address)

    async def _await_node(self, node: Path) -> int:
        """Wait for the device file, which devtmpfs makes; returns its owner."""
        deadline = asyncio.get_running_loop().time() + _NODE_DEADLINE
        while True:
            try:
                return node.stat().st_uid
            except FileNotFoundError:
                if asyncio.get_running_loop().time() > deadline:
                    raise HostFailure(f"the kernel made no {node}") from None
            await asyncio.sleep(0.02)

    # mediated devices

    async def create_mdev(self, address: str, kind: str, uuid: str, uid: int) -> Path:
        """Make a mediated device of a function, for `uid` to open; returns its folder in sysfs.

        One with this UUID that is of this kind already is taken as it is. Raises NotFound for a kind that the function
        does not offer, WrongState when no more of it can be made, HostFailure when the kernel refuses.
        """
        uuid = str(uuids.UUID(uuid))
        parent = pci.device(address, self.sysfs)
        folder = self.mdev_path(uuid)
        if not folder.exists():
            known = next((one for one in pci.mdev_types(address, self.sysfs) if one.type == kind), None)
            if known is None:
                raise NotFound(f"no such kind of mediated device: {_who(parent)} offers no '{kind[:80]}'")
            if known.available == 0:
                raise WrongState(f"{_who(parent)} has no '{kind}' left to give")
            create = self._folder(parent.address) / "mdev_supported_types" / known.type / "create"
            with _told(parent.address):
                await asyncio.to_thread(self.write, create, uuid)
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove_mdev, uuid)
            group = (folder / "iommu_group").readlink().name
            await self._await_node(self.dev / "vfio" / group)
            os.chown(self.dev / "vfio" / group, uid, -1)
            undo.pop_all()
        return folder

    async def remove_mdev(self, uuid: str) -> None:
        """Remove a mediated device; one that is not there is no fault. Raises HostFailure when the kernel refuses."""
        uuid = str(uuids.UUID(uuid))
        with _told(uuid):
            await asyncio.to_thread(self._remove_mdev, uuid)

    def _remove_mdev(self, uuid: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.write(self.mdev_path(uuid) / "remove", "1")

    def mdev_path(self, uuid: str) -> Path:
        """The folder in sysfs of the mediated device with this UUID, whether it is there or not."""
        return self.sysfs / "bus/mdev/devices" / uuid

    def _folder(self, address: str) -> Path:
        return self.sysfs / "bus/pci/devices" / pci.normalize(address)

    def _mark(self, address: str) -> Path:
        return self.marks / pci.normalize(address)


def _who(known: PciDevice) -> str:
    return pci.describe(known)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Say which device the kernel refused."""
    try:
        yield
    except (OSError, HostFailure) as error:
        raise HostFailure(f"{what} cannot change its driver: {getattr(error, 'strerror', None) or error}") from error


_HERE = Vfio()
acquire = _HERE.acquire
release = _HERE.release
holds = _HERE.holds
plan = _HERE.plan
create_mdev = _HERE.create_mdev
remove_mdev = _HERE.remove_mdev
mdev_path = _HERE.mdev_path
