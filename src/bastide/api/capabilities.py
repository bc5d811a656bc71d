"""`/nodes/{node}/capabilities`: what guests can be on this host, as its QEMU says."""

from typing import Any, Literal

from bastide.api.fields import NodePath
from bastide.api.lists import index
from bastide.api.routing import Branch, Call
from bastide.api.shapes_hardware import CpuFlagRow, CpuModelRow, MachineRow
from bastide.host import qemu_facts

branch = Branch("/nodes/{node}/capabilities")

_HERE = "x86_64"
_NO_VENDOR = "default"
_FLAGS = {
    "nested-virt": "Let the guest run guests of its own: vmx on Intel, svm on AMD",
    "md-clear": "Tell the guest that the processor clears its buffers against MDS",
    "pcid": "Make the guest's defence against Meltdown cheaper (Westmere to IvyBridge)",
    "spec-ctrl": "Let the guest defend itself against Spectre v1 and v2 (Intel)",
    "ssbd": "Let the guest defend itself against Speculative Store Bypass (Intel)",
    "ibpb": "Let the guest defend itself against Spectre v1 and v2 (AMD)",
    "virt-ssbd": "Base of the defence against Speculative Store Bypass (AMD)",
    "amd-ssbd": "Better defence against Speculative Store Bypass (AMD), beside virt-ssbd",
    "amd-no-ssb": "Tell the guest that the processor has no Speculative Store Bypass (AMD)",
    "pdpe1gb": "Pages of 1 GiB",
    "hv-tlbflush": "Faster Windows guests whose virtual CPUs are more than the processors",
    "hv-evmcs": "Faster virtual machines within Windows guests (Intel)",
    "aes": "AES in the processor",
}


class ArchQuery(NodePath):
    """Whose processors."""

    arch: Literal["x86_64", "aarch64"] | None = None


@branch.get("", NodePath, user="all")
async def read_index(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """What has capabilities."""
    return index("name", "qemu")


@branch.get("/qemu", NodePath, user="all")
async def read_qemu_index(_call: Call, _p: NodePath) -> list[dict[str, str]]:
    """What can be asked of QEMU."""
    return index("name", "cpu", "cpu-flags", "machines", "migration")


@branch.get("/qemu/cpu", ArchQuery, user="all", answer=list[CpuModelRow])
async def list_cpu_models(_call: Call, p: ArchQuery) -> list[dict[str, Any]]:
    """The CPU types that a VM can have."""
    if p.arch not in (None, _HERE):
        return []
    host = await qemu_facts.host_facts()
    vendors = await qemu_facts.cpu_vendors()
    rows = {model.name: vendors.get(model.name) or _NO_VENDOR for model in host.emulator.cpu_models}
    for name in ("host", "max"):
        rows[name] = _NO_VENDOR
    if host.accelerator == "tcg":
        del rows["host"]
    rows |= {name: _NO_VENDOR for name, flags in qemu_facts.LEVELS.items() if flags <= host.emulator.offered}
    return [{"name": name, "vendor": vendor, "custom": False} for name, vendor in sorted(rows.items())]


@branch.get("/qemu/cpu-flags", ArchQuery, user="all", answer=list[CpuFlagRow])
async def list_cpu_flags(_call: Call, p: ArchQuery) -> list[dict[str, Any]]:
    """The CPU flags that every user may set or clear, as far as this QEMU knows them."""
    if p.arch not in (None, _HERE):
        return []
    known = (await qemu_facts.host_facts()).emulator.flags | {"nested-virt"}
    return [{"name": name, "description": text} for name, text in _FLAGS.items() if name in known]


@branch.get("/qemu/machines", ArchQuery, user="all", answer=list[MachineRow])
async def list_machines(_call: Call, p: ArchQuery) -> list[dict[str, Any]]:
    """The versioned machine types."""
    if p.arch not in (None, _HERE):
        return []
    machines = (await qemu_facts.host_facts()).emulator.machines
    return [{"id": machine.id, "type": machine.type, "version": machine.number} for machine in machines]


@branch.get("/qemu/migration", NodePath, check=("perm", "/nodes/{node}", ("Sys.Audit",)))
async def read_migration(_call: Call, _p: NodePath) -> dict[str, Any]:
    """What live migration can take along: nothing beside the VM's own state."""
    return {"has-dbus-vmstate": False}
