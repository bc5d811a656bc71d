"""`/bastide/guests/{guest}/file`: one file into a guest or out of it, as a raw streamed body."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bastide.api.allowed import Watched, while_allowed
from bastide.api.execute import GuestName, on_guest
from bastide.api.lists import find_guest
from bastide.api.routing import Branch, Call
from bastide.base.errors import WrongState
from bastide.model.guest import Guest
from bastide.model.record import Record
from bastide.operations import files
from bastide.operations.vm import files as vm_files

branch = Branch("/bastide/guests")

GuestFile = Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)]
OwnerId = Annotated[int, Field(ge=0, le=2**31)]


class ReadFile(Record):
    """A file in a guest."""

    guest: GuestName
    path: GuestFile


class WriteFile(ReadFile):
    """A file to be written; the guest's ids, the mode in octal. What is not given stays, or is 0644 and root's."""

    mode: Annotated[str | None, Field(pattern=r"^[0-7]{3,4}$|^0[0-7]{4}$")] = None
    uid: OwnerId | None = None
    gid: OwnerId | None = None


class _Download(Response):
    """Streams a file and lets go of the guest afterwards, also when the client goes before the end."""

    def __init__(
        self, facts: files.FileFacts, content: AsyncIterator[bytes], holding: contextlib.AsyncExitStack
    ) -> None:
        self._content = content
        self._holding = holding
        known = {
            "content-length": facts.size,
            "x-bastide-mode": facts.mode,
            "x-bastide-uid": facts.uid,
            "x-bastide-gid": facts.gid,
        }
        super().__init__(
            media_type="application/octet-stream",
            headers={
                "content-disposition": "attachment",
                "cache-control": "no-store",
                **{name: str(value) for name, value in known.items() if value is not None},
            },
        )
        if facts.size is None:
            del self.headers["content-length"]  # the body's own, which is empty: the real one is streamed

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer. A file that ends early breaks the connection off, so that nobody takes the part for the whole."""
        async with self._holding:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in self._content:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@branch.get("/{guest}/file", ReadFile, user="all", raw=True, event="read")
async def read_file(call: Call, p: ReadFile) -> Response:
    """Read a file of the guest."""
    guest, needed = await _guest(call, p.guest, "VM.GuestAgent.FileRead")
    read = vm_files.read_file if guest.kind == "qemu" else files.read_file
    async with contextlib.AsyncExitStack() as stack:
        facts, content = await stack.enter_async_context(read(call.rooms, guest, p.path))
        return Watched(call, on_guest(call, guest.vmid, *needed), _Download(facts, content, stack.pop_all()))


@branch.put("/{guest}/file", WriteFile, user="all", raw=True)
async def write_file(call: Call, p: WriteFile) -> dict[str, Any]:
    """Write a file in the guest, whole or not at all."""
    guest, needed = await _guest(call, p.guest, "VM.GuestAgent.FileWrite")
    length = call.request.headers.get("content-length", "")
    new = files.Writing(
        mode=None if p.mode is None else int(p.mode, 8),
        uid=p.uid,
        gid=p.gid,
        size=int(length[:18]) if length.isdecimal() else None,
    )
    write = vm_files.write_file if guest.kind == "qemu" else files.write_file
    writing = write(call.rooms, guest, p.path, _body(call.request), new)
    facts = await while_allowed(call, on_guest(call, guest.vmid, *needed), writing)
    return {"size": facts.size, "mode": facts.mode, "uid": facts.uid, "gid": facts.gid}


async def _guest(call: Call, name: str, of_vm: str) -> tuple[Guest, tuple[str, ...]]:
    """The guest, if the caller may: VM.Console for a container's files, any of the agent's privileges for a VM's."""
    guest = await find_guest(call, name)
    wanted = (of_vm, "VM.GuestAgent.Unrestricted") if guest.kind == "qemu" else ("VM.Console",)
    await call.require(f"/vms/{guest.vmid}", *wanted, any_of=True)
    return guest, wanted


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise WrongState("the client went before the end of the file") from None
