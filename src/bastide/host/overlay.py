"""A file system of layers: what a guest has written above what it shares with others, its owners mapped.

overlayfs itself cannot be shown with mapped owners (it has no FS_ALLOW_IDMAP), but each of its layers can: they are
mounted mapped at places of their own for the moment, and the overlay is made of those. On disk the owners stay the
guest's own ids.

Sources: the kernel's Documentation/filesystems/overlayfs.rst, mount_setattr(2).
"""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import idmap, syscalls

UPPER, WORK = "upper", "work"
"""The folders of a volume that is a top layer: what was written, and what overlayfs needs beside it."""

# Renaming a folder of a lower layer would fail without redirects, and programs are not used to that. Two mounts of the
# same layers never live at once, so their inode index has no use.
_OPTIONS = "redirect_dir=on,index=off,metacopy=off"


async def mount_layers(volume: Path, lower: Sequence[Path], target: Path, first_id: int, count: int = 65536) -> None:
    """Mount the layers `lower`, the uppermost first, under the top layer in `volume` at `target`.

    Owners on disk are 0 .. `count` - 1, and `first_id` .. as seen at `target`. Raises HostFailure, NotSupported.
    """
    with tempfile.TemporaryDirectory(prefix="layers-", dir=target.parent) as place, contextlib.ExitStack() as undo:
        layers = [volume, *lower]
        shown = [Path(place) / str(number) for number in range(len(layers))]
        if first_id == 0:
            _show(layers, shown, None, undo)
        else:
            async with idmap.user_namespace(first_id, count) as user:
                _show(layers, shown, user, undo)
        # Each layer's mount is held by the overlay; the names here are gone when this returns.
        options = ",".join(
            [f"lowerdir={':'.join(map(str, shown[1:]))}", f"upperdir={shown[0]}/{UPPER}", f"workdir={shown[0]}/{WORK}"]
        )
        try:
            await asyncio.to_thread(_mount, target, f"{options},{_OPTIONS}", first_id)
        except OSError as error:
            raise HostFailure(f"cannot mount the layers of {volume}: {error.strerror}") from error


def _mount(target: Path, options: str, uid: int) -> None:
    """Mount as the guest's root, with all our rights: overlayfs works in the layers as whoever has mounted it.

    The host's root has no number in a layer whose owners are mapped, so it could not make a file there. A thread of its
    own, which ends, has the changed identity.
    """
    failures: list[OSError] = []

    def act() -> None:
        try:
            syscalls.act_as(uid)
            syscalls.mount("overlay", target, "overlay", syscalls.MS_NODEV, options)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=act, name="overlay")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _show(layers: Sequence[Path], shown: Sequence[Path], user: int | None, undo: contextlib.ExitStack) -> None:
    for layer, place in zip(layers, shown, strict=True):
        place.mkdir()
        undo.callback(idmap.unmount_folder, place)
        idmap.mount_folder(layer, place, user)
