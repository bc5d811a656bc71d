"""The board: machine type and accelerator, memory and NUMA nodes, clock, firmware, identity.

Sources: QEMU's manual (-machine, -accel, -m, -numa, -rtc, -smbios, -global), edk2's OVMF README for the flash chips and
system management mode, qm.conf(5).
"""

import base64
import binascii
from collections.abc import Mapping, Sequence

from bastide.base.units import GIB, MIB
from bastide.guest.qemu.render.base import (
    Properties,
    invalid,
    is_q35,
    machine_type,
    machine_version,
    option_text,
    unsupported,
    uses_kvm,
)
from bastide.guest.vm_protocol import VmPlan
from bastide.host import qemu_firmware
from bastide.host.qemu_facts import HostFacts
from bastide.host.qemu_firmware import Firmware
from bastide.model.record import forbidden_character
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import EfiDisk

Options = dict[str, str | int | bool]
DIMM_SLOTS = 64
"""How many memory modules can be plugged into a VM whose `hotplug` names memory."""

_PLUGGABLE = 64 * GIB
_OLD_WINDOWS = frozenset({"wxp", "w2k", "w2k3"})
_SMALL_CACHE, _MIDDLE_CACHE, _LARGE_CACHE = 64, 128, 256  # MiB
_SMBIOS = ("manufacturer", "product", "version", "serial", "sku", "family")


def machine_argument(plan: VmPlan, host: HostFacts) -> str:
    """The value of -machine."""
    config = plan.config
    values: Options = {"dump-guest-core": False}
    if config.acpi is False:
        values["acpi"] = False
    if config.allow_ksm is False:
        values["mem-merge"] = False
    if config.is_windows and config.ostype not in _OLD_WINDOWS and uses_kvm(plan, host):
        values["hpet"] = False
    if config.machine is not None and config.machine.viommu == "intel":
        values["kernel-irqchip"] = "split"
    if config.hugepages is not None and not _nodes(config):
        values["memory-backend"] = "ram"
    chosen = firmware(config, host, q35=is_q35(plan))
    if chosen is not None:
        values |= {"pflash0": "drive-pflash0", "pflash1": "drive-efidisk0"}
        if chosen.smm:
            values["smm"] = True
    return option_text(values, machine_type(plan))


def accelerator_argument(plan: VmPlan, host: HostFacts) -> str:
    """The value of -accel. Emulation's cache of translated code is in proportion to the guest: its default is 1 GiB."""
    if uses_kvm(plan, host):
        return "kvm"
    memory = plan.config.memory_mib
    cache = _SMALL_CACHE if memory <= 512 else _MIDDLE_CACHE if memory <= 2048 else _LARGE_CACHE
    return option_text({"thread": "multi", "tb-size": cache}, "tcg")


def firmware(config: VmConfig, host: HostFacts, *, q35: bool) -> Firmware | None:
    """UEFI's images for `bios: ovmf`, None for SeaBIOS. Raises NotSupported when the host has none that fits."""
    if config.bios != "ovmf":
        return None
    disk = config.efidisk0 or EfiDisk(file="none", efitype="4m")
    chosen = qemu_firmware.choose(
        host.firmware, efitype=disk.efitype or "2m", enrolled_keys=bool(disk.pre_enrolled_keys), smm=q35
    )
    if chosen is None:
        keys = " with keys for Secure Boot" if disk.pre_enrolled_keys else ""
        raise unsupported("efidisk0", f"this host has no UEFI of type {disk.efitype or '2m'}{keys} for this machine")
    return chosen


def global_arguments(plan: VmPlan, host: HostFacts) -> list[str]:
    """The values of -global."""
    config = plan.config
    found: list[str] = []

    def add(driver: str, name: str, value: str | int | bool) -> None:
        found.append(option_text({"driver": driver, "property": name, "value": value}))

    chosen = firmware(config, host, q35=is_q35(plan))
    if chosen is not None and chosen.smm:
        add("cfi.pflash01", "secure", True)
    if uses_kvm(plan, host) and (config.tdf or config.is_windows):
        add("kvm-pit", "lost_tick_policy", "discard")
    chip = "ICH9-LPC" if is_q35(plan) else "PIIX4_PM"
    machine = config.machine
    for state, wanted in (
        ("s3", machine.enable_s3 if machine else None),
        ("s4", machine.enable_s4 if machine else None),
    ):
        if wanted is False or (wanted is None and machine_version(plan) >= (9, 2)):
            add(chip, f"disable_{state}", 1)
    return found


def rtc_argument(plan: VmPlan) -> str | None:
    """The value of -rtc: Windows keeps the local time in its clock unless `localtime` says otherwise."""
    config = plan.config
    values: Options = {}
    if config.startdate is not None and config.startdate != "now":
        values["base"] = config.startdate
    elif config.localtime or (config.localtime is None and config.is_windows):
        values["base"] = "localtime"
    if config.tdf or config.is_windows:
        values["driftfix"] = "slew"
    return option_text(values) if values else None


def memory_argument(plan: VmPlan) -> str:
    """The value of -m."""
    config = plan.config
    values: Options = {"size": f"{config.memory_mib}M"}
    if "memory" in config.hotplugged:
        values |= {"slots": DIMM_SLOTS, "maxmem": f"{config.memory_mib + _PLUGGABLE // MIB}M"}
    return option_text(values)


def memory_objects(plan: VmPlan, host: HostFacts) -> list[Properties]:
    """The objects that hold the guest's memory, where it is not QEMU's plain one: huge pages, NUMA nodes."""
    config = plan.config
    nodes = _nodes(config)
    if nodes:
        return [
            {**_backend(config, host, f"ram-node{number}", size), **_placing(config, number)}
            for number, (size, _) in nodes.items()
        ]
    return [_backend(config, host, "ram", config.memory_mib)] if config.hugepages is not None else []


def numa_arguments(plan: VmPlan) -> list[str]:
    """The values of -numa."""
    return [
        option_text({"nodeid": number, "cpus": cpus, "memdev": f"ram-node{number}"}, "node")
        for number, (_, cpus) in _nodes(plan.config).items()
    ]


def memory_module(plan: VmPlan, host: HostFacts, number: int, mib: int) -> tuple[Properties, Properties]:
    """A memory module for object-add and device_add: `ram-dimm<number>` and the device `dimm<number>`."""
    backend = _backend(plan.config, host, f"ram-dimm{number}", mib)
    return backend, {"driver": "pc-dimm", "id": f"dimm{number}", "memdev": backend["id"]}


def smbios_argument(plan: VmPlan) -> str:
    """The value of -smbios. Raises InvalidParameter for a field that is not base64 though it should be."""
    smbios = plan.config.smbios1
    values: Options = {"type": 1, "uuid": plan.uuid}
    for name in _SMBIOS:
        text = getattr(smbios, name) if smbios is not None else None
        if text:
            values[name] = _decoded(text) if smbios is not None and smbios.base64 else text
    return option_text(values)


def vmgenid_device(plan: VmPlan) -> Properties | None:
    """The device that tells the guest whether it is a copy."""
    return {"driver": "vmgenid", "id": "vmgenid", "guid": plan.vmgenid} if plan.vmgenid is not None else None


def _decoded(text: str) -> str:
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise invalid("smbios1", f"'{text[:40]}' is not text in base64") from None
    if forbidden_character(plain) is not None:
        raise invalid("smbios1", f"'{text[:40]}' holds a control character")
    return plain


def _nodes(config: VmConfig) -> dict[int, tuple[int, Sequence[str]]]:
    """{node: (memory in MiB, ranges of CPUs)}; empty when the guest is not told of any."""
    if not config.numa and not config.numa_nodes:
        return {}
    if not config.numa_nodes:
        return _even_nodes(config)
    found: dict[int, tuple[int, Sequence[str]]] = {}
    for number, node in sorted(config.numa_nodes.items()):
        if node.memory is None:
            raise invalid(f"numa{number}", "memory: it is missing")
        ranges = node.cpus.split(";")
        if any(int(part) >= config.most_vcpus for each in ranges for part in each.split("-")):
            raise invalid(f"numa{number}", f"cpus: the VM has {config.most_vcpus}, counted from 0")
        found[number] = node.memory, ranges
    total = sum(size for size, _ in found.values())
    if total != config.memory_mib:
        raise invalid("numa0", f"the nodes have {total} MiB together, the VM has {config.memory_mib}")
    if list(found) != list(range(len(found))):
        raise invalid("numa0", "nodes are numbered from 0 without a gap")
    return found


def _even_nodes(config: VmConfig) -> dict[int, tuple[int, Sequence[str]]]:
    sockets, cores = config.socket_count, config.core_count
    share, rest = divmod(config.memory_mib, sockets)
    return {
        number: (share + (rest if number == 0 else 0), [f"{number * cores}-{(number + 1) * cores - 1}"])
        for number in range(sockets)
    }


def _placing(config: VmConfig, number: int) -> Properties:
    node = config.numa_nodes.get(number)
    if node is None or node.hostnodes is None:
        return {}
    numbers: set[int] = set()
    for part in node.hostnodes.split(";"):
        first, _, last = part.partition("-")
        if int(last or first) > 1023:
            raise invalid(f"numa{number}", f"hostnodes: there is no node {last or first}")
        numbers.update(range(int(first), int(last or first) + 1))
    return {"host-nodes": sorted(numbers), "policy": node.policy or "bind"}


def _backend(config: VmConfig, host: HostFacts, name: str, mib: int) -> Properties:
    backend: Properties = {"qom-type": "memory-backend-ram", "id": name, "size": mib * MIB}
    if config.hugepages is None:
        return backend
    page = _page_size(config, host, mib)
    return {**backend, "qom-type": "memory-backend-memfd", "hugetlb": True, "hugetlbsize": page, "prealloc": True}


def _page_size(config: VmConfig, host: HostFacts, mib: int) -> int:
    sizes = {pages.size for pages in host.hugepages}
    wanted: Mapping[str, Sequence[int]] = {"2": (2 * MIB,), "1024": (GIB,), "any": (GIB, 2 * MIB)}
    for size in wanted[str(config.hugepages)]:
        if size in sizes and mib * MIB % size == 0:
            return size
    raise unsupported("hugepages", f"this host has no huge pages of that size into which {mib} MiB divide")
