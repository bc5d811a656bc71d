"""Single files out of backups of either kind, without restoring the rest.

A container's come out of its tar stream. A VM's disks are looked into by `host/disk_files.py`; for that they have to be
there as files, and they stay for some minutes after the last question (see `views.py`), because one leads to the next.
"""

import contextlib
import json
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bastide.backup import tar_members
from bastide.base.errors import HostFailure, InvalidParameter, NotFound
from bastide.host import disk_files
from bastide.host.pipeline import Flow, Stage, run_pipeline, streamed
from bastide.host.sandbox import Bounds, sandboxed
from bastide.model.backup import TreeEntry
from bastide.operations.backup import disks
from bastide.operations.backup.archives import Archive
from bastide.operations.backup.views import View
from bastide.operations.rooms import Rooms

Pack = Literal["tar", "zip"]

_FOLDER_OF_VM = (
    "'/{0}' is a folder, and a VM's files come out one by one: list it as '/{0}/', or restore the VM under another id"
)
_MEMORY = 1 << 30
_MEMBERS = Path(tar_members.__file__)
_TYPES = {"tar": "application/x-tar", "zip": "application/zip"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder in a backup holds. `path` is absolute; `type` is a letter: `d` folder, `f` file, `l` link,
    `h` hard link, `c`, `b` and `p` devices and pipes, `v` a file system of a VM's disks.
    """

    path: str
    name: str
    type: str
    size: int | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """A file, or a folder as an archive: its name, its media type, its size if that is known, and what is in it."""

    name: str
    media_type: str
    size: int | None
    parts: AsyncIterator[bytes]


async def list_folder(rooms: Rooms, archive: Archive, path: str) -> list[Entry]:
    """What a folder in a backup holds, by name. Raises NotFound, InvalidParameter, HostFailure."""
    path = _checked(path)
    if archive.name.kind == "lxc":
        known = await archive.entries(path)
        return await _list_tar(rooms, archive, path) if known is None else [_placed(path, entry) for entry in known]
    async with disks.opened(rooms, archive) as view:
        if not path:
            return [Entry(f"/{name}", name, "v") for name in sorted(view.file_systems)]
        device, inner = _inside(view, path)
        found = await disk_files.entries(view.images, device, inner)
        return [Entry(f"/{path}/{entry.name}", entry.name, entry.kind, entry.size, entry.mtime) for entry in found]


async def fetch(rooms: Rooms, archive: Archive, path: str, pack: Pack) -> Download:
    """A file of a backup, or a folder packed as `pack`; its first bytes are there already.

    Of a VM single files alone come out. Raises NotFound, InvalidParameter, HostFailure.
    """
    path = _checked(path)
    name = path.rpartition("/")[2] or archive.name.stem
    if archive.name.kind == "qemu":
        return await _fetch_from_disk(rooms, archive, path, name)
    try:
        parts = await _content(archive, path)
        if parts is not None:
            return Download(name, "application/octet-stream", None, parts)
        return Download(f"{name}.{pack}", _TYPES[pack], None, await _begun(_tar_act(archive, path, pack)))
    except _OtherKindError:
        raise InvalidParameter({"filepath": f"'/{path[:200]}' is neither a file nor a folder"}) from None


async def _content(archive: Archive, path: str) -> AsyncIterator[bytes] | None:
    """What a file holds; None for what is no file."""
    try:
        return await _begun(_tar_act(archive, path, "file"))
    except _OtherKindError as other:
        if not other.path:
            return None
        # A hard link names the file that comes before it in the stream, and never another link.
        return await _begun(_tar_act(archive, _checked(other.path), "file"))


def _placed(path: str, entry: TreeEntry) -> Entry:
    place = f"/{path}/{entry.name}" if path else f"/{entry.name}"
    return Entry(place, entry.name, entry.type, entry.size, entry.mtime)


class _OtherKindError(Exception):
    """It is no file of its own: a folder, or a hard link to `path`."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def _checked(path: str) -> str:
    """The path without slashes around it. Raises InvalidParameter."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not path.isprintable():
        raise InvalidParameter({"filepath": f"'{path[:200]}' is not a plain path in a backup: /etc/hostname"})
    return "/".join(parts)


def _inside(view: View, path: str) -> tuple[str, str]:
    """GRUB's device and the path in it. Raises NotFound."""
    name, _, inner = path.partition("/")
    if name not in view.file_systems:
        known = ", ".join(f"/{known}" for known in sorted(view.file_systems)) or "none that can be read"
        raise NotFound(f"file system '/{name}' does not exist in this backup; there is: {known}")
    return view.file_systems[name], f"/{inner}"


async def _fetch_from_disk(rooms: Rooms, archive: Archive, path: str, name: str) -> Download:
    stack = contextlib.AsyncExitStack()
    async with stack:
        view = await stack.enter_async_context(disks.opened(rooms, archive))
        device, inner = _inside(view, path)
        parent, _, wanted = inner.rpartition("/")
        listed = await disk_files.entries(view.images, device, parent or "/") if wanted else []
        entry = next((entry for entry in listed if entry.name == wanted), None)
        if entry is None and wanted:
            raise NotFound(f"'{inner[:500]}' does not exist in /{path.partition('/')[0]} of this backup")
        if entry is None or entry.kind == "d":
            raise InvalidParameter({"filepath": _FOLDER_OF_VM.format(path[:200])})
        held = stack.pop_all()
        parts = await _begun(_and_close(disk_files.content(view.images, device, inner), held))
        return Download(name, "application/octet-stream", entry.size, parts)
    raise AssertionError("unreachable")


async def _and_close(parts: AsyncIterator[bytes], held: contextlib.AsyncExitStack) -> AsyncIterator[bytes]:
    async with held:
        async for part in parts:
            yield part


async def _list_tar(rooms: Rooms, archive: Archive, path: str) -> list[Entry]:
    found: list[Entry] = []
    with tempfile.TemporaryFile(dir=rooms.layout.state) as listing:
        async with archive.stream([path] if path else []) as (source, stdin), _member_stage("list", path) as stage:
            flow = await run_pipeline(
                [source, stage], stdin=DEVNULL if stdin is None else stdin, stdout=listing.fileno(), partial=True
            )
        try:
            _explain(path)(flow)
        except _OtherKindError:
            raise InvalidParameter({"filepath": f"'/{path[:200]}' is not a folder"}) from None
        listing.seek(0)
        for line in listing:
            found.append(_placed(path, TreeEntry(**json.loads(line))))
            if len(found) > tar_members.LISTED:
                raise HostFailure(
                    f"'/{path[:200]}' holds more than {tar_members.LISTED} entries: fetch it as an archive"
                )
    return sorted(found, key=lambda entry: entry.name)


async def _tar_act(archive: Archive, path: str, act: str) -> AsyncIterator[bytes]:
    async with archive.stream([path] if path else []) as (source, stdin), _member_stage(act, path) as stage:
        given = DEVNULL if stdin is None else stdin
        async for part in streamed([source, stage], stdin=given, ended=_explain(path)):
            yield part


@contextlib.asynccontextmanager
async def _member_stage(act: str, path: str) -> AsyncIterator[Stage]:
    """The helper that reads a tar stream, in the sandbox; it sees its own text and nothing else."""
    text = os.open(_MEMBERS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        argv = [os.path.realpath(sys.executable), "-I", "-S", "/0", act, path]
        bounded = sandboxed(argv, [(text, False)], Bounds(memory=_MEMORY))
        fine = frozenset({0, tar_members.NOT_FOUND, tar_members.OTHER_KIND})
        yield Stage(bounded, "read", fine, (text,))
    finally:
        os.close(text)


def _explain(path: str) -> Callable[[Flow], None]:
    """What the helper's exit code means, as an error."""

    def ended(flow: Flow) -> None:
        if flow.codes[-1] == tar_members.NOT_FOUND:
            raise NotFound(f"'/{path[:500]}' does not exist in this backup")
        if flow.codes[-1] == tar_members.OTHER_KIND:
            link, _, target = flow.said[-1].strip().partition(" ")
            if link == "symlink":
                shown = target[:500] if target.isprintable() else repr(target)[:500]
                raise InvalidParameter(
                    {"filepath": f"'/{path[:200]}' leads by a symbolic link to '/{shown}': ask for that"}
                )
            raise _OtherKindError(target if link == "link" else "")

    return ended


async def _begun(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same parts, once the first of them is there, so that what is missing is told before an answer begins."""
    first = await anext(parts, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return whole()
