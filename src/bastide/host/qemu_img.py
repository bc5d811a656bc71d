"""Making, growing and converting disk images with qemu-img(1), which gets descriptors and no path.

It runs in a sandbox (`sandbox.py`): whatever an image says, no other file of the host and no network is there. Every
call names the formats; nothing is probed.
"""

import asyncio
import contextlib
import os
import re
import stat
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from bastide.base.errors import (
    AlreadyExists,
    DeadlineExceeded,
    HostFailure,
    NoSpace,
    NotFound,
    NotSupported,
    RunError,
)
from bastide.base.units import GIB, MIB
from bastide.host import disk_image, image_sources
from bastide.host.filesystems import translated
from bastide.host.image_sources import Source, opened_source
from bastide.host.qcow2 import empty_overlay
from bastide.host.run import kill_group, last_words, spawn
from bastide.host.sandbox import Bounds, sandboxed
from bastide.model.storage import DiskImage

Preallocation = Literal["off", "metadata", "falloc", "full"]
Progress = Callable[[float], None]
"""Gets how much is done, in percent."""

_PROGRAM = "/usr/bin/qemu-img"
_PERCENT = re.compile(rb"\((\d{1,3}(?:\.\d+)?)/100%\)")
_DEADLINE = 24 * 3600.0
_WATCH_INTERVAL = 0.1
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


async def create_overlay(path: Path, backing_name: str, backing_format: str, size: int) -> None:
    """Make a qcow2 image of `size` bytes that builds on another; the file must not exist.

    `backing_name` is what the header will say (`disk_image.check_link`); the file of that name is not looked at, and
    has at most `size` bytes. Raises NoSpace, HostFailure; leaves nothing then.
    """
    async with _fresh(path) as target:
        try:
            await asyncio.to_thread(_write, target, empty_overlay(backing_name, backing_format, size))
        except ValueError as error:
            raise HostFailure(str(error)) from None


def _write(descriptor: int, parts: Iterable[tuple[int, bytes]]) -> None:
    with translated("make an image"):
        for offset, data in parts:
            os.pwrite(descriptor, data, offset)
        os.fsync(descriptor)


async def resize(path: Path, form: str, size: int) -> None:
    """Grow an image that nothing has open to `size` bytes. Raises NoSpace, NotSupported, HostFailure."""
    if form not in _RESIZABLE:
        raise NotSupported(f"{form} images cannot be resized")
    with disk_image.opened(path, os.O_RDWR) as target:
        info = disk_image.check_chain(target, form, _any_backing)
        if info.virtual_size > size:
            raise HostFailure(f"an image cannot shrink from {info.virtual_size} to {size} bytes")
        if form == "raw":
            await asyncio.to_thread(_reserve, target, size, False)
        else:
            await _run([_PROGRAM, "resize", "-q", image_sources.alone(form), str(size)], [(target, True)], size)


async def snapshot_create(path: Path, name: str) -> None:
    """Keep the state of a qcow2 image that nothing has open, inside it. Raises AlreadyExists, NoSpace, HostFailure."""
    if name in await snapshot_list(path):
        raise AlreadyExists(f"the image has a snapshot '{name}' already")
    try:
        await _snapshot(path, "-c", name)
    except HostFailure:
        with contextlib.suppress(HostFailure):
            await snapshot_delete(path, name)
        raise


async def snapshot_apply(path: Path, name: str) -> None:
    """Give a qcow2 image that nothing has open the state of a snapshot; may be repeated. Raises NotFound, NoSpace."""
    if name not in await snapshot_list(path):
        raise NotFound(f"the image has no snapshot '{name}'")
    await _snapshot(path, "-a", name)


async def snapshot_delete(path: Path, name: str) -> None:
    """Forget a snapshot of a qcow2 image that nothing has open; one that is gone already is fine."""
    while name in await snapshot_list(path):
        await _snapshot(path, "-d", name)


async def snapshot_list(path: Path) -> list[str]:
    """The snapshots inside a qcow2 image, oldest first. Raises HostFailure."""
    return await asyncio.to_thread(disk_image.snapshots, path)


async def convert(
    source: Path | int | DiskImage,
    source_format: str,
    target: Path,
    target_format: str,
    *,
    preallocation: Preallocation = "off",
    progress: Progress | None = None,
    rate: int = 0,
) -> None:
    """Copy what a guest would see in `source` into a new image; `target` must not exist. Holes stay holes.

    `source` is a path, a descriptor that was checked, or a volume of ours with what it builds on and the snapshot in it
    that is meant. `rate` in bytes a second, 0 for no limit. Raises NoSpace while some room is left for others,
    HostFailure; whatever happens, also when it is cancelled, no part of the target stays behind.
    """
    with opened_source(source, source_format) as opened:
        options = ["-O", target_format, *_options(target_format, preallocation)]
        async with _fresh(target) as made:
            await _convert(opened, [*options, *_rated(rate)], f"/{len(opened.files)}", made, progress)
            await asyncio.to_thread(os.fsync, made)


async def convert_onto(
    source: Path | int | DiskImage,
    source_format: str,
    device: Path,
    *,
    zeroed: bool = False,
    progress: Progress | None = None,
    rate: int = 0,
) -> None:
    """Copy what a guest would see in `source` to the beginning of a block device that is large enough; see `convert`.

    `zeroed` says that the device reads as zeros, so that holes need not be written. Whatever it held beyond is zeros
    then. When it fails, anything may be on the device.
    """
    with opened_source(source, source_format) as opened, disk_image.opened(device, os.O_RDWR) as made:
        options = ["-n", *(["--target-is-zero"] if zeroed else []), *_rated(rate), "--target-image-opts"]
        driver = "host_device" if stat.S_ISBLK(os.fstat(made).st_mode) else "file"
        target = f"driver=raw,file.driver={driver},file.filename=/{len(opened.files)}"
        await _convert(opened, options, target, made, progress)
        await asyncio.to_thread(_end_with_zeros, made, opened.size, zeroed)


async def _convert(source: Source, options: list[str], name: str, target: int, progress: Progress | None) -> None:
    # A running VM may have the image open (-U): nothing of a snapshot changes as long as it is there.
    shown = [] if source.snapshot is None else ["-U", "-l", f"snapshot.name={source.snapshot}"]
    argv = [_PROGRAM, "convert", "-p", *shown, *options, source.name, name]
    files = [*((descriptor, False) for descriptor in source.files), (target, True)]
    await _run(argv, files, source.size, progress)


def _rated(rate: int) -> list[str]:
    return ["-r", str(rate)] if rate else []


async def _snapshot(path: Path, act: str, name: str) -> None:
    with disk_image.opened(path, os.O_RDWR) as target:
        size = disk_image.check_chain(target, "qcow2", _any_backing).virtual_size
        try:
            argv = [_PROGRAM, "snapshot", "-q", act, image_sources.plain(name), image_sources.alone("qcow2")]
            await _run(argv, [(target, True)], size)
        except HostFailure:
            # It may have left clusters that nothing refers to, and none of them is written to by anybody now.
            with contextlib.suppress(HostFailure):
                await _run([_PROGRAM, "check", "-q", "-r", "all", image_sources.alone("qcow2")], [(target, True)], size)
            raise


def _any_backing(_name: str) -> bool:
    """For work on the image's own tables: `alone` opens no other file, whatever the header names."""
    return True


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
        os.fsync(descriptor)


def _end_with_zeros(descriptor: int, start: int, zeroed: bool) -> None:
    with translated("write to the device"):
        left = 0 if zeroed else os.lseek(descriptor, 0, os.SEEK_END) - start
        while left > 0:
            written = os.pwrite(descriptor, bytes(min(left, MIB)), start)
            start, left = start + written, left - written
        os.fsync(descriptor)


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
            errors = group.create_task(last_words(process))
            group.create_task(_follow(process, progress))
            watching = group.create_task(end_when_full(process, files[-1][0], full))
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


async def _follow(process: Process, progress: Progress | None) -> None:
    kept = b""
    assert process.stdout is not None  # noqa: S101 - asked for above
    while part := await process.stdout.read(4096):
        kept = (kept + part)[-128:]
        if progress is not None and (found := _PERCENT.findall(kept)):
            progress(float(found[-1]))
            kept = b""


async def end_when_full(process: Process, target: int, full: asyncio.Event) -> None:
    """End a process that writes to an open file, and set `full`, before it fills what guests write to as well."""
    while stat.S_ISREG(os.fstat(target).st_mode):
        figures = os.fstatvfs(target)
        reserve = min(GIB, figures.f_blocks * figures.f_frsize // 20)
        if figures.f_bavail * figures.f_frsize < reserve:
            full.set()
            await kill_group(process)
            return
        await asyncio.sleep(_WATCH_INTERVAL)
