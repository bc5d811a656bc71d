"""The other devices: ports, agent, balloon, random numbers, watchdog, TPM, shared memory, virtual IOMMU.

Sources: QEMU's manual, docs/specs/ivshmem-spec.txt, qm.conf(5).
"""

from collections.abc import Mapping
from pathlib import Path

from bastide.base.units import MIB
from bastide.guest.qemu.launch import Need
from bastide.guest.qemu.render.base import Properties, invalid, is_q35, option_text, unsupported
from bastide.guest.qemu.render.display import uses_spice
from bastide.guest.qemu.render.pci import address
from bastide.guest.qemu.render.usb import usb_chardevs
from bastide.guest.vm_protocol import VmPlan
from bastide.model.vm import VmConfig

_AGENT_PORT = "org.qemu.guest_agent.0"
_SPICE_PORT = "com.redhat.spice.0"
_FOLDER_PORT = "org.spice-space.webdav.0"
_SERIAL_PORTS = 4
_PERIOD = 1000  # ms; of a limit of random numbers that names none


def character_needs(plan: VmPlan) -> list[Need]:
    """The listening sockets and character devices of ports, agent, TPM and random numbers."""
    config = plan.config
    needs = [Need("qga", "listener")] if config.agent_enabled else []
    for index, what in sorted(config.serial.items()):
        name = f"serial{index}"
        needs.append(Need(name, "listener") if what == "socket" else Need(name, "device", path=Path(what)))
    needs += [Need(f"parallel{index}", "device", path=Path(what)) for index, what in sorted(config.parallel.items())]
    if config.rng0 is not None and config.rng0.source == "/dev/hwrng":
        needs.append(Need("rng0", "device", path=Path(config.rng0.source), read_only=True))
    if config.tpmstate0 is not None:
        needs.append(Need("tpm", "peer"))
    return needs


def chardevs(plan: VmPlan, fds: Mapping[str, int], sets: Mapping[str, int]) -> list[str]:
    """The values of -chardev. `fds` are sockets' descriptors, `sets` the descriptor sets of character devices."""
    found = [
        option_text({"id": name, "fd": str(fds[name]), "server": True, "wait": False}, "socket")
        for name in ("qmp", "qga", *(f"serial{index}" for index in range(_SERIAL_PORTS)))
        if name in fds
    ]
    if "tpm" in fds:
        found.append(option_text({"id": "tpm", "fd": str(fds["tpm"])}, "socket"))
    for name, number in sets.items():
        if name.startswith(("serial", "parallel")):
            found.append(option_text({"id": name, "path": f"/dev/fdset/{number}"}, _backend(plan.config, name)))
    if uses_spice(plan):
        found.append(option_text({"id": "vdagent", "name": "vdagent"}, "spicevmc"))
        found += [option_text({"id": name, "name": "usbredir"}, "spicevmc") for name in usb_chardevs(plan)]
        if _shares_folders(plan.config):
            found.append(option_text({"id": "webdav", "name": _FOLDER_PORT}, "spiceport"))
    elif _has_clipboard(plan.config):
        found.append(option_text({"id": "vdagent", "name": "vdagent", "clipboard": True}, "qemu-vdagent"))
    return found


def port_devices(plan: VmPlan) -> list[Properties]:
    """Serial and parallel ports, the agent's port and those of SPICE's agents."""
    config = plan.config
    found: list[Properties] = [
        {"driver": "isa-serial", "id": f"serial{index}", "index": index, "chardev": f"serial{index}"}
        for index in sorted(config.serial)
    ]
    found += [
        {"driver": "isa-parallel", "id": f"parallel{index}", "index": index, "chardev": f"parallel{index}"}
        for index in sorted(config.parallel)
    ]
    channels: list[tuple[int, str, str, str]] = []
    if config.agent_enabled and config.agent is not None:
        if config.agent.type == "isa":
            found.append(_isa_agent(config))
        else:
            channels.append((1, "agent", "qga", _AGENT_PORT))
    if uses_spice(plan) or _has_clipboard(config):
        channels.append((2, "vdagent", "vdagent", _SPICE_PORT))
    if uses_spice(plan) and _shares_folders(config):
        channels.append((3, "webdav", "webdav", _FOLDER_PORT))
    if channels:
        found.append({"driver": "virtio-serial-pci", "id": "vserial0", **address(plan, "vserial0")})
    for number, name, chardev, port in channels:
        place = {"bus": "vserial0.0", "nr": number}
        found.append({"driver": "virtserialport", "id": name, **place, "chardev": chardev, "name": port})
    return found


def balloon_device(plan: VmPlan) -> Properties | None:
    """The balloon `balloon0`, unless `balloon` is 0. It tells of freed memory by itself."""
    if plan.config.balloon == 0:
        return None
    return {
        "driver": "virtio-balloon-pci",
        "id": "balloon0",
        **address(plan, "balloon0"),
        "free-page-reporting": True,
    }


def rng(plan: VmPlan, sets: Mapping[str, int]) -> tuple[Properties, Properties] | None:
    """The source `rng0-source` and the device `rng0`. The kernel's own numbers need no file to be opened."""
    options = plan.config.rng0
    if options is None:
        return None
    source: Properties = {"qom-type": "rng-builtin", "id": "rng0-source"}
    if "rng0" in sets:
        source |= {"qom-type": "rng-random", "filename": f"/dev/fdset/{sets['rng0']}"}
    device: Properties = {"driver": "virtio-rng-pci", "id": "rng0", "rng": source["id"], **address(plan, "rng0")}
    if options.max_bytes:
        device |= {"max-bytes": options.max_bytes, "period": options.period or _PERIOD}
    return source, device


def watchdog(plan: VmPlan) -> tuple[Properties, str] | None:
    """The device `watchdog0`, and what happens when it fires (the value of -action)."""
    options = plan.config.watchdog
    if options is None:
        return None
    device: Properties = {"driver": options.model or "i6300esb", "id": "watchdog0"}
    if device["driver"] == "i6300esb":
        device |= address(plan, "watchdog0")
    return device, option_text({"watchdog": options.action or "reset"})


def tpm(plan: VmPlan) -> tuple[str, Properties] | None:
    """The value of -tpmdev and the device `tpm0`."""
    if plan.config.tpmstate0 is None:
        return None
    backend = option_text({"id": "tpm0-backend", "chardev": "tpm"}, "emulator")
    return backend, {"driver": "tpm-tis", "id": "tpm0", "tpmdev": "tpm0-backend"}


def shared_memory(plan: VmPlan) -> tuple[Properties, Properties] | None:
    """The memory `ivshmem0-memory` and the device `ivshmem0`. The size is a power of two, as of every PCI memory."""
    options = plan.config.ivshmem
    if options is None:
        return None
    if options.size & (options.size - 1):
        raise invalid("ivshmem", f"size: {options.size} is not a power of two")
    memory: Properties = {"qom-type": "memory-backend-memfd", "id": "ivshmem0-memory", "size": options.size * MIB}
    device = {"driver": "ivshmem-plain", "id": "ivshmem0", "memdev": memory["id"], **address(plan, "ivshmem0")}
    return {**memory, "share": True}, device


def virtual_iommu(plan: VmPlan) -> Properties | None:
    """The guest's own IOMMU, which comes before every device that it watches."""
    machine = plan.config.machine
    kind = machine.viommu if machine is not None else None
    bits = machine.aw_bits if machine is not None else None
    if kind is None:
        return None
    if kind == "virtio":
        return {"driver": "virtio-iommu-pci", "id": "viommu0", **address(plan, "viommu0")}
    if not is_q35(plan):
        raise unsupported("machine", "viommu=intel needs a q35 machine")
    device: Properties = {"driver": "intel-iommu", "id": "viommu0", "intremap": "on", "caching-mode": True}
    return {**device, "aw-bits": int(bits)} if bits is not None else device


def _backend(config: VmConfig, name: str) -> str:
    # A printer at USB is written to as a terminal is; `parallel` would claim a port.
    printers = {f"parallel{index}" for index, path in config.parallel.items() if path.startswith("/dev/usb/")}
    return "serial" if name.startswith("serial") or name in printers else "parallel"


def _isa_agent(config: VmConfig) -> Properties:
    free = [index for index in range(_SERIAL_PORTS) if index not in config.serial]
    if not free:
        raise invalid("agent", "type: all four serial ports are taken")
    return {"driver": "isa-serial", "id": "agent", "index": free[0], "chardev": "qga"}


def _has_clipboard(config: VmConfig) -> bool:
    return config.vga is not None and config.vga.clipboard == "vnc"


def _shares_folders(config: VmConfig) -> bool:
    return config.spice_enhancements is not None and bool(config.spice_enhancements.foldersharing)
