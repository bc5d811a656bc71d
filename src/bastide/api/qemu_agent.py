"""`/nodes/{node}/qemu/{vmid}/agent`: what a VM's agent is asked."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from bastide.api.fields import GuestPath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call
from bastide.base.errors import InvalidParameter
from bastide.model.audit import Bulk, Secret
from bastide.model.record import ANY_TEXT
from bastide.operations.vm import agent

branch = Branch("/nodes/{node}/qemu/{vmid}/agent")

Command = Literal[
    "fsfreeze-freeze", "fsfreeze-status", "fsfreeze-thaw", "fstrim", "get-fsinfo", "get-host-name",
    "get-memory-block-info", "get-memory-blocks", "get-osinfo", "get-time", "get-timezone", "get-users", "get-vcpus",
    "info", "network-get-interfaces", "ping", "shutdown", "suspend-disk", "suspend-hybrid", "suspend-ram",
]  # fmt: skip
_READ_LIMIT = 16 * 1024 * 1024
_SLOW_SECONDS = 120.0

_UNRESTRICTED = "VM.GuestAgent.Unrestricted"
_AUDIT = ("perm", "/vms/{vmid}", ("VM.GuestAgent.Audit", _UNRESTRICTED), "any", 1)
_FILESYSTEM = ("perm", "/vms/{vmid}", ("VM.GuestAgent.FileSystemMgmt", _UNRESTRICTED), "any", 1)
_LOOK_AT_FILESYSTEM = (
    "perm", "/vms/{vmid}", ("VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt", _UNRESTRICTED), "any", 1,
)  # fmt: skip
_POWER = ("perm", "/vms/{vmid}", ("VM.PowerMgmt", _UNRESTRICTED), "any", 1)
_ALL = ("perm", "/vms/{vmid}", (_UNRESTRICTED,))
_READ = ("perm", "/vms/{vmid}", ("VM.GuestAgent.FileRead", _UNRESTRICTED), "any", 1)
_WRITE = ("perm", "/vms/{vmid}", ("VM.GuestAgent.FileWrite", _UNRESTRICTED), "any", 1)
# The reference names it twice.
_ANY_COMMAND = ("perm", "/vms/{vmid}", (_UNRESTRICTED, _UNRESTRICTED), "any", 1)

_POSTED: Mapping[Command, tuple[Any, ...]] = MappingProxyType(
    {
        "fsfreeze-freeze": _FILESYSTEM,
        "fsfreeze-status": _LOOK_AT_FILESYSTEM,
        "fsfreeze-thaw": _FILESYSTEM,
        "fstrim": _FILESYSTEM,
        "ping": _AUDIT,
        "shutdown": _POWER,
        "suspend-disk": _POWER,
        "suspend-hybrid": _POWER,
        "suspend-ram": _POWER,
    }
)
"""The commands that change something, and `ping`; the others only look and are GETs."""

FilePath = Annotated[str, Field(min_length=1, max_length=4096)]


class AnyCommand(GuestPath):
    """A command of the agent's without arguments."""

    command: Command


class Exec(GuestPath):
    """A program with its arguments, and what it reads."""

    command: Annotated[
        list[Annotated[str, Field(max_length=65536)]], Field(min_length=1, max_length=1024), ANY_TEXT, Bulk()
    ]
    input_data: Annotated[str | None, Field(alias="input-data", max_length=65536), ANY_TEXT, Bulk()] = None


class ExecStatus(GuestPath):
    """A program that `exec` started."""

    pid: Annotated[int, Field(ge=0)]


class FileRead(GuestPath):
    """A file in the guest, and which bytes of it; `decode` unset or on: as they are, off: in base64."""

    file: FilePath
    offset: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1, le=_READ_LIMIT)] = _READ_LIMIT
    decode: bool = True


class FileWrite(GuestPath):
    """A file in the guest and what it shall hold; with `encode` off the content is base64 already."""

    file: FilePath
    content: Annotated[str, Field(max_length=61440), ANY_TEXT, Bulk()]
    encode: bool = True


class SetPassword(GuestPath):
    """A user in the guest and their new password; `crypted`: it is hashed already."""

    username: Annotated[str, Field(min_length=1, max_length=256)]
    password: Annotated[str, Field(min_length=5, max_length=1024, repr=False), Secret()]
    crypted: bool = False


@branch.get("", GuestPath, user="all")
async def read_index(_call: Call, _p: GuestPath) -> list[dict[str, str]]:
    """Directory index."""
    return index("name", *sorted([*get_args(Command), "exec", "exec-status", "file-read", "file-write",
                                  "set-user-password"]))  # fmt: skip


@branch.post("", AnyCommand, check=_ANY_COMMAND)
async def run_any_command(call: Call, p: AnyCommand) -> dict[str, Any]:
    """Run one of the commands that have no arguments."""
    return await _result(call, p.vmid, p.command)


@branch.post("/exec", Exec, check=_ALL)
async def start_program(call: Call, p: Exec) -> dict[str, int]:
    """Start a program in the guest; `exec-status` tells what became of it."""
    data = None if p.input_data is None else p.input_data.encode()
    return {"pid": await agent.execute(call.rooms, p.vmid, p.command, data)}


@branch.get("/exec-status", ExecStatus, check=_ALL)
async def read_program(call: Call, p: ExecStatus) -> dict[str, Any]:
    """What a program in the guest has written, and how it ended. The agent forgets it once it has told the end."""
    return await agent.execute_status(call.rooms, p.vmid, p.pid)


@branch.get("/file-read", FileRead, check=_READ, event="read")
async def read_file(call: Call, p: FileRead) -> dict[str, Any]:
    """Read a file in the guest, at most 16 MiB at once; its bytes are characters up to U+00FF."""
    row = await agent.read_file(call.rooms, p.vmid, p.file, offset=p.offset, count=p.count)
    if p.decode:
        return row
    return {**row, "content": base64.b64encode(row["content"].encode("latin-1")).decode()}


@branch.post("/file-write", FileWrite, check=_WRITE)
async def write_file(call: Call, p: FileWrite) -> None:
    """Write a file in the guest."""
    if p.encode:
        content = p.content.encode()
    else:
        try:
            content = base64.b64decode("".join(p.content.split()), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidParameter({"content": "is not base64"}) from None
    await agent.write_file(call.rooms, p.vmid, p.file, content)


@branch.post("/set-user-password", SetPassword, check=_ALL)
async def set_password(call: Call, p: SetPassword) -> dict[str, Any]:
    """Set the password of a user in the guest."""
    await agent.set_password(call.rooms, p.vmid, p.username, p.password, crypted=p.crypted)
    return {"result": {}}


def _declare(command: Command) -> None:
    async def run(call: Call, p: GuestPath) -> dict[str, Any]:
        return await _result(call, p.vmid, command)

    run.__doc__ = f"Run the agent's command `{command}`."
    if command in _POSTED:
        branch.post(f"/{command}", GuestPath, check=_POSTED[command])(run)
    else:
        branch.get(f"/{command}", GuestPath, check=_AUDIT)(run)


for _command in get_args(Command):
    _declare(_command)


async def _result(call: Call, vmid: int, command: Command) -> dict[str, Any]:
    own = _OWN.get(command)
    if own is not None:
        return {"result": await own(call, vmid)}
    if _POSTED.get(command) is _POWER:
        await agent.tell(call.rooms, vmid, f"guest-{command}")
        return {"result": {}}
    return {"result": await agent.ask(call.rooms, vmid, f"guest-{command}")}


async def _freeze(call: Call, vmid: int) -> Any:
    return await agent.freeze(call.rooms, vmid)


async def _thaw(call: Call, vmid: int) -> Any:
    return await agent.thaw(call.rooms, vmid)


async def _trim(call: Call, vmid: int) -> Any:
    return await agent.ask(call.rooms, vmid, "guest-fstrim", deadline=_SLOW_SECONDS)


_OWN: Mapping[Command, Callable[[Call, int], Awaitable[Any]]] = MappingProxyType(
    {"fsfreeze-freeze": _freeze, "fsfreeze-thaw": _thaw, "fstrim": _trim}
)
