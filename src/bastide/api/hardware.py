"""`/nodes/{node}/hardware`: the devices that could be given to guests."""

import asyncio
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bastide.api.fields import NodePath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call
from bastide.api.shapes_hardware import MdevRow, PciRow, UsbRow
from bastide.base.errors import NotFound
from bastide.host import pci, usb
from bastide.model.types import split_list

branch = Branch("/nodes/{node}/hardware")

_CLASS = re.compile(r"[0-9a-fA-F]{2,6}", re.ASCII)
_NO_GROUP = -1


def _classes(text: str) -> str:
    for part in split_list(text):
        if _CLASS.fullmatch(part) is None:
            raise ValueError(f"'{part[:20]}' is not the beginning of a PCI class in hex, such as 06")
    return text


class PciQuery(NodePath):
    """Which PCI devices: without those whose class begins with one of a list, and how much of each."""

    pci_class_blacklist: Annotated[
        str, Field(alias="pci-class-blacklist", max_length=512), AfterValidator(_classes)
    ] = "05;06;0b"
    verbose: bool = True


class PciPath(NodePath):
    """One PCI device, by its address or by the name of a mapping."""

    pci_id_or_mapping: Annotated[
        str,
        Field(
            alias="pci-id-or-mapping",
            max_length=128,
            pattern=r"^(?:(?:(?:[0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-9a-fA-F])|([a-zA-Z][a-zA-Z0-9_-]+))$",
        ),
    ]


@branch.get("", NodePath, user="all")
async def read_index(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """Kinds of hardware."""
    return index("type", "pci", "usb")


@branch.get("/pci", PciQuery, check=("perm", "/", ("Sys.Audit", "Sys.Modify"), "any", 1), answer=list[PciRow])
async def list_pci(_call: Call, p: PciQuery) -> list[dict[str, Any]]:
    """The PCI devices of the machine."""
    hidden = tuple(part.lower() for part in split_list(p.pci_class_blacklist))
    found = await asyncio.to_thread(pci.devices)
    shown = [known for known in found if not f"{known.device_class:06x}".startswith(hidden)]
    if not p.verbose:
        return [{"id": known.address} for known in shown]
    names = await asyncio.to_thread(pci.names_of_ids)
    return [_row(known, names) for known in shown]


@branch.get("/pci/{pci-id-or-mapping}", PciPath, user="all")
async def read_pci_index(_call: Call, _p: PciPath) -> list[dict[str, str]]:
    """What can be asked of a PCI device."""
    return index("method", "mdev")


@branch.get(
    "/pci/{pci-id-or-mapping}/mdev",
    PciPath,
    check=("perm", "/", ("Sys.Audit", "Sys.Modify"), "any", 1),
    answer=list[MdevRow],
)
async def list_mdev(_call: Call, p: PciPath) -> list[dict[str, Any]]:
    """The kinds of mediated devices that a PCI device offers."""
    if ":" not in p.pci_id_or_mapping:
        raise NotFound(f"pci mapping '{p.pci_id_or_mapping}' does not exist")
    rows: list[dict[str, Any]] = []
    for kind in await asyncio.to_thread(pci.mdev_types, p.pci_id_or_mapping):
        row: dict[str, Any] = {"type": kind.type, "available": kind.available, "description": kind.description}
        rows.append(row if kind.name is None else {**row, "name": kind.name})
    return rows


@branch.get("/usb", NodePath, check=("perm", "/", ("Sys.Modify",)), answer=list[UsbRow])
async def list_usb(_call: Call, _p: NodePath) -> list[dict[str, Any]]:
    """The USB devices of the machine, root hubs included."""
    return [_usb_row(known) for known in await asyncio.to_thread(usb.devices)]


def _row(known: pci.PciDevice, names: pci.Names) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": known.address,
        "class": f"0x{known.device_class:06x}",
        "vendor": f"0x{known.vendor:04x}",
        "device": f"0x{known.device:04x}",
        "iommugroup": _NO_GROUP if known.group is None else known.group,
    }
    if known.mdev:
        row["mdev"] = True
    if known.subsystem_vendor:
        row["subsystem_vendor"] = f"0x{known.subsystem_vendor:04x}"
        row["subsystem_device"] = f"0x{known.subsystem_device:04x}"
    subsystem = known.vendor, known.device, known.subsystem_vendor, known.subsystem_device
    named = {
        "vendor_name": names.vendors.get(known.vendor),
        "device_name": names.devices.get((known.vendor, known.device)),
        "subsystem_vendor_name": names.vendors.get(known.subsystem_vendor),
        "subsystem_device_name": names.subsystems.get(subsystem),
    }
    return row | {key: value for key, value in named.items() if value is not None}


def _usb_row(known: usb.UsbDevice) -> dict[str, Any]:
    row: dict[str, Any] = {
        "busnum": known.bus,
        "devnum": known.number,
        "class": known.device_class,
        "vendid": f"{known.vendor:04x}",
        "prodid": f"{known.device:04x}",
        "speed": known.speed,
        "level": known.level,
        "port": known.port,
    }
    told = {
        "usbpath": known.ports or None,
        "product": known.product,
        "manufacturer": known.manufacturer,
        "serial": known.serial,
    }
    return row | {key: value for key, value in told.items() if value is not None}
