"""What the API says of the machine's devices and of its QEMU."""

from pathlib import Path
from typing import Any

import pytest

from bastide.host import pci, qemu_facts, usb
from framework.api import Api
from framework.pci_tree import PciTree

pytestmark = pytest.mark.anyio
NODE = "/nodes/pve"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PciTree:
    tree = PciTree(tmp_path / "machine")
    real_devices, real_types, real_usb = pci.devices, pci.mdev_types, usb.devices
    monkeypatch.setattr(pci, "devices", lambda: real_devices(tree.sysfs))
    monkeypatch.setattr(pci, "mdev_types", lambda address: real_types(address, tree.sysfs))
    monkeypatch.setattr(usb, "devices", lambda: real_usb(tree.sysfs))
    monkeypatch.setattr(pci, "names_of_ids", lambda: pci.Names({0x8086: "Intel Corporation"}))
    tree.add("0000:00:00.0", device_class=0x060000)
    tree.add("0000:01:00.0", group=4, driver="e1000e")
    return tree


async def data(api: Api, path: str) -> Any:
    answer = await api.root.get(f"{NODE}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_pci_devices_are_listed(api: Api, machine: PciTree) -> None:
    card = {
        "id": "0000:01:00.0", "class": "0x020000", "vendor": "0x8086", "device": "0x10d3", "iommugroup": 4,
        "subsystem_vendor": "0x8086", "subsystem_device": "0xa01f",
        "vendor_name": "Intel Corporation", "subsystem_vendor_name": "Intel Corporation",
    }  # fmt: skip
    assert await data(api, "/hardware/pci") == [card]
    everything = await data(api, "/hardware/pci?pci-class-blacklist=")
    assert [row["id"] for row in everything] == ["0000:00:00.0", "0000:01:00.0"]
    assert everything[0]["iommugroup"] == -1
    assert await data(api, "/hardware/pci?verbose=0&pci-class-blacklist=06;05") == [{"id": "0000:01:00.0"}]
    assert (await api.root.get(f"{NODE}/hardware/pci?pci-class-blacklist=(")).status_code == 400


async def test_mediated_devices_are_listed(api: Api, machine: PciTree) -> None:
    kind = machine.sysfs / "bus/pci/devices/0000:01:00.0/mdev_supported_types/x-1"
    kind.mkdir(parents=True)
    (kind / "available_instances").write_text("2")
    assert await data(api, "/hardware/pci/01:00.0/mdev") == [{"type": "x-1", "available": 2, "description": ""}]
    assert await data(api, "/hardware/pci/01:00.0") == [{"method": "mdev"}]
    for absent, text in (("09:00.0", "no such PCI device"), ("mapped", "does not exist")):
        answer = await api.root.get(f"{NODE}/hardware/pci/{absent}/mdev")
        assert (answer.status_code, text in answer.json()["message"]) == (500, True)
    assert (await api.root.get(f"{NODE}/hardware/pci/01:00/mdev")).status_code == 400


async def test_usb_devices_are_listed(api: Api, machine: PciTree) -> None:
    folder = machine.sysfs / "bus/usb/devices/2-3.1"
    folder.mkdir(parents=True)
    for name, value in (("busnum", "2"), ("devnum", "9"), ("idVendor", "046d"), ("idProduct", "c52b"),
                        ("bDeviceClass", "ef"), ("speed", "12"), ("product", "Receiver")):  # fmt: skip
        (folder / name).write_text(f"{value}\n")
    assert await data(api, "/hardware/usb") == [
        {"busnum": 2, "devnum": 9, "class": 239, "vendid": "046d", "prodid": "c52b", "speed": "12", "level": 2,
         "port": 1, "usbpath": "3.1", "product": "Receiver"},
    ]  # fmt: skip


async def test_qemu_is_asked_what_it_can_do(api: Api) -> None:
    host = await qemu_facts.host_facts()
    models = {row["name"]: row["vendor"] for row in await data(api, "/capabilities/qemu/cpu")}
    assert models["EPYC"] == "AuthenticAMD"
    assert models["x86-64-v2-AES"] == "default"
    assert ("host" in models) == (host.kvm_refusal is None)
    newest = host.emulator.machine("q35")
    assert newest is not None
    machines = await data(api, "/capabilities/qemu/machines")
    assert {"id": newest.id, "type": "q35", "version": newest.number} in machines
    flags = {row["name"] for row in await data(api, "/capabilities/qemu/cpu-flags")}
    assert {"aes", "pcid", "nested-virt"} <= flags
    assert await data(api, "/capabilities/qemu/migration") == {"has-dbus-vmstate": 0}
    for path in ("cpu", "cpu-flags", "machines"):
        assert await data(api, f"/capabilities/qemu/{path}?arch=aarch64") == []


async def test_indexes_name_what_is_there(api: Api) -> None:
    assert await data(api, "/hardware") == [{"type": "pci"}, {"type": "usb"}]
    assert await data(api, "/capabilities") == [{"name": "qemu"}]
    assert [row["name"] for row in await data(api, "/capabilities/qemu")] == [
        "cpu",
        "cpu-flags",
        "machines",
        "migration",
    ]
