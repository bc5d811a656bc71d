"""What a person sees and hears: graphics card, VNC and SPICE, keyboard layout, pointer, sound.

VNC and SPICE have no port: a client's connection is handed to QEMU (`add_client`). Sources: QEMU's manual, qm.conf(5).
"""

from bastide.base.units import MIB
from bastide.guest.qemu.render.base import Properties, check_id, invalid, needs_device, option_text, unsupported
from bastide.guest.qemu.render.pci import address
from bastide.guest.qemu.render.usb import pointer_bus
from bastide.guest.vm_protocol import VmPlan
from bastide.host.qemu_facts import HostFacts

_DRIVERS = {
    "std": "VGA", "cirrus": "cirrus-vga", "vmware": "vmware-svga", "virtio": "virtio-vga",
    "qxl": "qxl-vga", "qxl2": "qxl-vga", "qxl3": "qxl-vga", "qxl4": "qxl-vga",
}  # fmt: skip
_QXL_MEMORY = 16
_CIRRUS_MOST = 16


def screen(plan: VmPlan) -> str:
    """The type of the graphics card: `std` when none is asked for, and `none` where a passed one takes its place."""
    vga = plan.config.vga
    if vga is not None and vga.type is not None:
        return vga.type
    return "none" if any(device.x_vga or device.legacy_igd for device in plan.config.hostpci.values()) else "std"


def uses_spice(plan: VmPlan) -> bool:
    """Whether there is a SPICE server: for a qxl card, a redirected USB device, or sound that is sent to the client."""
    config = plan.config
    return (
        screen(plan).startswith("qxl")
        or any((device.host or "").lower() == "spice" for device in config.usb.values())
        or (config.audio0 is not None and config.audio0.driver == "spice")
    )


def display_arguments(plan: VmPlan, host: HostFacts) -> list[str]:
    """-vnc, -spice and -k. VNC's password is for clients that are handed over without `skipauth`."""
    argv = ["-display", "none", "-vnc", option_text({"password": True}, "none")]
    if uses_spice(plan):
        argv += ["-spice", _spice(plan, host)]
    keyboard = plan.config.keyboard or plan.keymap
    # A file's name in QEMU's folder of layouts.
    return [*argv, "-k", check_id(keyboard, "keyboard")] if keyboard is not None else argv


def vga_devices(plan: VmPlan, host: HostFacts) -> list[Properties]:
    """The graphics card `vga`, and the further ones of qxl2 to qxl4."""
    kind = screen(plan)
    if kind == "none" or kind.startswith("serial"):
        return []
    if kind == "virtio-gl":
        raise unsupported("vga", "virtio-gl needs the host's graphics card, which VMs' processes cannot reach")
    if kind.startswith("qxl") and not host.emulator.spice:
        raise unsupported("vga", "it needs SPICE, which this host's QEMU does not have")
    driver = _DRIVERS[kind]
    needs_device(host, driver, "vga")
    memory = _memory(plan, kind)
    cards: list[Properties] = [{"driver": driver, "id": "vga", **memory, **address(plan, "vga")}]
    if kind.startswith("qxl") and kind != "qxl":
        needs_device(host, "qxl", "vga")
        for number in range(1, int(kind[3:])):
            place = address(plan, f"vga{number}", express=False)
            cards.append({"driver": "qxl", "id": f"vga{number}", **memory, **place})
    return cards


def pointer_device(plan: VmPlan) -> Properties | None:
    """The tablet `tablet`: a pointer without acceleration. SPICE's agent has its own, and no screen needs none."""
    wanted = plan.config.tablet
    kind = screen(plan)
    if wanted is None:
        wanted = not uses_spice(plan) and kind != "none" and not kind.startswith("serial")
    return {"driver": "usb-tablet", "id": "tablet", **pointer_bus(plan)} if wanted else None


def audio_backend(plan: VmPlan) -> Properties | None:
    """The sound's way out, for -audiodev: to the SPICE client where there is one."""
    audio = plan.config.audio0
    if audio is None:
        return None
    return {"driver": "spice" if uses_spice(plan) and audio.driver != "none" else "none", "id": "sound"}


def audio_devices(plan: VmPlan) -> list[Properties]:
    """The sound card `audio0`."""
    audio = plan.config.audio0
    if audio is None:
        return []
    card: Properties = {"driver": audio.device, "id": "audio0", **address(plan, "audio0")}
    if audio.device == "AC97":
        return [{**card, "audiodev": "sound"}]
    codecs = [
        {"driver": driver, "id": f"audio0-codec{number}", "bus": "audio0.0", "cad": number, "audiodev": "sound"}
        for number, driver in enumerate(("hda-micro", "hda-duplex"))
    ]
    return [card, *codecs]


def _memory(plan: VmPlan, kind: str) -> Properties:
    vga = plan.config.vga
    mib = vga.memory if vga is not None else None
    if kind.startswith("qxl"):
        mib = mib or _QXL_MEMORY
        return {"vgamem_mb": mib, "ram_size": mib * 4 * MIB, "vram_size": mib * 2 * MIB}
    if mib is None:
        return {}
    if kind == "virtio":
        return {"max_hostmem": mib * MIB}
    if kind == "cirrus" and mib > _CIRRUS_MOST:
        raise invalid("vga", f"memory: a cirrus card has at most {_CIRRUS_MOST} MiB")
    return {"vgamem_mb": mib}


def _spice_option(plan: VmPlan) -> str:
    if screen(plan).startswith("qxl"):
        return "vga"
    usb = [index for index, device in plan.config.usb.items() if (device.host or "").lower() == "spice"]
    return f"usb{min(usb)}" if usb else "audio0"


def _spice(plan: VmPlan, host: HostFacts) -> str:
    if not host.emulator.spice:
        raise unsupported(_spice_option(plan), "it needs SPICE, which this host's QEMU does not have")
    values: dict[str, str | int | bool] = {"disable-ticketing": False}
    enhancements = plan.config.spice_enhancements
    if enhancements is not None and enhancements.videostreaming is not None:
        values["streaming-video"] = enhancements.videostreaming
    return option_text(values)
