"""VMs' plans for tests of the renderer: from the golden files' `.conf` texts, with hosts that are known by name.

A `.conf` is what `qm.conf` holds, after a line `#host: NAME` that names one of `HOSTS`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bastide.base.units import GIB, KIB, MIB
from bastide.guest.qemu.launch import Need
from bastide.guest.qemu.render.argv import needs, render_argv, startup_commands
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host.qemu_facts import CpuModel, Emulator, HostFacts, HugePages
from bastide.host.qemu_firmware import Firmware
from bastide.model.storage import DiskFormat, DiskImage
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Volume

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "qemu"
UUID = "01234567-89ab-4cde-8f01-23456789abcd"
VMGENID = "fedcba98-7654-4321-8fed-cba987654321"

_OVMF = Path("/usr/share/OVMF")
_FIRMWARE = (
    Firmware(_OVMF / "OVMF_CODE_4M.ms.fd", _OVMF / "OVMF_VARS_4M.ms.fd", "4m", True, True, True),
    Firmware(_OVMF / "OVMF_CODE_4M.secboot.fd", _OVMF / "OVMF_VARS_4M.fd", "4m", True, False, True),
    Firmware(_OVMF / "OVMF_CODE_4M.fd", _OVMF / "OVMF_VARS_4M.fd", "4m"),
    Firmware(_OVMF / "OVMF_CODE.fd", _OVMF / "OVMF_VARS.fd", "2m"),
)
_EMULATOR = Emulator(
    binary=Path("/usr/bin/qemu-system-x86_64"),
    version=(7, 2, 22),
    machines=(),
    cpu_models=(
        *(CpuModel(name) for name in ("EPYC", "Haswell-noTSX", "host", "kvm64", "max", "qemu64")),
        CpuModel("Skylake-Server", ("avx512f", "mpx", "pcid")),
    ),
    flags=frozenset({"aes", "pcid", "spec-ctrl", "sse4.1"}),
    devices=frozenset({"VGA", "cirrus-vga", "vmware-svga", "virtio-vga", "qxl-vga", "qxl"}),
    types=frozenset({"chardev-spicevmc"}),
    commands=frozenset({"query-spice"}),
)
KVM = HostFacts(_EMULATOR, None, firmware=_FIRMWARE, cpu_vendor="GenuineIntel", cpus=8, cgroups="v2")
TCG = replace(KVM, kvm_refusal="this machine's processors have no virtualization extensions")
HOSTS: Mapping[str, HostFacts] = {
    "kvm": KVM,
    "kvm-vhost": replace(KVM, vhost_net=True),
    "kvm-huge": replace(KVM, hugepages=(HugePages(2 * MIB, 4096, 4096), HugePages(GIB, 8, 8))),
    "kvm-no-spice": replace(KVM, emulator=replace(_EMULATOR, types=frozenset())),
    "tcg": TCG,
    "tcg-vhost": replace(TCG, vhost_net=True),
}
_MACHINES = {None: "pc-i440fx-7.2", "pc": "pc-i440fx-7.2", "q35": "pc-q35-7.2"}


def names() -> list[str]:
    """The golden files' names."""
    return sorted(path.stem for path in GOLDEN.glob("*.conf"))


def read(name: str) -> tuple[HostFacts, VmConfig]:
    """A golden file's host and options."""
    first, *lines = (GOLDEN / f"{name}.conf").read_text().splitlines()
    values = dict(line.split(": ", 1) for line in lines)
    return HOSTS[first.removeprefix("#host: ")], VmConfig.parse(values)


def planned(config: VmConfig, *, vmid: int = 100) -> VmPlan:
    """A plan with paths, taps and devices that are made up from the options."""
    kind = config.machine.type if config.machine is not None else None
    return VmPlan(
        vmid=vmid,
        name=config.name or "vm",
        config=config,
        disks=[_disk(key, volume) for key, volume in config.volumes()],
        taps={index: f"tap{vmid}i{index}" for index in config.net},
        uid=100000,
        machine=_MACHINES.get(kind) or str(kind),
        uuid=(config.smbios1.uuid if config.smbios1 is not None else None) or UUID,
        vmgenid=VMGENID if config.vmgenid is not None else None,
        pci={index: _functions(options.host or "", options.mdev) for index, options in config.hostpci.items()},
        bridge_mtu={index: 1450 for index, nic in config.net.items() if nic.mtu == 1},
    )


def numbered(wanted: list[Need]) -> dict[str, list[int]]:
    """Numbers of descriptors, counted on from 10."""
    found: dict[str, list[int]] = {}
    at = 10
    for need in wanted:
        found[need.name] = list(range(at, at + need.count))
        at += need.count
    return found


def text(plan: VmPlan, host: HostFacts) -> str:
    """All that the renderer says of a plan: what is opened, the arguments a line each, the commands that follow."""
    wanted = needs(plan, host)
    lines = ["# opened, by name"]
    for need in wanted:
        words = [need.name, need.kind, str(need.path or need.interface or "-")]
        words += ["read-only"] if need.read_only else []
        words += [f"x{need.count}"] if need.count > 1 else []
        lines.append(" ".join(words))
    lines += ["# arguments", *render_argv(plan, host, numbered(wanted)), "# commands"]
    lines += [f"{name} {json.dumps(arguments)}" for name, arguments in startup_commands(plan)]
    return "\n".join(lines) + "\n"


def _disk(key: str, volume: Volume) -> PlannedDisk:
    name = volume.file.rpartition("/")[2]
    if volume.file == "none":
        return PlannedDisk(key, volume, None)
    size = 8 * GIB if key != "efidisk0" else 528 * KIB if getattr(volume, "efitype", None) == "4m" else 128 * KIB
    if volume.file == "cdrom" or volume.file.startswith("/dev/"):
        path = Path("/dev/cdrom" if volume.file == "cdrom" else volume.file)
        return PlannedDisk(key, volume, path, size=size, device=True)
    # A linked clone is named with its base: `100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2`.
    image: DiskImage | None = None
    for part in volume.file.partition(":")[2].split("/"):
        if "." in part:
            image = DiskImage(Path("/srv/volumes") / part, _format(part), backing=image)
    backing = image.backing if image is not None else None
    path = Path("/srv/volumes") / name
    return PlannedDisk(key, volume, path, _format(name), size, name.endswith(".iso"), backing=backing)


def _format(name: str) -> DiskFormat:
    endings: dict[str, DiskFormat] = {"qcow2": "qcow2", "vmdk": "vmdk"}
    return endings.get(name.rpartition(".")[2], "raw")


def _functions(text: str, mdev: str | None) -> list[str]:
    if mdev is not None:
        return ["/sys/bus/mdev/devices/00000000-0000-0000-0000-000000000100"]
    where = text if text.count(":") > 1 else f"0000:{text}"
    return [where] if "." in where else [f"{where}.0", f"{where}.1"]
