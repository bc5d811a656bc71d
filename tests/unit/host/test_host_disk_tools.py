"""What is asked of the tools for disks, against golden files; what they answer, read."""

import contextlib
import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.host import disk_labels, mount_units, smart, volume_groups, zpools
from bastide.host.mount_units import DiskMount

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "disks"
UUID = "11111111-2222-4333-8444-555555555555"

GROUP = volume_groups.VolumeGroup("fast", 10, 5, 1, (volume_groups.PhysicalVolume("/dev/sdb", 10, 5),))

COMMANDS = [
    disk_labels.gpt_argv("/dev/sdb"),
    disk_labels.mkfs_argv("/dev/sdb1", "ext4", UUID),
    disk_labels.mkfs_argv("/dev/sdb1", "xfs", UUID),
    smart.smart_argv("/dev/sdb"),
    smart.smart_argv("/dev/sdb", health_only=True),
    volume_groups.pvs_argv(),
    volume_groups.lvs_argv(),
    *volume_groups.group_argvs("fast", "/dev/sdb"),
    volume_groups.pool_argv("fast", "fast"),
    *volume_groups.removal_argvs(GROUP),
    zpools.list_argv(),
    zpools.make_argv("tank", zpools.vdevs("raid10", ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"]), 12, "lz4"),
]


def test_commands() -> None:
    assert "".join(f"{json.dumps(argv)}\n" for argv in COMMANDS) == (GOLDEN / "commands.txt").read_text()


def test_tables() -> None:
    assert disk_labels.gpt_script(None, None) == b"label: gpt\n"
    assert disk_labels.gpt_script(UUID, "linux") == f"label: gpt\nlabel-id: {UUID}\ntype=linux\n".encode()
    assert [disk_labels.partition_path(disk) for disk in ("/dev/sda", "/dev/nvme0n1", "/dev/loop7")] == [
        "/dev/sda1", "/dev/nvme0n1p1", "/dev/loop7p1"
    ]  # fmt: skip


# mount units

MOUNT = DiskMount(f"/dev/disk/by-uuid/{UUID}", Path("/mnt/pve/my-disk"), "ext4")


def test_unit() -> None:
    assert mount_units.render(MOUNT) == (GOLDEN / "mnt-pve-my-disk.mount").read_text()
    assert mount_units.unit_name(MOUNT.where) == r"mnt-pve-my\x2ddisk.mount"
    assert mount_units.unit_name(Path("/.a/.b")) == r"\x2ea-.b.mount"


def test_units_are_found_below_their_folder(tmp_path: Path) -> None:
    (tmp_path / mount_units.unit_name(MOUNT.where)).write_text(mount_units.render(MOUNT))
    (tmp_path / "else.mount").write_text(mount_units.render(MOUNT))
    (tmp_path / "srv-x.mount").write_text("[Mount]\nWhat=/dev/sdz\nWhere=/srv/x\n")
    (tmp_path / "mnt-pve-bad.mount").write_text("no unit [")
    ((path, mount),) = mount_units.listed(Path("/mnt/pve"), tmp_path)
    assert (path.name, mount) == (mount_units.unit_name(MOUNT.where), MOUNT)
    assert mount_units.listed(Path("/mnt/pve"), tmp_path / "none") == []


@given(st.text(max_size=40), st.text(max_size=20))
def test_a_unit_holds_what_it_was_given_or_is_not_made(name: str, options: str) -> None:
    mount = DiskMount(MOUNT.what, Path("/mnt/pve") / PurePosixPath(name.replace("/", "") or "x"), "xfs", options)
    try:
        text = mount_units.render(mount)
    except ValueError:
        return
    assert mount_units.parse(text) == mount
    assert len(text.splitlines()) == 11


@given(st.text())
def test_any_text_is_a_unit_or_none(text: str) -> None:
    mount_units.parse(f"[Mount]\n{text}")


# SMART

ATA = {
    "smartctl": {"output": ["line 1", "line 2"]},
    "smart_status": {"passed": True},
    "ata_smart_attributes": {
        "table": [
            {
                "id": 5, "name": "Reallocated_Sector_Ct", "value": 100, "worst": 99, "thresh": 10, "when_failed": "",
                "flags": {"string": "PO--CK "}, "raw": {"string": "3"},
            },
            {"id": 177, "name": "Wear_Leveling_Count", "value": 87, "worst": 87, "thresh": 0, "when_failed": "now"},
        ]
    },
}  # fmt: skip


def test_smart_of_an_ata_disk() -> None:
    health = smart.parse(json.dumps(ATA))
    assert (health.health, health.left, health.text) == ("PASSED", 87, "line 1\nline 2")
    assert health.attributes is not None
    assert health.attributes[0] == smart.Attribute(
        5, "Reallocated_Sector_Ct", 100, 99, 10, flags="PO--CK", raw="3", fail="-"
    )
    assert health.attributes[1].fail == "now"


def test_smart_of_others() -> None:
    nvme = {"smart_status": {"passed": False}, "nvme_smart_health_information_log": {"percentage_used": 7}}
    assert smart.parse(json.dumps(nvme)) == smart.Health("FAILED!", left=93)
    assert smart.parse("{}") == smart.Health("UNKNOWN")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_smart_of_anything(told: object) -> None:
    with contextlib.suppress(HostFailure):
        smart.parse(json.dumps({"smart_status": told, "ata_smart_attributes": {"table": [told]}}))


# LVM


def report(kind: str, *rows: dict[str, str]) -> str:
    return json.dumps({"report": [{kind: list(rows)}]})


def test_groups() -> None:
    row = {"vg_name": "fast", "vg_size": "200", "vg_free": "50", "lv_count": "3"}
    text = report(
        "pv",
        {**row, "pv_name": "/dev/sdb", "pv_size": "100", "pv_free": "50"},
        {**row, "pv_name": "/dev/sdc", "pv_size": "100", "pv_free": "0"},
        {"vg_name": "", "pv_name": "/dev/sdd", "pv_size": "1", "pv_free": "1"},
    )
    (group,) = volume_groups.parse_groups(text)
    assert (group.name, group.size, group.free, group.volumes) == ("fast", 200, 50, 3)
    assert [member.path for member in group.members] == ["/dev/sdb", "/dev/sdc"]


def test_thin_pools() -> None:
    text = report(
        "lv",
        {
            "lv_name": "data", "vg_name": "fast", "lv_size": "1000", "data_percent": "12.50",
            "lv_metadata_size": "100", "metadata_percent": "",
        },
    )  # fmt: skip
    assert volume_groups.parse_pools(text) == [volume_groups.ThinPool("data", "fast", 1000, 125, 100, 0)]


@given(st.text() | st.dictionaries(st.text(), st.text()).map(lambda row: report("pv", row)))
def test_reports_of_anything(text: str) -> None:
    with contextlib.suppress(HostFailure):
        volume_groups.parse_groups(text)


# ZFS

STATUS = """  pool: tank
 state: DEGRADED
status: One or more devices could not be used because the label is missing or
\tinvalid.
action: Replace the device using 'zpool replace'.
   see: https://example.org
  scan: resilvered 1G in 00:00:10 with 0 errors
config:

\tNAME            STATE     READ WRITE CKSUM
\ttank            DEGRADED     0     0     0
\t  mirror-0      DEGRADED     0     0     0
\t    /dev/sda1   ONLINE       0     0     0
\t    /dev/sdb1   UNAVAIL      3     1    12  was /dev/sdb1
\tlogs
\t  /dev/sdc1     ONLINE       0     0     0
\tspares
\t  /dev/sdd1     AVAIL

errors: No known data errors
"""


def test_status_of_a_pool() -> None:
    found = zpools.parse_status(STATUS)
    assert found.name == "tank"
    assert found.texts["state"] == "DEGRADED"
    assert found.texts["status"].endswith("missing or\ninvalid.")
    assert found.texts["errors"] == "No known data errors"
    tank, logs, spares = found.vdevs
    (mirror,) = tank.children
    assert [leaf.name for leaf in tank.leaves] == ["/dev/sda1", "/dev/sdb1"]
    assert mirror.children[1] == zpools.Vdev("/dev/sdb1", "UNAVAIL", (3, 1, 12), "was /dev/sdb1")
    assert (logs.children[0].name, spares.children[0].state) == ("/dev/sdc1", "AVAIL")


def test_list_of_pools() -> None:
    assert zpools.parse_list("tank\t100\t40\t60\t3\t1.00\tONLINE\nb\t1\t0\t1\t-\t1.5x\tDEGRADED\n") == [
        zpools.Pool("tank", 100, 40, 60, 3, 1.0, "ONLINE"),
        zpools.Pool("b", 1, 0, 1, 0, 1.5, "DEGRADED"),
    ]
    with pytest.raises(HostFailure):
        zpools.parse_list("no pools")


@given(st.text())
def test_status_of_anything(text: str) -> None:
    with contextlib.suppress(HostFailure):
        zpools.parse_status(f"  pool: x\nconfig:\n\t{text}")


def test_raid_levels() -> None:
    names = list("abcd")
    assert zpools.vdevs("single", ["a"]) == ["a"]
    assert zpools.vdevs("mirror", ["a", "b"]) == ["mirror", "a", "b"]
    assert zpools.vdevs("raid10", names) == ["mirror", "a", "b", "mirror", "c", "d"]
    assert zpools.vdevs("raidz2", names) == ["raidz2", *names]
    assert zpools.vdevs("draid2", names, 1, 1) == ["draid2:1d:1s", *names]
    assert zpools.vdevs("draid", names) == ["draid", *names]
    for level, devices in (("single", "ab"), ("mirror", "a"), ("raid10", "abcde"), ("raidz3", "abcd"), ("draid", "a")):
        with pytest.raises(InvalidParameter):
            zpools.vdevs(level, list(devices))
