"""What makes the guest: the call of the API, and the command that a user types for the same."""

import shlex
from collections.abc import Mapping
from types import MappingProxyType

from bastide.architect.settings import Situation
from bastide.base import units
from bastide.model.advice import Request
from bastide.model.record import Scalar
from bastide.model.service import Service

_BRANCH = {"ct": "lxc", "vm": "qemu"}
_OWN_OPTIONS = frozenset({
    "cores", "memory", "onboot", "tags", "net0", "ostype", "cpu", "machine", "bios", "efidisk0", "tpmstate0",
})  # fmt: skip
"""Settings that `bastide launch` has options for, or finds by itself."""

_LAUNCH_CT: Mapping[str, Scalar] = MappingProxyType({"unprivileged": 1, "features": "nesting=1", "swap": 512})
_LAUNCH_VM: Mapping[str, Scalar] = MappingProxyType({
    "serial0": "socket", "scsihw": "virtio-scsi-single", "agent": "1", "rng0": "source=/dev/urandom",
})  # fmt: skip
"""What `bastide launch` gives a guest without being told (cli/launch_ct.py, cli/launch_vm.py)."""

_Q35 = ("l26", "win10", "win11")


def image_of(situation: Situation) -> str | None:
    """The volume id of the image on this host; None where there is none yet."""
    system = situation.needs.system
    kind = "iso" if system.image is None and not system.disk_image else situation.kind
    return situation.host.images.get(f"{kind}/{system.name}")


def request(situation: Situation, name: str, settings: Mapping[str, Scalar]) -> Request:
    """The call that makes the guest. `{vmid}` stands for a free id."""
    kind = situation.kind
    parameters: dict[str, Scalar] = {"vmid": "{vmid}", "hostname" if kind == "ct" else "name": name}
    parameters |= _container(situation) if kind == "ct" else _vm(situation)
    return Request(path=f"/nodes/{situation.host.node}/{_BRANCH[kind]}", parameters={**parameters, **settings})


def command(situation: Situation, name: str, settings: Mapping[str, Scalar]) -> str:
    """The `bastide launch` that makes the guest with these settings."""
    words = ["bastide", "launch", *_what(situation, name)]
    sizing = situation.sizing
    words += ["--cores", str(sizing.cores), "--memory", units.format_size(sizing.memory)]
    words += ["--disk", units.format_size(sizing.disk)]
    words += ["--storage", situation.host.storage] if situation.host.storage != "local" else []
    words += _switches(situation, settings)
    words += ["--net", str(settings["net0"])]
    words += ["--onboot"] if settings.get("onboot") else []
    for tag in str(settings.get("tags", "")).split(";"):
        words += ["--tag", tag] if tag else []
    given = _LAUNCH_CT if situation.kind == "ct" else _LAUNCH_VM
    for key, value in settings.items():
        known = key in _OWN_OPTIONS or given.get(key) == value
        words += [] if known else ["--set", f"{key}={value}"]
    return shlex.join(words)


def recipe_command(situation: Situation, service: Service, name: str, usual: str) -> str:
    """The `bastide launch` of an entry that installs by itself: what differs from its usual is told. `usual`: kind."""
    entry = situation.entry
    words = ["bastide", "launch", entry.name if entry is not None else name]
    words += [name] if words[-1] != name else []
    words += [f"--{situation.kind}"] if situation.kind != usual else []
    for key in ("cores", "memory", "disk"):
        asked = getattr(service, key)
        words += [f"--{key}", str(asked)] if asked is not None else []
    return shlex.join(words)


def gibibytes(size: int) -> str:
    """Bytes as a new volume's size is written: `8`, `1.5`."""
    return f"{size / units.GIB:.6f}".rstrip("0").rstrip(".")


def _container(situation: Situation) -> dict[str, Scalar]:
    volume = image_of(situation) or situation.needs.system.name
    return {"ostemplate": volume, "rootfs": f"{situation.host.storage}:{gibibytes(situation.sizing.disk)}"}


def _vm(situation: Situation) -> dict[str, Scalar]:
    system, storage = situation.needs.system, situation.host.storage
    volume = image_of(situation)
    if system.image is not None or system.disk_image:
        source = volume or (system.name if system.image is not None else disk_image(situation))
        disk: dict[str, Scalar] = {"scsi0": f"{storage}:0,import-from={source},iothread=1,discard=on"}
        cloud: dict[str, Scalar] = {"ide2": f"{storage}:cloudinit", "ipconfig0": "ip=dhcp,ip6=auto", "ciupgrade": 0}
        return {**disk, **cloud} if system.image is not None else disk
    size = gibibytes(situation.sizing.disk)
    disk = {"scsi0": f"{storage}:{size},iothread=1,discard=on"} if system.family == "linux" else {
        "sata0": f"{storage}:{size},discard=on"
    }  # fmt: skip
    return {**disk, "ide2": f"{volume or 'none'},media=cdrom"}


def disk_image(situation: Situation) -> str:
    """Where an appliance's disk image goes when it is uploaded."""
    return f"{situation.host.storage}:import/{situation.needs.system.name}.qcow2"


def _what(situation: Situation, name: str) -> list[str]:
    """The image or the CD, and the name."""
    system = situation.needs.system
    if system.image is not None:
        return [system.image, name, *(["--vm"] if situation.kind == "vm" else [])]
    if system.disk_image:
        return [image_of(situation) or disk_image(situation), name, "--vm"]
    return ["--iso", image_of(situation) or "ISO", "--name", name]


def _switches(situation: Situation, settings: Mapping[str, Scalar]) -> list[str]:
    if situation.kind == "ct":
        return [] if "features" in settings else ["--no-nesting"]
    words = ["--os", str(settings["ostype"])] if settings["ostype"] != "l26" else []
    if "machine" in settings and settings["ostype"] not in _Q35:
        words += ["--machine", str(settings["machine"])]
    if "bios" in settings:
        words += ["--secure-boot"] if str(settings["efidisk0"]).endswith("pre-enrolled-keys=1") else ["--uefi"]
    words += ["--tpm"] if "tpmstate0" in settings else []
    cpu = str(settings.get("cpu", "host"))
    return [*words, "--cpu", cpu] if cpu != "host" else words
