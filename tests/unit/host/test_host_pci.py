"""PCI and USB devices read from trees that look like sysfs."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter, NotFound
from bastide.host import pci, usb
from framework.pci_tree import PciTree

IDS = """\
# a comment
8086  Intel Corporation
\t10d3  82574L Gigabit Network Connection
\t\t8086 a01f  Gigabit CT Desktop Adapter
\t1237  440FX
10de  NVIDIA Corporation
\t1eb8  TU104GL [Tesla T4]
C 02  Network controller
\t00  Ethernet controller
"""


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def test_devices_are_read(tree: PciTree) -> None:
    tree.add("0000:01:00.0", group=4, driver="e1000e")
    tree.add("0000:00:1c.0", device_class=0x060400)
    port, card = pci.devices(tree.sysfs)
    assert (port.bridge, port.group, port.driver, port.mdev) == (True, None, None, False)
    assert card == pci.PciDevice("0000:01:00.0", 0x020000, 0x8086, 0x10D3, 0x8086, 0xA01F, 4, "e1000e", mdev=False)
    assert pci.device("01:00.0", tree.sysfs) == card
    assert pci.group_members(4, tree.sysfs) == [card]


def test_a_device_that_goes_away_meanwhile_is_left_out(tree: PciTree) -> None:
    home = tree.add("0000:01:00.0")
    (home / "class").unlink()
    assert pci.devices(tree.sysfs) == []
    with pytest.raises(NotFound, match="no such PCI device"):
        pci.device("01:00.0", tree.sysfs)
    assert pci.devices(tree.top / "nowhere") == []


def test_a_slot_means_all_its_functions(tree: PciTree) -> None:
    for address in ("0000:01:00.0", "0000:01:00.1", "0000:02:00.0", "0001:01:00.0"):
        tree.add(address)
    assert pci.expand("01:00", tree.sysfs) == ["0000:01:00.0", "0000:01:00.1"]
    assert pci.expand("0000:02:00.0;01:00.1;01:00", tree.sysfs) == ["0000:02:00.0", "0000:01:00.1", "0000:01:00.0"]
    assert pci.expand("0001:01:00", tree.sysfs) == ["0001:01:00.0"]
    with pytest.raises(NotFound, match=r"no such PCI device on this host: 03:00"):
        pci.expand("01:00;03:00", tree.sysfs)


@given(st.text(alphabet=string.printable, max_size=20))
def test_an_address_stays_within_its_folder(text: str) -> None:
    try:
        address = pci.normalize(text)
    except InvalidParameter:
        return
    assert "/" not in address
    assert address.count(":") == 2


@pytest.mark.parametrize("text", ["", "01:00", "../../x", "01:00.8", "1:0.0", "01:00.0\n", "0000:01:00.0;", "٠١:00.0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        pci.normalize(text)


def test_names_come_from_pci_ids() -> None:
    names = pci.parse_ids(IDS.splitlines(keepends=True), {(0x8086, 0x10D3)})
    assert names.vendors == {0x8086: "Intel Corporation", 0x10DE: "NVIDIA Corporation"}
    assert names.devices == {(0x8086, 0x10D3): "82574L Gigabit Network Connection"}
    assert names.subsystems == {(0x8086, 0x10D3, 0x8086, 0xA01F): "Gigabit CT Desktop Adapter"}
    card = pci.PciDevice("0000:01:00.0", 0x020000, 0x8086, 0x10D3, driver="e1000e")
    expected = "0000:01:00.0 (Intel Corporation 82574L Gigabit Network Connection, driver e1000e)"
    assert pci.describe(card, names) == expected
    assert pci.describe(card, pci.Names()) == "0000:01:00.0 (8086 10d3, driver e1000e)"


@given(st.text())
def test_any_pci_ids_is_read(text: str) -> None:
    pci.parse_ids(text.splitlines(keepends=True))


def test_kinds_of_mediated_devices_are_read(tree: PciTree) -> None:
    home = tree.add("0000:00:02.0", group=1)
    kind = home / "mdev_supported_types/i915-GVTg_V5_4"
    kind.mkdir(parents=True)
    (kind / "available_instances").write_text("1\n")
    (kind / "description").write_text("low_gm_size: 128MB\nhigh_gm_size: 512MB\n")
    (home / "mdev_supported_types/other").mkdir()
    first, second = pci.mdev_types("00:02.0", tree.sysfs)
    assert first == pci.MdevType("i915-GVTg_V5_4", 1, "low_gm_size: 128MB\nhigh_gm_size: 512MB")
    assert second.available == 0
    assert pci.device("00:02.0", tree.sysfs).mdev


def usb_device(sysfs: Path, name: str, **values: str) -> None:
    folder = sysfs / "bus/usb/devices" / name
    folder.mkdir(parents=True)
    defaults = {
        "busnum": "1",
        "devnum": "1",
        "idVendor": "1d6b",
        "idProduct": "0002",
        "bDeviceClass": "09",
        "speed": "480",
    }
    for key, value in {**defaults, **values}.items():
        (folder / key).write_text(f"{value}\n")


def test_usb_devices_are_read(tmp_path: Path) -> None:
    usb_device(
        tmp_path, "1-1.2", devnum="4", idVendor="046d", idProduct="c52b", bDeviceClass="00", product="Receiver\x1b"
    )
    usb_device(tmp_path, "usb1", product="Host Controller", serial="0000:00:14.0")
    (tmp_path / "bus/usb/devices/1-1.2:1.0").mkdir()
    hub, mouse = usb.devices(tmp_path)
    assert (hub.level, hub.port, hub.ports, hub.product) == (0, 0, "", "Host Controller")
    assert (mouse.level, mouse.port, mouse.ports, mouse.product) == (2, 2, "1.2", "Receiver")
    assert mouse.node == Path("/dev/bus/usb/001/004")
    assert usb.find("0x046D:C52B", tmp_path) == usb.find("1-1.2", tmp_path) == [mouse]
    assert usb.find("1-1", tmp_path) == usb.find("xyz:1", tmp_path) == []
    assert usb.devices(tmp_path / "nowhere") == []
