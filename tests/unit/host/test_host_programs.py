"""Who misses a program is told the package that brings it."""

import shutil
from pathlib import Path

import pytest

from bastide.base.errors import NotSupported
from bastide.host import block_devices, doctor, programs
from bastide.host.block_devices import BlockDevice
from bastide.host.run import run

PHYSICAL_VOLUME = BlockDevice("/dev/vda1", "252:1", 1, fstype="LVM2_member")


@pytest.mark.anyio
async def test_a_tool_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.PACKAGES, "mount.none", "none-common")
    with pytest.raises(NotSupported, match=r"^mount\.none is not installed on this host: apt-get install none-common$"):
        await run(["mount.none", "server:/export"])
    with pytest.raises(NotSupported, match="no-such is not installed on this host; see `bastide doctor`"):
        await run(["no-such"])


def test_programs_that_are_lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lvs").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.lacking(["zfs", "lvs", "rbd"]) == ["rbd", "zfs"]


@pytest.mark.parametrize(
    ("disk", "package"),
    [
        (BlockDevice("/dev/sda", "8:0", 1, type="ssd"), "smartmontools"),
        (BlockDevice("/dev/vda", "252:0", 1), None),
        (BlockDevice("/dev/vda", "252:0", 1, partitions=(PHYSICAL_VOLUME,)), "lvm2"),
        (BlockDevice("/dev/vda", "252:0", 1, fstype="zfs_member"), "zfsutils-linux"),
        (BlockDevice("/dev/vda", "252:0", 1, fstype="ext4"), None),
    ],
)  # fmt: skip
def test_the_doctor_asks_for_what_the_disks_need(
    disk: BlockDevice, package: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def disks() -> list[BlockDevice]:
        return [disk]

    monkeypatch.setattr(block_devices, "disks", disks)
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    found = [(check.name, check.advice) for check in doctor._disks()]
    assert found == ([(package, f"apt-get install {package}")] if package is not None else [])
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/sbin/{program}")
    assert list(doctor._disks()) == []
