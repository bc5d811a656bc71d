"""What a service needs: asked for, else by its catalog entry, else assumed; each value with where it is from.

`gather` is total for every valid `Service`: it answers, or raises InvalidParameter for what contradicts itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from bastide.architect import systems
from bastide.architect.systems import System
from bastide.base.errors import InvalidParameter
from bastide.model.catalog import CatalogEntry
from bastide.model.service import Choice, Device, Kernel, Service

Origin = Literal["asked", "catalog", "assumed"]
Mode = Literal["whole", "shared"]

_ASSUMED: Mapping[str, Any] = MappingProxyType({
    "exposure": "lan", "isolation": "normal", "tenants": "trusted", "untrusted_code": False, "kernel": Kernel(),
    "engine": "none", "appliance": False, "live_migration": False, "nfs": "none", "nested_virtualization": False,
    "instances": 1, "ephemeral": False, "priority": None,
})  # fmt: skip

_DESCRIBED = frozenset({"kernel", "engine", "appliance", "devices", "nfs", "nested_virtualization", "ephemeral"})
"""What an entry says of its service by not naming it."""

_SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "exposure": "exposure: lan: only the local network reaches it",
        "tenants": "tenants: trusted: all guests of this host belong to people who trust each other",
        "isolation": "isolation: normal: a container's walls suffice",
        "untrusted_code": "untrusted_code: false: it runs no code of strangers",
        "engine": "engine: none: it runs from packages, without Docker, Podman or Kubernetes",
        "kernel": "kernel: the host's kernel serves it",
        "live_migration": "live_migration: false: it may stop for a moment to move to another host",
        "nfs": "nfs: none: it neither mounts nor serves NFS by itself",
        "nested_virtualization": "nested_virtualization: false: it runs no VMs inside",
        "devices": "devices: none: it uses no hardware of the host",
    }
)

_DEVICE_PATH = re.compile(r"/dev/[A-Za-z0-9._:+-]+(/[A-Za-z0-9._:+-]+)*", re.ASCII)
_DEVICE_LIMIT = 14  # a VM's USB ports: of every other kind of device there can be more
_ENGINES = "containers"
"""The category of entries that are container engines themselves."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """A device with its mode settled; `assumed` when the mode was left open."""

    type: str
    mode: Mode
    what: str | None
    assumed: bool

    @property
    def path(self) -> str | None:
        """The device node that `what` names, if it is one."""
        return self.what if self.what is not None and self.what.startswith("/dev/") else None

    def __str__(self) -> str:
        what = f" {self.what}" if self.what else ""
        return f"{self.type}{what}" if self.type in ("tun", "fuse", "kvm") else f"{self.type}{what} {self.mode}"


@dataclass(frozen=True, slots=True)
class Needs:
    """Everything the rules look at. `devices` are sorted, so that their order says nothing."""

    system: System
    category: str | None
    exposure: str
    isolation: str
    tenants: str
    untrusted_code: bool
    kernel: Kernel
    engine: str
    appliance: bool
    devices: tuple[Hardware, ...]
    live_migration: bool
    nfs: str
    nested_virtualization: bool
    instances: int
    ephemeral: bool
    priority: str | None
    kind: Choice | None
    origins: Mapping[str, Origin]
    quarrels: tuple[str, ...]
    """Values that contradict each other and were settled, as `conflicts` tells them."""

    @property
    def containable(self) -> bool:
        """Whether a container can be it at all, as far as its system goes."""
        return self.system.containable and not self.appliance

    def told(self, key: str, value: object = None) -> str:
        """A need with its origin: `exposure: internet (asked)`."""
        shown = getattr(self, key) if value is None else value
        text = str(shown).lower() if isinstance(shown, bool) else str(shown)
        return f"{key}: {text} ({self.origins[key]})"

    def wanted(self, mode: Mode, *types: str) -> tuple[Hardware, ...]:
        """The devices of these types that are wanted so."""
        return tuple(one for one in self.devices if one.mode == mode and one.type in types)


def gather(service: Service, entry: CatalogEntry | None) -> Needs:
    """The needs of a service. Raises InvalidParameter."""
    usual = entry.needs if entry is not None else Service()
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for key, default in _ASSUMED.items():
        values[key], origins[key] = _value(service, usual, key, default, described=entry is not None)
    quarrels = _settle(service, entry, values, origins)
    system, origins["os"] = _system(service, entry, appliance=values["appliance"])
    if service.appliance is False and system.appliance and not quarrels:
        quarrels.append(f"appliance: false is asked, and {system.title} exists only as an image or installer")
    devices, origins["devices"] = _devices(service, entry)
    containable = system.containable and not values["appliance"]
    hardware = tuple(sorted({_hardware(one, containable=containable) for one in devices}, key=_order))
    return Needs(
        system=system,
        category=entry.category if entry is not None else None,
        devices=hardware,
        kind=service.kind,
        origins=origins,
        quarrels=tuple(quarrels),
        **values,
    )


def assumptions(needs: Needs) -> tuple[str, ...]:
    """A sentence for each value that nobody gave."""
    texts = []
    if needs.origins["os"] == "assumed":
        texts.append(f"os: {needs.system.name}: no system is named, and the service runs on it")
    relevant = _SENTENCES if needs.containable else ("exposure",)
    texts += [text for key, text in _SENTENCES.items() if key in relevant and needs.origins[key] == "assumed"]
    texts += [f"devices: {_mode_sentence(one, needs)}" for one in needs.devices if one.assumed]
    return tuple(texts)


def with_mode(devices: tuple[Hardware, ...], mode: Mode, *types: str) -> tuple[Device, ...]:
    """The devices as a service writes them, those of the given types in another mode."""
    return tuple(
        Device.model_validate({"type": one.type, "mode": mode if one.type in types else one.mode, "what": one.what})
        for one in devices
    )


def _value(service: Service, usual: Service, key: str, default: Any, *, described: bool) -> tuple[Any, Origin]:
    asked, known = getattr(service, key), getattr(usual, key)
    if asked is not None:
        return asked, "asked"
    if known is not None:
        return known, "catalog"
    return default, "catalog" if described and key in _DESCRIBED else "assumed"


def _settle(
    service: Service, entry: CatalogEntry | None, values: dict[str, Any], origins: dict[str, Origin]
) -> list[str]:
    """What a service is cannot be wished away: an engine does not do without itself, nor an appliance."""
    quarrels: list[str] = []
    if entry is None:
        return quarrels
    engine = entry.needs.engine if entry.category == _ENGINES else None
    if service.engine == "none" and engine not in (None, "none"):
        values["engine"], origins["engine"] = engine, "catalog"
        quarrels.append(f"engine: none is asked, and {entry.title} is or needs the engine {engine}: {engine} counts")
    if service.appliance is False and entry.needs.appliance:
        values["appliance"], origins["appliance"] = True, "catalog"
        quarrels.append(f"appliance: false is asked, and {entry.title} exists only as an image or installer")
    return quarrels


def _system(service: Service, entry: CatalogEntry | None, *, appliance: bool) -> tuple[System, Origin]:
    own = systems.find(entry.needs.os) if entry is not None and entry.needs.os is not None else None
    if service.os is not None:
        asked = systems.find(service.os)
        if own is not None and not own.containable and asked != own and entry is not None:
            raise InvalidParameter({
                "os": f"{entry.title} needs os: {own.name}, and {asked.name} is asked: leave os out, or choose "
                      "another service"
            })  # fmt: skip
        return asked, "asked"
    if own is not None:
        return own, "catalog"
    if appliance:
        return systems.find("appliance"), "assumed"
    if entry is not None and entry.recipe is not None and entry.recipe.os:
        return systems.find(entry.recipe.os[0]), "catalog"
    return systems.find(systems.DEFAULT), "assumed"


def _devices(service: Service, entry: CatalogEntry | None) -> tuple[tuple[Device, ...], Origin]:
    """What is asked, and the entry's devices of types that are not asked; an empty list means none at all."""
    usual = (entry.needs.devices or ()) if entry is not None else ()
    if len(service.devices or ()) + len(usual) > _DEVICE_LIMIT:
        raise InvalidParameter({"devices": f"a guest has at most {_DEVICE_LIMIT} of them"})
    if service.devices is None:
        return usual, "assumed" if entry is None else "catalog"
    types = {one.type for one in service.devices}
    rest = tuple(one for one in usual if one.type not in types) if service.devices else ()
    return (*service.devices, *rest), "asked"


def _hardware(device: Device, *, containable: bool) -> Hardware:
    if device.what is not None and device.what.startswith("/"):
        named = _DEVICE_PATH.fullmatch(device.what)
        if named is None or any(part in (".", "..") for part in device.what.split("/")):
            raise InvalidParameter({"devices": f"'{device.what}' is no device node such as /dev/ttyUSB0"})
    if device.type in ("tun", "fuse", "kvm"):
        return Hardware(device.type, "shared", device.what, assumed=False)
    if device.mode is not None:
        return Hardware(device.type, "whole" if device.mode == "whole" else "shared", device.what, assumed=False)
    mode: Mode = "shared"
    if not containable or (device.type in ("pci", "disk") and not (device.what or "").startswith("/dev/")):
        mode = "whole"
    return Hardware(device.type, mode, device.what, assumed=True)


def _order(device: Hardware) -> tuple[str, str, str, bool]:
    return device.type, device.what or "", device.mode, device.assumed


def _mode_sentence(device: Hardware, needs: Needs) -> str:
    named = device.type if device.what is None else f"{device.type} {device.what}"
    if device.mode == "whole":
        why = "a VM drives it" if not needs.containable else "the guest's own driver serves it"
        return f"{named} is handed over whole: {why}"
    if device.type == "gpu":
        use = "transcoding needs no more" if needs.category in ("media", "photos") else "several guests can use it then"
        return f"{named} is shared as a device node: {use}"
    return f"{named} is handed in as a device node: the host's kernel drives it"
