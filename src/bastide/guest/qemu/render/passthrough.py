"""The host's PCI devices and mediated devices in the VM (VFIO).

Source: QEMU's hw/vfio/pci.c and docs/igd-assign.txt; qm.conf(5), `hostpci[n]`.
"""

from collections.abc import Sequence

from bastide.guest.qemu.render.base import Properties, invalid, is_q35, unsupported
from bastide.guest.qemu.render.display import screen
from bastide.guest.qemu.render.pci import passed_address
from bastide.guest.vm_protocol import VmPlan
from bastide.model.vm_devices import HostPci

ROMS = "/usr/share/kvm"
"""Where `romfile` names a file."""

_FUNCTIONS = 8
_IDS = ("vendor_id", "device_id", "sub_vendor_id", "sub_device_id")


def passed_devices(plan: VmPlan, index: int, place: int | None = None) -> list[Properties]:
    """The functions of `hostpci<index>` (`hostpci0`, or `hostpci0.0`, `hostpci0.1` ...), in order."""
    options = plan.config.hostpci[index]
    sources = plan.pci.get(index, ())
    option = f"hostpci{index}"
    if not sources:
        raise invalid(option, "no device of the host's is named")
    if len(sources) > _FUNCTIONS:
        raise invalid(option, f"{len(sources)} functions do not fit into a slot")
    if options.pcie and not is_q35(plan):
        raise invalid(option, "pcie=1 needs a q35 machine")
    if options.legacy_igd:
        return [_legacy_graphics(plan, index, sources)]
    where = passed_address(plan, index, express=bool(options.pcie))
    found: list[Properties] = []
    for number, source in enumerate(sources):
        name = option if len(sources) == 1 else f"{option}.{number}"
        device: Properties = {"driver": "vfio-pci", **_source(source), "id": name, **where}
        device["addr"] = f"{where['addr']}.{number}"
        if number == 0:
            device |= {"multifunction": True} if len(sources) > 1 else {}
            device |= _first(options)
            device |= {"bootindex": place} if place is not None else {}
        if options.rombar is False:
            device["rombar"] = 0
        found.append(device)
    return found


def _first(options: HostPci) -> Properties:
    """What is told of the first function alone: its identity, its ROM, and that it is the screen."""
    found: Properties = {
        f"x-pci-{name.replace('_', '-')}": int(value, 16)
        for name in _IDS
        if (value := getattr(options, name)) is not None
    }
    if options.x_vga:
        found["x-vga"] = True
    if options.romfile is not None:
        if "/" in options.romfile:
            raise invalid("hostpci", f"romfile: a file's name in {ROMS}")
        found["romfile"] = f"{ROMS}/{options.romfile}"
    return found


def _legacy_graphics(plan: VmPlan, index: int, sources: Sequence[str]) -> Properties:
    option = f"hostpci{index}"
    if is_q35(plan):
        raise unsupported(option, "legacy-igd needs an i440fx machine")
    if screen(plan) != "none":
        raise invalid(option, "legacy-igd takes the place of the graphics card: set vga to none")
    device: Properties = {"driver": "vfio-pci", **_source(sources[0]), "id": option, "bus": "pci.0", "addr": "0x2"}
    return {**device, **_first(plan.config.hostpci[index])}


def _source(text: str) -> Properties:
    return {"sysfsdev": text} if text.startswith("/") else {"host": text}
