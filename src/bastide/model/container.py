"""What a container is asked to be: Proxmox VE's container options (`pct.conf(5)`)."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from bastide.model.audit import Secret
from bastide.model.record import Indexed, Multiline, PropertyString, Record
from bastide.model.types import (
    Addresses,
    DnsName,
    DnsNames,
    HardwareAddress,
    InterfaceName,
    Ipv4,
    Ipv4Setting,
    Ipv6,
    Ipv6Setting,
    Size,
    Tags,
    VolumeIdText,
)

OsType = Literal[
    "debian", "devuan", "ubuntu", "centos", "fedora", "opensuse", "archlinux", "alpine", "gentoo", "nixos", "unmanaged"
]
Architecture = Literal["amd64", "i386", "arm64", "armhf", "riscv32", "riscv64"]

_MOUNT_OPTION = r"(discard|lazytime|noatime|nodev|noexec|nosuid)"


def _guest_path(text: str) -> str:
    if not text.startswith("/") or any(part in (".", "..") for part in text.split("/")) or text.strip("/") == "":
        raise ValueError(f"'{text[:80]}' is not an absolute path below / without . and ..")
    return "/" + "/".join(part for part in text.split("/") if part)


def _volume_or_path(text: str) -> str:
    if text.startswith("/"):
        return _guest_path(text)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*:[A-Za-z0-9._+@~/-]+", text, re.ASCII) or "/../" in f"/{text}/":
        raise ValueError(f"'{text[:80]}' is neither a volume (STORAGE:NAME), a new one (STORAGE:GiB) nor a path")
    return text


class _Mount(PropertyString):
    default_key: ClassVar[str | None] = "volume"

    volume: Annotated[str, AfterValidator(_volume_or_path)]
    acl: bool | None = None
    mountoptions: Annotated[str | None, Field(pattern=rf"^{_MOUNT_OPTION}(;{_MOUNT_OPTION})*$")] = None
    quota: bool | None = None
    replicate: bool | None = None
    ro: bool | None = None
    shared: bool | None = None
    size: Size | None = None


class RootFs(_Mount):
    """The root file system: `local:8` asks for a new volume of 8 GiB, `local:100/...` names one."""


class MountPoint(_Mount):
    """A further volume, or a bind mount of a host folder (an absolute path), at `mp` in the guest."""

    mp: Annotated[str, AfterValidator(_guest_path)]
    backup: bool | None = None
    keepattrs: bool | None = None


class NetworkInterface(PropertyString):
    """A virtual Ethernet device of the container."""

    name: InterfaceName
    bridge: InterfaceName | None = None
    firewall: bool | None = None
    gw: Ipv4 | None = None
    gw6: Ipv6 | None = None
    host_managed: Annotated[bool | None, Field(alias="host-managed")] = None
    hwaddr: HardwareAddress | None = None
    ip: Ipv4Setting | None = None
    ip6: Ipv6Setting | None = None
    link_down: bool | None = None
    mtu: Annotated[int | None, Field(ge=64, le=65535)] = None
    rate: Annotated[float | None, Field(ge=0)] = None
    tag: Annotated[int | None, Field(ge=1, le=4094)] = None
    trunks: Annotated[str | None, Field(pattern=r"^\d+(;\d+)*$")] = None
    type: Literal["veth"] | None = None


class Device(PropertyString):
    """A device node of the host that the guest may open."""

    default_key: ClassVar[str | None] = "path"

    path: Annotated[str, Field(pattern=r"^/dev/[A-Za-z0-9._:/+-]+$"), AfterValidator(_guest_path)]
    deny_write: Annotated[bool | None, Field(alias="deny-write")] = None
    gid: Annotated[int | None, Field(ge=0, le=65535)] = None
    mode: Annotated[str | None, Field(pattern=r"^0[0-7]{3}$")] = None
    uid: Annotated[int | None, Field(ge=0, le=65535)] = None


class Features(PropertyString):
    """What the guest may do beyond a plain container; each widens what it can reach of the kernel."""

    force_rw_sys: bool | None = None
    fuse: bool | None = None
    keyctl: bool | None = None
    mknod: bool | None = None
    mount: Annotated[str | None, Field(pattern=r"^[a-zA-Z0-9_; ]+$")] = None
    nesting: bool | None = None


class Startup(PropertyString):
    """The order of automatic starts, and seconds to wait after a start (`up`) and for a shutdown (`down`)."""

    default_key: ClassVar[str | None] = "order"

    order: Annotated[int | None, Field(ge=0)] = None
    up: Annotated[int | None, Field(ge=0)] = None
    down: Annotated[int | None, Field(ge=0)] = None


class Unused(PropertyString):
    """A volume that belongs to the guest and is attached nowhere."""

    default_key: ClassVar[str | None] = "volume"

    volume: VolumeIdText


class ContainerOptions(Record):
    """The options a caller may give; all optional."""

    arch: Architecture | None = None
    cmode: Literal["shell", "console", "tty"] | None = None
    console: bool | None = None
    cores: Annotated[int | None, Field(ge=1, le=8192)] = None
    cpulimit: Annotated[float | None, Field(ge=0, le=8192)] = None
    cpuunits: Annotated[int | None, Field(ge=0, le=500000)] = None
    debug: bool | None = None
    description: Annotated[str | None, Field(max_length=8192), Multiline()] = None
    dev: Annotated[dict[int, Device], Indexed(256)] = Field(default_factory=dict)
    entrypoint: Annotated[str | None, Field(pattern=r"^/[^\x00-\x1f\x7f]+$", max_length=4096)] = None
    env: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_]+=[^\x01-\x1f\x7f]*$"), Multiline("\0"), Secret()] = None
    features: Features | None = None
    hookscript: VolumeIdText | None = None
    hostname: DnsName | None = None
    lock: Literal[
        "backup", "create", "destroyed", "disk", "fstrim", "migrate", "mounted", "rollback", "snapshot",
        "snapshot-delete",
    ] | None = None  # fmt: skip
    memory: Annotated[int | None, Field(ge=16, le=2**31)] = None
    mp: Annotated[dict[int, MountPoint], Indexed(256)] = Field(default_factory=dict)
    nameserver: Addresses | None = None
    net: Annotated[dict[int, NetworkInterface], Indexed(32)] = Field(default_factory=dict)
    onboot: bool | None = None
    ostype: OsType | None = None
    protection: bool | None = None
    rootfs: RootFs | None = None
    searchdomain: DnsNames | None = None
    startup: Startup | None = None
    swap: Annotated[int | None, Field(ge=0, le=2**31)] = None
    tags: Tags | None = None
    template: bool | None = None
    timezone: Annotated[str | None, Field(pattern=r"^(host|[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2})$")] = None
    tty: Annotated[int | None, Field(ge=0, le=6)] = None
    unprivileged: bool | None = None
    unused: Annotated[dict[int, Unused], Indexed(256)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct(self) -> "ContainerOptions":
        for field, values in (
            ("net: two interfaces are named", [nic.name for nic in self.net.values()]),
            ("mp: two volumes are mounted at", [mount.mp for mount in self.mp.values()]),
        ):
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"{field} '{sorted(twice)[0]}'")
        return self


class ContainerConfig(ContainerOptions):
    """A stored container: its options, with what an absent one means.

    The defaults are Proxmox VE's; an absent key stays absent in the stored text. `parent` is the snapshot that its
    state comes from.
    """

    parent: Annotated[str | None, Field(max_length=40)] = None

    @property
    def memory_mib(self) -> int:
        """Memory limit in MiB."""
        return 512 if self.memory is None else self.memory

    @property
    def swap_mib(self) -> int:
        """Swap limit in MiB, beside the memory."""
        return 512 if self.swap is None else self.swap

    @property
    def tty_count(self) -> int:
        """Virtual terminals beside the console."""
        return 2 if self.tty is None else self.tty
