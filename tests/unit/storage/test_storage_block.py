"""Names of volumes that are devices, and what single types of storage have of their own."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import AlreadyExists, InvalidParameter, NoSpace, NotFound, WrongState
from bastide.base.units import GIB, KIB, MIB
from bastide.storage import block_names, lvm
from bastide.storage.block_names import Style, name_of, parse_name
from framework import block_storages
from framework.fake_tools import FakeLvm
from framework.fake_zfs import FakeZfs

STYLES: tuple[Style, ...] = ("plain", "linked", "zfs")
LABELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
VMIDS = st.integers(100, 999_999_999)


@given(st.sampled_from(STYLES), VMIDS, st.integers(0, 99999), VMIDS)
def test_names_come_back(style: Style, vmid: int, number: int, other: int) -> None:
    disk = parse_name(block_names.disk_name(vmid, number, style), style)
    assert (disk.text, disk.vmid, disk.is_base, disk.format) == (f"vm-{vmid}-disk-{number}", vmid, False, "raw")
    base = parse_name(block_names.base_name(disk), style)
    assert base.is_base
    assert block_names.base_name(base) == base.text
    clone = parse_name(block_names.clone_name(base, other, number, style), style)
    assert (clone.vmid, clone.piece) == (other, f"vm-{other}-disk-{number}")
    assert name_of(clone.piece, base.piece, style) == clone
    assert name_of(disk.piece, None, style) == disk
    with pytest.raises(InvalidParameter):
        block_names.clone_name(disk, other, number, style)


@given(
    st.sampled_from(STYLES), st.text(max_size=40) | st.from_regex(r"(base|vm|subvol|snap_vm)-1[0-9]{0,3}-[a-z/@.-]*")
)
def test_a_name_is_one_piece_or_refused(style: Style, text: str) -> None:
    try:
        parsed = parse_name(text, style)
    except InvalidParameter:
        return
    assert not set(parsed.piece) & set("/@ \n.\\'\"")
    assert parsed.piece.startswith(("vm-", "base-", "subvol-", "basevol-"))
    assert parsed.text in (parsed.piece, f"{parsed.base}/{parsed.piece}")


@given(LABELS)
def test_a_snapshots_name_tells_whose_it_is(label: str) -> None:
    name = f"vm-100-{label}"
    try:
        block_names.check_snapshot_of(name)
    except InvalidParameter:
        return
    assert "_" not in name


def test_zfs_has_its_own_names_for_files() -> None:
    files = parse_name("subvol-100-disk-0", "zfs")
    assert (files.format, block_names.base_name(files)) == ("subvol", "basevol-100-disk-0")
    base = parse_name("basevol-100-disk-0", "zfs")
    assert block_names.clone_name(base, 101, 0, "zfs") == "basevol-100-disk-0/subvol-101-disk-0"
    for style in ("plain", "linked"):
        with pytest.raises(InvalidParameter):
            parse_name("subvol-100-disk-0", style)


@pytest.mark.parametrize(("text", "rate"), [(None, None), ("0", None), ("-10485760", 10 * MIB), ("64k", 64 * KIB),
                                            ("2G", 2 * GIB)])  # fmt: skip
def test_a_throughput_is_bytes_a_second(text: str | None, rate: int | None) -> None:
    assert lvm.rate(text) == rate


@pytest.mark.anyio
async def test_only_what_carries_the_tag_is_listed(tmp_path: Path) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    for name, tags in (("vm-100-disk-0", ""), ("vm-101-disk-0", "pve-vm-101"), ("vm-102-disk-0", "pve-vm-101")):
        tools._add(name, GIB, lv_tags=tags)
    for tagged, names in ((0, ["s1:vm-100-disk-0", "s1:vm-101-disk-0", "s1:vm-102-disk-0"]), (1, ["s1:vm-101-disk-0"])):
        storage = block_storages.lvm(tmp_path, tools, tagged_only=tagged)
        assert [volume.volid for volume in await storage.list()] == names
    with pytest.raises(NotFound):
        await storage.info("vm-100-disk-0")
    await storage.delete("vm-100-disk-0")
    assert "vm-100-disk-0" in tools.volumes


@pytest.mark.anyio
async def test_the_host_s_own_volumes_are_left_alone(tmp_path: Path) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    for name in ("root", "swap", "data", "bastide-base-x", "del-root-0123abcd"):
        tools._add(name, GIB)
    tools._add("vm-100-disk-0", GIB, attributes="Vwi-a-tz--", pool_lv="pool")
    before = set(tools.volumes)
    for storage in (block_storages.lvm(tmp_path, tools, saferemove=1), block_storages.lvmthin(tmp_path, tools)):
        await storage.prepare()
        for name in ("root", "swap", "data"):
            with pytest.raises(InvalidParameter):
                await storage.delete(name)
    assert set(tools.volumes) == before
    assert await block_storages.lvm(tmp_path, tools).list() == [], "a thin volume is another storage's"


@pytest.mark.anyio
async def test_another_storage_s_volume_is_not_written_over(tmp_path: Path) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    await block_storages.lvm(tmp_path, tools).allocate_disk("vm-100-disk-0", GIB)
    thin = block_storages.lvmthin(tmp_path, tools)
    with pytest.raises(AlreadyExists):
        await thin.allocate_disk("vm-100-disk-0", GIB)
    assert set(tools.volumes) == {"pool", "vm-100-disk-0"}


@pytest.mark.anyio
async def test_what_is_removed_is_overwritten_first(tmp_path: Path) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    storage = block_storages.lvm(tmp_path, tools, saferemove=1)
    await storage.allocate_disk("vm-100-disk-0", GIB)
    tools.faults["blkdiscard"] = "it broke"
    await storage.delete("vm-100-disk-0")
    assert await storage.list() == []
    await storage.pool.idle()
    (doomed,) = set(tools.volumes) - {"pool"}
    assert doomed.startswith("del-vm-100-disk-0-")
    await storage.allocate_disk("vm-100-disk-0", GIB)
    await block_storages.lvm(tmp_path, tools, saferemove=1).prepare()
    await storage.pool.idle()
    assert set(tools.volumes) == {"pool", "vm-100-disk-0"}
    wiped = [line for line in tools.record if line.startswith("blkdiscard")]
    assert [f"--length  {GIB}" in line for line in wiped] == [True, True]


@pytest.mark.anyio
@pytest.mark.parametrize("tool", ["lvcreate", "lvrename"])
@pytest.mark.parametrize("kind", ["lvm", "lvmthin"])
async def test_what_fails_leaves_nothing(tmp_path: Path, kind: str, tool: str) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    storage = block_storages.MAKERS[kind](tmp_path, tools)
    tools.faults[tool] = "free space in thin pool vg/pool reached threshold."
    with pytest.raises(NoSpace):
        await storage.allocate_disk("vm-100-disk-0", GIB)
    assert set(tools.volumes) == {"pool"}
    await storage.allocate_disk("vm-100-disk-0", GIB)


@pytest.mark.anyio
async def test_a_rollback_that_fails_loses_nothing(tmp_path: Path) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    storage = block_storages.lvmthin(tmp_path, tools)
    await storage.allocate_disk("vm-100-disk-0", GIB)
    await storage.snapshot("vm-100-disk-0", "one")
    for tool in ("lvcreate", "lvrename", "lvremove"):
        tools.faults[tool] = "Logical volume vg/vm-100-disk-0 in use."
        with pytest.raises(WrongState):
            await storage.rollback("vm-100-disk-0", "one")
        assert set(tools.volumes) == {"pool", "vm-100-disk-0", "snap_vm-100-disk-0_one"}
    await storage.rollback("vm-100-disk-0", "one")
    assert set(tools.volumes) == {"pool", "vm-100-disk-0", "snap_vm-100-disk-0_one"}


@pytest.mark.anyio
async def test_a_rollback_can_be_repeated_when_the_volume_is_gone(tmp_path: Path) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    storage = block_storages.lvmthin(tmp_path, tools)
    await storage.allocate_disk("vm-100-disk-0", GIB)
    await storage.snapshot("vm-100-disk-0", "one")
    await storage.pool.remove("vm-100-disk-0", alone=True)
    await storage.rollback("vm-100-disk-0", "one")
    assert tools.volumes["vm-100-disk-0"]["lv_tags"] == "pve-vm-100"


@pytest.mark.anyio
async def test_a_full_thin_pool_takes_nothing_more(tmp_path: Path) -> None:
    tools = FakeLvm(tmp_path, dry=True)
    tools.volumes["pool"]["metadata_percent"] = "100.00"
    storage = block_storages.lvmthin(tmp_path, tools)
    assert (await storage.usage()).available == 0
    with pytest.raises(NoSpace):
        await storage.allocate_disk("vm-100-disk-0", GIB)


@pytest.mark.anyio
async def test_zfs_sizes_are_whole_blocks(tmp_path: Path) -> None:
    tools = FakeZfs(tmp_path, dry=True)
    storage = block_storages.zfspool(tmp_path, tools, blocksize="16M", sparse=1)
    await storage.allocate_disk("vm-100-disk-0", 17 * MIB)
    assert (await storage.info("vm-100-disk-0")).size == 32 * MIB
    assert storage.capabilities.latest_only


@pytest.mark.anyio
async def test_an_interrupted_copy_does_not_stand_in_the_way_of_a_rollback(tmp_path: Path) -> None:
    tools = FakeZfs(tmp_path, dry=True)
    storage = block_storages.zfspool(tmp_path, tools)
    await storage.allocate_disk("vm-100-disk-0", GIB)
    await storage.snapshot("vm-100-disk-0", "one")
    tools._snapshot(["tank/data/vm-100-disk-0@__copy-0123abcd"])
    await storage.rollback("vm-100-disk-0", "one")
    tools._snapshot(["tank/data/vm-100-disk-0@autosnap"])
    with pytest.raises(WrongState):
        await storage.rollback("vm-100-disk-0", "one")


def test_no_secret_is_an_argument(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = tmp_path / "state/secrets/storage/s1.secret"
    key.parent.mkdir(parents=True)
    key.write_text("AQBsecretsecretsecret==\n")
    storage = block_storages.rbd(tmp_path, None, monhost="192.0.2.1")
    options = storage.pool._rbd._cluster.options()
    assert options == ["--mon-host", "192.0.2.1", "--name", "client.admin", "--keyfile", str(key)]
