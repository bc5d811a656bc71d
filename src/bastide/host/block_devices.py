"""This machine's own disks: what they are and what uses them.

Loop, RAM, network and mapped devices are none: only what hangs on a bus is. Sources: sysfs(5), lsblk(8),
`Documentation/ABI/stable/sysfs-block`, udev(7) (its database under /run/udev/data), UEFI specification, table 5-7.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.host.run import run

DiskType = Literal["hdd", "ssd", "nvme", "usb", "unknown"]

SYSFS = Path("/sys")
PROC = Path("/proc")
_UDEV = Path("/run/udev/data")
# Without NAME lsblk shows no tree.
_COLUMNS = "NAME,KNAME,MAJ:MIN,TYPE,SIZE,RO,ROTA,TRAN,MODEL,SERIAL,VENDOR,WWN,FSTYPE,UUID,PTTYPE,PARTTYPE,MOUNTPOINTS"
_PART_TYPES = {
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI",
    "6a945a3b-1dd2-11b2-99a6-080020736631": "ZFS reserved",
}
_AMBIVALENT = 8  # blkid(8): several signatures at once
_SEVERAL = "several"
_MEMBERS = {
    "LVM2_member": "LVM",
    "zfs_member": "ZFS",
    "linux_raid_member": "RAID",
    "crypto_LUKS": "LUKS",
    "swap": "swap",
}
"""What libblkid calls parts of something larger, and what we call it."""


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A disk or one of its partitions. `size` in bytes, `number` is `major:minor`.

    `fstype` is what libblkid finds on it, `parttype` a partition's type (a UUID in a GPT). `holders` are the mapped
    devices over it, `mounts` where it is mounted (`[SWAP]`: swapped to). `rpm` is 0 without rotation, -1 when unknown.
    `links` are its other names below /dev.
    """

    path: str
    number: str
    size: int
    parent: str | None = None
    partitions: tuple["BlockDevice", ...] = ()
    holders: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    fstype: str | None = None
    uuid: str | None = None
    parttype: str | None = None
    gpt: bool = False
    read_only: bool = False
    type: DiskType = "unknown"
    rpm: int = -1
    model: str = "unknown"
    serial: str = "unknown"
    vendor: str = "unknown"
    wwn: str = "unknown"
    links: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """The kernel's name: `sda`."""
        return os.path.basename(self.path)

    @property
    def mounted(self) -> bool:
        """Whether it, or a partition of it, is mounted or swapped to."""
        return bool(self.mounts) or any(part.mounted for part in self.partitions)

    @property
    def used(self) -> str | None:
        """What it is used as, in Proxmox VE's words; None when free."""
        own = _MEMBERS.get(self.fstype or "", self.fstype) or _PART_TYPES.get((self.parttype or "").lower())
        if own is None and self.mounts:
            own = "mounted"
        if own is None and self.holders:
            own = "Device Mapper"
        return own or ("partitions" if self.partitions else None)

    @property
    def whole(self) -> Sequence["BlockDevice"]:
        """Itself and its partitions."""
        return (self, *self.partitions)


def is_disk(row: Mapping[str, Any], sysfs: Path = SYSFS) -> bool:
    """Whether a device of lsblk's is a disk of this machine: it hangs on a bus and holds a medium.

    What an iSCSI target lends (`.../session1/...`) belongs to a storage.
    """
    home = sysfs / "block" / os.path.basename(row["kname"])
    if row["type"] != "disk" or not row["size"] or not (home / "device").exists():
        return False
    return not any(part.startswith("session") for part in home.resolve().parts)


async def disks(*, probe: bool = False) -> list[BlockDevice]:
    """The disks, in order of their names. Raises HostFailure when a device does not answer within 30 s.

    With `probe` every device is read; else what udev keeps of it is believed, which lags behind a change.
    """
    done = await run(["lsblk", "--json", "--bytes", "--paths", "--output", _COLUMNS], deadline=30)
    known = parse_lsblk(done.stdout)
    # Where udev does not run, lsblk tells nothing of what is on a device.
    unread = [device.path for disk in known for device in disk.whole if probe or not _udev_file(device.number).exists()]
    found = dict(zip(unread, await asyncio.gather(*map(_probe, unread)), strict=True))
    return [replace(_with(disk, found), partitions=tuple(_with(p, found) for p in disk.partitions)) for disk in known]


async def _probe(path: str) -> dict[str, str] | None:
    # One device a call: blkid(8) ends at the first that holds nothing.
    probed = await run(["blkid", "--probe", "--output", "export", "--", path], deadline=30, check=False)
    if probed.stderr.strip():  # it cannot be read: what is known of it stays
        return None
    return {"TYPE": _SEVERAL} if probed.code == _AMBIVALENT else parse_blkid(probed.text)


def parse_blkid(text: str) -> dict[str, str]:
    """What `blkid --probe --output export` finds on a device: `TYPE`, `UUID`, `PTTYPE`, `PART_ENTRY_TYPE` ..."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value for key, equals, value in pairs if equals}


def _with(device: BlockDevice, found: Mapping[str, Mapping[str, str] | None]) -> BlockDevice:
    told = found.get(device.path)
    if told is None:
        return device
    return replace(
        device,
        fstype=told.get("TYPE"),
        uuid=told.get("UUID"),
        parttype=told.get("PART_ENTRY_TYPE", device.parttype),
        gpt=told.get("PTTYPE") == "gpt" and device.parent is None,
    )


def _udev_file(number: str, folder: Path = _UDEV) -> Path:
    return folder / f"b{number}"


def parse_lsblk(text: bytes | str) -> list[BlockDevice]:
    """Read what lsblk tells of all devices. Raises HostFailure when it is not its JSON."""
    try:
        rows = json.loads(text)["blockdevices"]
        return sorted((_disk(row) for row in rows if is_disk(row)), key=lambda disk: (len(disk.path), disk.path))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HostFailure(f"lsblk: its list of devices cannot be read: {error!r}") from None


def _disk(row: Mapping[str, Any]) -> BlockDevice:
    known = _device(row, None)
    facts = udev_facts(known.number)
    parts = tuple(_device(child, known.path) for child in row.get("children") or () if child.get("type") == "part")
    return replace(
        known,
        partitions=tuple(replace(part, links=udev_facts(part.number)[1]) for part in parts),
        type=_type(row),
        rpm=_rpm(row, facts[0]),
        links=facts[1],
        model=_word(row.get("model")),
        serial=_word(row.get("serial")),
        vendor=_word(row.get("vendor")),
        wwn=_word(row.get("wwn")),
    )


def _device(row: Mapping[str, Any], parent: str | None) -> BlockDevice:
    mounts = [where for where in row.get("mountpoints") or () if where]
    above = [child for child in row.get("children") or () if child.get("type") != "part"]
    return BlockDevice(
        path=str(row["kname"]),
        number=str(row["maj:min"]).strip(),
        size=int(row["size"] or 0),
        parent=parent,
        holders=tuple(str(child["kname"]) for child in above),
        mounts=tuple(map(str, mounts)),
        fstype=row.get("fstype"),
        uuid=row.get("uuid"),
        parttype=row.get("parttype"),
        gpt=row.get("pttype") == "gpt" and parent is None,
        read_only=bool(row.get("ro")),
    )


def _type(row: Mapping[str, Any]) -> DiskType:
    if row.get("tran") in ("usb", "nvme"):
        return "usb" if row["tran"] == "usb" else "nvme"
    if row.get("rota") is None:
        return "unknown"
    return "hdd" if row["rota"] else "ssd"


def _rpm(row: Mapping[str, Any], facts: Mapping[str, str]) -> int:
    told = facts.get("ID_ATA_ROTATION_RATE_RPM", "")
    if told.isascii() and told.isdigit():
        return int(told)
    return -1 if row.get("rota") in (None, True) else 0


def _word(value: object) -> str:
    return str(value or "").strip() or "unknown"


def udev_facts(number: str, folder: Path = _UDEV) -> tuple[dict[str, str], tuple[str, ...]]:
    """Properties and links (`/dev/disk/by-id/...`) that udev keeps of a block device; none where it does not run."""
    properties: dict[str, str] = {}
    links = []
    with contextlib.suppress(OSError):
        for line in _udev_file(number, folder).read_text(errors="replace").splitlines():
            kind, _, rest = line.partition(":")
            if kind == "E":
                key, _, value = rest.partition("=")
                properties[key] = value
            elif kind == "S":
                links.append(f"/dev/{rest}")
    return properties, tuple(sorted(links))


def find(known: Sequence[BlockDevice], path: str, parameter: str = "disk") -> tuple[BlockDevice, BlockDevice]:
    """The device of a name below /dev, links followed, and the disk it is on (or itself).

    Raises InvalidParameter naming `parameter` for what is no disk of this machine and no partition of one.
    """
    real = os.path.realpath(path)
    if path.startswith("/dev/"):
        for disk in known:
            for device in disk.whole:
                if device.path == real:
                    return device, disk
    raise InvalidParameter({parameter: f"'{path[:200]}' is no disk of this machine and no partition of one"})


def uses(device: BlockDevice) -> list[str]:
    """What keeps a device from being overwritten, each as the end of a sentence; empty when nothing.

    A file system that is not mounted keeps nothing: whether it is needed only its owner knows.
    """
    found = []
    for part in device.whole:
        found += [
            f"{part.path} is swapped to" if where == "[SWAP]" else f"{part.path} is mounted at {where}"
            for where in part.mounts
        ]
        found += [f"{part.path} is part of {holder}" for holder in part.holders]
        member = _MEMBERS.get(part.fstype or "")
        if member in ("LVM", "ZFS", "RAID") and not part.holders:
            found.append(f"{part.path} belongs to {_OWNERS[member]}")
    if device.read_only:
        found.append(f"{device.path} can only be read")
    return found


_OWNERS = {"LVM": "an LVM volume group", "ZFS": "a ZFS pool", "RAID": "a software RAID"}


def openers(devices: Sequence[BlockDevice], proc: Path = PROC) -> list[str]:
    """The processes that have one of the devices open, such as a VM it was given to: `qemu-system-x86 (4711)`.

    The names of descriptors are read, never what they lead to, which may be a file system that does not answer.
    """
    names = {device.name for device in devices}
    found = []
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        if pid != os.getpid() and not names.isdisjoint(_open_devices(proc / str(pid))):
            comm = ""
            with contextlib.suppress(OSError):
                comm = (proc / str(pid) / "comm").read_text(errors="replace").strip()
            found.append(f"{comm or 'a process'} ({pid})")
    return found


def _open_devices(process: Path) -> Iterator[str]:
    try:
        numbers = os.listdir(process / "fd")
    except OSError:
        return
    for number in numbers:
        with contextlib.suppress(OSError):
            target = os.readlink(process / "fd" / number)
            # A process in a root of its own may see the device in another folder than /dev.
            if "/dev/" in target or target.count("/") == 1:
                yield os.path.basename(target)
