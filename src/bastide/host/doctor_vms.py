"""What this host can do for virtual machines: the part of `bastide doctor` that containers do not need.

Nothing here is a `fail`: a host without it all runs containers.
"""

import asyncio
import os
import shutil

from bastide.base.errors import BastideError
from bastide.host import abilities, qemu_facts, run
from bastide.host.checks import Check, Checks
from bastide.host.qemu_facts import HostFacts
from bastide.host.qemu_firmware import choose

_OLDEST = (7, 2)


def look() -> Checks:
    """Every check. Call it without a running event loop."""
    yield _kvm()
    try:
        host = asyncio.run(qemu_facts.host_facts())
    except BastideError as error:
        yield Check(
            "qemu", "warn", f"virtual machines cannot run: {error}", "apt-get install qemu-system-x86 ovmf swtpm"
        )
    else:
        yield _qemu(host)
        yield _firmware(host)
    yield _tools()
    yield _vhost()
    yield _iommu()


def _kvm() -> Check:
    refusal = abilities.kvm_refusal()
    if refusal is None:
        return Check("kvm", "ok", "virtual machines run on the processor (/dev/kvm)")
    if "root's alone" in refusal:
        advice = "chgrp kvm /dev/kvm && chmod 660 /dev/kvm; udev does it at the start of the machine."
    elif "though" in refusal:
        advice = "Load the module: modprobe kvm_intel or kvm_amd, and see `dmesg | grep kvm`."
    else:
        advice = (
            "Containers do not need it. Switch on VT-x or AMD-V in the firmware, or nesting at the cloud's provider."
        )
    return Check("kvm", "warn", f"virtual machines are emulated, tens of times slower: {refusal}", advice)


def _qemu(host: HostFacts) -> Check:
    emulator = host.emulator
    shown = f"version {'.'.join(map(str, emulator.version))}, guests run by {host.accelerator.upper()}"
    shown += ", SPICE" if emulator.spice else ", no SPICE"
    if emulator.version < _OLDEST:
        return Check("qemu", "warn", f"{shown}; older than what is tested (7.2)", "Upgrade the system.")
    return Check("qemu", "ok", shown)


def _firmware(host: HostFacts) -> Check:
    plain = choose(host.firmware, efitype="4m", enrolled_keys=False)
    if plain is None:
        return Check("ovmf", "warn", "not installed: virtual machines with UEFI cannot start", "apt-get install ovmf")
    if choose(host.firmware, efitype="4m", enrolled_keys=True) is None:
        return Check(
            "ovmf", "warn", "UEFI without enrolled keys: no Secure Boot from the start", "apt-get install ovmf"
        )
    return Check("ovmf", "ok", "UEFI, with Secure Boot where it is asked for")


def _tools() -> Check:
    if shutil.which("qemu-img", path=run.PATH) is None:
        return Check("qemu-img", "warn", "not installed: disks cannot be converted", "apt-get install qemu-utils")
    if shutil.which("swtpm", path=run.PATH) is None:
        return Check("swtpm", "warn", "not installed: virtual machines get no TPM", "apt-get install swtpm")
    return Check("swtpm", "ok", "virtual machines can have a TPM")


def _vhost() -> Check:
    if os.path.exists("/dev/vhost-net"):
        return Check("vhost_net", "ok", "the kernel moves virtual machines' packets itself")
    if abilities.module_is_there("vhost_net"):
        return Check("vhost_net", "ok", "the kernel can load it")
    return Check(
        "vhost_net", "warn", "this kernel has none: virtual machines' networks are slower", "modprobe vhost_net"
    )


def _iommu() -> Check:
    groups = abilities.iommu_groups()
    if groups:
        return Check("iommu", "ok", f"{groups} groups: devices can be given to virtual machines")
    return Check("iommu", "warn", "none: no device can be given to a virtual machine", abilities.iommu_advice())
