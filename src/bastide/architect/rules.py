"""The rules, as data: when a service is a VM and when a container.

Each is a pure test over `Needs` that tells what it saw, or None. All hard rules speak for a VM. `lift` ends the
sentence "it would be the other kind if ..."; `lifted` is that change, as keys of a `Service`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bastide.architect import systems
from bastide.architect.needs import Mode, Needs, with_mode
from bastide.model.advice import Strength
from bastide.model.service import Choice, Kernel

MANY = 3
"""Instances from which on they count as many."""

FAST_CATEGORIES = frozenset({"web", "proxy", "dns", "database", "broker", "cache"})
"""Catalog categories of services that a hypervisor's cost per packet, system call or block shows in."""

Test = Callable[[Needs], str | None]
Change = Callable[[Needs], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `reason` is the clause of a summary, `{os}` in it the system; `bars` means no container can do it."""

    id: str
    kind: Choice
    strength: Strength
    statement: str
    reason: str
    test: Test
    lift: str = ""
    lifted: Change | None = None
    bars: bool = False


def _is(key: str, value: object) -> Test:
    return lambda needs: needs.told(key) if getattr(needs, key) == value else None


def _set(**changes: Any) -> Change:
    return lambda _needs: changes


def _uses(mode: Mode, *types: str) -> Test:
    def test(needs: Needs) -> str | None:
        found = needs.wanted(mode, *types)
        return needs.told("devices", ", ".join(dict.fromkeys(map(str, found)))) if found else None

    return test


def _in_linux(test: Test) -> Test:
    """What speaks for a container says nothing where none is possible."""
    return lambda needs: test(needs) if needs.containable else None


def _shared(*types: str) -> Change:
    return lambda needs: {"devices": with_mode(needs.devices, "shared", *types)}


def _os(needs: Needs) -> str | None:
    return needs.told("os", needs.system.name) if needs.system.family != "linux" else None


def _appliance(needs: Needs) -> str | None:
    if needs.appliance:
        return needs.told("appliance")
    return needs.told("os", needs.system.name) if needs.system.appliance else None


def _kernel(needs: Needs) -> str | None:
    kernel, seen = needs.kernel, []
    if kernel.own:
        seen.append("own")
    if kernel.version is not None:
        seen.append(f"version {kernel.version}")
    if kernel.modules:
        seen.append(f"modules {', '.join(sorted(kernel.modules))}")
    if kernel.parameters:
        seen.append(f"parameters {', '.join(sorted(kernel.parameters))}")
    return needs.told("kernel", "; ".join(seen)) if seen else None


def _tracing(needs: Needs) -> str | None:
    return needs.told("kernel", "tracing") if needs.kernel.tracing else None


def _engine(needs: Needs) -> str | None:
    return needs.told("engine") if needs.engine != "none" else None


def _nested(needs: Needs) -> str | None:
    if needs.nested_virtualization:
        return needs.told("nested_virtualization")
    return needs.told("os", needs.system.name) if needs.system.hypervisor else None


def _fast(needs: Needs) -> str | None:
    if needs.priority == "performance":
        return needs.told("priority")
    return f"category: {needs.category} (catalog)" if needs.category in FAST_CATEGORIES else None


def _many(needs: Needs) -> str | None:
    return needs.told("instances") if needs.instances >= MANY else None


_VM: tuple[Rule, ...] = (
    Rule("vm-os", "vm", "hard", "A container shares the host's Linux kernel: a system that is not Linux needs a VM.",
         "{os} is not Linux", _os, f"it ran on Linux (os: {systems.DEFAULT})",
         _set(os=systems.DEFAULT, appliance=False), bars=True),
    Rule("vm-appliance", "vm", "hard", "What comes only as a disk image or an installer brings its own kernel and boot "
         "loader: a container starts neither.", "it comes only as a disk image or installer", _appliance,
         f"it could be installed on a plain Linux (os: {systems.DEFAULT}, appliance: false)",
         _set(os=systems.DEFAULT, appliance=False), bars=True),
    Rule("vm-kernel", "vm", "hard", "A kernel of another version, own modules or kernel parameters: containers have "
         "the host's kernel as it is.", "it needs a kernel of its own", _kernel,
         "the host's kernel served it (no own kernel, version, modules or parameters)",
         lambda needs: {"kernel": Kernel(tracing=needs.kernel.tracing)}, bars=True),
    Rule("vm-kernel-tracing", "vm", "hard", "eBPF, perf and kernel debuggers see the whole kernel, which in a "
         "container is the host's with every other guest.", "it traces the kernel", _tracing,
         "it did without eBPF, perf and kernel debuggers (kernel: tracing: false)",
         lambda needs: {"kernel": needs.kernel.model_copy(update={"tracing": False})}),
    Rule("vm-pci", "vm", "hard", "A whole PCI device is handed over by VFIO, and only a VM can take it.",
         "it takes a whole PCI device", _uses("whole", "pci"),
         "the host drove the device and handed in its device node (mode: shared)", _shared("pci"), bars=True),
    Rule("vm-gpu-whole", "vm", "hard", "A GPU as a whole is handed over by VFIO, and only a VM can take it.",
         "it takes a whole GPU", _uses("whole", "gpu"),
         "a render node of the GPU that other guests use too were enough (mode: shared)", _shared("gpu"), bars=True),
    Rule("vm-live-migration", "vm", "hard", "Only a VM's memory can be copied to another node while it runs: a "
         "container has to stop and start.", "it has to move between hosts while it runs",
         _is("live_migration", True), "it might stop for a moment to move (live_migration: false)",
         _set(live_migration=False)),
    Rule("vm-tenants", "vm", "hard", "Tenants who do not trust each other must not share a kernel: one flaw in it "
         "opens every container.", "its tenants do not trust each other", _is("tenants", "untrusted"),
         "all guests belonged to people who trust each other (tenants: trusted)", _set(tenants="trusted")),
    Rule("vm-isolation", "vm", "hard", "Absolute isolation asks for a kernel of its own behind the processor's "
         "virtualization.", "absolute isolation is asked for", _is("isolation", "absolute"),
         "a container's walls sufficed (isolation: normal)", _set(isolation="normal")),
    Rule("vm-internet", "vm", "strong", "What strangers on the internet can reach is attacked: behind it should stand "
         "its own kernel, not the host's.", "the internet can reach it", _is("exposure", "internet"),
         "it were reached from the local network only, for example through a proxy in another guest (exposure: lan)",
         _set(exposure="lan")),
    Rule("vm-engine", "vm", "strong", "A container engine runs images of others and wants nesting, keyctl and its own "
         "storage drivers: in a container that weakens walls and breaks with upgrades.", "it runs a container engine",
         _engine, "it were installed from packages, without a container engine (engine: none)", _set(engine="none")),
    Rule("vm-nfs-client", "vm", "strong", "An NFS mount inside needs a privileged container, and a dead server hangs "
         "the host's kernel.", "it mounts NFS by itself", _is("nfs", "client"),
         "the host mounted the share and handed it in as a mount point (nfs: none)", _set(nfs="none")),
    Rule("vm-nfs-server", "vm", "strong", "The kernel's NFS server is part of the host's kernel and not apart for each "
         "container.", "it serves NFS", _is("nfs", "server"),
         "the host itself served the share, or another protocol did (nfs: none)", _set(nfs="none")),
    Rule("vm-nested", "vm", "strong", "A hypervisor inside wants /dev/kvm, kernel modules and networks of its own.",
         "it runs VMs inside", _nested, "it ran no VMs inside (nested_virtualization: false)",
         _set(nested_virtualization=False)),
    Rule("vm-untrusted-code", "vm", "strong", "Code of strangers tries the kernel's every system call: let it be a "
         "kernel of its own.", "it runs code of strangers", _is("untrusted_code", True),
         "it ran only code that you trust (untrusted_code: false)", _set(untrusted_code=False)),
    Rule("vm-usb-whole", "vm", "strong", "A USB device as a whole, with its plugging and unplugging, is passed to a "
         "VM; a container gets single device nodes.", "it takes a whole USB device", _uses("whole", "usb", "serial"),
         "the device node alone were enough (mode: node)", _shared("usb", "serial")),
    Rule("vm-disk", "vm", "strong", "A raw disk that the guest itself partitions and mounts: an unprivileged container "
         "may not mount block devices.", "it takes a whole disk", _uses("whole", "disk"),
         "the host made the file system and handed it in as a mount point (mode: shared)", _shared("disk")),
    Rule("vm-priority", "vm", "strong", "Where isolation comes first, a kernel of its own is the thicker wall.",
         "isolation is its first priority", _is("priority", "isolation"),
         "density came before isolation (priority: density)", _set(priority="density")),
)  # fmt: skip

_CT: tuple[Rule, ...] = (
    Rule("ct-default", "ct", "weak", "A Linux service is a container unless there is a reason.",
         "it is a Linux service and nothing calls for a kernel of its own",
         lambda needs: needs.told("os", needs.system.name)),
    Rule("ct-performance", "ct", "weak", "Databases, web servers, DNS, proxies and brokers run in a container as on "
         "bare metal: no emulated device, no second scheduler, no second page cache.",
         "it runs at the host's own speed", _fast),
    Rule("ct-many", "ct", "weak", "Many instances of one thing share the host's kernel and its page cache: a VM pays "
         "for both each time.", "there are many of it", _many),
    Rule("ct-density", "ct", "weak", "A container takes the memory its processes use, a VM its own kernel's besides.",
         "density is its first priority", _is("priority", "density")),
    Rule("ct-ephemeral", "ct", "weak", "What is made and thrown away should start in a second.",
         "it is made and thrown away", _is("ephemeral", True)),
    Rule("ct-shared-gpu", "ct", "strong", "The host's driver serves a GPU to several containers at once by its render "
         "node; a VM would take it from all others.", "it shares a GPU", _uses("shared", "gpu")),
    Rule("ct-shared-device", "ct", "strong", "The host's kernel drives the device and the container opens its node: no "
         "VFIO, no driver inside.", "it uses a device that the host drives",
         _uses("shared", "usb", "serial", "pci", "disk", "sound")),
    Rule("ct-tun", "ct", "weak", "/dev/net/tun can be handed into a container: a VPN needs no VM.",
         "the tunnel device can be handed in", _uses("shared", "tun")),
    Rule("ct-fuse", "ct", "weak", "FUSE works in a container (features: fuse=1): it needs no VM.",
         "FUSE can be allowed", _uses("shared", "fuse")),
    Rule("ct-kvm", "ct", "weak", "/dev/kvm can be handed into a container, which then runs VMs at one level.",
         "/dev/kvm can be handed in", _uses("shared", "kvm")),
)  # fmt: skip

RULES: tuple[Rule, ...] = (*_VM, *(
    Rule(rule.id, rule.kind, rule.strength, rule.statement, rule.reason, _in_linux(rule.test)) for rule in _CT
))  # fmt: skip
"""Every rule, in the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A single need that could make a container a VM: `if` ends the sentence, `change` is keys of a `Service`."""

    condition: str
    change: Change


TURNS: tuple[Turn, ...] = (
    Turn("it needed the GPU as a whole (mode: whole)",
         lambda needs: {"devices": with_mode(needs.devices, "whole", "gpu")}),
    Turn("the internet could reach it (exposure: internet)", _set(exposure="internet")),
    Turn("it ran a container engine with others' images (engine: docker)", _set(engine="docker")),
    Turn("its tenants did not trust each other (tenants: untrusted)", _set(tenants="untrusted")),
    Turn("it had to move between hosts while it runs (live_migration: true)", _set(live_migration=True)),
    Turn("it ran code of strangers (untrusted_code: true)", _set(untrusted_code=True)),
    Turn("it needed a kernel of its own (kernel: own: true)",
         lambda needs: {"kernel": needs.kernel.model_copy(update={"own": True})}),
    Turn("absolute isolation were asked for (isolation: absolute)", _set(isolation="absolute")),
)  # fmt: skip
"""In the order of their relevance."""
