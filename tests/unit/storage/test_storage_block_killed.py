"""A daemon that is killed between any two commands leaves nothing half done, and a second try works."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import BastideError, NotSupported
from bastide.host import block_ext4, filesystems
from bastide.host.filesystems import MountEntry
from bastide.storage import block, lvm
from framework.block_storages import MAKERS
from framework.fake_rbd import FakeRbd
from framework.fake_tools import FakeLvm, FakeTools
from framework.fake_zfs import FakeZfs

GIB = 1024**3
BASE = "base-103-disk-0"
KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
TOOLS: dict[str, type[FakeTools]] = {"lvm": FakeLvm, "lvmthin": FakeLvm, "zfspool": FakeZfs, "rbd": FakeRbd}
Work = Callable[[Any, Path], Coroutine[Any, Any, Any]]


class Killed(BaseException):
    """The daemon is no more: neither is anything that it would have run."""


async def _base(storage: Any, _image: Path) -> None:
    async with storage.making_base(KEY, GIB):
        pass


def _files(storage: Any, vmid: int) -> str:
    return str(storage.volume_name(vmid, 0, GIB))


WORKS: dict[str, Work] = {
    "allocate_disk": lambda storage, _image: storage.allocate_disk("vm-200-disk-0", GIB),
    "allocate": lambda storage, _image: storage.allocate(_files(storage, 200), GIB),
    "import_disk": lambda storage, image: storage.import_disk(image, "raw", "vm-200-disk-0"),
    "write_file": lambda storage, _image: storage.write_file("vm-200-cloudinit", b"x"),
    "copy": lambda storage, _image: storage.copy("vm-100-disk-0", "vm-200-disk-0"),
    "snapshot": lambda storage, _image: storage.snapshot("vm-100-disk-0", "two"),
    "rollback": lambda storage, _image: storage.rollback("vm-100-disk-0", "one"),
    "delete_snapshot": lambda storage, _image: storage.delete_snapshot("vm-100-disk-0", "one"),
    "make_base": lambda storage, _image: storage.make_base("vm-102-disk-0"),
    "clone": lambda storage, _image: storage.clone(
        "base-103-disk-0", storage.clone_name("base-103-disk-0", 200, 0, "")
    ),
    "making_base": _base,
    "from_base": lambda storage, _image: storage.from_base(OTHER, "vm-200-disk-0", 2 * GIB),
    "shrink": lambda storage, _image: storage.resize(_files(storage, 101), GIB // 2),
    "resize_disk": lambda storage, _image: storage.resize_disk("vm-102-disk-0", 2 * GIB),
    "delete": lambda storage, _image: storage.delete("vm-100-disk-0"),
}
REPEATED = {"import_disk", "allocate_disk", "allocate", "copy", "clone", "making_base", "from_base", "snapshot"}
"""What is begun anew only when the first try made nothing."""


class Host:
    """A machine whose daemon is killed, and started again."""

    def __init__(self, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.kind, self.patch = folder, kind, monkeypatch
        self.tools = TOOLS[kind](folder, dry=True)
        self.left: int | None = None
        self.starts = 0
        self.storage: Any = None
        run, fill, stream = self.tools.run, self.tools.fill, self.tools.stream
        for name, call in (("run", run), ("fill", fill), ("stream", stream)):
            setattr(self.tools, name, self._counted(call))
        monkeypatch.setattr(filesystems, "mount_at", self._mount_at)
        monkeypatch.setattr(filesystems, "space", lambda _folder: (GIB, GIB // 2, GIB // 2))
        monkeypatch.setattr(block_ext4, "ext4_block_size", lambda _device: 4096)
        self.start()

    def start(self) -> None:
        """A daemon."""
        self.starts += 1
        self.left = None
        self.patch.setattr(block, "_RUN", f"{self.starts:08x}")
        lvm._wiping.clear()
        self.storage = MAKERS[self.kind](self.folder, self.tools)

    async def pieces(self) -> dict[str, int]:
        return {piece.name: piece.size for piece in await self.storage.pool.pieces()}

    def _counted(self, call: Any) -> Any:
        async def counted(*argv: Any, **options: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise Killed
            return await call(*argv, **options)

        return counted

    def _mount_at(self, target: Path) -> MountEntry | None:
        given = [line.split("  ") for line in self.tools.record]
        last = [words[0] for words in given if words[0] in ("mount", "umount") and words[-1] == str(target)]
        return MountEntry(target, "x", "ext4", "0:1", frozenset()) if last[-1:] == ["mount"] else None


async def _furnished(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(kind, folder, monkeypatch)
    storage = host.storage
    for vmid in (100, 102, 103):
        await storage.allocate_disk(f"vm-{vmid}-disk-0", GIB)
    await storage.allocate(_files(storage, 101), GIB)
    await storage.make_base("vm-103-disk-0")
    image = folder / "image"
    image.write_bytes(bytes(1 << 20))
    await storage.import_base(OTHER, image, "raw")
    if storage.capabilities.snapshots:
        await storage.snapshot("vm-100-disk-0", "one")
    return host


@pytest.mark.anyio
@pytest.mark.parametrize("work", list(WORKS))
@pytest.mark.parametrize("kind", list(TOOLS))
async def test_killed_at_every_command(kind: str, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await _furnished(kind, tmp_path / "whole", monkeypatch)
    image, before = tmp_path / "whole/image", await whole.pieces()
    try:
        await WORKS[work](whole.storage, image)
    except NotSupported:
        return
    after = await whole.pieces()
    for commands in range(100):
        host = await _furnished(kind, tmp_path / f"{commands}", monkeypatch)
        host.left = commands
        try:
            await WORKS[work](host.storage, image)
            break
        except Killed:
            pass
        host.start()
        await host.storage.prepare()
        found = await host.pieces()
        # It has not happened, or it has; a volume alone may be on its way from one to the other.
        assert found in (before, after), (commands, host.tools.record[-6:])
        if work not in REPEATED or found != after or before == after:
            try:
                await WORKS[work](host.storage, image)
            except BastideError:
                assert work == "snapshot"
        assert await host.pieces() == after
        assert not [line for line in await _left(host) if "bastide-new" in line or "bastide-swap" in line]
    assert commands > 1


async def _left(host: Host) -> list[str]:
    return list(await host.pieces())
