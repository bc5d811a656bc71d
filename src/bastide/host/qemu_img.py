"""Making, growing and converting disk images with qemu-img(1), which gets descriptors and no path.

It runs in a sandbox (`sandbox.py`): whatever an image says, no other file of the host and no network is there. Every
call names the formats; nothing is probed.
"""

import asyncio
import contextlib
import os
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Literal

from bastide.base.errors import DeadlineExceeded, HostFailure, NoSpace, NotSupported, RunError
from bastide.base.units import GIB, MIB
from bastide.host import disk_image
from bastide.host.filesystems import translated
from bastide.host.run import kill_group, spawn
from bastide.host.sandbox import Bounds, sandboxed

Preallocation = Literal["off", "metadata", "falloc", "full"]
Progress = Callable[[float], None]
"""Gets how much is done, in percent."""

_PROGRAM = "/usr/bin/qemu-img"
_PERCENT = re.compile(rb"\((\d{1,3}(?:\.\d+)?)/100%\)")
_DEADLINE = 24 * 3600.0
_WATCH_INTERVAL = 0.1
_STDERR_LIMIT = 64 * 1024
_SECONDS = 600  # of processor time, beside what the size asks for
_BYTES_A_SECOND = 10 * MIB
_RESIZABLE = ("raw", "qcow2")


async def create(path: Path, form: str, size: int, preallocation: Preallocation = "off") -> None:
    """Make a new image of `size` bytes, readable by root alone; the file must not exist.

    Raises NoSpace, HostFailure, NotSupported when qemu-img is not installed; leaves nothing then.
    """
    async with _fresh(path) as target:
        if form == "raw" and preallocation != "full":
            await asyncio.to_thread(_reserve, target, size, preallocation == "falloc")
            return
        argv = [_PROGRAM, "create", "-q", "-f", form, *_options(form, preallocation), "/0", str(size)]
        await _run(argv, [(target, True)], size)


async def resize(path: Path, form: str, size: int) -> None:
    """Grow an image that nothing has open to `size` bytes. Raises NoSpace, NotSupported, HostFailure."""
    if form not in _RESIZABLE:
        raise NotSupported(f"{form} images cannot be resized")
    with disk_image.opened(path, os.O_RDWR) as target:
        info = disk_image.check_chain(target, form)
        if info.virtual_size > size:
            raise HostFailure(f"an image cannot shrink from {info.virtual_size} to {size} bytes")
        if form == "raw":
            await asyncio.to_thread(_reserve, target, size, False)
        else:
            await _run([_PROGRAM, "resize", "-q", "-f", form, "/0", str(size)], [(target, True)], size)


async def convert(
    source: Path | int,
    source_format: str,
    target: Path,
    target_format: str,
    *,
    preallocation: Preallocation = "off",
    progress: Progress | None = None,
) -> None:
    """Copy what a guest would see in `source` into a new image; `target` must not exist. Holes stay holes.

    `source` is a path, or a descriptor that was checked. Raises NoSpace while some room is left for others,
    HostFailure; whatever happens, also when it is cancelled, no part of the target stays behind.
    """
    with contextlib.nullcontext(source) if isinstance(source, int) else disk_image.opened(source) as opened:
        size = disk_image.check_chain(opened, source_format).virtual_size
        options = _options(target_format, preallocation)
        argv = [_PROGRAM, "convert", "-p", "-f", source_format, "-O", target_format, *options, "/0", "/1"]
        async with _fresh(target) as made:
            await _run(argv, [(opened, False), (made, True)], size, progress)
            await asyncio.to_thread(os.fsync, made)


@contextlib.asynccontextmanager
async def _fresh(path: Path) -> AsyncIterator[int]:
    """A new file, removed again when the body fails."""
    with translated(f"make '{path.name}'"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _options(form: str, preallocation: Preallocation) -> list[str]:
    known = {"qcow2": ("metadata", "falloc", "full"), "raw": ("falloc", "full")}
    return ["-o", f"preallocation={preallocation}"] if preallocation in known.get(form, ()) else []


def _reserve(descriptor: int, size: int, allocate: bool) -> None:
    with translated(f"make an image of {size} bytes"):
        os.ftruncate(descriptor, size)
        if allocate and size:
            os.posix_fallocate(descriptor, 0, size)


async def _run(
    argv: Sequence[str], files: Sequence[tuple[int, bool]], size: int, progress: Progress | None = None
) -> None:
    if not Path(_PROGRAM).exists():
        raise NotSupported("qemu-img is not installed on this host; see `bastide doctor`")
    # Tables of a format are far below a tenth of the data; small images have a few clusters more.
    bounds = Bounds(seconds=_SECONDS + size // _BYTES_A_SECOND, length=size + size // 8 + GIB)
    process = await spawn(
        sandboxed(argv, files, bounds), stdout=PIPE, stderr=PIPE, pass_fds=[descriptor for descriptor, _ in files]
    )
    full = asyncio.Event()
    try:
        async with asyncio.timeout(_DEADLINE), asyncio.TaskGroup() as group:
            errors = group.create_task(_collect(process))
            group.create_task(_follow(process, progress))
            watching = group.create_task(_watch(process, files[-1][0], full))
            code = await process.wait()
            watching.cancel()
    except TimeoutError:
        raise DeadlineExceeded(f"{argv[0]} {argv[1]} did not end within {_DEADLINE:g} seconds") from None
    finally:
        if process.returncode is None:
            await asyncio.shield(kill_group(process))
    if code != 0:
        raise _explain(argv, code, errors.result(), full=full.is_set())


def _explain(argv: Sequence[str], code: int, text: str, *, full: bool) -> HostFailure:
    if full or "No space left on device" in text or "Disk quota exceeded" in text:
        return NoSpace("the storage is full: the disk image does not fit")
    return RunError([Path(argv[0]).name, argv[1]], code, text)


async def _collect(process: Process) -> str:
    kept = b""
    assert process.stderr is not None  # noqa: S101 - asked for above
    while part := await process.stderr.read(_STDERR_LIMIT):
        kept = (kept + part)[-_STDERR_LIMIT:]
    return kept.decode(errors="replace")


async def _follow(process: Process, progress: Progress | None) -> None:
    kept = b""
    assert process.stdout is not None  # noqa: S101 - asked for above
    while part := await process.stdout.read(4096):
        kept = (kept + part)[-128:]
        if progress is not None and (found := _PERCENT.findall(kept)):
            progress(float(found[-1]))
            kept = b""


async def _watch(process: Process, target: int, full: asyncio.Event) -> None:
    """End it before it fills the file system that guests write to as well."""
    while True:
        figures = os.fstatvfs(target)
        reserve = min(GIB, figures.f_blocks * figures.f_frsize // 20)
        if figures.f_bavail * figures.f_frsize < reserve:
            full.set()
            await kill_group(process)
            return
        await asyncio.sleep(_WATCH_INTERVAL)
