"""What lsblk, blkid and udev tell of disks, and what of it keeps a disk from being overwritten."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.host import block_devices
from bastide.host.block_devices import BlockDevice, find, is_disk, openers, parse_blkid, parse_lsblk, uses


def row(name: str, kind: str = "disk", **values: Any) -> dict[str, Any]:
    return {
        "kname": f"/dev/{name}", "maj:min": "8:0", "type": kind, "size": 1000, "ro": False, "rota": False,
        "mountpoints": [None], **values,
    }  # fmt: skip


def listed(*rows: dict[str, Any]) -> str:
    return json.dumps({"blockdevices": rows})


@pytest.fixture
def all_are_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_devices, "is_disk", lambda row: row["type"] == "disk")


@pytest.mark.usefixtures("all_are_disks")
def test_what_disks_are_and_are_used_as() -> None:
    lvm = row("sdb3", "part", fstype="LVM2_member", children=[row("dm-0", "lvm", mountpoints=["/srv"])])
    efi = row("sdb1", "part", parttype="C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
    swap = row("sdb2", "part", fstype="swap", mountpoints=["[SWAP]"])
    known = parse_lsblk(
        listed(
            row("sdb", pttype="gpt", tran="sata", model=" Disk ", serial="S1", rota=True, children=[efi, swap, lvm]),
            row("nvme0n1", tran="nvme", fstype="ext4"),
            row("sdc", tran="usb", ro=True),
            row("loop0", "loop"),
        )
    )
    sdb, sdc, nvme = known
    assert [disk.type for disk in (sdb, sdc, nvme)] == ["hdd", "usb", "nvme"]
    assert (sdb.gpt, sdb.model, sdb.serial, sdb.vendor, sdb.rpm) == (True, "Disk", "S1", "unknown", -1)
    assert [part.used for part in sdb.partitions] == ["EFI", "swap", "LVM"]
    assert (sdb.used, sdb.mounted, nvme.used, nvme.mounted, sdc.used) == ("partitions", True, "ext4", False, None)
    assert uses(sdb) == ["/dev/sdb2 is swapped to", "/dev/sdb3 is part of /dev/dm-0"]
    assert uses(sdb.partitions[0]) == []
    assert uses(nvme) == []
    assert uses(sdc) == ["/dev/sdc can only be read"]


@pytest.mark.parametrize(
    ("fstype", "owner"),
    [("LVM2_member", "an LVM volume group"), ("zfs_member", "a ZFS pool"), ("linux_raid_member", "a software RAID")],
)
def test_members_are_in_use(fstype: str, owner: str) -> None:
    assert uses(BlockDevice("/dev/sda", "8:0", 1, fstype=fstype)) == [f"/dev/sda belongs to {owner}"]


def test_what_blkid_finds() -> None:
    assert parse_blkid("DEVNAME=/dev/sda1\nTYPE=ext4\nUUID=a=b\n\n") == {
        "DEVNAME": "/dev/sda1",
        "TYPE": "ext4",
        "UUID": "a=b",
    }
    assert parse_blkid("") == {}


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps({"blockdevices": value})))
def test_lists_of_anything(text: str) -> None:
    with contextlib.suppress(HostFailure):
        parse_lsblk(text)


def test_only_what_hangs_on_a_bus_is_a_disk(tmp_path: Path) -> None:
    def block(name: str, home: str) -> None:
        (tmp_path / home / "device").mkdir(parents=True)
        (tmp_path / "block").mkdir(exist_ok=True)
        (tmp_path / "block" / name).symlink_to(tmp_path / home)

    block("sda", "devices/ata1/block/sda")
    block("sdb", "devices/platform/host3/session1/block/sdb")
    (tmp_path / "block/zram0").mkdir()
    verdicts = {name: is_disk(row(name), tmp_path) for name in ("sda", "sdb", "zram0")}
    assert verdicts == {"sda": True, "sdb": False, "zram0": False}
    assert is_disk(row("sda", size=0), tmp_path) is False
    assert is_disk(row("sda", "rom"), tmp_path) is False


def test_devices_are_found_by_any_name_of_theirs() -> None:
    part = BlockDevice("/dev/sdzz1", "8:1", 1, parent="/dev/sdzz")
    disk = BlockDevice("/dev/sdzz", "8:0", 1, partitions=(part,))
    assert find([disk], "/dev/sdzz") == (disk, disk)
    assert find([disk], "/dev/../dev/sdzz1") == (part, disk)
    for name in ("sdzz", "/dev/sdz", "/dev", "/sys/../dev/sdzz"):
        with pytest.raises(InvalidParameter):
            find([disk], name)


def test_what_udev_keeps(tmp_path: Path) -> None:
    (tmp_path / "b8:0").write_text("S:disk/by-id/wwn-1\nE:ID_ATA_ROTATION_RATE_RPM=7200\nE:X=a=b\nG:systemd\n")
    properties, links = block_devices.udev_facts("8:0", tmp_path)
    assert (properties, links) == ({"ID_ATA_ROTATION_RATE_RPM": "7200", "X": "a=b"}, ("/dev/disk/by-id/wwn-1",))
    assert block_devices.udev_facts("8:16", tmp_path) == ({}, ())


def test_processes_with_a_device(tmp_path: Path) -> None:
    for pid, target in (("10", "/dev/sdzz"), ("11", "/jail/dev/sdzz1"), ("12", "/srv/data/sdzz"), ("13", "socket:[1]")):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "comm").write_text("qemu\n")
        os.symlink(target, tmp_path / pid / "fd/3")
    (tmp_path / "self").mkdir()
    disk = BlockDevice("/dev/sdzz", "8:0", 1)
    part = BlockDevice("/dev/sdzz1", "8:1", 1)
    assert openers([disk, part], tmp_path) == ["qemu (10)", "qemu (11)"]
    assert openers([BlockDevice("/dev/sdy", "8:2", 1)], tmp_path) == []
