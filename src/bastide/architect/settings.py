"""The options of the guest that follow from its needs, each with a reason, in the API's own form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bastide.architect.needs import Hardware, Needs
from bastide.base.units import MIB
from bastide.model.advice import HostFacts, Sizing
from bastide.model.catalog import CatalogEntry
from bastide.model.record import Scalar
from bastide.model.service import Choice


@dataclass(slots=True)
class Settled:
    """Options and their reasons; `warnings` and `notes` tell what no option can."""

    options: dict[str, Scalar] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def set(self, key: str, value: Scalar, reason: str) -> None:
        """An option with its reason."""
        self.options[key], self.reasons[key] = value, reason


@dataclass(frozen=True, slots=True)
class Situation:
    """What options depend on."""

    needs: Needs
    kind: Choice
    sizing: Sizing
    host: HostFacts
    entry: CatalogEntry | None

    @property
    def keeps_database(self) -> bool:
        """Whether its files are consistent only at rest."""
        return self.entry is not None and self.entry.state == "database"


def common(situation: Situation) -> Settled:
    """What both kinds have: size, start, tags."""
    settled, sizing, needs = Settled(), situation.sizing, situation.needs
    settled.set("cores", sizing.cores, sizing.because["cores"])
    settled.set("memory", sizing.memory // MIB, sizing.because["memory"])
    if needs.ephemeral:
        settled.reasons["onboot"] = "it is made and thrown away: it does not start with the host"
    else:
        settled.set("onboot", 1, "a service should be there again after the host restarts")
    tags = [situation.entry.name] if situation.entry is not None else []
    tags += ["internet"] if needs.exposure == "internet" else []
    if tags:
        settled.set("tags", ";".join(tags), "what it is, for lists and rules")
    return settled


def container(situation: Situation) -> Settled:
    """The options of a container. Raises InvalidParameter for a device that cannot be handed in."""
    settled, needs = common(situation), situation.needs
    settled.set("unprivileged", 1, "root inside is nobody on the host, and nothing here asks for more")
    _features(settled, needs)
    _swap(settled, situation)
    firewall = "the guest's own rules apply to it"
    settled.set("net0", f"name=eth0,bridge={situation.host.bridge},firewall=1,ip=dhcp,ip6=auto", firewall)
    nodes = _Nodes(settled, needs.system.groups)
    for device in needs.devices:
        nodes.add(device, situation.host)
    _container_cautions(settled, needs)
    database = "; dump the database besides, as its files are consistent only at rest"
    settled.reasons["backup_mode"] = (
        f"suspend: files are copied while its processes rest for a moment{database if situation.keeps_database else ''}"
    )
    return settled


def _features(settled: Settled, needs: Needs) -> None:
    wanted, reasons = [], []
    engine = needs.engine != "none"
    if needs.system.systemd or engine:
        wanted.append("nesting=1")
        reasons.append("nesting: " + ("containers inside" if engine else "systemd") + " mounts its own /proc and /sys")
    if engine:
        wanted.append("keyctl=1")
        reasons.append("keyctl: the container engine keeps keys in the kernel")
    if needs.wanted("shared", "fuse"):
        wanted.append("fuse=1")
        reasons.append("fuse: it mounts FUSE file systems")
    if wanted:
        settled.set("features", ",".join(wanted), "; ".join(reasons))
    else:
        settled.reasons["features"] = f"none: {needs.system.title} starts without systemd and needs no nesting"


def _swap(settled: Settled, situation: Situation) -> None:
    needs = situation.needs
    if needs.engine == "kubernetes":
        settled.set("swap", 0, "the kubelet refuses to start with swap")
    elif needs.category in ("cache", "database"):
        settled.set("swap", 0, "what it keeps in memory for speed must not be swapped out")
    else:
        settled.set("swap", 512, "a short peak is swapped out instead of killed")


class _Nodes:
    """Hands in device nodes as `dev0`, `dev1` ..."""

    def __init__(self, settled: Settled, groups: Mapping[str, int]) -> None:
        self._settled = settled
        self._groups = groups
        self._count = 0

    def add(self, device: Hardware, host: HostFacts) -> None:
        """One device of the service's needs."""
        if device.type == "fuse":
            return  # a feature, no node of its own
        if device.type == "tun":
            self._node("/dev/net/tun", None, "it makes tunnels; the host's kernel drives them")
        elif device.type == "kvm":
            self._node("/dev/kvm", None, "it runs VMs by the host's own virtualization")
            if not host.kvm:
                self._settled.warnings.append("devices: this host has no /dev/kvm: the container would not start")
        elif device.type == "gpu":
            self._render_node(device, host)
        elif device.path is not None:
            group = "dialout" if device.type in ("usb", "serial") else None
            self._node(device.path, group, "the host's kernel drives it, the service opens its node")
        else:
            named = device.type if device.what is None else f"{device.type} {device.what}"
            self._settled.notes.append(
                f"{named}: name its device node (devices: what: /dev/...), or hand it in with --set "
                f"dev{self._count}=/dev/..., which `ls -l /dev/serial/by-id /dev/bus/usb` shows"
            )

    def _render_node(self, device: Hardware, host: HostFacts) -> None:
        path = device.path or (host.render[0] if host.render else None)
        if path is None:
            self._settled.warnings.append(
                "devices: this host has no render node below /dev/dri, so no GPU can be shared: load its driver on "
                "the host"
            )
            return
        self._node(path, "video", "the host's driver serves the GPU to several guests by this node")

    def _node(self, path: str, group: str | None, why: str) -> None:
        gid = self._groups.get(group or "")
        rights = f"gid={gid}" if gid is not None else "mode=0666"
        who = f"; the service's user must be in the group {group}" if gid is not None else ""
        self._settled.set(f"dev{self._count}", f"{path},{rights}", f"{why}{who}")
        self._count += 1


def _container_cautions(settled: Settled, needs: Needs) -> None:
    """What an unprivileged container cannot do, where it is one all the same."""
    if needs.nfs == "client":
        settled.warnings.append(
            "nfs: an unprivileged container cannot mount NFS: mount the share on the host and hand it in as mp0"
        )
    if needs.nfs == "server":
        settled.warnings.append(
            "nfs: the kernel's NFS server does not run in an unprivileged container: use one in user space "
            "(nfs-ganesha), or serve it from a VM"
        )
    if needs.nested_virtualization and not needs.wanted("shared", "kvm"):
        settled.warnings.append("nested_virtualization: a container needs /dev/kvm for it (devices: type: kvm)")
    for device in needs.wanted("whole", "usb", "serial", "disk"):
        settled.warnings.append(f"devices: a container gets no {device.type} as a whole, only its device node")
    if needs.live_migration:
        settled.warnings.append("live_migration: a container stops and starts when it moves to another host")
    if needs.kernel.tracing:
        settled.warnings.append("kernel: tracing needs rights over the host's kernel that a container does not get")
