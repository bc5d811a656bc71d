"""Every driver of a storage that shares blocks: of folders, on the file systems that matter to it, and of devices."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bastide.base.layout import Layout
from bastide.model.storage import StorageConfig
from bastide.storage.btrfs import BtrfsStorage
from bastide.storage.dir import DirStorage
from bastide.storage.fake import FakeStorage
from framework import block_storages
from framework.disposable import Disposable

CONTENT = "vztmpl,iso,rootdir,images,snippets,backup,import"

Maker = Callable[[Path, Path], Any]
"""Makes a storage whose files lie in the first folder, and everything else of its host in the second."""


def make(kind: str, driver: Any, **values: object) -> Maker:
    """A maker of a type with further keys."""

    def maker(files: Path, host: Path) -> Any:
        config = {"storage": "s1", "type": kind, "path": str(files), "content": CONTENT, **values}
        return driver(StorageConfig.parse(config), Layout(host))

    return maker


DRIVERS: Mapping[str, tuple[str | None, Maker]] = MappingProxyType(
    {
        "dir-ext4": ("ext4", make("dir", DirStorage)),
        "dir-ext4-folders": ("ext4", make("dir", DirStorage, format="subvol")),
        "dir-xfs": ("xfs", make("dir", DirStorage)),
        "dir-btrfs": ("btrfs", make("dir", DirStorage)),
        "btrfs": ("btrfs", make("btrfs", BtrfsStorage)),
        "fake": (None, make("dir", FakeStorage)),
        "lvmthin": (None, lambda _files, host: block_storages.lvmthin(host)),
        "zfspool": (None, lambda _files, host: block_storages.zfspool(host)),
        "rbd": (None, lambda _files, host: block_storages.rbd(host)),
        **(
            {"lvmthin-real": (None, lambda _files, host: block_storages.real_lvmthin(host))}
            if "LAB_VG" in os.environ
            else {}
        ),
    }
)
"""The file system that each wants (None: any), and how it is made."""


def made(name: str, disposable: Disposable, host: Path) -> Any:
    """The storage of that name in a folder of its own."""
    kind, maker = DRIVERS[name]
    return maker((host if kind is None else disposable.on(kind)) / f"files-{host.name}", host)
