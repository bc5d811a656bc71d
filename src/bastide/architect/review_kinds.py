"""Whether a guest is of the kind that fits what runs in it, and whether its settings help the host."""

import math
import re
from collections.abc import Iterator, Mapping

from bastide.architect.review_looks import Looks
from bastide.base.units import GIB, MIB, readable
from bastide.model.advice import Confidence, Cost
from bastide.model.container import ContainerConfig
from bastide.model.review import Finding, Observed, Saving
from bastide.model.service import Choice
from bastide.model.vm import VmConfig

SMALL_MEMORY, SMALL_CORES = 4 * GIB, 4
"""A VM up to this size may be one small service that a container would do for; a larger one has been thought about."""

UNUSED_DAYS = 30
"""Days without a run after which a guest is worth a question: what runs monthly has run by then."""

VM_LEAST = GIB
"""Memory of the VM that a container moves to: its own kernel, and what an engine inside takes."""

_IMAGES = {"ubuntu": "ubuntu-24.04"}
_IMAGE = "debian-12"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,50}")
_MOVE = (
    "set the service up there, copy its data with bastide pull and bastide push, let its clients use the new one, "
    "and remove this one once nobody misses it"
)
Costs = Mapping[Choice, Cost]


def kinds(looks: Looks, costs: Costs) -> Iterator[Finding]:
    """What speaks against a running guest's kind. `costs` are what an idle guest of each kind takes on the host."""
    if looks.one.inside is None:
        return
    if looks.one.kind == "ct":
        yield from _container(looks)
    else:
        yield from _vm(looks, costs)


def _container(looks: Looks) -> Iterator[Finding]:
    one, inside = looks.one, looks.one.inside
    assert inside is not None  # noqa: S101 - as the caller saw
    config = ContainerConfig.parse(one.config)
    privileged = not config.unprivileged
    exposed, engines = _listed(inside.public), _listed(inside.engines)
    what = "a privileged container" if privileged else "a container"
    if inside.engines and inside.public:
        yield looks.now(
            "ct-engine-exposed",
            "risk",
            f"{what} that runs {engines} and listens on a public address ({exposed})",
            "whoever breaks out of one of its images stands before the host's own kernel"
            + (", as root" if privileged else ""),
            commands=(_launch(one, "vm"),),
            how=_MOVE,
        )
    elif inside.engines:
        yield looks.now(
            "ct-engine",
            "risk" if privileged else "note",
            f"{what} that runs {engines}: others' images on the host's own kernel",
            "a VM of its own keeps them apart from the host, and nothing of the engine depends on the host's kernel",
            commands=(_launch(one, "vm"),),
            how=_MOVE,
        )
    if privileged and inside.public and not inside.engines:
        yield looks.now(
            "ct-privileged-exposed",
            "risk",
            f"a privileged container that listens on a public address ({exposed})",
            "its root is the host's root: one hole in a service may be the whole host",
            commands=(_launch(one, "ct"),),
            how=f"the new one is unprivileged; {_MOVE}",
        )
    mounts = _own_mounts(config, inside.nfs_mounts)
    if inside.nfs_server or mounts:
        does = "exports file systems over NFS" if inside.nfs_server else f"mounts NFS itself ({_listed(mounts)})"
        yield looks.now(
            "ct-nfs",
            "risk",
            f"{what} that {does}: by the host's kernel",
            "a server that does not answer leaves processes of the host's kernel that nothing can kill",
            commands=(_launch(one, "vm"),),
            how="or let the host mount it and hand the folder to the container as a mount point",
        )


def _own_mounts(config: ContainerConfig, mounts: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the guest made: what the host hands to it may lie on NFS as well."""
    given = ("/", *(mount.mp.rstrip("/") for mount in config.mp.values()))
    return tuple(path for path in mounts if path not in given)


def _vm(looks: Looks, costs: Costs) -> Iterator[Finding]:
    one = looks.one
    if not _could_be_container(one):
        return
    confidence: Confidence = "moderate" if looks.enough else "low"
    saved, source = _saved(one, costs)
    yield looks.finding(
        "vm-needs-no-vm",
        "waste",
        "a small Linux VM without a device, a kernel module, a container engine, NFS or a public address of its own",
        f"about {readable(saved)} of memory ({source}), and a start within seconds"
        if saved
        else "a container takes less memory and starts within seconds: bastide compare measures how much",
        saving=Saving(memory=saved),
        commands=(_launch(one, "ct"),),
        how=f"unless it is a VM to be kept apart from the host; {_MOVE}",
        confidence=confidence,
    )


def _saved(one: Observed, costs: Costs) -> tuple[int, str]:
    """Bytes that the VM takes more than a container would, and where the figure is from; 0 when it is not known."""
    vm, ct = costs.get("vm"), costs.get("ct")
    # What an emulated VM takes says nothing of one under KVM, nor the other way round.
    if vm is None or ct is None or not vm.memory or not ct.memory or vm.emulated is not one.emulated:
        return 0, ""
    more = max(0, vm.memory - ct.memory)
    emulated = ", emulated" if vm.emulated else ""
    return min(more, int(one.memory.high) or more), f"an idle one, {vm.source} {vm.taken[:10]}{emulated}"


def _could_be_container(one: Observed) -> bool:
    inside, config = one.inside, VmConfig.parse(one.config)
    if inside is None or not inside.linux or config.ostype not in (None, "l26", "l24", "other"):
        return False
    needs_inside = inside.engines or inside.nfs_server or inside.nfs_mounts or inside.modules or inside.public
    devices = (
        config.hostpci, config.usb, config.parallel, config.args, config.audio0, config.tpmstate0, config.ivshmem,
        config.virtiofs, config.hugepages, config.amd_sev, config.intel_tdx,
    )  # fmt: skip
    serial = any(port != "socket" for port in config.serial.values())
    small = one.memory_limit <= SMALL_MEMORY and one.cpus <= SMALL_CORES
    return small and not needs_inside and not serial and not any(devices)


def settings(looks: Looks) -> Iterator[Finding]:
    """Settings of a VM without which the host knows or can do less."""
    one = looks.one
    if one.kind != "vm":
        return
    config = VmConfig.parse(one.config)
    if one.running and one.emulated:
        yield looks.now(
            "vm-emulated",
            "note",
            "it runs without KVM: its processor is emulated",
            "several times slower than on the processor itself; its figures say nothing of a host with KVM",
            commands=("bastide doctor",),
            how="doctor says what this host lacks",
            confidence="certain",
        )
    if not config.agent_enabled:
        yield looks.now(
            "vm-no-agent",
            "note",
            "its agent is not enabled",
            "what it uses inside is not known, it is shut down by its power button, and backups catch it in mid-air",
            commands=(f"bastide set {one.ref} agent=1",),
            how="takes effect at its next start; its system needs the package qemu-guest-agent",
            confidence="certain",
        )
    if config.balloon == 0:
        yield looks.now(
            "vm-no-balloon",
            "note",
            "its balloon is switched off",
            "the host never gets memory back that it touched once, and does not know what is free inside",
            commands=(f"bastide set {one.ref} --delete balloon",),
            how="takes effect at its next start",
            confidence="certain",
        )


def unused(looks: Looks) -> Iterator[Finding]:
    """A guest that has not run for long."""
    one = looks.one
    days = (one.unused_for or 0) / 86400
    if one.running or days < UNUSED_DAYS:
        return
    kept = f"its disk of {readable(one.disk_limit)}" if one.disk_limit else "its disks"
    yield looks.now(
        "stopped-for-long",
        "note",
        f"it has not run for {days:.0f} days",
        f"{kept} may be of no more use",
        commands=(f"bastide config {one.ref}", f"bastide rm {one.ref}"),
        how="rm destroys it with its disks: look first, copy what is to stay",
    )


def _launch(one: Observed, kind: Choice) -> str:
    """The command that makes its successor, of the same size."""
    base = one.name if _NAME.fullmatch(one.name) else f"guest-{one.vmid}"
    memory = max(one.memory_limit, VM_LEAST if kind == "vm" else 0)
    words = ["bastide", "launch", _IMAGES.get(str(one.config.get("ostype")), _IMAGE), f"{base}-{kind}"]
    words += ["--vm"] if kind == "vm" else []
    words += ["--cores", str(max(1, math.ceil(one.cpus))), "--memory", f"{math.ceil(memory / MIB)}M"]
    words += ["--disk", f"{math.ceil(one.disk_limit / GIB)}G"] if one.disk_limit else []
    return " ".join(words)


def _listed(texts: tuple[str, ...]) -> str:
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more
