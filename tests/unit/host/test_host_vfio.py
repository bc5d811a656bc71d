"""Devices change to vfio-pci and back, all or none, and never from under the host or another VM."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, NotFound, NotSupported, WrongState
from bastide.host import device_use, vfio
from framework.pci_tree import PciTree

pytestmark = pytest.mark.anyio
UUID = "00000000-0000-0000-0000-000000000100"
UID = 100_123
CARD = ("0000:01:00.0", "0000:01:00.1")


async def unused(_address: str) -> Sequence[str]:
    return []


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PciTree:
    async def loaded() -> None:
        pass

    monkeypatch.setattr(vfio, "_load_module", loaded)
    tree = PciTree(tmp_path)
    tree.add("0000:00:1c.0", group=7, device_class=0x060400, driver="pcieport")
    for address in CARD:
        tree.add(address, group=7, driver="e1000e")
    tree.add("0000:02:00.0", driver="nvme")
    return tree


def on(tree: PciTree, **changes: Any) -> vfio.Vfio:
    return vfio.Vfio(
        **{"sysfs": tree.sysfs, "dev": tree.dev, "marks": tree.marks, "write": tree.write, "uses": unused, **changes}
    )


async def test_a_device_is_given_and_taken_back(tree: PciTree) -> None:
    held = await on(tree).acquire(CARD, UID)
    assert [(one.address, one.group, one.node) for one in held] == [(a, 7, tree.dev / "vfio/7") for a in CARD]
    assert [tree.driver(address) for address in CARD] == ["vfio-pci", "vfio-pci"]
    assert (tree.dev / "vfio/7").stat().st_uid == UID
    assert tree.driver("0000:00:1c.0") == "pcieport", "the way to the device is the host's"
    assert on(tree).holds() == list(CARD)
    await on(tree).release(CARD)
    assert [tree.driver(address) for address in CARD] == ["e1000e", "e1000e"]
    assert [tree.override(address) for address in CARD] == ["", ""]
    assert not tree.marks.exists()


async def test_both_ways_can_be_repeated(tree: PciTree) -> None:
    first = await on(tree).acquire(CARD, UID)
    writes = len(tree.writes)
    assert await on(tree).acquire(CARD, UID) == first
    assert len(tree.writes) == writes
    await on(tree).release(CARD)
    await on(tree).release(CARD)
    assert tree.driver(CARD[0]) == "e1000e"


async def test_a_device_without_a_driver_stays_without(tree: PciTree) -> None:
    tree.add("0000:03:00.0", group=9)
    await on(tree).acquire(["0000:03:00.0"], UID)
    assert tree.driver("0000:03:00.0") == "vfio-pci"
    await on(tree).release(["0000:03:00.0"])
    assert tree.driver("0000:03:00.0") is None


async def test_what_the_administrator_bound_to_vfio_stays_bound(tree: PciTree) -> None:
    tree.add("0000:03:00.0", group=9, driver="vfio-pci")
    await on(tree).acquire(["03:00.0"], UID)
    await on(tree).release(["0000:03:00.0"])
    assert tree.driver("0000:03:00.0") == "vfio-pci"
    assert (tree.dev / "vfio/9").stat().st_uid == 0


async def test_a_shared_group_is_refused_by_name(tree: PciTree) -> None:
    with pytest.raises(
        WrongState, match=r"IOMMU group 7 of 0000:01:00.0 is shared with 0000:01:00.1 \(.*driver e1000e\)"
    ):
        await on(tree).acquire([CARD[0]], UID)
    assert tree.writes == []


async def test_another_vms_device_is_refused_and_not_released(tree: PciTree) -> None:
    await on(tree).acquire(CARD, UID)
    with pytest.raises(WrongState, match="given to another virtual machine"):
        await on(tree).acquire(CARD, UID + 1)
    await on(tree).release(CARD, UID + 1)
    assert tree.driver(CARD[0]) == "vfio-pci"
    assert (tree.dev / "vfio/7").stat().st_uid == UID


async def test_without_an_iommu_it_says_how_to_switch_it_on(tree: PciTree) -> None:
    with pytest.raises(NotSupported, match=r"is in no IOMMU group.*iommu=on on the kernel's command line"):
        await on(tree).acquire(["0000:02:00.0"], UID)


async def test_a_bridge_and_an_absent_device_are_refused(tree: PciTree) -> None:
    with pytest.raises(WrongState, match="leads to other devices"):
        await on(tree).acquire(["0000:00:1c.0", *CARD], UID)
    with pytest.raises(NotFound):
        await on(tree).acquire([*CARD, "0000:09:00.0"], UID)
    assert tree.writes == []


async def test_a_device_in_use_is_refused(tree: PciTree) -> None:
    async def busy(address: str) -> Sequence[str]:
        return ["its interface eth0 has the address 192.0.2.1"] if address == CARD[1] else []

    with pytest.raises(WrongState, match=r"0000:01:00.1 .* is in use by this host: its interface eth0 has the address"):
        await on(tree, uses=busy).acquire(CARD, UID)
    assert tree.writes == []


@pytest.mark.parametrize("refused", ["unbind", "drivers_probe", "driver_override"])
async def test_a_failure_undoes_everything(tree: PciTree, refused: str) -> None:
    real = tree.write
    refusals = [OSError(16, "Device or resource busy")]

    def refuse_second(path: Path, text: str) -> None:
        if path.name == refused and CARD[1] in (text, path.parent.name, path.parent.parent.name) and refusals:
            raise refusals.pop()
        real(path, text)

    with pytest.raises(HostFailure, match=r"0000:01:00.1 cannot change its driver"):
        await on(tree, write=refuse_second).acquire(CARD, UID)
    assert [tree.driver(address) for address in CARD] == ["e1000e", "e1000e"]
    assert tree.override(CARD[0]) == ""
    assert not (tree.dev / "vfio/7").exists()


async def test_a_missing_device_file_undoes_everything(tree: PciTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vfio, "_NODE_DEADLINE", 0.1)
    real = tree._node
    monkeypatch.setattr(tree, "_node", lambda group: None if group == "7" else real(group))
    monkeypatch.setattr(tree, "_unbind", lambda address: (tree.sysfs / "bus/pci/devices" / address / "driver").unlink())
    with pytest.raises(HostFailure, match="made no"):
        await on(tree).acquire(CARD, UID)
    assert [tree.driver(address) for address in CARD] == ["e1000e", "e1000e"]


async def test_the_next_daemon_releases_what_the_dead_one_acquired(tree: PciTree) -> None:
    await on(tree).acquire(CARD, UID)
    after = on(tree)
    assert after.holds() == list(CARD)
    await after.release(after.holds())
    assert tree.driver(CARD[0]) == "e1000e"


async def test_an_unplugged_device_is_forgotten(tree: PciTree) -> None:
    await on(tree).acquire(CARD, UID)
    (tree.sysfs / "bus/pci/devices" / CARD[1]).unlink()
    await on(tree).release(CARD)
    assert on(tree).holds() == []
    assert tree.driver(CARD[0]) == "e1000e"


@pytest.fixture
def gpu(tree: PciTree) -> PciTree:
    home = tree.add("0000:04:00.0", group=5, driver="nvidia")
    kind = home / "mdev_supported_types/nvidia-35"
    kind.mkdir(parents=True)
    (kind / "available_instances").write_text("1\n")
    return tree


async def test_a_mediated_device_is_made_and_removed(gpu: PciTree) -> None:
    folder = await on(gpu).create_mdev("04:00.0", "nvidia-35", UUID, UID)
    assert folder == gpu.sysfs / "bus/mdev/devices" / UUID
    assert (gpu.dev / "vfio/77").stat().st_uid == UID
    assert await on(gpu).create_mdev("04:00.0", "nvidia-35", UUID, UID) == folder
    assert sum(path.endswith("create") for path, _ in gpu.writes) == 1
    await on(gpu).release([str(folder)], UID)
    await on(gpu).remove_mdev(UUID)
    assert not folder.exists()


async def test_a_mediated_device_that_cannot_be_made_is_refused(gpu: PciTree) -> None:
    with pytest.raises(NotFound, match=r"offers no '\.\./x'"):
        await on(gpu).create_mdev("04:00.0", "../x", UUID, UID)
    with pytest.raises(ValueError, match="UUID"):
        await on(gpu).create_mdev("04:00.0", "nvidia-35", "../x", UID)
    (gpu.sysfs / "bus/pci/devices/0000:04:00.0/mdev_supported_types/nvidia-35/available_instances").write_text("0")
    with pytest.raises(WrongState, match="no 'nvidia-35' left"):
        await on(gpu).create_mdev("04:00.0", "nvidia-35", UUID, UID)


async def test_the_hosts_use_of_a_device_is_seen(tree: PciTree) -> None:
    card = (tree.sysfs / "bus/pci/devices/0000:01:00.0").resolve()
    disk = (tree.sysfs / "bus/pci/devices/0000:02:00.0").resolve()
    for home, kind, name in ((card, "net", "eth0"), (card, "net", "eth1"), (disk, "block", "nvme0n1")):
        folder = home / kind / name
        folder.mkdir(parents=True)
        (tree.sysfs / "class" / kind).mkdir(parents=True, exist_ok=True)
        (tree.sysfs / "class" / kind / name).symlink_to(folder)
    (card / "net/eth1/master").symlink_to("../../vmbr0")
    block = disk / "block/nvme0n1"
    for part, number in (("", "259:0"), ("nvme0n1p1", "259:1"), ("nvme0n1p2", "259:2"), ("nvme0n1p3", "259:3")):
        (block / part / "holders").mkdir(parents=True)
        (block / part / "dev").write_text(f"{number}\n")
        if part:
            (block / part / "partition").write_text("1\n")
    (block / "nvme0n1p3/holders/dm-0").mkdir()
    busy = device_use.Busy({"eth0": ["192.0.2.1"]}, {"259:1": "/"}, ["nvme0n1p2"])
    assert await device_use.uses("0000:01:00.0", tree.sysfs, busy) == [
        "its interface eth0 has the address 192.0.2.1",
        "its interface eth1 is a port of vmbr0",
    ]
    assert await device_use.uses("0000:02:00.0", tree.sysfs, busy) == [
        "its disk nvme0n1p1 is mounted at /",
        "its disk nvme0n1p2 is swapped to",
        "its disk nvme0n1p3 is part of dm-0",
    ]
    assert await device_use.uses("0000:01:00.1", tree.sysfs, busy) == []


async def test_this_machine_uses_something() -> None:
    busy = await device_use.busy_now()
    assert "/" in busy.mounted.values()
    assert any("127.0.0.1" in addresses for addresses in busy.addresses.values())
