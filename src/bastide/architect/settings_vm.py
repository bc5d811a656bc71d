"""The options of a VM that follow from its needs, each with a reason, in the API's own form."""

import re

from bastide.architect.needs import Hardware
from bastide.architect.settings import Settled, Situation, common

_PCI = re.compile(r"([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(\.[0-7])?", re.ASCII)
_USB = re.compile(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}|\d+-\d+(\.\d+)*", re.ASCII)
_SERIAL_PORTS = 3  # beside the console's
_MOVABLE_CPU = "x86-64-v2-AES"


def vm(situation: Situation) -> Settled:
    """The options of a VM, its disks from images apart (see `request`)."""
    settled, system = common(situation), situation.needs.system
    settled.set("ostype", system.ostype, f"devices and clock as {system.title} expects them")
    _board(settled, situation)
    _firmware(settled, situation)
    _processor(settled, situation)
    _disks(settled, situation)
    model = f"virtio's network card, which {system.title} knows"
    settled.set(
        "net0",
        f"{system.nic},bridge={situation.host.bridge},firewall=1",
        f"{model if system.nic == 'virtio' else f'a card ({system.nic}) that its installer knows'}; the guest's own "
        "rules apply to it",
    )
    passed = _devices(settled, situation)
    _memory(settled, situation, passed)
    _cautions(settled, situation)
    return settled


def _board(settled: Settled, situation: Situation) -> None:
    system = situation.needs.system
    if system.family != "other" or system.hypervisor:
        settled.set("machine", "q35", "a board with PCI Express")
    if system.image is None:
        settled.set("vga", "std", "the screen that every installer knows")
    if system.family == "linux":
        settled.set("rng0", "source=/dev/urandom", "keys are made at first boot, and an empty VM has no entropy")
    settled.set("serial0", "socket", "bastide console reaches it, where its system speaks on a serial port")
    if system.family == "linux":
        settled.set("agent", "1", "its addresses, clean shutdowns and consistent backups, where the agent is inside")
        settled.reasons["backup_mode"] = (
            "snapshot: QEMU copies one moment while the guest runs, and the agent writes out its file systems first"
        )
    else:
        settled.reasons["agent"] = "not before the guest agent is installed inside: then --set agent=1"
        settled.reasons["backup_mode"] = (
            "stop, until the guest agent is installed inside; then snapshot: QEMU copies one moment while it runs"
        )


def _firmware(settled: Settled, situation: Situation) -> None:
    system, host = situation.needs.system, situation.host
    if system.uefi or system.secure_boot:
        keys = int(system.secure_boot)
        why = "Secure Boot" if system.secure_boot else "UEFI"
        settled.set("bios", "ovmf", f"{system.title} wants {why}")
        settled.set(
            "efidisk0", f"{host.storage}:1,efitype=4m,pre-enrolled-keys={keys}", "where UEFI keeps its settings"
        )
        if not host.uefi or (system.secure_boot and not host.secure_boot):
            settled.warnings.append(f"bios: this host has no firmware for {why}: install the package ovmf")
    if system.tpm:
        settled.set("tpmstate0", f"{host.storage}:1,version=v2.0", f"{system.title} wants a TPM 2.0")
        if not host.tpm:
            settled.warnings.append("tpmstate0: this host cannot make a TPM: install the package swtpm")


def _processor(settled: Settled, situation: Situation) -> None:
    needs, host = situation.needs, situation.host
    nested = needs.nested_virtualization or needs.system.hypervisor
    if not host.kvm:
        settled.reasons["cpu"] = "left out: without KVM QEMU emulates a processor"
        settled.warnings.append("kvm: this host has no KVM: the VM is emulated, ten to fifty times slower")
    elif needs.live_migration and not nested:
        settled.set("cpu", _MOVABLE_CPU, "every host of the last ten years has it, so that it can move while it runs")
    else:
        settled.set("cpu", "host", "all that the host's processor can do" + (", virtualization too" if nested else ""))
    if nested and not (host.kvm and host.nested):
        settled.warnings.append(
            "nested_virtualization: this host does not offer it: load kvm_intel or kvm_amd with nested=1"
        )
    if needs.live_migration:
        settled.notes.append("live migration needs a second host with the same storage, or time to copy the disks")


def _disks(settled: Settled, situation: Situation) -> None:
    """Linux: virtio-scsi. Others are installed from a CD, and `launch` gives those a disk on SATA."""
    if situation.needs.system.family == "linux":
        settled.set("scsihw", "virtio-scsi-single", "each disk has an I/O thread of its own")
    else:
        settled.reasons["sata0"] = "SATA: its installer knows it without a driver"


def _devices(settled: Settled, situation: Situation) -> bool:
    """Whole devices; whether one of them reads and writes the guest's memory by itself."""
    counts = {"hostpci": 0, "usb": 0, "disk": 0, "serial": 0}
    pinned = False
    for device in situation.needs.devices:
        named = device.type if device.what is None else f"{device.type} {device.what}"
        linux = situation.needs.system.family == "linux"
        if device.type == "serial" and device.path is not None and counts["serial"] < _SERIAL_PORTS:
            counts["serial"] += 1
            settled.set(f"serial{counts['serial']}", device.path, f"{named}: a serial port of the guest's")
        elif device.type in ("usb", "serial"):
            _usb(settled, device, named, counts)
        elif device.mode == "shared":
            continue
        elif device.type in ("gpu", "pci"):
            pinned = True
            _pci(settled, situation, device, named, counts)
        elif device.type == "disk" and device.path is not None and linux:
            counts["disk"] += 1
            settled.set(f"scsi{counts['disk']}", f"{device.path},backup=0", f"{named}: the guest's own disk")
        else:
            settled.notes.append(f"{named}: attach it after the making, see docs/devices.md")
    return pinned


def _pci(settled: Settled, situation: Situation, device: Hardware, named: str, counts: dict[str, int]) -> None:
    if not situation.host.iommu:
        settled.warnings.append(
            f"devices: this host has no IOMMU, so it cannot hand over {named}: switch VT-d or AMD-Vi on in "
            "its firmware, and intel_iommu=on"
        )
    number = counts["hostpci"]
    if device.what is not None and _PCI.fullmatch(device.what):
        pcie = ",pcie=1" if settled.options.get("machine") == "q35" else ""
        settled.set(f"hostpci{number}", f"{device.what}{pcie}", f"{device.type}: the guest's own driver drives it")
        counts["hostpci"] += 1
    else:
        settled.notes.append(
            f"{named}: find its address with `bastide api get /nodes/{situation.host.node}/hardware/pci`, then add "
            f"--set hostpci{number}=ADDRESS,pcie=1"
        )


def _usb(settled: Settled, device: Hardware, named: str, counts: dict[str, int]) -> None:
    number = counts["usb"]
    if device.what is not None and _USB.fullmatch(device.what):
        settled.set(f"usb{number}", f"host={device.what}", f"{device.type}: passed to the guest as a whole")
        counts["usb"] += 1
    else:
        settled.notes.append(f"{named}: add --set usb{number}=host=VENDOR:PRODUCT, which lsusb shows")


def _memory(settled: Settled, situation: Situation, pinned: bool) -> None:
    if pinned:
        settled.set("balloon", 0, "a device that is handed over reaches all memory of the guest, so none can go back")
    elif not situation.needs.system.virtio:
        settled.set("balloon", 0, "its system has no driver for the balloon")
    else:
        settled.reasons["balloon"] = "left on: memory that the guest frees goes back to the host"


def _cautions(settled: Settled, situation: Situation) -> None:
    if situation.needs.system.family == "windows":
        settled.notes.append(
            "virtio's drivers and agent for Windows (virtio-win) make disk and network faster, once installed inside"
        )
    if situation.keeps_database and situation.needs.system.image is not None:
        settled.notes.append("back up the database by its own dump as well")
