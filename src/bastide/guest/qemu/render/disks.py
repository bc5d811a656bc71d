"""Drives: the image that QEMU was handed, the drive that the guest sees, the controller between, and rates.

An image is a node, `drive-<name>`, with a driver of its own over `file-<name>`, and so is each image that it builds on
(`<name>.1`, `<name>.2` ...): QEMU never probes, and never opens a file that an image's header names. The name is the
drive's key, and `<key>-<token>` for a copy that the guest was switched to while it ran. The device is `<key>`.
Sources: QEMU's QMP reference (BlockdevOptions, block_set_io_throttle), qm.conf(5).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from bastide.base.units import MIB
from bastide.guest.qemu.launch import Need
from bastide.guest.qemu.render.base import Properties, invalid, is_q35, unsupported
from bastide.guest.qemu.render.pci import address
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host.disk_image import links
from bastide.model.storage import DiskImage
from bastide.model.vm_disks import Drive, IdeDrive, SataDrive, ScsiDrive, VirtioDrive

_CONTROLLERS: Mapping[str, str] = {
    "lsi": "lsi53c895a", "lsi53c810": "lsi53c810", "virtio-scsi-pci": "virtio-scsi-pci",
    "virtio-scsi-single": "virtio-scsi-pci", "megasas": "megasas", "pvscsi": "pvscsi",
}  # fmt: skip
_LSI_DRIVES = 7  # ids 0 to 6; 7 is the controller's own
_DIRECT = frozenset({None, "none", "directsync"})
_UNCACHED_WRITES = frozenset({"writethrough", "directsync"})
_RATES = ("bps", "iops")
_SIDES = ("", "_rd", "_wr")


def drives(plan: VmPlan) -> list[PlannedDisk]:
    """The drives that the guest sees: without EFI variables and TPM state."""
    return [disk for disk in plan.disks if isinstance(disk.options, Drive)]


def disk_needs(disk: PlannedDisk, token: str | None = None) -> list[Need]:
    """The image to open and what it builds on; none for a drive without a medium. Raises NotSupported for `snapshot`.

    `token` is what tells the copy of a running VM's disk from the disk itself.
    """
    if disk.path is None:
        return []
    if isinstance(disk.options, Drive) and disk.options.snapshot:
        raise unsupported(disk.key, "snapshot: a drive that forgets its changes is not built")
    found = []
    for number, image in enumerate(links(_image(disk))):
        read_only = reads_only(disk) or number > 0
        found.append(Need(_link(disk, token, number), "image", path=image.path, read_only=read_only, image=image))
    return found


def image_name(key: str, token: str | None = None) -> str:
    """What a drive's image is called: in QEMU's node `drive-<name>`, and as its descriptors' `opaque`."""
    return key if token is None else f"{key}-{token}"


def token_of(node: str, key: str) -> str | None:
    """The token in the name of a node of that drive's; None for the one that it was started with."""
    return node.removeprefix(f"drive-{image_name(key)}").removeprefix("-") or None


def reads_only(disk: PlannedDisk) -> bool:
    """Whether the guest cannot write to it."""
    options = disk.options
    asked = isinstance(options, (ScsiDrive, VirtioDrive)) and bool(options.ro)
    return disk.read_only or asked or (isinstance(options, Drive) and options.is_cdrom)


def disk_blockdev(
    plan: VmPlan,  # noqa: ARG001
    disk: PlannedDisk,
    fdsets: Sequence[int],
    token: str | None = None,
) -> Properties:
    """The node of a drive's image, for blockdev-add and -blockdev; `fdsets` has a descriptor set for each need.

    See `disk_needs`. A copy, which has a `token`, takes no space for zeros.
    """
    options = disk.options
    drive = options if isinstance(options, Drive) else None
    cache = drive.cache if drive is not None else "writeback"
    cdrom = drive is not None and drive.is_cdrom
    caching = {"direct": cache in _DIRECT and not cdrom, "no-flush": cache == "unsafe"}
    thin = token is not None or (drive is not None and drive.discard == "on")
    common: Properties = {"cache": caching, "discard": "unmap" if thin else "ignore"}
    zeroes = drive is not None and not cdrom and drive.detect_zeroes is not False and not reads_only(disk)
    node: Properties | None = None
    for number, image in reversed(list(enumerate(links(_image(disk))))):
        name = _link(disk, token, number)
        access: Properties = {"read-only": reads_only(disk) or number > 0, **common}
        file: Properties = {
            "driver": "host_device" if image.device else "file",
            "node-name": f"file-{name}",
            "filename": f"/dev/fdset/{fdsets[number]}",
            "aio": _aio(disk, drive, device=image.device, direct=caching["direct"]),
            **access,
        }
        above: Properties = {"driver": image.format, "node-name": f"drive-{name}", **access}
        if zeroes and not number:
            above["detect-zeroes"] = "unmap" if thin else "on"
        if image.format != "raw":
            above["backing"] = node
        node = {**above, "file": file}
    if node is not None and disk.key == "efidisk0" and disk.format == "raw" and disk.size:
        # A flash chip is as large as its image, and UEFI looks for its variables right below its code.
        node["size"] = disk.size
    return node or {}


def _image(disk: PlannedDisk) -> DiskImage:
    return DiskImage(disk.path or Path(), disk.format, disk.device, disk.backing)


def _link(disk: PlannedDisk, token: str | None, number: int) -> str:
    """The name of an image, or of the `number`th that it builds on."""
    return image_name(disk.key, token) + (f".{number}" if number else "")


def pflash_blockdev(fdset: int) -> Properties:
    """The node `drive-pflash0` of UEFI's code in descriptor set `fdset`."""
    file = {"driver": "file", "node-name": "file-pflash0", "filename": f"/dev/fdset/{fdset}", "read-only": True}
    return {"driver": "raw", "node-name": "drive-pflash0", "read-only": True, "file": file}


def disk_device(plan: VmPlan, disk: PlannedDisk, place: int | None = None) -> Properties:
    """The drive for device_add. `place` is its place in the boot order, None when it is not in it."""
    options = disk.options
    if isinstance(options, VirtioDrive):
        device = _virtio_device(plan, disk, options)
    elif isinstance(options, ScsiDrive):
        device = _scsi_device(plan, disk, options)
    elif isinstance(options, (IdeDrive, SataDrive)):
        device = _ide_device(plan, disk, options)
    else:
        raise invalid(disk.key, "it is no drive")
    device["id"] = disk.key
    if disk.path is not None:
        device["drive"] = f"drive-{disk.key}"
    if options.serial:
        device["serial"] = unquote(options.serial)
    if not options.is_cdrom:
        device |= {key: value for key in ("werror", "rerror") if (value := getattr(options, key)) is not None}
        if device["driver"] != "scsi-block":  # whose cache is the real device's
            device["write-cache"] = "off" if options.cache in _UNCACHED_WRITES else "on"
    if place is not None:
        device["bootindex"] = place
    return device


def disk_iothread(plan: VmPlan, disk: PlannedDisk) -> Properties | None:
    """The thread of a drive's own, `iothread-<key>`, for object-add; None when it shares QEMU's."""
    options = disk.options
    wanted = isinstance(options, (ScsiDrive, VirtioDrive)) and options.iothread
    if not wanted or (isinstance(options, ScsiDrive) and plan.config.scsihw != "virtio-scsi-single"):
        return None
    return {"qom-type": "iothread", "id": f"iothread-{disk.key}"}


def disk_controller(plan: VmPlan, disk: PlannedDisk) -> Properties | None:
    """The controller that a drive hangs on, None where the machine has it built in.

    Several drives may name the same one (`scsihw0`, `ahci0`). SCSI controllers can be plugged, `ahci0` cannot.
    """
    if isinstance(disk.options, SataDrive):
        return {"driver": "ahci", "id": "ahci0", **address(plan, "ahci0")}
    if not isinstance(disk.options, ScsiDrive):
        return None
    name, unit = _scsi_place(plan, disk)
    kind = plan.config.scsihw or "lsi"
    driver = _CONTROLLERS[kind]
    device: Properties = {"driver": driver, "id": name, **address(plan, name, express=driver == "virtio-scsi-pci")}
    thread = disk_iothread(plan, disk)
    if thread is not None:
        device["iothread"] = thread["id"]
    if kind == "virtio-scsi-single" and disk.options.queues is not None and unit == 0:
        device["num_queues"] = disk.options.queues
    return device


def controllers(plan: VmPlan) -> list[Properties]:
    """Every controller that the drives need, once."""
    found: dict[str, Properties] = {}
    for disk in drives(plan):
        controller = disk_controller(plan, disk)
        if controller is not None:
            found.setdefault(controller["id"], controller)
    return list(found.values())


def drive_id(key: str) -> str:
    """What QMP's block commands (`id`) and query-block (`qdev`) call a drive: a virtio one by the part that reads."""
    return f"/machine/peripheral/{key}/virtio-backend" if key.startswith("virtio") else key


def disk_limits(disk: PlannedDisk) -> Properties:
    """The arguments of block_set_io_throttle; rates of 0 are none. Raises InvalidParameter for impossible ones."""
    options = disk.options
    limits: Properties = {"id": drive_id(disk.key), **{f"{unit}{side}": 0 for unit in _RATES for side in _SIDES}}
    if not isinstance(options, Drive):
        return limits
    for side in _SIDES:
        for unit in _RATES:
            rate, burst, length = _rates(options, unit, side)
            limits[f"{unit}{side}"] = rate
            if burst and not 0 < rate <= burst:
                raise invalid(disk.key, f"the burst of {unit}{side} is less than its rate, or it has none")
            if burst:
                limits[f"{unit}{side}_max"] = burst
                if length is not None:
                    limits[f"{unit}{side}_max_length"] = length
    for unit in _RATES:
        if limits[unit] and (limits[f"{unit}_rd"] or limits[f"{unit}_wr"]):
            raise invalid(disk.key, f"{unit}: a total beside a rate of reading or writing")
    return limits


def is_limited(disk: PlannedDisk) -> bool:
    """Whether any rate is set; never for a drive without a medium, whose rates QEMU does not take."""
    return disk.path is not None and any(value for key, value in disk_limits(disk).items() if key != "id")


def _rates(options: Drive, unit: str, side: str) -> tuple[int, int, int | None]:
    """Rate, burst and its length in seconds. `mbps` is `bps` in MiB, and has the last word."""
    rate = getattr(options, f"{unit}{side}") or 0
    burst = (getattr(options, f"iops{side}_max") or 0) if unit == "iops" else 0
    if unit == "bps":
        rate = int((getattr(options, f"mbps{side}") or 0) * MIB) or rate
        burst = int((getattr(options, f"mbps{side}_max") or 0) * MIB)
    return rate, burst, getattr(options, f"{unit}{side}_max_length")


def _aio(disk: PlannedDisk, drive: Drive | None, *, device: bool, direct: bool) -> str:
    """The kernel's asynchronous I/O for devices; threads for files, where allocation would block it."""
    asked = drive.aio if drive is not None else None
    if asked == "native" and not direct:
        raise invalid(disk.key, "aio=native needs a cache that is none or directsync")
    return asked or ("native" if device and direct else "threads")


def _virtio_device(plan: VmPlan, disk: PlannedDisk, options: VirtioDrive) -> Properties:
    if disk.path is None:
        raise invalid(disk.key, "a virtio drive cannot be without a medium; use ide, sata or scsi")
    device = {"driver": "virtio-blk-pci", **address(plan, disk.key)}
    return {**device, "iothread": f"iothread-{disk.key}"} if options.iothread else device


def _scsi_device(plan: VmPlan, disk: PlannedDisk, options: ScsiDrive) -> Properties:
    controller, unit = _scsi_place(plan, disk)
    # What virtio-scsi takes as its 256 LUNs are other controllers' targets.
    virtio = _CONTROLLERS[plan.config.scsihw or "lsi"] == "virtio-scsi-pci"
    place: Properties = {"bus": f"{controller}.0", "scsi-id": 0 if virtio else unit, "lun": unit if virtio else 0}
    if virtio:
        place["channel"] = 0
    if options.is_cdrom:
        return {"driver": "scsi-cd", **place}
    if options.scsiblock:
        if not disk.device:
            raise invalid(disk.key, "scsiblock passes a SCSI device of the host's; this is none")
        return {"driver": "scsi-block", **place}
    # The name by which guests of Proxmox VE know it below /dev/disk/by-id.
    device = {"driver": "scsi-hd", **place, "device_id": f"drive-{disk.key}", **_identity(options)}
    device |= {key: value for key in ("vendor", "product") if (value := getattr(options, key))}
    return device


def _ide_device(plan: VmPlan, disk: PlannedDisk, options: IdeDrive | SataDrive) -> Properties:
    number = int(disk.key.removeprefix("ide").removeprefix("sata"))
    if isinstance(options, SataDrive):
        place: Properties = {"bus": f"ahci0.{number}"}
    elif is_q35(plan):
        place = {"bus": f"ide.{number}", "unit": 0}
    else:
        place = {"bus": f"ide.{number // 2}", "unit": number % 2}
    if options.is_cdrom:
        return {"driver": "ide-cd", **place}
    if disk.read_only:
        raise invalid(disk.key, "an IDE or SATA disk cannot be read only; use scsi or virtio")
    device = {"driver": "ide-hd", **place, **_identity(options)}
    if isinstance(options, IdeDrive) and options.model:
        device["model"] = unquote(options.model)
    return device


def _identity(options: IdeDrive | SataDrive | ScsiDrive) -> Properties:
    found: Properties = {"rotation_rate": 1} if options.ssd else {}
    return {**found, "wwn": int(options.wwn, 16)} if options.wwn is not None else found


def _scsi_place(plan: VmPlan, disk: PlannedDisk) -> tuple[str, int]:
    """The controller of a SCSI drive, and its number there."""
    number = int(disk.key.removeprefix("scsi"))
    kind = plan.config.scsihw or "lsi"
    if kind == "virtio-scsi-single":
        return f"scsihw{number}", 0
    if kind.startswith("lsi"):
        return f"scsihw{number // _LSI_DRIVES}", number % _LSI_DRIVES
    return "scsihw0", number
