"""QEMU's argument list against golden files, and against values that try to become another argument.

`BASTIDE_GOLDEN=write pytest tests/unit/guest/test_qemu_render.py` writes the golden files anew. That QEMU itself takes
them is shown in tests/system/test_qemu_accepts.py.
"""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import BastideError, InvalidParameter, NotSupported
from bastide.base.units import MIB
from bastide.guest.qemu.render import disks as render_disks
from bastide.guest.qemu.render import network as render_network
from bastide.guest.qemu.render import pci as render_pci
from bastide.guest.qemu.render import usb as render_usb
from bastide.guest.qemu.render.argv import devices, needs, refusals, render_argv, startup_commands
from bastide.guest.qemu.render.base import option_text
from bastide.guest.qemu.render.boot import boot_places
from bastide.guest.qemu.render.cpu import cpu_device
from bastide.guest.qemu.render.machine import memory_module
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.model.vm import VmConfig
from bastide.model.vm_devices import Cpu, Smbios
from bastide.model.vm_disks import IdeDrive, ScsiDrive
from framework.qemu_plans import GOLDEN, HOSTS, KVM, TCG, names, numbered, planned, read, text

DISK = "local:100/vm-100-disk-0.raw"


def plan_of(**options: Any) -> VmPlan:
    return planned(VmConfig.parse(options))


def argv_of(plan: VmPlan, host: Any = KVM) -> list[str]:
    return render_argv(plan, host, numbered(needs(plan, host)))


def values_of(argv: list[str], option: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv[:-1]) if word == option]


def device_of(plan: VmPlan, name: str, host: Any = KVM) -> dict[str, Any]:
    return next(device for device in devices(plan, host) if device.get("id") == name)


@pytest.mark.parametrize("name", names())
def test_golden(name: str) -> None:
    host, config = read(name)
    found = text(planned(config), host)
    file = GOLDEN / f"{name}.argv"
    if os.environ.get("BASTIDE_GOLDEN") == "write":
        file.write_text(found)
    assert found == file.read_text()


def test_golden_files_are_pairs_and_many() -> None:
    assert {path.stem for path in GOLDEN.glob("*.argv")} == set(names())
    assert len(names()) >= 60


@pytest.mark.parametrize("name", names())
def test_devices_have_ids_and_slots_of_their_own(name: str) -> None:
    host, config = read(name)
    found = devices(planned(config), host)
    ids = [device["id"] for device in found if device["driver"] != "vmgenid"]
    assert len(ids) == len(set(ids))
    slots = [(device["bus"], device["addr"]) for device in found if "addr" in device]
    assert len(slots) == len(set(slots))
    seen = {"pci.0", "pcie.0"}
    for device in found:
        if "addr" in device:
            assert device["bus"] in seen, "a bridge comes before what hangs on it"
        seen.add(str(device["id"]))


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize("express", [True, False])
def test_every_key_has_a_slot_that_no_other_has(machine: str, express: bool) -> None:
    plan = plan_of(machine=machine)
    keys = [*render_pci._FIXED, *render_pci._SLOTS]
    found = [tuple(render_pci.address(plan, key, express=express).items()) for key in keys]
    found += [(("bus", bridge["bus"]), ("addr", bridge["addr"])) for bridge in render_pci.bridges(plan)]
    assert len(found) == len(set(found))
    counted = {
        stem: sum(re.fullmatch(stem + r"\d+", key) is not None for key in keys)
        for stem in ("net", "virtio", "hostpci", "scsihw")
    }
    assert counted == {"net": 32, "virtio": 16, "hostpci": 16, "scsihw": 31}


BASE = {"net3": "virtio=02:00:00:AA:BB:03,bridge=vmbr0", "scsi0": DISK, "virtio2": DISK, "machine": "q35"}


@given(
    st.sets(st.sampled_from(["net0", "net9", "net31"])),
    st.sets(st.sampled_from(["virtio0", "virtio9", "scsi5", "sata1", "ide2"])),
    st.booleans(),
    st.sampled_from([None, "virtio-scsi-single", "virtio-scsi-pci", "pvscsi"]),
    st.sampled_from(["pc", "q35"]),
)
def test_no_device_moves_when_others_come(
    nics: set[str], disks: set[str], passed: bool, scsihw: str | None, machine: str
) -> None:
    few: dict[str, Any] = {**BASE, "machine": machine} | ({"scsihw": scsihw} if scsihw else {})
    more = few | dict.fromkeys(nics, "virtio,bridge=vmbr0") | dict.fromkeys(disks, DISK)
    more |= {"rng0": "source=/dev/urandom", "watchdog": "i6300esb", "agent": "1", "usb0": "host=1-1,usb3=1"}
    more |= {"hostpci5": "01:00.0,pcie=1"} if passed and machine == "q35" else {}
    before, after = ({d["id"]: d for d in devices(plan_of(**options), KVM)} for options in (few, more))
    for name, device in before.items():
        assert {key: device.get(key) for key in ("bus", "addr", "scsi-id", "lun")} == {
            key: after[name].get(key) for key in ("bus", "addr", "scsi-id", "lun")
        }
    # The number of a PCI Express bus counts the bridges before it.
    bridges = [
        [d["id"] for d in found.values() if "chassis" in d or "bridge" in d["driver"]] for found in (before, after)
    ]
    assert bridges[1][: len(bridges[0])] == bridges[0]


def decoded(argv: list[str]) -> list[Any]:
    """The arguments as QEMU reads them: JSON, or `key=value` with doubled commas."""
    found: list[Any] = []
    for word in argv:
        if word.startswith("{"):
            found.append(json.loads(word))
        else:
            found.append([part.replace("\0", ",") for part in word.replace(",,", "\0").split(",")])
    return found


def changed(before: Any, after: Any) -> list[tuple[Any, Any]]:
    """The leaves in which two values of the same shape differ; a different shape is a leaf."""
    if type(before) is type(after) and isinstance(before, list) and len(before) == len(after):
        return [pair for a, b in zip(before, after, strict=True) for pair in changed(a, b)]
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return [pair for key in before for pair in changed(before[key], after[key])]
    return [] if before == after else [(before, after)]


def hostile(field: str, value: str) -> VmPlan:
    """A plan in which one value is the given text, without the records' own checks: the renderer stands alone."""
    plan = plan_of(
        scsi0=DISK + ",serial=harmless", ide0=DISK + ",model=harmless", smbios1="product=harmless", cpu="EPYC",
        name="harmless", net0="virtio=02:00:00:AA:BB:00,bridge=vmbr0", vmgenid="1", serial0="socket",
        startdate="2006-06-17", keyboard="de", machine="q35",
    )  # fmt: skip
    config = plan.config
    if field == "serial":
        disk = PlannedDisk("scsi0", config.scsi[0].model_copy(update={"serial": value}), Path("/a"))
        return replace(plan, disks=[disk, *plan.disks[1:]])
    if field == "model":
        disks = [
            replace(d, options=d.options.model_copy(update={"model": value})) if d.key == "ide0" else d
            for d in plan.disks
        ]
        return replace(plan, disks=disks)
    if field in ("name", "uuid", "vmgenid", "machine"):
        return replace(plan, **{field: value})
    if field == "product":
        return replace(plan, config=config.model_copy(update={"smbios1": Smbios.model_construct(product=value)}))
    if field == "cputype":
        return replace(plan, config=config.model_copy(update={"cpu": Cpu.model_construct(cputype=value)}))
    if field == "mac":
        nic = config.net[0].model_copy(update={"macaddr": value})
        return replace(plan, config=config.model_copy(update={"net": {0: nic}}))
    return replace(plan, config=config.model_copy(update={field: value}))


FIELDS = ("serial", "model", "name", "uuid", "vmgenid", "product", "cputype", "mac", "startdate", "keyboard")
TEXTS = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet=",='\" \\{}%:;/on\n", min_size=1, max_size=20),
    st.sampled_from(["a,id=b", "a,,b=c", '"},{"driver":"x"', "x,fd=3", "on,readonly=off"]),
)


@given(st.sampled_from(FIELDS), TEXTS)
def test_a_value_changes_nothing_but_itself(field: str, value: str) -> None:
    try:
        after = argv_of(hostile(field, value), TCG)
    except BastideError:
        return
    before = argv_of(hostile(field, "Skylake-Server" if field == "cputype" else "plain"), TCG)
    assert len(after) == len(before)
    if field in ("serial", "model", "product") and "%" in value:
        return  # percent-decoded
    # A key's value ends where the argument or the next key begins: at most one leaf is another.
    found = changed(decoded(before), decoded(after))
    assert len(found) <= 1
    for _, new in found:
        assert str(new).endswith(value)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(max_size=20), min_size=1), st.text(max_size=9))
def test_options_are_read_back_as_they_were(values: dict[str, str], first: str) -> None:
    try:
        written = option_text(values, f"x{first}")
    except InvalidParameter:
        return
    parts = re.findall(r"(?:[^,]|,,)+", written)
    assert [part.replace(",,", ",") for part in parts] == [f"x{first}", *(f"{k}={v}" for k, v in values.items())]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "aarch64": ("kvm", {"arch": "aarch64"}, "arch"),
    "sev": ("kvm", {"amd-sev": "type=std"}, "amd-sev"),
    "tdx": ("kvm", {"intel-tdx": "type=tdx"}, "intel-tdx"),
    "virtiofs": ("kvm", {"virtiofs3": "dirid=share"}, "virtiofs3"),
    "virt": ("kvm", {"machine": "virt"}, "machine"),
    "snapshot": ("kvm", {"scsi1": DISK + ",snapshot=1"}, "scsi1"),
    "virtio-gl": ("kvm", {"vga": "virtio-gl"}, "vga"),
    "no-spice": ("kvm-no-spice", {"vga": "qxl"}, "vga"),
    "no-spice-usb": ("kvm-no-spice", {"usb2": "spice"}, "usb2"),
    "cpu-unknown": ("kvm", {"cpu": "Z80"}, "cpu"),
    "cpu-custom": ("kvm", {"cpu": "custom-mine"}, "cpu"),
    "cpu-lacking": ("kvm", {"cpu": "Skylake-Server"}, "cpu"),
    "cpu-flag": ("kvm", {"cpu": "EPYC,flags=+nonsense"}, "cpu"),
    "cpu-guest-bits": ("kvm", {"cpu": "host,guest-phys-bits=40"}, "cpu"),
    "cpu-reported": ("kvm", {"cpu": "host,reported-model=EPYC"}, "cpu"),
    "cpu-v4-tcg": ("tcg", {"cpu": "x86-64-v4"}, "cpu"),
    "cores": ("kvm", {"cores": 128, "sockets": 4}, "cores"),
    "ovmf-keys-pc": ("kvm", {"bios": "ovmf", "efidisk0": DISK + ",efitype=4m,pre-enrolled-keys=1"}, "efidisk0"),
    "hugepages": ("kvm", {"hugepages": "2"}, "hugepages"),
    "hugepages-odd": ("kvm-huge", {"hugepages": "1024", "memory": "1500"}, "hugepages"),
    "numa-sum": ("kvm", {"numa": 1, "numa0": "cpus=0,memory=100"}, "numa0"),
    "numa-cpus": ("kvm", {"numa": 1, "numa0": "cpus=0-4,memory=512"}, "numa0"),
    "numa-gap": ("kvm", {"numa": 1, "cores": 2, "numa1": "cpus=0,memory=512"}, "numa0"),
    "smbios": ("kvm", {"smbios1": "base64=1,product=!"}, "smbios1"),
    "smbios-control": ("kvm", {"smbios1": "base64=1,product=YQpi"}, "smbios1"),
    "aio": ("kvm", {"scsi0": DISK + ",aio=native,cache=writeback"}, "scsi0"),
    "burst": ("kvm", {"scsi0": DISK + ",iops_rd=100,iops_rd_max=10"}, "scsi0"),
    "total": ("kvm", {"scsi0": DISK + ",iops=100,iops_rd=10"}, "scsi0"),
    "scsiblock": ("kvm", {"scsi0": DISK + ",scsiblock=1"}, "scsi0"),
    "virtio-empty": ("kvm", {"virtio0": "none,media=cdrom"}, "virtio0"),
    "mtu": ("kvm", {"net2": "e1000,bridge=vmbr0,mtu=1400"}, "net2"),
    "cirrus": ("kvm", {"vga": "cirrus,memory=64"}, "vga"),
    "pcie-pc": ("kvm", {"hostpci0": "01:00.0,pcie=1"}, "hostpci0"),
    "igd-q35": ("kvm", {"hostpci0": "00:02.0,legacy-igd=1", "machine": "q35"}, "hostpci0"),
    "igd-vga": ("kvm", {"hostpci0": "00:02.0,legacy-igd=1", "vga": "std"}, "hostpci0"),
    "viommu": ("kvm", {"machine": "pc,viommu=intel"}, "machine"),
    "ivshmem": ("kvm", {"ivshmem": "size=33"}, "ivshmem"),
    "usb": ("kvm", {"usb1": "mapping=stick"}, "usb1"),
    "agent": ("kvm", {"agent": "1,type=isa", **{f"serial{n}": "socket" for n in range(4)}}, "agent"),
    "args": ("kvm", {"args": "-device 'x"}, "args"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_name(name: str) -> None:
    host, options, option = REFUSED[name]
    plan = plan_of(**options)
    with pytest.raises((InvalidParameter, NotSupported), match=rf"^{option}: "):
        assert argv_of(plan, HOSTS[host]) == startup_commands(plan)
    assert set(refusals(plan, HOSTS[host])) == {option}


def test_refusals_name_every_option_at_once() -> None:
    plan = plan_of(cpu="Z80", vga="virtio-gl", arch="aarch64", args="'")
    assert set(refusals(plan, KVM)) == {"cpu", "vga", "arch", "args"}
    assert refusals(plan_of(), KVM) == {}


def test_images_have_an_explicit_driver_and_no_file_of_their_headers_choice() -> None:
    for name in names():
        host, config = read(name)
        for top in map(json.loads, values_of(argv_of(planned(config), host), "-blockdev")):
            node = top
            while node is not None:
                assert node["driver"] in ("raw", "qcow2", "vmdk")
                assert node["file"]["driver"] in ("file", "host_device")
                assert re.fullmatch(r"/dev/fdset/\d+", node["file"]["filename"])
                assert node is top or node["read-only"]
                assert ("backing" in node) == (node["driver"] != "raw")
                node = node.get("backing")


def test_a_chain_has_a_descriptor_and_a_node_for_each_image() -> None:
    plan = planned(read("disks-chain")[1])
    disk = plan.disk("scsi0")
    assert disk is not None
    needs = render_disks.disk_needs(disk)
    assert [(need.name, need.read_only) for need in needs] == [("scsi0", False), ("scsi0.1", True), ("scsi0.2", True)]
    assert [need.image and need.image.backing and need.image.backing.path for need in needs] == [
        needs[1].path, needs[2].path, None,
    ]  # fmt: skip
    node = render_disks.disk_blockdev(plan, disk, [7, 8, 9], "a1b2")
    files = [node["file"], node["backing"]["file"], node["backing"]["backing"]["file"]]
    assert [file["node-name"] for file in files] == ["file-scsi0-a1b2", "file-scsi0-a1b2.1", "file-scsi0-a1b2.2"]
    assert [file["filename"] for file in files] == ["/dev/fdset/7", "/dev/fdset/8", "/dev/fdset/9"]
    assert [file["read-only"] for file in files] == [False, True, True]
    assert "backing" not in node["backing"]["backing"], "a raw base names nothing"


@pytest.mark.parametrize("key", ["scsi0", "virtio15", "efidisk0"])
def test_a_copys_token_is_read_from_its_nodes_name(key: str) -> None:
    assert render_disks.token_of(f"drive-{render_disks.image_name(key)}", key) is None
    assert render_disks.token_of(f"drive-{render_disks.image_name(key, '0123456789ab')}", key) == "0123456789ab"
    assert len(f"drive-{render_disks.image_name(key, '0123456789ab')}.9") <= 31, "QEMU's longest name of a node"


def test_nothing_listens_and_nothing_is_opened_by_name() -> None:
    for name in names():
        argv = argv_of(planned(read(name)[1]), read(name)[0])
        if name in ("arguments", "hostpci", "hostpci-mdev"):
            continue
        assert not [word for word in argv[1:] if "/" in re.sub(r"/dev/fdset/\d+", "", word)]
        assert not [word for word in argv if re.search(r"port=\d|host=|addr=\d+\.", word)]


def test_the_same_functions_serve_plugging() -> None:
    plan = plan_of(
        scsi1=DISK + ",iothread=1", scsihw="virtio-scsi-single", net2="virtio,queues=2,bridge=vmbr0", cores="4",
        machine="q35", ostype="l26", usb3="host=1-1",
    )  # fmt: skip
    disk = plan.disk("scsi1")
    assert disk is not None
    assert render_disks.disk_device(plan, disk, boot_places(plan).get("scsi1")) == device_of(plan, "scsi1")
    assert render_disks.disk_controller(plan, disk) == device_of(plan, "scsihw1")
    assert render_disks.disk_iothread(plan, disk) == {"qom-type": "iothread", "id": "iothread-scsi1"}
    named = render_network.nic_netdev(plan, 2, ["tap2-0", "tap2-1"], ["vhost-0", "vhost-1"])
    assert named == {
        "type": "tap", "id": "hostnet2", "fds": "tap2-0:tap2-1", "vhost": True, "vhostfds": "vhost-0:vhost-1",
    }  # fmt: skip
    assert render_usb.usb_device(plan, 3) == device_of(plan, "usb3")
    assert cpu_device(plan, KVM, 3) == {
        "driver": "kvm64-x86_64-cpu", "id": "cpu3", "socket-id": 0, "core-id": 3, "thread-id": 0,
    }  # fmt: skip
    memory, module = memory_module(plan, KVM, 7, 512)
    assert memory["size"] == 512 * MIB
    assert module == {"driver": "pc-dimm", "id": "dimm7", "memdev": memory["id"]}


def test_limits() -> None:
    options = ScsiDrive.parse({"file": DISK, "mbps": 1.5, "iops_rd": 7, "iops_rd_max": 9, "iops_rd_max_length": 3})
    limits = render_disks.disk_limits(PlannedDisk("scsi0", options, Path("/a")))
    assert limits == {
        "id": "scsi0", "bps": 1572864, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 7, "iops_wr": 0,
        "iops_rd_max": 9, "iops_rd_max_length": 3,
    }  # fmt: skip


def test_a_read_only_image_stays_so() -> None:
    plan = plan_of(scsi0=DISK)
    disk = replace(plan.disks[0], read_only=True)
    (need,) = render_disks.disk_needs(disk)
    node = render_disks.disk_blockdev(plan, disk, [3])
    assert need.read_only
    assert node["read-only"]
    assert node["file"]["read-only"]
    with pytest.raises(InvalidParameter, match=r"^ide0: .*read only"):
        render_disks.disk_device(plan, PlannedDisk("ide0", IdeDrive.parse({"file": DISK}), Path("/a"), read_only=True))


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, {"scsi0": 1, "ide2": 2, "net0": 3}),
        ({"boot": "order=net1;scsi0;"}, {"net1": 1, "scsi0": 2}),
        ({"boot": "nc"}, {"net0": 1, "net1": 2, "scsi0": 3}),
        ({"boot": "d"}, {"ide2": 1}),
        ({"boot": "c", "bootdisk": "virtio0"}, {"virtio0": 1}),
    ],
)
def test_boot_order(options: dict[str, str], places: dict[str, int]) -> None:
    nics = {f"net{index}": "virtio,bridge=vmbr0" for index in (0, 1)}
    plan = plan_of(scsi0=DISK, virtio0=DISK, ide2="none,media=cdrom", **nics, **options)
    assert boot_places(plan) == places
    for key in ("scsi0", "virtio0", "ide2", "net0", "net1"):
        assert device_of(plan, key).get("bootindex") == places.get(key)
