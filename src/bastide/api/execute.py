"""`/bastide/guests/{guest}/exec`: a command in a guest over a WebSocket; see `operations/execute.py` for the frames."""

import contextlib
from typing import Annotated

from pydantic import Field

from bastide.api.allowed import Permit, while_allowed
from bastide.api.lists import find_guest
from bastide.api.routing import Branch, Call
from bastide.api.websocket import SocketChannel
from bastide.model.audit import Bulk, Secret
from bastide.model.guest import Guest
from bastide.model.record import ANY_TEXT, Record
from bastide.operations import execute
from bastide.operations.vm import execute as vm_execute

branch = Branch("/bastide/guests")

GuestName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
"""A guest's vmid or name."""

BY_AGENT = "VM.GuestAgent.Unrestricted"

Columns = Annotated[int, Field(ge=1, le=10_000)]


class Exec(Record):
    """A command, with a terminal (`tty`) of a size or with pipes. `env` are `NAME=VALUE`."""

    guest: GuestName
    command: Annotated[
        list[Annotated[str, Field(max_length=8192)]], Field(min_length=1, max_length=1024), ANY_TEXT, Bulk()
    ]
    env: Annotated[list[Annotated[str, Field(max_length=8192)]], Field(max_length=256), ANY_TEXT, Secret()] = Field(
        default_factory=list
    )
    cwd: Annotated[str | None, Field(max_length=4096)] = None
    tty: bool = False
    cols: Columns | None = None
    rows: Columns | None = None


async def guest_for_console(call: Call, name: str) -> Guest:
    """The guest of that vmid or name, if the caller may use its console. Raises NotFound, PermissionDenied."""
    guest = await find_guest(call, name)
    await call.require(f"/vms/{guest.vmid}", "VM.Console")
    return guest


def on_guest(call: Call, vmid: int, *privileges: str) -> Permit:
    """Asks whether the caller still has any of the privileges on a guest, for `while_allowed`."""
    return lambda: call.require(f"/vms/{vmid}", *privileges, any_of=True)


@branch.websocket("/{guest}/exec", Exec, user="all")
async def run_command(call: Call, p: Exec) -> None:
    """Run a command in the guest.

    A container's needs VM.Console. A VM's runs by its agent, which has no terminals, and needs
    VM.GuestAgent.Unrestricted: the agent is the guest's root, where a VM's console asks for a password.
    """
    guest = await find_guest(call, p.guest)
    privilege = BY_AGENT if guest.kind == "qemu" else "VM.Console"
    await call.require(f"/vms/{guest.vmid}", privilege)
    command = execute.command_of(p.command, p.env, p.cwd, tty=p.tty)
    terminal = execute.terminal_of(p.cols, p.rows) if p.tty else None
    channel = SocketChannel(call.websocket)
    if guest.kind == "qemu":
        by_agent = await vm_execute.execute(call.rooms, guest, command, terminal)
        await channel.accept()
        await while_allowed(call, on_guest(call, guest.vmid, privilege), by_agent.join(channel))
    else:
        with contextlib.closing(await execute.execute(call.rooms, guest, command, terminal)) as session:
            await channel.accept()
            await while_allowed(call, on_guest(call, guest.vmid, privilege), execute.join(session, channel))
    await channel.close()
