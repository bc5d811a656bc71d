"""Disk images served as NBD by qemu-nbd(8), which gets descriptors and no path and runs in the sandbox.

The socket is bound here and handed over (sd_listen_fds(3)), since none can be made where the program runs.
"""

import asyncio
import contextlib
import secrets
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

from bastide.base.errors import HostFailure, NoSpace, NotSupported, RunError
from bastide.base.units import GIB, MIB
from bastide.host import unix_sockets
from bastide.host.image_sources import Source, opened_source
from bastide.host.qemu_img import end_when_full
from bastide.host.run import kill_group, last_words, spawn
from bastide.host.sandbox import Bounds, sandboxed
from bastide.model.storage import DiskImage

PREFIX = "nbd-"
"""How the files begin that `tidy` removes."""

_PROGRAM = "/usr/bin/qemu-nbd"
_GREETING = b"NBDMAGIC"
_START_DEADLINE = 30.0
_END_DEADLINE = 10.0
_SECONDS = 600  # of processor time, beside what the size asks for
_BYTES_A_SECOND = 10 * MIB


@contextlib.asynccontextmanager
async def serving(
    image: DiskImage | Path | int,
    form: str = "raw",
    *,
    folder: Path,
    writable: bool = False,
    size: int | None = None,
) -> AsyncIterator[Path]:
    """While entered, a UNIX socket in `folder` that speaks NBD with one export, whose name is empty.

    `image` is a volume of ours with what it builds on and the snapshot in it that is meant; or a file or block device
    of the format `form`, by a path or by a descriptor that was checked. `size` shows no more than the first bytes of a
    raw one. Any number of clients may connect. What was written and flushed is in the image when the context ends.
    Raises HostFailure, NoSpace when that is why it ended, NotSupported without the program.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(opened_source(image, form, writable=writable, size=size))
        path = folder / f"{PREFIX}{secrets.token_hex(8)}"
        stack.callback(path.unlink, missing_ok=True)
        with unix_sockets.listen(path, backlog=64) as listener:
            process = await _start(source, listener.fileno(), writable)
        full = asyncio.Event()
        errors = asyncio.create_task(last_words(process))
        watching = asyncio.create_task(end_when_full(process, source.files[0], full)) if writable else None
        try:
            await _answering(process, path, errors)
            yield path
        except HostFailure as error:
            if full.is_set():
                raise NoSpace("the storage is full: the disk image does not fit") from error
            raise
        finally:
            if watching is not None:
                watching.cancel()
            await asyncio.shield(_end(process))
            errors.cancel()


def tidy(folder: Path) -> None:
    """Remove the sockets in `folder` that a process left which was killed, and what is called like them."""
    for path in folder.glob(f"{PREFIX}*"):
        path.unlink(missing_ok=True)


def server_argv(source: Source, *, writable: bool) -> list[str]:
    """The argument list of the server, as it runs in the sandbox."""
    shown = [] if source.snapshot is None else ["-l", f"snapshot.name={source.snapshot}"]
    access = ["--discard=unmap"] if writable else ["--read-only"]
    return [_PROGRAM, "--persistent", "--shared=0", "--detect-zeroes=off", *access, *shown, source.name]


async def _start(source: Source, listener: int, writable: bool) -> Process:
    if not Path(_PROGRAM).exists():
        raise NotSupported("qemu-nbd is not installed on this host; see `bastide doctor`")
    files = [(descriptor, writable and number == 0) for number, descriptor in enumerate(source.files)]
    length = source.size + source.size // 8 + GIB
    bounds = Bounds(seconds=_SECONDS + source.size // _BYTES_A_SECOND, length=length)
    argv = sandboxed(server_argv(source, writable=writable), files, bounds, listener=listener)
    return await spawn(argv, stderr=PIPE, pass_fds=[*source.files, listener])


async def _answering(process: Process, path: Path, errors: asyncio.Task[str]) -> None:
    """Return once it greets a client. Raises HostFailure in its words when it ends before."""
    loop = asyncio.get_running_loop()
    with unix_sockets.connect(path) as client:
        try:
            async with asyncio.timeout(_START_DEADLINE):
                greeting = await loop.sock_recv(client, len(_GREETING))
        except (TimeoutError, OSError):
            greeting = b""
    if greeting != _GREETING:
        await kill_group(process)
        raise RunError(["qemu-nbd"], process.returncode or 0, await errors)


async def _end(process: Process) -> None:
    """Have it write its tables, and be gone."""
    with contextlib.suppress(ProcessLookupError, TimeoutError):
        process.terminate()
        async with asyncio.timeout(_END_DEADLINE):
            await process.wait()
    if process.returncode is None:
        await kill_group(process)
