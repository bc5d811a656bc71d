"""`/architect/install`: a catalog entry's recipe, run in a guest."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from bastide.api.execute import BY_AGENT, GuestName
from bastide.api.lists import find_guest
from bastide.api.routing import Branch, Call
from bastide.base.errors import PermissionDenied
from bastide.model.record import Record
from bastide.operations.architect import install
from bastide.operations.architect.catalog import load

branch = Branch("/architect/install")


class Install(Record):
    """Which service becomes of which guest. `catalog` is a folder of the host's with further entries."""

    guest: GuestName
    service: Annotated[str, Field(min_length=1, max_length=80)]
    catalog: Annotated[str | None, Field(pattern=r"^/", max_length=4096)] = None


@branch.post("", Install, user="all")
async def install_service(call: Call, p: Install) -> str:
    """Install a service of the catalog in a running guest, as a task that ends when the service answers.

    It needs what running commands in that guest needs: VM.Console, or VM.GuestAgent.Unrestricted for a VM. `catalog`
    names a folder of the host's and is root@pam's alone.
    """
    guest = await find_guest(call, p.guest)
    await call.require(f"/vms/{guest.vmid}", BY_AGENT if guest.kind == "qemu" else "VM.Console")
    if p.catalog is not None and not call.is_root:
        raise PermissionDenied("Permission check failed (only root@pam may name a folder of the host)")
    catalog = await load(call.rooms, Path(p.catalog) if p.catalog is not None else None)
    return str(await install.install_task(call.rooms, call.identity, guest, catalog.find(p.service)))
