"""Storages of block devices over tools that answer from memory, and over a real group.

LAB_VG names a volume group that is there for tests alone, with a thin pool `thin`; all that is in it may be removed.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bastide.base.layout import Layout
from bastide.model.storage import StorageConfig
from bastide.storage.block import BlockTools
from bastide.storage.lvm import LvmStorage
from bastide.storage.lvmthin import LvmThinStorage
from bastide.storage.rbd import RbdStorage
from bastide.storage.zfspool import ZfsStorage
from framework.fake_rbd import FakeRbd
from framework.fake_tools import FakeLvm, FakeTools
from framework.fake_zfs import FakeZfs

Made = Any


def lvm(folder: Path, tools: FakeTools | None = None, **keys: Any) -> Made:
    """Thick volumes."""
    return _made(folder, tools or FakeLvm(folder), LvmStorage, type="lvm", vgname="vg", **keys)


def lvmthin(folder: Path, tools: FakeTools | None = None, **keys: Any) -> Made:
    """Thin volumes."""
    return _made(folder, tools or FakeLvm(folder), LvmThinStorage, type="lvmthin", vgname="vg", thinpool="pool", **keys)


def zfspool(folder: Path, tools: FakeTools | None = None, **keys: Any) -> Made:
    """Volumes and datasets."""
    return _made(folder, tools or FakeZfs(folder), ZfsStorage, type="zfspool", pool="tank/data", **keys)


def rbd(folder: Path, tools: FakeTools | None = None, **keys: Any) -> Made:
    """Images of a cluster."""
    return _made(folder, tools or FakeRbd(folder), RbdStorage, type="rbd", pool="rbd", namespace="ns", **keys)


def _made(folder: Path, tools: FakeTools, driver: Any, **keys: Any) -> Made:
    config = StorageConfig.parse({"storage": "s1", "content": "images,rootdir", **keys})
    made = driver(config, Layout(folder), BlockTools(tools.run, tools.fill, tools.devices, tools.stream))
    made.tools = tools
    return made


def real_lvm(folder: Path) -> Made:
    """Thick volumes of a real group."""
    config = StorageConfig.parse({"storage": "s1", "type": "lvm", "vgname": os.environ["LAB_VG"]})
    return LvmStorage(config, Layout(folder))


def real_lvmthin(folder: Path) -> Made:
    """Thin volumes of a real group."""
    values = {"storage": "s1", "type": "lvmthin", "vgname": os.environ["LAB_VG"], "thinpool": "thin"}
    return LvmThinStorage(StorageConfig.parse(values), Layout(folder))


MAKERS: dict[str, Callable[..., Made]] = {"lvm": lvm, "lvmthin": lvmthin, "zfspool": zfspool, "rbd": rbd}

if "LAB_VG" in os.environ:
    MAKERS |= {"lvm-real": real_lvm, "lvmthin-real": real_lvmthin}
