"""USB: controllers, the host's devices, and devices of a SPICE client.

Guests that know it have one xHCI controller for everything: it needs no polling. Others have UHCI or EHCI, and xHCI
only beside it for what asks for USB 3. Source: QEMU's docs/usb2.txt and its manual.
"""

from collections.abc import Sequence

from bastide.guest.qemu.render.base import Properties, invalid, is_q35
from bastide.guest.qemu.render.pci import address
from bastide.guest.vm_protocol import VmPlan
from bastide.model.vm_devices import Usb

_KNOWS_XHCI = frozenset({"l26", "win8", "win10", "win11"})
_PORTS = 15
_TABLET_PORT = _PORTS
_COMPANIONS = ((0, 0), (1, 2), (2, 4))  # function of the slot, first port of it


def usb_controllers(plan: VmPlan) -> list[Properties]:
    """The controllers: `xhci`, or `uhci` (i440fx) or `ehci` (q35) and its companions."""
    modern = _modern(plan)
    found: list[Properties] = []
    if not modern:
        found += (
            _ehci() if is_q35(plan) else [{"driver": "piix3-usb-uhci", "id": "uhci", "bus": "pci.0", "addr": "0x1.2"}]
        )
    if modern or any(_wants_xhci(device) for device in plan.config.usb.values()):
        found.append({"driver": "qemu-xhci", "id": "xhci", "p2": _PORTS, "p3": _PORTS, **address(plan, "xhci")})
    return found


def pointer_bus(plan: VmPlan) -> Properties:
    """`bus` and `port` of the tablet."""
    if _modern(plan):
        return {"bus": "xhci.0", "port": str(_TABLET_PORT)}
    return {"bus": "ehci.0" if is_q35(plan) else "uhci.0", "port": "1"}


def usb_device(plan: VmPlan, index: int) -> Properties:
    """`usb<index>` for device_add. Raises InvalidParameter for a device that is named by nothing."""
    device = plan.config.usb[index]
    place = _bus(plan, index, device)
    host = (device.host or "").lower()
    if host == "spice":
        return {"driver": "usb-redir", "id": f"usb{index}", "chardev": f"usbredir{index}", **place}
    if ":" in host:
        vendor, product = (int(part, 16) for part in host.split(":"))
        return {"driver": "usb-host", "id": f"usb{index}", "vendorid": vendor, "productid": product, **place}
    bus, dash, port = host.partition("-")
    if not dash:
        raise invalid(f"usb{index}", "host: neither VENDOR:PRODUCT nor BUS-PORT nor spice")
    return {"driver": "usb-host", "id": f"usb{index}", "hostbus": int(bus), "hostport": port, **place}


def usb_chardevs(plan: VmPlan) -> Sequence[str]:
    """The ids of the channels to a SPICE client that redirected devices need."""
    return [
        f"usbredir{index}"
        for index, device in sorted(plan.config.usb.items())
        if (device.host or "").lower() == "spice"
    ]


def _bus(plan: VmPlan, index: int, device: Usb) -> Properties:
    if _modern(plan) or _wants_xhci(device):
        return {"bus": "xhci.0", "port": str(index + 1)}
    # The ports of UHCI and EHCI are few; QEMU puts in a hub when they run out.
    return {"bus": "ehci.0" if is_q35(plan) else "uhci.0"}


def _wants_xhci(device: Usb) -> bool:
    return bool(device.usb3) or (device.host or "").lower() == "spice"


def _modern(plan: VmPlan) -> bool:
    return plan.config.ostype in _KNOWS_XHCI


def _ehci() -> list[Properties]:
    master: Properties = {
        "driver": "ich9-usb-ehci1",
        "id": "ehci",
        "bus": "pcie.0",
        "addr": "0x1d.7",
        "multifunction": True,
    }
    return [
        master,
        *(
            {
                "driver": f"ich9-usb-uhci{function + 1}",
                "id": f"uhci{function}",
                "bus": "pcie.0",
                "addr": f"0x1d.{function}",
                "multifunction": True,
                "masterbus": "ehci.0",
                "firstport": port,
            }
            for function, port in _COMPANIONS
        ),
    ]
