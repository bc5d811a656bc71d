"""What cloud-init in a VM is told: `/nodes/{node}/qemu/{vmid}/cloudinit`, and full texts of one's own in line."""

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from bastide.api.execute import GuestName
from bastide.api.fields import GuestPath
from bastide.api.lists import find_guest
from bastide.api.routing import Branch, Call
from bastide.base.errors import InvalidParameter
from bastide.model.guest import Guest
from bastide.model.record import Multiline, Record
from bastide.operations.vm import cloudinit
from bastide.operations.vm.cloudinit import CloudInit

_AUDIT = ("perm", "/vms/{vmid}", ("VM.Audit",))
_CHANGE = "VM.Config.Cloudinit"

branch = Branch("")


class Dump(GuestPath):
    """Which of the texts."""

    type: Literal["user", "network", "meta"]


class GuestQuery(Record):
    """A guest by its vmid or its name."""

    guest: GuestName


_Data = Annotated[str | None, Field(max_length=128 * 1024), Multiline()]


class DataChange(GuestQuery):
    """Full texts for cloud-init; an empty one goes back to what the options make, an absent one stays."""

    user: _Data = None
    network: _Data = None
    vendor: _Data = None
    meta: _Data = None


@branch.get("/nodes/{node}/qemu/{vmid}/cloudinit", GuestPath, check=_AUDIT)
async def list_pending(call: Call, p: GuestPath) -> list[dict[str, Any]]:
    """The cloud-init options, with what the drive does not hold yet."""
    return [dict(row) for row in await cloudinit.rows(call.rooms, p.vmid)]


@branch.put("/nodes/{node}/qemu/{vmid}/cloudinit", GuestPath, check=("perm", "/vms/{vmid}", (_CHANGE,)))
async def regenerate(call: Call, p: GuestPath) -> None:
    """Write the configuration drive anew and change the medium."""
    await cloudinit.regenerate(call.rooms, call.identity, p.vmid)


@branch.get("/nodes/{node}/qemu/{vmid}/cloudinit/dump", Dump, check=_AUDIT)
async def dump(call: Call, p: Dump) -> str:
    """One of the texts that the guest is told."""
    return await cloudinit.dump(call.rooms, p.vmid, p.type)


@branch.get("/bastide/guests/{guest}/cloudinit", GuestQuery, user="all")
async def read_data(call: Call, p: GuestQuery) -> dict[str, Any]:
    """The full texts that were set, which may hold secrets: needs VM.Config.Cloudinit."""
    guest = await _guest(call, p.guest)
    data = await cloudinit.get_data(call.rooms, guest.vmid)
    return {name: text for name, text in asdict(data).items() if text is not None}


@branch.put("/bastide/guests/{guest}/cloudinit", DataChange, user="all")
async def change_data(call: Call, p: DataChange) -> None:
    """Set full user data, network configuration, vendor data and meta data. Needs VM.Config.Cloudinit.

    A container's are left in it at its next start.
    """
    guest = await _guest(call, p.guest)
    given = {name: text for name in ("user", "network", "vendor", "meta") if (text := getattr(p, name)) is not None}
    if not given:
        raise InvalidParameter({"user": "give user, network, vendor or meta"})
    if guest.kind == "lxc" and given.get("network"):
        raise InvalidParameter({"network": f"the network of {guest.title} is what its net options say"})
    present: CloudInit = await cloudinit.get_data(call.rooms, guest.vmid)
    await cloudinit.set_data(call.rooms, guest.vmid, replace(present, **{n: text or None for n, text in given.items()}))


async def _guest(call: Call, name: str) -> Guest:
    """The guest, if the caller may say what cloud-init does in it. Raises NotFound, PermissionDenied."""
    guest = await find_guest(call, name)
    await call.require(f"/vms/{guest.vmid}", _CHANGE)
    return guest
