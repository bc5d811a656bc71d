"""QEMU's argument list for a VM: a pure function of the plan, the host's facts and the inherited descriptors.

QEMU starts paused (`-S`): the engine runs `startup_commands` over QMP and then lets the guest go, unless `freeze` says
otherwise. The dictionaries of `render_disks`, `render_network`, `render_usb`, `render_cpu` and `render_machine` are
also what is plugged into a running VM, so that a device is the same whichever way it came.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bastide.base.errors import BastideError, InvalidParameter
from bastide.base.units import MIB
from bastide.guest.qemu.launch import Need
from bastide.guest.qemu.render import cpu as render_cpu
from bastide.guest.qemu.render import devices as render_devices
from bastide.guest.qemu.render import disks as render_disks
from bastide.guest.qemu.render import display as render_display
from bastide.guest.qemu.render import machine as render_machine
from bastide.guest.qemu.render import network as render_network
from bastide.guest.qemu.render import passthrough as render_passthrough
from bastide.guest.qemu.render import pci as render_pci
from bastide.guest.qemu.render import usb as render_usb
from bastide.guest.qemu.render.base import Properties, invalid, is_q35, json_text, option_text, unsupported
from bastide.guest.qemu.render.boot import boot_places
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host.qemu_facts import HostFacts
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import EfiDisk

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_REBOOT_TIMEOUT = 1000  # ms until firmware that found nothing to boot tries again
_BALLOON_POLLING = 2  # seconds between the guest's reports of its memory
_FIRMWARE_CODE, _EFI_VARIABLES = "pflash0", "efidisk0"


def needs(plan: VmPlan, host: HostFacts) -> list[Need]:
    """What has to be opened for QEMU, in order. Names are unique. Raises InvalidParameter, NotSupported."""
    found = [Need("qmp", "listener")]
    code = render_machine.firmware(plan.config, host, q35=is_q35(plan))
    if code is not None:
        found.append(Need(_FIRMWARE_CODE, "image", path=code.code, read_only=True))
        if plan.config.efidisk0 is None:
            # Without a volume UEFI forgets its variables when the VM ends.
            found.append(Need(_EFI_VARIABLES, "copy", path=code.variables))
    for disk in plan.disks:
        if disk.key != "tpmstate0" and (disk.key != "efidisk0" or code is not None):
            found += render_disks.disk_needs(disk)
    found += render_devices.character_needs(plan)
    for index in sorted(plan.config.net):
        found += render_network.nic_needs(plan, host, index)
    return found


def render_argv(
    plan: VmPlan, host: HostFacts, fds: Mapping[str, Sequence[int]], *, incoming: bool = False
) -> list[str]:
    """The argument list, from QEMU's own path on. `fds` has the numbers of what `needs` names.

    `incoming`: it is to wait for the state that it begins with. Raises InvalidParameter or NotSupported, which name the
    option.
    """
    refuse(plan.config)
    sets, opened = _descriptor_sets(plan, host, fds)
    sockets = {need.name: fds[need.name][0] for need in needs(plan, host) if need.kind in ("listener", "peer")}
    argv = [
        str(host.emulator.binary),
        *("-name", option_text({"guest": plan.name, "debug-threads": True})),
        *("-no-user-config", "-nodefaults", "-S"),
        *("-msg", "timestamp=on"),
        *("-sandbox", SANDBOX),
        *opened,
        *_board(plan, host),
        *_each("-chardev", render_devices.chardevs(plan, sockets, sets)),
        *("-mon", "chardev=qmp,mode=control"),
        *render_display.display_arguments(plan, host),
        *_backends(plan, fds, sets),
    ]
    for device in devices(plan, host):
        argv += ["-device", json_text(device)]
    argv += ["-incoming", "defer"] if incoming else []
    return argv + _own_arguments(plan.config)


def devices(plan: VmPlan, host: HostFacts) -> list[Properties]:
    """Every device of the argument list, each after what it hangs on."""
    places = boot_places(plan)
    found = [render_devices.virtual_iommu(plan), *render_pci.bridges(plan), *render_usb.usb_controllers(plan)]
    found += [*render_cpu.cpu_devices(plan, host), render_machine.vmgenid_device(plan)]
    found += [*render_display.vga_devices(plan, host), render_display.pointer_device(plan)]
    found += [*render_devices.port_devices(plan), render_devices.balloon_device(plan)]
    found += [part[-1] for part in (render_devices.rng(plan, {}), render_devices.tpm(plan)) if part is not None]
    memory, watchdog = render_devices.shared_memory(plan), render_devices.watchdog(plan)
    found += [memory[1] if memory is not None else None, watchdog[0] if watchdog is not None else None]
    found += render_display.audio_devices(plan)
    if plan.config.ostype == "l26":
        found.append({"driver": "pvpanic", "id": "pvpanic"})
    found += render_disks.controllers(plan)
    found += [render_disks.disk_device(plan, disk, places.get(disk.key)) for disk in render_disks.drives(plan)]
    for index in sorted(plan.config.net):
        found.append(render_network.nic_device(plan, index, places.get(f"net{index}")))
    for index in sorted(plan.config.usb):
        place = places.get(f"usb{index}")
        found.append(render_usb.usb_device(plan, index) | ({"bootindex": place} if place is not None else {}))
    for index in sorted(plan.config.hostpci):
        found += render_passthrough.passed_devices(plan, index, places.get(f"hostpci{index}"))
    return [device for device in found if device is not None]


def startup_commands(plan: VmPlan) -> list[tuple[str, dict[str, Any]]]:
    """The QMP commands that complete a VM which `render_argv` started, before its first instruction: name, arguments.

    Rates of drives, cables that are not plugged in, the balloon's target, and how often the guest tells of its memory.
    """
    commands: list[tuple[str, dict[str, Any]]] = [
        ("block_set_io_throttle", render_disks.disk_limits(disk))
        for disk in render_disks.drives(plan)
        if render_disks.is_limited(disk)
    ]
    config = plan.config
    commands += [
        ("set_link", {"name": f"net{index}", "up": False}) for index, nic in sorted(config.net.items()) if nic.link_down
    ]
    if config.balloon != 0:
        polling = {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval"}
        commands.append(("qom-set", {**polling, "value": _BALLOON_POLLING}))
        if config.balloon is not None and config.balloon < config.memory_mib:
            commands.append(("balloon", {"value": config.balloon * MIB}))
    return commands


def refuse(config: VmConfig) -> None:
    """Raise NotSupported, naming the option, for what no VM here can have."""
    if config.arch not in (None, "x86_64"):
        raise unsupported("arch", f"there is no QEMU for {config.arch} here")
    if config.amd_sev is not None:
        raise unsupported("amd-sev", "encrypted memory is not built")
    if config.intel_tdx is not None:
        raise unsupported("intel-tdx", "trust domains are not built")
    if config.virtiofs:
        raise unsupported(f"virtiofs{min(config.virtiofs)}", "shared folders are not built")
    if config.machine is not None and (config.machine.type or "").startswith("virt"):
        raise unsupported("machine", "virt is a machine for aarch64")


def refusals(plan: VmPlan, host: HostFacts) -> dict[str, str]:
    """{option: why} of all that this host cannot fulfil of a plan; empty when QEMU would be started.

    Paths and taps of the plan are not looked at, so that it may be a draft.
    """
    found: dict[str, str] = {}
    parts: list[Callable[[], object]] = [
        lambda: refuse(plan.config),
        lambda: needs(plan, host),
        lambda: _board(plan, host),
        lambda: render_display.display_arguments(plan, host),
        lambda: devices(plan, host),
        lambda: startup_commands(plan),
        lambda: _own_arguments(plan.config),
        lambda: render_argv(plan, host, {need.name: range(need.count) for need in needs(plan, host)}),
    ]
    for part in parts:
        try:
            part()
        except InvalidParameter as error:
            found = error.errors | found
        except BastideError as error:
            option, _, why = str(error).partition(": ")
            found.setdefault(option, why)
    return found


def _descriptor_sets(
    plan: VmPlan, host: HostFacts, fds: Mapping[str, Sequence[int]]
) -> tuple[dict[str, int], list[str]]:
    """{name: its descriptor set}, and the arguments that make the sets. QEMU opens `/dev/fdset/N` for a set's file."""
    sets: dict[str, int] = {}
    argv: list[str] = []
    for need in needs(plan, host):
        if need.kind in ("image", "copy", "device"):
            sets[need.name] = len(sets) + 1
            argv += ["-add-fd", option_text({"fd": fds[need.name][0], "set": sets[need.name], "opaque": need.name})]
    return sets, argv


def _board(plan: VmPlan, host: HostFacts) -> list[str]:
    config = plan.config
    argv = ["-machine", render_machine.machine_argument(plan, host)]
    argv += ["-accel", render_machine.accelerator_argument(plan, host)]
    argv += ["-cpu", render_cpu.cpu_argument(plan, host), "-smp", render_cpu.smp_argument(plan)]
    argv += ["-m", render_machine.memory_argument(plan)]
    argv += _each("-object", map(json_text, render_machine.memory_objects(plan, host)))
    argv += _each("-numa", render_machine.numa_arguments(plan))
    argv += _each("-global", render_machine.global_arguments(plan, host))
    clock = render_machine.rtc_argument(plan)
    argv += ["-rtc", clock] if clock is not None else []
    argv += ["-smbios", render_machine.smbios_argument(plan)]
    argv += ["-boot", option_text({"strict": True, "reboot-timeout": _REBOOT_TIMEOUT})]
    if config.reboot is False:
        argv.append("-no-reboot")
    watchdog = render_devices.watchdog(plan)
    argv += ["-action", watchdog[1]] if watchdog is not None else []
    # A guest that panics goes on to its dump or its reboot; the event is told all the same.
    return [*argv, "-action", "panic=none"] if config.ostype == "l26" else argv


def _backends(plan: VmPlan, fds: Mapping[str, Sequence[int]], sets: Mapping[str, int]) -> list[str]:
    """What devices refer to: images, threads, network backends, sound, TPM, random numbers, shared memory."""
    nodes = [render_disks.pflash_blockdev(sets[_FIRMWARE_CODE])] if _FIRMWARE_CODE in sets else []
    if plan.config.efidisk0 is None and _EFI_VARIABLES in sets:
        variables = PlannedDisk(_EFI_VARIABLES, EfiDisk(file="none"), None)
        nodes.append(render_disks.disk_blockdev(plan, variables, [sets[_EFI_VARIABLES]]))
    for disk in plan.disks:
        if disk.key in sets:
            fdsets = [sets[need.name] for need in render_disks.disk_needs(disk)]
            nodes.append(render_disks.disk_blockdev(plan, disk, fdsets))
    threads = [render_disks.disk_iothread(plan, disk) for disk in render_disks.drives(plan)]
    pairs = (render_devices.rng(plan, sets), render_devices.shared_memory(plan))
    objects = [*threads, *(pair[0] for pair in pairs if pair is not None)]
    cards = [
        render_network.nic_netdev(plan, index, fds[f"net{index}"], fds.get(f"vhost-net{index}", ()))
        for index in sorted(plan.config.net)
    ]
    sound, tpm = render_display.audio_backend(plan), render_devices.tpm(plan)
    return [
        *_each("-object", [json_text(one) for one in objects if one is not None]),
        *_each("-blockdev", map(json_text, nodes)),
        *_each("-netdev", map(json_text, cards)),
        *(["-audiodev", json_text(sound)] if sound is not None else []),
        *(["-tpmdev", tpm[0]] if tpm is not None else []),
    ]


def _own_arguments(config: VmConfig) -> list[str]:
    """The words of `args`, which root alone may set."""
    try:
        return shlex.split(config.args or "")
    except ValueError as error:
        raise invalid("args", f"{error}") from None


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
