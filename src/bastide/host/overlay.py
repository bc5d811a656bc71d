"""A file system of layers: what a guest has written above what it shares with others, its owners mapped.

overlayfs itself cannot be shown with mapped owners (it has no FS_ALLOW_IDMAP), but each of its layers can: they are
mounted mapped at places of their own for the moment, and the overlay is made of those. On disk the owners stay the
guest's own ids.

Sources: the kernel's Documentation/filesystems/overlayfs.rst, mount_setattr(2).
"""

import asyncio
import os
import platform
import re
import shutil
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import abilities, filesystems, idmap, syscalls

UPPER, WORK = "upper", "work"
"""The folders of a volume that is a top layer: what was written, and what overlayfs needs beside it."""

_LAYERS = ".layers"
_OLDEST = (5, 19)
# Renaming a folder of a lower layer would fail without redirects, and programs are not used to that. Two mounts of the
# same layers never live at once, so their inode index has no use. Inode numbers stay the same when a file is copied up.
_OPTIONS = "redirect_dir=on,index=off,metacopy=off,xino=auto"


@dataclass(frozen=True, slots=True)
class Layer:
    """A folder, or an ext4 image that is mounted for the moment, and the folder in it that is the layer."""

    path: Path
    inside: str = ""


def supported() -> bool:
    """Whether the kernel makes overlays of layers with mapped owners."""
    version = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    return version >= _OLDEST and abilities.knows_filesystem("overlay")


def make_top(volume: Path, like: Path) -> None:
    """Make the folders of a top layer in a new folder; the root has the owner and mode of the layer below, `like`."""
    with filesystems.translated(f"make {volume}"):
        (volume / UPPER).mkdir()
        (volume / WORK).mkdir(mode=0o700)
        status = like.stat()
        os.chown(volume / UPPER, status.st_uid, status.st_gid)
        (volume / UPPER).chmod(status.st_mode & 0o7777)
        for name in os.listxattr(like):
            if name.startswith(("system.posix_acl_", "user.")):
                os.setxattr(volume / UPPER, name, os.getxattr(like, name))


async def mount_layers(volume: Path, lower: Sequence[Layer], target: Path, first_id: int, count: int = 65536) -> None:
    """Mount the layers `lower`, the uppermost first, under the top layer in `volume` at `target`.

    Owners on disk are 0 .. `count` - 1, and `first_id` .. as seen at `target`; the mount's source says so, see
    `mapped_to`. Raises HostFailure, NotSupported.
    """
    async with _shown([Layer(volume), *lower], target, first_id, count) as (top, *below):
        layers = f"lowerdir={_joined(below)},upperdir={_plain(top / UPPER)},workdir={_plain(top / WORK)}"
        await asyncio.to_thread(_mount, target, f"{layers},{_OPTIONS}", first_id)


async def mount_read_only(layers: Sequence[Layer], target: Path, first_id: int = 0, count: int = 65536) -> None:
    """Mount layers, the uppermost first, one above the other at `target`, to be read. Raises HostFailure.

    Owners on disk are 0 .. `count` - 1, and `first_id` .. as seen at `target`.
    """
    async with _shown(layers, target, first_id, count) as shown:
        if len(shown) == 1:
            idmap.mount_folder(shown[0], target, None, ["ro"])
        else:
            await asyncio.to_thread(_mount, target, f"lowerdir={_joined(shown)},xino=auto", first_id)


def mapped_to(source: str) -> int | None:
    """The `first_id` that an overlay of ours was mounted with, by its source in mountinfo; None for other mounts."""
    kind, _, number = source.partition("-")
    return int(number) if kind == "layers" and number.isascii() and number.isdigit() else None


def clear(target: Path) -> None:
    """Undo what a killed process left of mounting something at `target`."""
    place = target.with_name(target.name + _LAYERS)
    if place.exists():
        for folder in place.iterdir():
            idmap.unmount_folder(folder)
        shutil.rmtree(place)


@asynccontextmanager
async def _shown(layers: Sequence[Layer], target: Path, first_id: int, count: int) -> AsyncIterator[list[Path]]:
    """The layers at places of their own beside `target`. An overlay made of them holds each by itself."""
    clear(target)
    place = target.with_name(target.name + _LAYERS)
    place.mkdir(mode=0o700)
    try:
        folders = [await _opened(layer, place / f"image{number}") for number, layer in enumerate(layers)]
        shown = [place / str(number) for number in range(len(layers))]
        if first_id == 0:
            _show(folders, shown, None)
        else:
            async with idmap.user_namespace(first_id, count) as user:
                _show(folders, shown, user)
        yield shown
    finally:
        clear(target)


async def _opened(layer: Layer, place: Path) -> Path:
    if layer.path.is_dir():
        return layer.path / layer.inside
    place.mkdir()
    await filesystems.mount_loop(layer.path, place, read_only=True)
    return place / layer.inside


def _show(folders: Sequence[Path], shown: Sequence[Path], user: int | None) -> None:
    for folder, place in zip(folders, shown, strict=True):
        place.mkdir()
        idmap.mount_folder(folder, place, user)


def _joined(layers: Sequence[Path]) -> str:
    return ":".join(map(_plain, layers))


def _plain(path: Path) -> str:
    """A path as the mount options of overlayfs want it."""
    return re.sub(r"([\\:,])", r"\\\1", str(path))


def _mount(target: Path, options: str, uid: int) -> None:
    """Mount as the guest's root, with all our rights: overlayfs works in the layers as whoever has mounted it.

    The host's root has no number in a layer whose owners are mapped, so it could not make a file there. A thread of its
    own, which ends, has the changed identity.
    """
    failures: list[OSError] = []

    def act() -> None:
        try:
            syscalls.act_as(uid)
            syscalls.mount(f"layers-{uid}", target, "overlay", syscalls.MS_NODEV, options)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=act, name="overlay")
    thread.start()
    thread.join()
    if failures:
        raise HostFailure(f"cannot mount the layers at {target}: {failures[0].strerror}") from failures[0]
