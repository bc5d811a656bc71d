"""What a VM's options mean on this host, before anything is started. Pure."""

import re
from pathlib import Path

from bastide.base.errors import InvalidParameter, NotSupported
from bastide.guest.qemu.render.argv import refusals
from bastide.guest.qemu.render.machine import firmware
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host.qemu_facts import HostFacts
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Drive

_REVISION = re.compile(r"(\+pve\d+)?(\.pxe)?$", re.ASCII)
_NOWHERE = Path("/nonexistent")


def pin_machine(config: VmConfig, host: HostFacts) -> str:
    """The machine type with its version, such as `pc-q35-7.2`. Raises InvalidParameter naming `machine`."""
    asked = (config.machine.type if config.machine is not None else None) or "pc"
    name = _REVISION.sub("", asked)
    known = host.emulator.machine(name)
    # A bare `pc-7.2` is the older board's, as Proxmox VE writes it.
    if known is None and re.fullmatch(r"pc-\d+(\.\d+)+", name):
        known = host.emulator.machine(name.replace("pc-", "pc-i440fx-"))
    if known is None:
        newest = host.emulator.machine("q35")
        hint = f"; the newest are of version {newest.number}" if newest is not None else ""
        raise InvalidParameter({"machine": f"this host's QEMU has no machine '{asked}'{hint}"})
    return known.id


def check(config: VmConfig, host: HostFacts) -> None:
    """Raise InvalidParameter for options that this host's QEMU cannot fulfil."""
    found = refusals(_draft(config, pin_machine(config, host)), host)
    if found:
        raise InvalidParameter(found)


def efi_variables(config: VmConfig, host: HostFacts) -> Path:
    """The template of the EFI variables that `efidisk0` asks for. Raises NotSupported without the firmware."""
    ovmf = config.model_copy(update={"bios": "ovmf"})
    chosen = firmware(ovmf, host, q35=config.is_q35)
    if chosen is None:
        raise NotSupported("efidisk0: this host has no UEFI firmware")
    return chosen.variables


def _draft(config: VmConfig, machine: str) -> VmPlan:
    """A plan whose volumes, taps and devices exist in name only."""
    return VmPlan(
        vmid=100,
        name=config.name or "VM100",
        config=config,
        disks=[_disk(key, volume) for key, volume in config.volumes()],
        taps={index: f"tap100i{index}" for index in config.net},
        uid=1,
        machine=machine,
        uuid="00000000-0000-0000-0000-000000000000",
        pci={index: [f"0000:ff:{index:02x}.0"] for index in config.hostpci},
        bridge_mtu={index: 1500 for index, nic in config.net.items() if nic.mtu == 1},
    )


def _disk(key: str, volume: object) -> PlannedDisk:
    cdrom = isinstance(volume, Drive) and volume.is_cdrom
    empty = isinstance(volume, Drive) and volume.file == "none"
    return PlannedDisk(key, volume, None if empty else _NOWHERE / key, "raw", 1 << 30, read_only=cdrom)  # type: ignore[arg-type]
