"""What a plan wants, what its record says and what exists, compared: the steps that applying it takes.

A setting is compared three ways. Where the guest is not as the plan wants it, and the plan wants what it wanted when it
was applied last, somebody changed the guest by hand (drift); else the plan was changed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bastide.architect import systems
from bastide.base import propstring, units
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry, Recipe
from bastide.model.documents import Path
from bastide.model.homelab import Difference, Homelab, Placed, PlannedService, PlanRecord, Step, Work
from bastide.model.record import Scalar
from bastide.model.service import Choice
from bastide.model.types import split_list

DISKS = ("rootfs", "scsi0", "virtio0", "sata0", "ide0")
"""Where a guest's system may be, in the order in which it is looked for."""

WATCHED = frozenset({
    "hostname", "name", "swap", "features", "cpu", "cpulimit", "cpuunits", "balloon", "nameserver", "searchdomain",
    "startup", "protection",
})  # fmt: skip
"""Options that a plan does not name, whose change by hand is shown and mended."""

_DISK_STEP = units.GIB // 8
"""Disks are asked for in GiB with three digits, of which an eighth is exact."""

_RESTART: Mapping[Choice, frozenset[str]] = {
    "ct": frozenset({"hostname", "features"}),
    "vm": frozenset({"cores", "memory", "name", "cpu", "balloon", "ip", "gateway"}),
}
"""What takes effect at the next start of a running guest."""

_SHOWN_AS_CHANGED = ("user_data", "ssh_keys", "mounts")


@dataclass(frozen=True, slots=True)
class Present:
    """A guest that exists, as the store and the kernel tell it. `state`: running, paused or stopped."""

    vmid: int
    kind: Choice
    name: str
    state: str
    config: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`CT 100`."""
        return f"{self.kind.upper()} {self.vmid}"


@dataclass(frozen=True, slots=True)
class Order:
    """What a service's guests shall be.

    `origin` is what they are made from, `wanted` what can be changed later: cores, memory and disk in MiB, onboot,
    tags, bridge, ip, gateway, tag. `entry` is the service in the catalog.
    """

    plan: str
    service: PlannedService
    advice: Advice
    image: str
    storage: str
    origin: Mapping[str, str]
    wanted: Mapping[str, Scalar]
    entry: CatalogEntry | None = None

    @property
    def recipe(self) -> Recipe | None:
        """What makes the service run, where the catalog has it for the system that was chosen."""
        return self.entry.recipe if self.entry is not None and self.advice.installs else None

    @property
    def kind(self) -> Choice:
        """What the architect decided."""
        return self.advice.kind


def order(
    plan: str, service: PlannedService, advice: Advice, facts: HostFacts, entry: CatalogEntry | None = None
) -> Order:
    """What a service of a plan comes to on a host; `plan` is empty for one that stands alone."""
    image = service.image or _image(service, advice)
    network = service.network
    origin = {
        "kind": advice.kind,
        "image": image,
        "service": entry.name if entry is not None else service.service or "",
        "storage": service.storage or "",
        "user_data": _mark(service.user_data),
        "ssh_keys": _mark(service.ssh_keys),
        "mounts": _mark([mount.model_dump() for mount in service.mounts]),
    }
    onboot = advice.settings.get("onboot", 0) if service.onboot is None else service.onboot
    tags = [plan, *split_list(service.tags or ""), *split_list(str(advice.settings.get("tags", "")))]
    wanted: dict[str, Scalar] = {
        "cores": advice.sizing.cores,
        "memory": -(-advice.sizing.memory // units.MIB),
        "disk": -(-advice.sizing.disk // _DISK_STEP) * (_DISK_STEP // units.MIB),
        "onboot": int(onboot),
        "tags": ";".join(sorted(set(tags) - {""})),
        "bridge": network.bridge or facts.bridge,
        "ip": network.ip,
        "gateway": network.gateway or "",
        "tag": network.tag or "",
    }
    return Order(plan, service, advice, image, service.storage or facts.storage, origin, wanted, entry)


def _image(service: PlannedService, advice: Advice) -> str:
    """What the image of the chosen system is called; empty for one that is installed from a medium of its own."""
    image = systems.find(advice.os).image or ""
    if not image or advice.kind == "vm" or not service.user_data:
        return image
    return f"{image}/cloud" if "/" in image else f"{image}-cloud"


def contradictions(plan: Homelab, orders: Mapping[str, Order], facts: HostFacts) -> dict[Path, str]:
    """What cannot be on this host, by its place in the plan; `orders` are by the services' names."""
    found: dict[Path, str] = {}
    addresses: dict[str, str] = {}
    for index, service in enumerate(plan.services):
        if service.name not in orders:
            continue
        for key, why in _impossible(orders[service.name], facts):
            found.setdefault(("services", index, key), why)
        address = service.network.ip.partition("/")[0]
        if address not in ("dhcp", "manual"):
            other = addresses.setdefault(address, service.name)
            if other != service.name or len(service.guests) > 1:
                whom = f"'{other}' has {address} already" if other != service.name else "its instances would share it"
                found[("services", index, "network", "ip")] = f"{whom}: give each guest an address of its own"
    return found


def _impossible(one: Order, facts: HostFacts) -> Iterable[tuple[str, str]]:
    service, kind = one.service, one.kind
    if one.advice.sizing.memory > facts.memory:
        has = units.format_size(facts.memory // units.MIB * units.MIB)
        asked = units.format_size(one.advice.sizing.memory)
        yield "memory", f"{asked} is more than this host has ({has}): ask for less"
    if kind == "vm" and any(mount.source for mount in service.mounts):
        yield "mounts", "a folder of the host can be mounted in a container only: give a size, or kind: ct"
    wrong = {"ct": ":import/", "vm": ":vztmpl/"}[kind]
    if wrong in one.image:
        other = "a VM's disk image" if kind == "ct" else "a container's template"
        yield "image", f"'{one.image}' is {other}, and the service is to be a {kind.upper()}: choose another, or a kind"


def steps(
    plan: Homelab, orders: Mapping[str, Order], record: PlanRecord | None, present: Mapping[int, Present]
) -> tuple[list[Step], dict[Path, str]]:
    """The steps in the order of the plan, then what is no longer in it; and what stands in the way, by its place."""
    known = record.guests if record is not None else {}
    places = {placed.vmid for placed in known.values()}
    names = {guest.name: guest for guest in present.values() if guest.vmid not in places}
    result: list[Step] = []
    problems: dict[Path, str] = {}
    for index, service in enumerate(plan.services):
        one = orders.get(service.name)
        if one is None:
            continue
        for name in service.guests:
            placed = known.get(name)
            here = own(plan.name, name, placed, present)
            if here is None and name in names:
                problems["services", index, "name"] = (
                    f"a guest named '{name}' exists already ({names[name].title}) and is not of this plan: "
                    "choose another name, or remove that guest"
                )
            step, refusal = _step(plan.name, name, one, placed, here)
            result.append(step)
            if refusal:
                problems["services", index, "disk"] = refusal
    wanted = {name for service in plan.services for name in service.guests}
    for name, placed in known.items():
        if name not in wanted:
            result.append(removal(plan.name, name, placed, own(plan.name, name, placed, present)))
    return result, problems


def own(plan: str, name: str, placed: Placed | None, present: Mapping[int, Present]) -> Present | None:
    """The guest that a record means, if it is there. Another guest may have got its vmid meanwhile."""
    here = present.get(placed.vmid) if placed is not None else None
    if placed is None or here is None or here.kind != placed.kind:
        return None
    tagged, named = plan in split_list(str(here.config.get("tags", ""))), here.name == name
    return here if (tagged and named) or (placed.state != "planned" and (tagged or named)) else None


def removal(plan: str, name: str, placed: Placed, here: Present | None) -> Step:
    """The step that removes a guest, or forgets one that is gone."""
    reason = "not in the plan any more" if here else "not in the plan any more, and gone"
    return Step(
        plan=plan, guest=name, service=placed.service, action="remove", kind=placed.kind, vmid=placed.vmid,
        work=("remove",), reason=reason,
    )  # fmt: skip


def values(kind: Choice, config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """A guest's configuration in the terms of `Order.wanted`; what it does not tell is left out."""
    nic = propstring.parse(str(config.get("net0", "")), "model")
    addresses = nic if kind == "ct" else propstring.parse(str(config.get("ipconfig0", "")), None)
    memory = propstring.parse(str(config.get("memory", 512)), "current").get("current", "512")
    found: dict[str, Scalar] = {
        "cores": int(config.get("cores", 0 if kind == "ct" else 1)),
        "memory": int(memory),
        "onboot": int(config.get("onboot", 0)),
        "tags": ";".join(sorted(split_list(str(config.get("tags", ""))))),
        "bridge": nic.get("bridge", ""),
        "ip": addresses.get("ip", "manual"),
        "gateway": addresses.get("gw", ""),
        "tag": int(nic["tag"]) if "tag" in nic else "",
    }
    size = propstring.parse(str(config.get(disk_key(config), "")), "file").get("size")
    if size is not None:
        found["disk"] = round(units.parse_size(size) / units.MIB)
    return found


def disk_key(config: Mapping[str, Scalar]) -> str:
    """The option that holds a guest's system: `rootfs`, `scsi0` ..."""
    return next((key for key in DISKS if key in config), DISKS[0])


def watched(config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """What is remembered of a guest's configuration, to see later what was changed by hand."""
    return {key: value for key, value in config.items() if key in WATCHED}


def _step(plan: str, name: str, one: Order, placed: Placed | None, here: Present | None) -> tuple[Step, str | None]:
    """A guest's step; and why its disk cannot be as wanted."""
    base: dict[str, Any] = {"plan": plan, "guest": name, "service": one.service.name, "kind": one.kind}
    if placed is None or (here is None and placed.state == "planned"):
        reason, vmid = one.advice.summary, placed.vmid if placed else None
        return Step(**base, action="create", vmid=vmid, work=("create", "finish"), reason=reason), None
    base["vmid"] = placed.vmid
    if here is None:
        reason = f"{placed.kind.upper()} {placed.vmid} is gone: it is made anew"
        return Step(**base, action="drift", work=("create", "finish"), reason=reason), None
    if others := _origins(one, placed):
        reason = f"{here.title} has to be made anew, and loses its data"
        work: tuple[Work, ...] = ("remove", "create", "finish")
        return Step(**base, action="replace", work=work, differences=tuple(others), reason=reason), None
    return _kept(base, one, placed, here)


def _kept(base: dict[str, Any], one: Order, placed: Placed, here: Present) -> tuple[Step, str | None]:
    now = values(here.kind, here.config)
    found, drift, refusal = _differences(one, placed, here, now)
    work: list[Work] = [*(["change"] if any(item.key != "disk" for item in found) else [])]  # type: ignore[list-item]
    work += ["grow"] if any(item.key == "disk" for item in found) else []
    work += ["finish"] if placed.state != "ready" or here.state != "running" else []
    reasons = [f"{here.title} is {here.state}"] if here.state != "running" and placed.state == "ready" else []
    if placed.state != "ready":
        action, reasons = "create", [f"{here.title} is made and not finished"]
    elif any(item.key not in drift for item in found):
        action = "change"
    elif found or reasons:
        action = "drift"
    else:
        action = "keep"
    if drift:
        reasons.append(f"changed by hand: {', '.join(drift)}")
    made = {**base, "action": action, "work": tuple(work), "differences": tuple(found), "reason": "; ".join(reasons)}
    return Step.model_validate(made), refusal


def _differences(
    one: Order, placed: Placed, here: Present, now: Mapping[str, Scalar]
) -> tuple[list[Difference], list[str], str | None]:
    """What is not as wanted, the keys of it that were changed by hand, and why the disk cannot be as wanted."""
    found: list[Difference] = []
    drift: list[str] = []
    refusal = None
    live = here.state == "running"
    for key, wanted in one.wanted.items():
        there, before = now.get(key), placed.wanted.get(key)
        if there is None or there == wanted or (key == "gateway" and wanted == ""):
            continue
        if key == "disk" and int(wanted) < int(there):
            if before is not None and int(wanted) < int(before):
                refusal = _shrinking(here, int(there), int(wanted))
            continue  # a disk that is larger than asked for does no harm
        found.append(Difference(key=key, present=there, wanted=wanted, restart=live and _restarts(here.kind, key)))
        if wanted == before:
            drift.append(key)
    for key in sorted(WATCHED):
        seen, there = placed.seen.get(key), here.config.get(key)
        if placed.state == "ready" and seen != there:
            found.append(Difference(key=key, present=there, wanted=seen, restart=live and _restarts(here.kind, key)))
            drift.append(key)
    return found, drift, refusal


def _shrinking(here: Present, present: int, wanted: int) -> str:
    sizes = [units.format_size(size * units.MIB) for size in (present, wanted)]
    return (
        f"the disk of {here.title} has {sizes[0]} and cannot shrink to {sizes[1]}, which would cut off what is on it: "
        f"write {sizes[0]}, or make the guest anew"
    )


def _restarts(kind: Choice, key: str) -> bool:
    return key in _RESTART[kind]


def _origins(one: Order, placed: Placed) -> list[Difference]:
    found = []
    for key, wanted in one.origin.items():
        before = placed.origin.get(key, "")
        if before != wanted:
            hidden = key in _SHOWN_AS_CHANGED
            shown = ("as before", "changed") if hidden else (before, wanted)
            found.append(Difference(key=key, present=shown[0], wanted=shown[1]))
    return found


def _mark(value: object) -> str:
    """A short mark of a value that may be long or secret; empty for nothing."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16] if value else ""
