"""Which of the host's devices a VM's plan names."""

from dataclasses import replace
from pathlib import Path

import pytest

from bastide.base.errors import InvalidParameter, NotFound
from bastide.guest.engines import Engines
from bastide.guest.fake_vm import FakeVmEngine
from bastide.host import pci
from bastide.model.guest import Guest
from bastide.operations.rooms import Rooms
from bastide.operations.vm.plan import vm_plan
from framework.pci_tree import PciTree
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rooms:
    tree = PciTree(tmp_path / "machine")
    for address in ("0000:01:00.0", "0000:01:00.1", "0000:02:00.0"):
        tree.add(address, group=1)
    real = pci.expand
    monkeypatch.setattr(pci, "expand", lambda host: real(host, tree.sysfs))
    rooms = await fake_rooms(tmp_path / "host")
    return replace(rooms, engines=Engines(rooms.containers, FakeVmEngine()))


def vm(vmid: int, **options: str) -> Guest:
    return Guest(vmid=vmid, kind="qemu", node="pve", config={"name": "db", **options}, first_id=100_000)


async def test_functions_and_mediated_devices_are_named(rooms: Rooms) -> None:
    plan = await vm_plan(rooms, vm(100, hostpci0="01:00", hostpci1="host=02:00.0,mdev=nvidia-35"))
    assert plan.pci[0] == ["0000:01:00.0", "0000:01:00.1"]
    (folder,) = plan.pci[1]
    assert folder.startswith("/sys/bus/mdev/devices/")
    again = await vm_plan(rooms, vm(100, hostpci1="host=02:00.0,mdev=nvidia-35"))
    other = await vm_plan(rooms, vm(101, hostpci1="host=02:00.0,mdev=nvidia-35"))
    assert again.pci[1] == [folder] != other.pci[1]


async def test_a_device_that_is_not_there_is_refused(rooms: Rooms) -> None:
    with pytest.raises(NotFound, match="no such PCI device on this host: 09:00"):
        await vm_plan(rooms, vm(100, hostpci0="09:00"))
    with pytest.raises(InvalidParameter, match="hostpci0: a mapping is not built"):
        await vm_plan(rooms, vm(100, hostpci0="mapping=card"))
