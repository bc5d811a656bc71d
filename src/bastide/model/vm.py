"""What a VM is asked to be: Proxmox VE's VM options (`qm.conf(5)`)."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from bastide.base.units import MIB
from bastide.model.audit import Bulk, Secret
from bastide.model.container import Startup
from bastide.model.record import Indexed, Multiline, Record, forbidden_character
from bastide.model.types import Addresses, DnsName, DnsNames, StorageId, Tags, VolumeIdText, public_keys, split_list
from bastide.model.vm_devices import (
    Agent,
    Audio,
    Boot,
    CiCustom,
    Cpu,
    HostPci,
    IpConfig,
    Ivshmem,
    Machine,
    Memory,
    NumaNode,
    Rng,
    Smbios,
    SpiceEnhancements,
    Usb,
    Vga,
    Virtiofs,
    VmInterface,
    Watchdog,
)
from bastide.model.vm_disks import (
    Drive,
    EfiDisk,
    IdeDrive,
    SataDrive,
    ScsiDrive,
    TpmState,
    UnusedDisk,
    VirtioDrive,
    Volume,
)

OsType = Literal[
    "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris"
]  # fmt: skip
Keyboard = Literal[
    "de", "de-ch", "da", "en-gb", "en-us", "es", "fi", "fr", "fr-be", "fr-ca", "fr-ch", "hu", "is", "it", "ja", "lt",
    "mk", "nl", "no", "pl", "pt", "pt-br", "sv", "sl", "tr",
]  # fmt: skip
ScsiController = Literal["lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"]
HOTPLUG = frozenset({"network", "disk", "cpu", "memory", "usb", "cloudinit"})
"""What `hotplug` may name."""

_HOTPLUG_DEFAULT = "network,disk,usb"
_WINDOWS = frozenset({"wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11"})
_CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*", re.ASCII)


def _hotplug(text: str) -> str:
    if text in ("0", "1"):
        return text
    unknown = [name for name in split_list(text) if name not in HOTPLUG]
    if unknown:
        raise ValueError(f"'{unknown[0][:40]}' is none of {', '.join(sorted(HOTPLUG))}")
    return ",".join(split_list(text))


def _ssh_keys(text: str) -> str:
    keys = unquote(text)
    if forbidden_character(keys, Multiline()) is not None:
        raise ValueError("the keys hold a control character")
    public_keys(keys)
    return text


def _cpu_list(text: str) -> str:
    if _CPU_LIST.fullmatch(text) is None:
        raise ValueError(f"'{text[:40]}' is not a list of CPUs such as 0,5,8-11")
    return text


class VmOptions(Record):
    """The options a caller may give; all optional. Sizes of memory are MiB."""

    acpi: bool | None = None
    affinity: Annotated[str | None, Field(max_length=1024), AfterValidator(_cpu_list)] = None
    agent: Agent | None = None
    allow_ksm: Annotated[bool | None, Field(alias="allow-ksm")] = None
    amd_sev: Annotated[str | None, Field(alias="amd-sev", max_length=256)] = None
    arch: Literal["x86_64", "aarch64"] | None = None
    args: Annotated[str | None, Field(max_length=8192)] = None
    audio0: Audio | None = None
    autostart: bool | None = None
    balloon: Annotated[int | None, Field(ge=0, le=2**31)] = None
    bios: Literal["seabios", "ovmf"] | None = None
    boot: Boot | None = None
    bootdisk: Annotated[str | None, Field(pattern=r"^(ide|sata|scsi|virtio)\d+$")] = None
    cicustom: CiCustom | None = None
    cipassword: Annotated[str | None, Field(max_length=1024, repr=False), Secret()] = None
    citype: Literal["configdrive2", "nocloud", "opennebula"] | None = None
    ciupgrade: bool | None = None
    ciuser: Annotated[str | None, Field(pattern=r"^[a-z_][a-z0-9_.-]{0,31}\$?$|^[A-Za-z][A-Za-z0-9 ._-]{0,63}$")] = None
    cores: Annotated[int | None, Field(ge=1, le=1024)] = None
    cpu: Cpu | None = None
    cpulimit: Annotated[float | None, Field(ge=0, le=128)] = None
    cpuunits: Annotated[int | None, Field(ge=1, le=262144)] = None
    description: Annotated[str | None, Field(max_length=8192), Multiline()] = None
    efidisk0: EfiDisk | None = None
    freeze: bool | None = None
    hookscript: VolumeIdText | None = None
    hostpci: Annotated[dict[int, HostPci], Indexed(16)] = Field(default_factory=dict)
    hotplug: Annotated[str | None, Field(max_length=128), AfterValidator(_hotplug)] = None
    hugepages: Literal["any", "2", "1024"] | None = None
    ide: Annotated[dict[int, IdeDrive], Indexed(4)] = Field(default_factory=dict)
    intel_tdx: Annotated[str | None, Field(alias="intel-tdx", max_length=256)] = None
    ipconfig: Annotated[dict[int, IpConfig], Indexed(32)] = Field(default_factory=dict)
    ivshmem: Ivshmem | None = None
    keephugepages: bool | None = None
    keyboard: Keyboard | None = None
    kvm: bool | None = None
    localtime: bool | None = None
    lock: Literal[
        "backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended",
        "destroyed",
    ] | None = None  # fmt: skip
    machine: Machine | None = None
    memory: Memory | None = None
    migrate_downtime: Annotated[float | None, Field(ge=0)] = None
    migrate_speed: Annotated[int | None, Field(ge=0)] = None
    name: DnsName | None = None
    nameserver: Addresses | None = None
    net: Annotated[dict[int, VmInterface], Indexed(32)] = Field(default_factory=dict)
    numa: bool | None = None
    numa_nodes: Annotated[dict[int, NumaNode], Indexed(8, "numa")] = Field(default_factory=dict)
    onboot: bool | None = None
    ostype: OsType | None = None
    parallel: Annotated[dict[int, Annotated[str, Field(pattern=r"^(/dev/parport\d+|/dev/usb/lp\d+)$")]], Indexed(3)] = (
        Field(default_factory=dict)
    )
    protection: bool | None = None
    reboot: bool | None = None
    rng0: Rng | None = None
    sata: Annotated[dict[int, SataDrive], Indexed(6)] = Field(default_factory=dict)
    scsi: Annotated[dict[int, ScsiDrive], Indexed(31)] = Field(default_factory=dict)
    scsihw: ScsiController | None = None
    searchdomain: DnsNames | None = None
    serial: Annotated[dict[int, Annotated[str, Field(pattern=r"^(/dev/[A-Za-z0-9._:/+-]+|socket)$")]], Indexed(4)] = (
        Field(default_factory=dict)
    )
    shares: Annotated[int | None, Field(ge=0, le=50000)] = None
    smbios1: Smbios | None = None
    smp: Annotated[int | None, Field(ge=1, le=1024)] = None
    sockets: Annotated[int | None, Field(ge=1, le=64)] = None
    spice_enhancements: SpiceEnhancements | None = None
    sshkeys: Annotated[str | None, Field(max_length=131072), AfterValidator(_ssh_keys), Bulk()] = None
    startdate: Annotated[str | None, Field(pattern=r"^(now|\d{4}-\d{1,2}-\d{1,2}(T\d{1,2}:\d{1,2}:\d{1,2})?)$")] = None
    startup: Startup | None = None
    tablet: bool | None = None
    tags: Tags | None = None
    tdf: bool | None = None
    template: bool | None = None
    tpmstate0: TpmState | None = None
    unused: Annotated[dict[int, UnusedDisk], Indexed(256)] = Field(default_factory=dict)
    usb: Annotated[dict[int, Usb], Indexed(14)] = Field(default_factory=dict)
    vcpus: Annotated[int | None, Field(ge=1, le=4096)] = None
    vga: Vga | None = None
    virtio: Annotated[dict[int, VirtioDrive], Indexed(16)] = Field(default_factory=dict)
    virtiofs: Annotated[dict[int, Virtiofs], Indexed(10)] = Field(default_factory=dict)
    vmgenid: Annotated[str | None, Field(pattern=r"^([a-fA-F0-9]{8}(-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}|[01])$")] = None
    vmstatestorage: StorageId | None = None
    watchdog: Watchdog | None = None

    def drives(self) -> Iterator[tuple[str, Drive]]:
        """Every disk and CD-ROM with its key, `ide2` or `scsi0`, bus by bus."""
        buses: tuple[tuple[str, dict[int, Drive]], ...] = (
            ("ide", {**self.ide}),
            ("sata", {**self.sata}),
            ("scsi", {**self.scsi}),
            ("virtio", {**self.virtio}),
        )
        for bus, drives in buses:
            for index in sorted(drives):
                yield f"{bus}{index}", drives[index]

    def volumes(self) -> Iterator[tuple[str, Volume]]:
        """Every key that names a volume the guest opens: the drives, `efidisk0` and `tpmstate0`."""
        yield from self.drives()
        if self.efidisk0 is not None:
            yield "efidisk0", self.efidisk0
        if self.tpmstate0 is not None:
            yield "tpmstate0", self.tpmstate0


class VmConfig(VmOptions):
    """A stored VM: its options, with what an absent one means. The defaults are Proxmox VE's.

    `meta` notes the making (`ctime=<seconds since the epoch>`); `parent` is the snapshot that its state comes from.
    A VM that is suspended to disk has its memory in the volume `vmstate`, for the machine type `runningmachine`.
    """

    meta: Annotated[str | None, Field(max_length=512)] = None
    parent: Annotated[str | None, Field(max_length=40)] = None
    vmstate: VolumeIdText | None = None
    runningmachine: Annotated[str | None, Field(max_length=80)] = None

    @property
    def memory_mib(self) -> int:
        """Memory in MiB."""
        return 512 if self.memory is None else self.memory.current

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return self.memory_mib * MIB

    @property
    def socket_count(self) -> int:
        """Processor sockets; the older `smp` counts too."""
        return self.sockets or self.smp or 1

    @property
    def core_count(self) -> int:
        """Cores of each socket."""
        return self.cores or 1

    @property
    def most_vcpus(self) -> int:
        """How many virtual CPUs the guest can have while it runs."""
        return self.socket_count * self.core_count

    @property
    def vcpu_count(self) -> int:
        """How many virtual CPUs it starts with."""
        return min(self.vcpus or self.most_vcpus, self.most_vcpus)

    @property
    def is_windows(self) -> bool:
        """Whether the guest is some Windows."""
        return self.ostype in _WINDOWS

    @property
    def is_q35(self) -> bool:
        """Whether the board is a q35."""
        return self.machine is not None and "q35" in (self.machine.type or "")

    @property
    def agent_enabled(self) -> bool:
        """Whether the guest is said to have an agent."""
        return self.agent is not None and self.agent.enabled

    @property
    def hotplugged(self) -> frozenset[str]:
        """What may be changed while the guest runs."""
        text = self.hotplug if self.hotplug is not None else _HOTPLUG_DEFAULT
        if text == "0":
            return frozenset()
        return frozenset(split_list(_HOTPLUG_DEFAULT if text == "1" else text))
