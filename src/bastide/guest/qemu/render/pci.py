"""Where devices sit on the VM's PCI buses. An address depends on the device's key alone, so that none ever moves.

Guests name network cards by their slot, and Windows activates itself again when hardware moves.

* i440fx: what is always cold sits on `pci.0`, so do the first of the others; the rest sits on three bridges, `pci.2` to
  `pci.4`, that are always there, so that any slot can be plugged. Cards `net0` to `net5` are at slots 18 to 23, as in
  Proxmox VE: a Linux guest that came from there finds its `ens18` again.
* q35: the first network cards, SCSI controllers and virtio disks have PCI Express root ports of their own (`pcie.1` to
  `pcie.16`). The rest sits behind a bridge to PCI, `pci.1`, and three below it. Root ports of passed devices come last:
  the number of a bus counts the bridges before it.
"""

from bastide.guest.qemu.render.base import Properties, is_q35
from bastide.guest.vm_protocol import VmPlan

_ROOT = 1  # the bus that i440fx calls pci.0 and q35 pci.1
_FIXED = {
    "vga": 2, "balloon0": 3, "watchdog0": 4, "ahci0": 7, "vserial0": 8, "rng0": 9,
    "audio0": 24, "ivshmem0": 25, "xhci": 26, "viommu0": 27,
}  # fmt: skip
"""Slots of what cannot be plugged, on the machine's own bus."""

_RANGES: tuple[tuple[str, int, int, int, int], ...] = (
    # stem, first index, how many, bus, first slot
    ("scsihw", 0, 2, _ROOT, 5),
    ("virtio", 0, 6, _ROOT, 10),
    ("hostpci", 0, 2, _ROOT, 16),
    ("net", 0, 6, _ROOT, 18),
    ("net", 6, 26, 2, 1),
    ("virtio", 6, 10, 3, 1),
    ("hostpci", 2, 14, 3, 11),
    ("vga", 1, 3, 3, 25),
    ("scsihw", 2, 29, 4, 1),
)
_SLOTS = {
    f"{stem}{first + number}": (bus, slot + number)
    for stem, first, count, bus, slot in _RANGES
    for number in range(count)
}
_PORTS = {
    key: number
    for number, key in enumerate(
        [f"net{n}" for n in range(8)] + [f"scsihw{n}" for n in range(4)] + [f"virtio{n}" for n in range(4)], 1
    )
}
_BRIDGES = {2: 0x1D, 3: 0x1E, 4: 0x1F}
_PORTS_SLOT = 0x10
_PCI_BRIDGE_SLOT = 0x12
_PASSED_SLOT = 0x13
_FUNCTIONS = 8


def address(plan: VmPlan, key: str, *, express: bool = True) -> Properties:
    """`bus` and `addr` of a device. `express` is whether it is a PCI Express device where the machine offers that."""
    q35 = is_q35(plan)
    if key in _FIXED:
        return {"bus": "pcie.0" if q35 else "pci.0", "addr": hex(_FIXED[key])}
    if q35 and express and key in _PORTS:
        return {"bus": f"pcie.{_PORTS[key]}", "addr": "0x0"}
    bus, slot = _SLOTS[key]
    name = "pci.0" if bus == _ROOT and not q35 else f"pci.{bus}"
    return {"bus": name, "addr": hex(slot)}


def passed_address(plan: VmPlan, index: int, *, express: bool) -> Properties:
    """`bus` and `addr` of `hostpci<index>`; an express one has a root port of its own."""
    if express:
        return {"bus": f"pcie.hostpci{index}", "addr": "0x0"}
    return address(plan, f"hostpci{index}", express=False)


def bridges(plan: VmPlan) -> list[Properties]:
    """The bridges and root ports that every VM has, and the ports of its passed devices."""
    below = "pci.1" if is_q35(plan) else "pci.0"
    conventional: list[Properties] = [
        {"driver": "pci-bridge", "id": f"pci.{number}", "bus": below, "addr": hex(slot), "chassis_nr": number}
        for number, slot in _BRIDGES.items()
    ]
    if not is_q35(plan):
        return conventional
    ports = [_port(f"pcie.{number}", _PORTS_SLOT, number - 1, chassis=number) for number in _PORTS.values()]
    bridge = {"driver": "pcie-pci-bridge", "id": "pci.1", "bus": "pcie.0", "addr": hex(_PCI_BRIDGE_SLOT)}
    return [*ports, bridge, *conventional, *_passed_ports(plan)]


def _passed_ports(plan: VmPlan) -> list[Properties]:
    wanted = [index for index, options in plan.config.hostpci.items() if options.pcie]
    # A guest looks at a slot's other functions only when there is a function 0.
    return [
        _port(f"pcie.hostpci{index}", _PASSED_SLOT, index, chassis=32 + index)
        for index in range(max(wanted, default=-1) + 1)
    ]


def _port(name: str, slot: int, number: int, *, chassis: int) -> Properties:
    function = number % _FUNCTIONS
    port: Properties = {
        "driver": "pcie-root-port",
        "id": name,
        "bus": "pcie.0",
        "addr": f"{slot + number // _FUNCTIONS:#x}.{function}",
        "chassis": chassis,
    }
    return {**port, "multifunction": True} if function == 0 else port
