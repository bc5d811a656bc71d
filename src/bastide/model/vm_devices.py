"""The devices of a VM beside its drives, and its processor, as options name them (`qm.conf(5)`)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from bastide.model.record import PropertyString, Scalar
from bastide.model.types import HardwareAddress, InterfaceName, Ipv4, Ipv4Setting, Ipv6, Ipv6Setting, VolumeIdText

NicModel = Literal[
    "e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_isa",
    "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3",
]  # fmt: skip
_RANGES = r"^\d+(?:-\d+)?(?:;\d+(?:-\d+)?)*$"
_FLAG = re.compile(r"[+-][A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_Hex = Annotated[str | None, Field(pattern=r"^0x[0-9a-fA-F]{4}$")]
ConfigId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]+$", max_length=128)]


class VmInterface(PropertyString):
    """A virtual network card: `virtio=MAC,bridge=vmbr0`. `rate` is MiB a second; an `mtu` of 1 is the bridge's."""

    default_key: ClassVar[str | None] = "model"

    model: NicModel
    macaddr: HardwareAddress | None = None
    bridge: InterfaceName | None = None
    firewall: bool | None = None
    link_down: bool | None = None
    mtu: Annotated[int | None, Field(ge=1, le=65520)] = None
    queues: Annotated[int | None, Field(ge=0, le=64)] = None
    rate: Annotated[float | None, Field(ge=0)] = None
    tag: Annotated[int | None, Field(ge=1, le=4094)] = None
    trunks: Annotated[str | None, Field(pattern=_RANGES)] = None

    @model_validator(mode="before")
    @classmethod
    def _named_model(cls, values: Any) -> Any:
        """Read `virtio=MAC` as the model with its address."""
        if not isinstance(values, str):
            return values
        parts = []
        for part in values.split(","):
            key, equals, value = part.partition("=")
            parts.append(f"model={key},macaddr={value}" if equals and key in get_args(NicModel) else part)
        return ",".join(parts)

    def to_text(self) -> dict[str, Scalar]:
        """With the model as the key of its address, as Proxmox VE's clients read it."""
        texts = super().to_text()
        if self.macaddr is None:
            return texts
        rest = {key: value for key, value in texts.items() if key not in ("model", "macaddr")}
        return {self.model: self.macaddr, **rest}


class Agent(PropertyString):
    """The guest agent: whether the guest has one, and what it may be asked to do by itself."""

    default_key: ClassVar[str | None] = "enabled"
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"freeze-fs-on-backup": "freeze-fs", "guest-fsfreeze": "freeze-fs"}
    )

    enabled: bool
    freeze_fs: Annotated[bool | None, Field(alias="freeze-fs")] = None
    fstrim_cloned_disks: bool | None = None
    type: Literal["virtio", "isa"] | None = None


class Audio(PropertyString):
    """A sound card."""

    default_key: ClassVar[str | None] = "device"

    device: Literal["ich9-intel-hda", "intel-hda", "AC97"]
    driver: Literal["spice", "none"] | None = None


def _flags(text: str) -> str:
    for flag in text.split(";"):
        if _FLAG.fullmatch(flag) is None:
            raise ValueError(f"'{flag[:40]}' is not +FLAG or -FLAG")
    return text


class Cpu(PropertyString):
    """The processor that the guest sees. `cputype` is a model of QEMU's, `host`, or one of the house's x86-64-v<n>."""

    default_key: ClassVar[str | None] = "cputype"

    cputype: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)] = None
    flags: Annotated[str | None, Field(max_length=1024), AfterValidator(_flags)] = None
    guest_phys_bits: Annotated[int | None, Field(alias="guest-phys-bits", ge=32, le=64)] = None
    hidden: bool | None = None
    hv_vendor_id: Annotated[str | None, Field(alias="hv-vendor-id", pattern=r"^[A-Za-z0-9]{1,12}$")] = None
    phys_bits: Annotated[str | None, Field(alias="phys-bits", pattern=r"^(host|[1-9][0-9]?)$")] = None
    reported_model: Annotated[
        str | None, Field(alias="reported-model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    ] = None


class HostPci(PropertyString):
    """Functions of PCI devices of the host's: `host` is `[0000:]01:00[.0]`, several with semicolons."""

    default_key: ClassVar[str | None] = "host"

    host: Annotated[
        str | None,
        Field(pattern=r"^([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(\.[0-7])?"
                      r"(;([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(\.[0-7])?)*$"),
    ] = None  # fmt: skip
    device_id: Annotated[_Hex, Field(alias="device-id")] = None
    driver: Literal["vfio", "keep"] | None = None
    legacy_igd: Annotated[bool | None, Field(alias="legacy-igd")] = None
    mapping: ConfigId | None = None
    mdev: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=128)] = None
    pcie: bool | None = None
    rombar: bool | None = None
    romfile: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)] = None
    sub_device_id: Annotated[_Hex, Field(alias="sub-device-id")] = None
    sub_vendor_id: Annotated[_Hex, Field(alias="sub-vendor-id")] = None
    vendor_id: Annotated[_Hex, Field(alias="vendor-id")] = None
    x_vga: Annotated[bool | None, Field(alias="x-vga")] = None


class Usb(PropertyString):
    """A USB device of the host's (`VENDOR:PRODUCT` in hex or `BUS-PORT`), or `spice` for a redirected one."""

    default_key: ClassVar[str | None] = "host"

    host: Annotated[
        str | None,
        Field(pattern=r"^((0x)?[0-9A-Fa-f]{4}:(0x)?[0-9A-Fa-f]{4}|\d+-\d+(\.\d+)*|[Ss][Pp][Ii][Cc][Ee])$"),
    ] = None
    mapping: ConfigId | None = None
    usb3: bool | None = None


class IpConfig(PropertyString):
    """Addresses that cloud-init gives to the interface of the same number."""

    gw: Ipv4 | None = None
    gw6: Ipv6 | None = None
    ip: Ipv4Setting | None = None
    ip6: Ipv6Setting | None = None

    @model_validator(mode="after")
    def _gateway_with_address(self) -> "IpConfig":
        if self.gw is not None and (self.ip is None or "/" not in self.ip):
            raise ValueError("gw: a gateway needs a static address (ip)")
        if self.gw6 is not None and (self.ip6 is None or "/" not in self.ip6):
            raise ValueError("gw6: a gateway needs a static address (ip6)")
        return self


class CiCustom(PropertyString):
    """Snippets that take the place of what would be made for cloud-init."""

    meta: VolumeIdText | None = None
    network: VolumeIdText | None = None
    user: VolumeIdText | None = None
    vendor: VolumeIdText | None = None


class Ivshmem(PropertyString):
    """Memory shared with another VM or the host; `size` in MiB."""

    size: Annotated[int, Field(ge=1)]
    name: Annotated[str | None, Field(pattern=r"^[a-zA-Z0-9-]+$")] = None


class Machine(PropertyString):
    """The board: `q35`, `pc`, or one of a version."""

    default_key: ClassVar[str | None] = "type"

    type: Annotated[
        str | None,
        Field(
            max_length=40,
            pattern=r"^(pc|pc(-i440fx)?-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|q35|pc-q35-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?"
            r"|virt(?:-\d+(\.\d+)+)?(\+pve\d+)?)$",
        ),
    ] = None
    aw_bits: Annotated[float | None, Field(alias="aw-bits", ge=32, le=64)] = None
    enable_s3: Annotated[bool | None, Field(alias="enable-s3")] = None
    enable_s4: Annotated[bool | None, Field(alias="enable-s4")] = None
    viommu: Literal["intel", "virtio"] | None = None


class Memory(PropertyString):
    """Memory in MiB."""

    default_key: ClassVar[str | None] = "current"

    current: Annotated[int, Field(ge=16, le=2**31)]


class NumaNode(PropertyString):
    """A NUMA node of the guest's: its CPUs, memory in MiB, and the host's nodes that it comes from."""

    cpus: Annotated[str, Field(pattern=_RANGES)]
    hostnodes: Annotated[str | None, Field(pattern=_RANGES)] = None
    memory: Annotated[int | None, Field(gt=0)] = None
    policy: Literal["preferred", "bind", "interleave"] | None = None


class Rng(PropertyString):
    """A source of random numbers: at most `max_bytes` each `period` milliseconds (0: no limit)."""

    default_key: ClassVar[str | None] = "source"

    source: Literal["/dev/urandom", "/dev/random", "/dev/hwrng"]
    max_bytes: Annotated[int | None, Field(ge=0)] = None
    period: Annotated[int | None, Field(ge=1)] = None


_Text = Annotated[str | None, Field(max_length=512)]


class Smbios(PropertyString):
    """The fields of SMBIOS type 1; encoded in base64 where `base64` is set."""

    base64: bool | None = None
    family: _Text = None
    manufacturer: _Text = None
    product: _Text = None
    serial: _Text = None
    sku: _Text = None
    uuid: Annotated[str | None, Field(pattern=r"^[a-fA-F0-9]{8}(-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}$")] = None
    version: _Text = None


class SpiceEnhancements(PropertyString):
    """What a SPICE client may do beyond the picture."""

    foldersharing: bool | None = None
    videostreaming: Literal["off", "all", "filter"] | None = None


class Vga(PropertyString):
    """The graphics card; `serial<n>` makes a serial port the display. `memory` in MiB."""

    default_key: ClassVar[str | None] = "type"

    type: Literal[
        "cirrus", "qxl", "qxl2", "qxl3", "qxl4", "none", "serial0", "serial1", "serial2", "serial3", "std", "virtio",
        "virtio-gl", "vmware",
    ] | None = None  # fmt: skip
    clipboard: Literal["vnc"] | None = None
    memory: Annotated[int | None, Field(ge=4, le=512)] = None


class Virtiofs(PropertyString):
    """A folder of the host's, by its mapping, shared with the guest."""

    default_key: ClassVar[str | None] = "dirid"

    dirid: ConfigId
    cache: Literal["auto", "always", "metadata", "never"] | None = None
    direct_io: Annotated[bool | None, Field(alias="direct-io")] = None
    expose_acl: Annotated[bool | None, Field(alias="expose-acl")] = None
    expose_xattr: Annotated[bool | None, Field(alias="expose-xattr")] = None


class Watchdog(PropertyString):
    """A watchdog, and what happens when the guest does not reset it in time."""

    default_key: ClassVar[str | None] = "model"

    model: Literal["i6300esb", "ib700"] | None = None
    action: Literal["reset", "shutdown", "poweroff", "pause", "debug", "none"] | None = None


class Boot(PropertyString):
    """What to boot from, in order: `order=scsi0;ide2;net0`, or the older letters `legacy=cdn`."""

    default_key: ClassVar[str | None] = "legacy"

    legacy: Annotated[str | None, Field(pattern=r"^[acdn]{1,4}$")] = None
    order: Annotated[str | None, Field(pattern=r"^[a-z]+\d+(;[a-z]+\d+)*;?$", max_length=512)] = None
