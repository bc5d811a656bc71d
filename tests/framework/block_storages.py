"""Storages of block devices over tools that answer from memory."""

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


MAKERS: dict[str, Callable[..., Made]] = {"lvm": lvm, "lvmthin": lvmthin, "zfspool": zfspool, "rbd": rbd}
