"""Options that follow from needs, with a reason each; what a host lacks is said and not made up."""

from typing import Any

import pytest

from bastide.architect import systems
from bastide.architect.advice import advise
from bastide.base.errors import InvalidParameter
from bastide.base.units import GIB, MIB
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.comparison import Comparison, Figure, Side
from bastide.model.service import Service

RENDER = HostFacts(render=("/dev/dri/renderD129", "/dev/dri/renderD128"))


def advice(host: HostFacts = RENDER, entry: CatalogEntry | None = None, **values: Any) -> Advice:
    return advise(Service.model_validate(values), entry, host)


def entry(**changes: Any) -> CatalogEntry:
    usual = {
        "name": "thing", "title": "Thing", "summary": "a thing", "category": "system", "source": "its handbook",
        "size": {
            "minimum": {"cores": 1, "memory": "256M", "disk": "2G"},
            "usual": {"cores": 2, "memory": "1G", "disk": "10G"},
        },
    }  # fmt: skip
    return CatalogEntry.model_validate({**usual, **changes})


def test_a_plain_container() -> None:
    found = advice()
    assert found.settings == {
        "cores": 1, "memory": 512, "onboot": 1, "unprivileged": 1, "features": "nesting=1", "swap": 512,
        "net0": "name=eth0,bridge=vmbr0,firewall=1,ip=dhcp,ip6=auto",
    }  # fmt: skip
    assert set(found.reasons) == {*found.settings, "backup_mode"}


def test_devices_become_nodes_of_the_groups_that_the_system_has() -> None:
    devices = [
        {"type": "gpu", "mode": "shared"},
        {"type": "serial", "what": "/dev/ttyS1"},
        {"type": "tun"},
        {"type": "fuse"},
        {"type": "pci", "mode": "node", "what": "/dev/apex_0"},
    ]
    debian = advice(devices=devices).settings
    assert debian["dev0"] == "/dev/dri/renderD129,gid=44"
    assert debian["dev1"] == "/dev/apex_0,mode=0666"
    assert debian["dev2"] == "/dev/ttyS1,gid=20"
    assert debian["dev3"] == "/dev/net/tun,mode=0666"
    assert debian["features"] == "nesting=1,fuse=1"
    assert advice(os="alpine", devices=devices).settings["dev0"] == "/dev/dri/renderD129,gid=27"
    assert advice(os="arch", devices=devices).settings["dev0"] == "/dev/dri/renderD129,mode=0666"
    assert advice(os="alpine", devices=devices).settings["features"] == "fuse=1"


def test_a_device_without_a_name_is_a_note_and_no_made_up_option() -> None:
    node = advice(devices=[{"type": "usb", "mode": "node"}])
    assert not [key for key in node.settings if key.startswith("dev")]
    assert "dev0=/dev/..." in node.notes[0]
    whole = advice(devices=[{"type": "pci", "what": "hba"}])
    assert not [key for key in whole.settings if key.startswith("hostpci")]
    assert "hostpci0=ADDRESS" in whole.notes[0]
    nowhere = advice(HostFacts(), devices=[{"type": "gpu", "mode": "shared"}])
    assert not [key for key in nowhere.settings if key.startswith("dev")]
    assert any("no render node" in text for text in nowhere.warnings)


def test_a_container_engine_gets_its_keys() -> None:
    found = advice(engine="docker", kind="ct")
    assert found.settings["features"] == "nesting=1,keyctl=1"
    assert advice(engine="kubernetes", kind="ct").settings["swap"] == 0
    assert advice(engine="docker").settings.get("features") is None


def test_whole_devices_of_a_vm() -> None:
    devices = [
        {"type": "gpu", "mode": "whole", "what": "01:00"},
        {"type": "pci", "what": "0000:02:00.0"},
        {"type": "usb", "mode": "whole", "what": "10c4:ea60"},
        {"type": "disk", "mode": "whole", "what": "/dev/disk/by-id/ata-x"},
        {"type": "serial", "what": "/dev/ttyS1"},
    ]
    found = advice(devices=devices).settings
    assert found["hostpci0"] == "01:00,pcie=1"
    assert found["hostpci1"] == "0000:02:00.0,pcie=1"
    assert found["usb0"] == "host=10c4:ea60"
    assert found["scsi1"] == "/dev/disk/by-id/ata-x,backup=0"
    assert found["serial1"] == "/dev/ttyS1"
    assert found["balloon"] == 0
    assert any("IOMMU" in text for text in advice(HostFacts(iommu=False), devices=devices).warnings)


@pytest.mark.parametrize(
    ("os", "wanted"),
    [
        ("windows-11", {"machine": "q35", "bios": "ovmf", "efidisk0": "local:1,efitype=4m,pre-enrolled-keys=1",
                        "tpmstate0": "local:1,version=v2.0", "ostype": "win11", "balloon": 0}),
        ("windows-server-2019", {"machine": "q35", "bios": None, "tpmstate0": None, "ostype": "win10"}),
        ("freebsd-14", {"machine": "q35", "ostype": "other", "scsihw": None, "rng0": None, "agent": None}),
        ("home-assistant-os", {"bios": "ovmf", "efidisk0": "local:1,efitype=4m,pre-enrolled-keys=0", "ostype": "l26"}),
        ("truenas-scale", {"scsihw": "virtio-scsi-single", "ostype": "l26", "vga": "std", "agent": "1"}),
        ("freedos", {"machine": None, "ostype": "other"}),
    ],
)  # fmt: skip
def test_firmware_and_devices_are_what_the_system_knows(os: str, wanted: dict[str, Any]) -> None:
    found = advice(os=os)
    assert {key: found.settings.get(key) for key in wanted} == wanted
    parameters = found.request.parameters
    if systems.find(os).family == "linux":
        assert "virtio," in str(found.settings["net0"])
        assert "scsi0" in parameters
    else:
        assert "sata0" in parameters


def test_the_processor() -> None:
    assert advice(kind="vm").settings["cpu"] == "host"
    assert advice(live_migration=True).settings["cpu"] == "x86-64-v2-AES"
    assert advice(live_migration=True, nested_virtualization=True).settings["cpu"] == "host"
    emulated = advice(HostFacts(kvm=False), kind="vm")
    assert "cpu" not in emulated.settings
    assert any(text.startswith("kvm: ") for text in emulated.warnings)


def test_what_is_thrown_away_does_not_start_with_the_host() -> None:
    assert "onboot" not in advice(ephemeral=True).settings
    assert advice(entry=entry(), exposure="internet").settings["tags"] == "thing;internet"


def test_sizes() -> None:
    plain = advice(entry=entry()).sizing
    assert (plain.cores, plain.memory, plain.disk) == (2, GIB, 10 * GIB)
    assert plain.because["memory"] == "usual for Thing"
    vm = advice(entry=entry(), kind="vm").sizing
    assert (vm.memory, vm.disk) == (GIB + 128 * MIB, 10 * GIB)
    asked = advice(entry=entry(), kind="vm", cores=4, memory="2G", disk="6G").sizing
    assert (asked.cores, asked.memory, asked.disk) == (4, 2 * GIB, 6 * GIB)
    assert set(asked.because.values()) == {"asked"}
    small = {
        "minimum": {"cores": 1, "memory": "64M", "disk": "1G"},
        "usual": {"cores": 1, "memory": "96M", "disk": "2G"},
    }
    tiny = advice(entry=entry(size=small), kind="vm").sizing
    assert (tiny.memory, tiny.disk) == (256 * MIB, 4 * GIB)
    assert tiny.because["disk"].startswith("the least: Debian 12")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"memory": "255M"}, "memory"),
        ({"disk": "1G"}, "disk"),
        ({"os": "windows-11", "cores": 1}, "cores"),
        ({"kind": "vm", "memory": "256M", "disk": "3G"}, "disk"),
    ],
)
def test_what_is_below_the_least_is_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        advice(entry=entry(), **values)
    assert list(caught.value.errors) == [key]
    assert "below the least" in caught.value.errors[key]


def test_systems_are_found_by_name_alias_and_misspelling() -> None:
    assert systems.find("debian").name == "debian-12"
    assert systems.find("haos").name == "home-assistant-os"
    assert all(target in systems.SYSTEMS for target in systems.ALIASES.values())
    for wrong, right in (
        ("debain-12", "debian-12"),
        ("windows-server-2023", "windows-server-2022"),
        ("pfsens", "pfsense"),
    ):
        with pytest.raises(InvalidParameter, match=right):
            systems.find(wrong)


def side(kind: Any, emulated: bool = False) -> Side:
    figures = {
        "memory": Figure.of("B", [10.0, 20.0, 60.0]),
        "deploy": Figure.of("s", [2.0]),
        "start": Figure.of("s", [0.5]),
        "cpu_single": Figure.of("1/s", [90.0]),
    }
    return Side.model_validate({"kind": kind, "emulated": emulated, "figures": figures})


def comparison(**changes: Any) -> Comparison:
    native = {"cpu_single": Figure.of("1/s", [100.0])}
    return Comparison.model_validate({
        "taken": "2026-11-25T00:00:00Z", "quick": True, "runs": 3, "image": "debian-12", "host": {}, "ct": side("ct"),
        "vm": side("vm", emulated=True), "native": native, **changes,
    })  # fmt: skip


def test_costs_are_measured_here_or_published_with_their_date() -> None:
    measured = advise(Service(), None, HostFacts(), comparison()).cost
    assert (measured.source, measured.memory, measured.deploy, measured.cpu) == ("measured", 20, 2.0, 0.9)
    assert measured.taken == "2026-11-25T00:00:00Z"
    assert (measured.disk, measured.density) == (None, None)
    published = advise(Service(), None, HostFacts()).cost
    assert (published.source, published.taken) == ("published", "2026-11-23")
    assert published.memory is not None


def test_an_emulated_vm_says_nothing_of_kvm() -> None:
    vm = Service(kind="vm")
    under_kvm = advise(vm, None, HostFacts(kvm=True), comparison()).cost
    assert (under_kvm.source, under_kvm.memory, under_kvm.start, under_kvm.emulated) == ("published", None, None, False)
    emulated = advise(vm, None, HostFacts(kvm=False), comparison()).cost
    assert (emulated.source, emulated.memory, emulated.emulated) == ("measured", 20, True)
    assert advise(vm, None, HostFacts(kvm=False)).cost.emulated
    real = advise(vm, None, HostFacts(kvm=True), comparison(vm=side("vm"))).cost
    assert (real.source, real.emulated) == ("measured", False)
    assert advise(vm, None, HostFacts(kvm=True), comparison(vm=None)).cost.source == "published"


def test_the_other_kind_has_a_cost_only_where_it_is_possible() -> None:
    assert advise(Service(), None, HostFacts()).cost_other is not None
    assert advise(Service(os="windows-11"), None, HostFacts()).cost_other is None
