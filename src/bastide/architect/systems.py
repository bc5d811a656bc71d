"""Operating systems: what each needs of a guest, and whether a container can run it.

A container shares the host's Linux kernel, so only a Linux system without a kernel of its own can be one. Least sizes
are the vendors' own; `source` names the document.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from bastide.base.errors import InvalidParameter
from bastide.base.units import GIB, MIB
from bastide.model.vm import OsType
from bastide.model.vm_devices import NicModel

Family = Literal["linux", "windows", "bsd", "other"]

DEFAULT = "debian-12"
"""The system where none is named."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Cores, and bytes of memory and disk."""

    cores: int
    memory: int
    disk: int


CT_MINIMUM = Amount(1, 64 * MIB, GIB)
"""The least for a container of any Linux system: it brings no kernel. Source: docs/benchmarks.md, an idle Debian."""


@dataclass(frozen=True, slots=True)
class System:
    """An operating system.

    `image` is what `bastide launch` calls its image, None for one that is installed from its own medium: a disk image
    where `disk_image` is set, else an installer. An `appliance` comes only as such a medium and brings its own kernel.
    `uefi`, `secure_boot`, `tpm` are what it does not start or install without; `virtio` whether its installer knows
    virtio's disks. `groups` are group ids that devices get.
    """

    name: str
    title: str
    family: Family
    ostype: OsType
    minimum: Amount
    usual: Amount
    source: str
    image: str | None = None
    appliance: bool = False
    disk_image: bool = False
    uefi: bool = False
    secure_boot: bool = False
    tpm: bool = False
    virtio: bool = True
    nic: NicModel = "virtio"
    systemd: bool = True
    hypervisor: bool = False
    groups: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def containable(self) -> bool:
        """Whether a container can run it."""
        return self.family == "linux" and not self.appliance


_Size = tuple[int, int, int]
_DEBIAN = MappingProxyType({"video": 44, "dialout": 20})
_ALPINE = MappingProxyType({"video": 27, "dialout": 20})
_REDHAT = MappingProxyType({"video": 39, "dialout": 18})
_GUIDE = "Debian's installation guide, 3.4: no desktop"
_UBUNTU = "Ubuntu Server's system requirements: cloud images"
_MICROSOFT = "Microsoft: Hardware requirements for Windows Server, with Desktop Experience"


def _amount(size: _Size) -> Amount:
    cores, memory, disk = size
    return Amount(cores, memory * MIB, disk * GIB)


def _linux(
    names: str, title: str, least: _Size, source: str, image: str = "", *, systemd: bool = True,
    groups: Mapping[str, int] = MappingProxyType({}),
) -> list[System]:  # fmt: skip
    """One system for each release in `names`: `debian: 11 12`. `image` is what its images are called, if not so."""
    name, _, releases = names.partition(":")
    usual = Amount(1, max(512 * MIB, least[1] * MIB), max(8 * GIB, least[2] * GIB))
    return [
        System(
            name=f"{name}-{release}",
            title=f"{title} {release}",
            family="linux",
            ostype="l26",
            minimum=_amount(least),
            usual=usual,
            source=source,
            image=f"{image}/{release}" if image else f"{name}-{release}",
            systemd=systemd,
            groups=groups,
        )
        for release in releases.split()
    ]


def _rolling(name: str, title: str, least: _Size, source: str, image: str, *, systemd: bool = True) -> System:
    usual = Amount(1, max(512 * MIB, least[1] * MIB), max(8 * GIB, least[2] * GIB))
    return System(name, title, "linux", "l26", _amount(least), usual, source, image=image, systemd=systemd)


def _windows(names: str, title: str, ostype: OsType, least: _Size, source: str) -> list[System]:
    name, _, releases = names.partition(":")
    new = ostype == "win11"
    return [
        System(
            name=f"{name}-{release}",
            title=f"{title} {release}",
            family="windows",
            ostype=ostype,
            minimum=_amount(least),
            usual=Amount(2, max(4 * GIB, least[1] * MIB), 64 * GIB),
            source=source,
            uefi=new,
            secure_boot=new,
            tpm=new,
            virtio=False,
            nic="e1000",
        )
        for release in releases.split()
    ]


def _bsd(names: str, title: str, least: _Size, source: str) -> list[System]:
    name, _, releases = names.partition(":")
    return [
        System(
            f"{name}-{release}" if release else name,
            f"{title} {release}".strip(),
            "bsd", "other", _amount(least), Amount(1, max(GIB, least[1] * MIB), max(16 * GIB, least[2] * GIB)), source,
        )
        for release in releases.split() or [""]
    ]  # fmt: skip


def _appliance(
    name: str, title: str, family: Family, sizes: tuple[_Size, _Size], source: str, *,
    uefi: bool = False, hypervisor: bool = False, virtio: bool = True, nic: NicModel = "virtio",
) -> System:  # fmt: skip
    """`sizes` are the least and the usual."""
    return System(
        name=name,
        title=title,
        family=family,
        ostype="l26" if family == "linux" else "other",
        minimum=_amount(sizes[0]),
        usual=_amount(sizes[1]),
        source=source,
        appliance=True,
        disk_image=name in _DISK_IMAGES,
        uefi=uefi,
        hypervisor=hypervisor,
        virtio=virtio,
        nic=nic,
    )


_DISK_IMAGES = frozenset({"home-assistant-os", "openwrt", "routeros"})
_OWN = "no figure is published: ours"
_SYSTEMS: tuple[System, ...] = (
    *_linux("debian: 11 12", "Debian", (1, 256, 4), _GUIDE, groups=_DEBIAN),
    *_linux("debian: 13 14", "Debian", (1, 512, 4), _GUIDE, groups=_DEBIAN),
    *_linux("devuan: 5 6", "Devuan", (1, 256, 4), _GUIDE, "devuan", systemd=False, groups=_DEBIAN),
    *_linux("ubuntu: 20.04 22.04 24.04 26.04", "Ubuntu", (1, 1024, 4), _UBUNTU, groups=_DEBIAN),
    *_linux("alpine: 3.19 3.20 3.21 3.22 3.23", "Alpine Linux", (1, 128, 1), "Alpine Linux wiki: Requirements",
            "alpine", systemd=False, groups=_ALPINE),
    *_linux("fedora: 40 41 42 43", "Fedora", (1, 2048, 15), "Fedora's installation guide", "fedora", groups=_REDHAT),
    *_linux("rocky: 8 9 10", "Rocky Linux", (1, 1536, 10), "Red Hat: minimum hardware", "rockylinux", groups=_REDHAT),
    *_linux("alma: 8 9 10", "AlmaLinux", (1, 1536, 10), "Red Hat: minimum hardware", "almalinux", groups=_REDHAT),
    *_linux("oracle: 8 9 10", "Oracle Linux", (1, 1536, 10), "Red Hat: minimum hardware", "oracle", groups=_REDHAT),
    *_linux("centos-stream: 9 10", "CentOS Stream", (1, 1536, 10), "Red Hat: minimum hardware", "centos",
            groups=_REDHAT),
    *_linux("opensuse-leap: 15.6 16.0", "openSUSE Leap", (1, 1024, 5), "openSUSE Leap: hardware requirements",
            "opensuse"),
    *_linux("nixos: 24.11 25.05 25.11", "NixOS", (1, 1024, 8), _OWN, "nixos"),
    _rolling("opensuse-tumbleweed", "openSUSE Tumbleweed", (1, 1024, 10), "openSUSE: hardware requirements",
             "opensuse/tumbleweed"),
    _rolling("arch", "Arch Linux", (1, 512, 2), "ArchWiki: Installation guide", "archlinux"),
    _rolling("gentoo", "Gentoo", (1, 1024, 8), "Gentoo Handbook: hardware requirements", "gentoo", systemd=False),
    _rolling("void", "Void Linux", (1, 256, 1), "Void Handbook: base system requirements", "voidlinux", systemd=False),
    *_windows("windows-server: 2016 2019", "Windows Server", "win10", (1, 2048, 32), _MICROSOFT),
    *_windows("windows-server: 2022 2025", "Windows Server", "win11", (1, 2048, 32), _MICROSOFT),
    *_windows("windows: 10", "Windows", "win10", (1, 2048, 32), "Microsoft: Windows 10 specifications"),
    *_windows("windows: 11", "Windows", "win11", (2, 4096, 64), "Microsoft: Windows 11 specifications"),
    *_bsd("freebsd: 13 14 15", "FreeBSD", (1, 128, 2), "FreeBSD Handbook, 2.2: hardware requirements"),
    *_bsd("openbsd:", "OpenBSD", (1, 256, 4), _OWN),
    *_bsd("openbsd: 7.6 7.7 7.8", "OpenBSD", (1, 256, 4), _OWN),
    *_bsd("netbsd:", "NetBSD", (1, 128, 2), _OWN),
    *_bsd("netbsd: 9 10", "NetBSD", (1, 128, 2), _OWN),
    *_bsd("dragonflybsd:", "DragonFly BSD", (1, 256, 8), _OWN),
    _appliance("pfsense", "pfSense", "bsd", ((1, 1024, 8), (2, 2048, 16)), "Netgate: minimum hardware requirements"),
    _appliance("opnsense", "OPNsense", "bsd", ((2, 3072, 4), (2, 4096, 40)), "OPNsense: hardware sizing"),
    _appliance("truenas-core", "TrueNAS CORE", "bsd", ((2, 8192, 16), (2, 8192, 20)), "TrueNAS: CORE hardware guide"),
    _appliance("truenas-scale", "TrueNAS SCALE", "linux", ((2, 8192, 16), (2, 8192, 20)),
               "TrueNAS: SCALE hardware guide"),
    _appliance("home-assistant-os", "Home Assistant OS", "linux", ((2, 2048, 32), (2, 4096, 32)),
               "Home Assistant: installation as a virtual machine", uefi=True),
    _appliance("openwrt", "OpenWrt", "linux", ((1, 128, 1), (1, 256, 1)), "OpenWrt: supported devices, 8/64 warning"),
    _appliance("vyos", "VyOS", "linux", ((1, 1024, 2), (2, 2048, 8)), "VyOS: installation, hardware requirements"),
    _appliance("ipfire", "IPFire", "linux", ((1, 1024, 4), (2, 2048, 8)), "IPFire: hardware requirements"),
    _appliance("routeros", "MikroTik RouterOS (CHR)", "linux", ((1, 256, 1), (1, 512, 1)), "MikroTik: CHR"),
    _appliance("proxmox-ve", "Proxmox VE", "linux", ((1, 1024, 8), (4, 8192, 64)),
               "Proxmox VE: minimum requirements, for evaluation", hypervisor=True),
    _appliance("proxmox-backup-server", "Proxmox Backup Server", "linux", ((2, 2048, 8), (4, 4096, 64)),
               "Proxmox Backup Server: minimum requirements, for evaluation"),
    _appliance("proxmox-mail-gateway", "Proxmox Mail Gateway", "linux", ((1, 2048, 10), (2, 4096, 20)),
               "Proxmox Mail Gateway: minimum requirements"),
    _appliance("xcp-ng", "XCP-ng", "linux", ((2, 4096, 46), (4, 8192, 70)), "XCP-ng: requirements", hypervisor=True),
    _appliance("esxi", "VMware ESXi", "other", ((2, 8192, 32), (4, 16384, 142)), "VMware: ESXi hardware requirements",
               uefi=True, hypervisor=True, virtio=False, nic="vmxnet3"),
    _appliance("unraid", "Unraid", "linux", ((1, 4096, 4), (2, 8192, 8)), "Unraid: hardware requirements"),
    _appliance("appliance", "a Linux appliance", "linux", ((1, 128, 1), (1, 1024, 16)), _OWN),
    System("omnios", "OmniOS", "other", "solaris", Amount(1, GIB, 8 * GIB), Amount(2, 2 * GIB, 16 * GIB), _OWN,
           virtio=False, nic="e1000"),
    System("openindiana", "OpenIndiana", "other", "solaris", Amount(1, 2 * GIB, 20 * GIB),
           Amount(2, 4 * GIB, 32 * GIB), _OWN, virtio=False, nic="e1000"),
    System("haiku", "Haiku", "other", "other", Amount(1, 384 * MIB, 3 * GIB), Amount(1, GIB, 8 * GIB),
           "Haiku: system requirements", virtio=False, nic="e1000"),
    System("freedos", "FreeDOS", "other", "other", Amount(1, 32 * MIB, GIB), Amount(1, 64 * MIB, GIB), _OWN,
           virtio=False, nic="e1000"),
    System("other", "another system", "other", "other", Amount(1, 64 * MIB, GIB), Amount(1, GIB, 16 * GIB), _OWN,
           virtio=False, nic="e1000"),
)  # fmt: skip

SYSTEMS: Mapping[str, System] = MappingProxyType({system.name: system for system in _SYSTEMS})
"""Every system by its name."""

ALIASES: Mapping[str, str] = MappingProxyType({
    "debian": "debian-12", "bullseye": "debian-11", "bookworm": "debian-12", "trixie": "debian-13",
    "forky": "debian-14", "linux": DEFAULT, "ubuntu": "ubuntu-24.04", "alpine": "alpine-3.22", "fedora": "fedora-43",
    "rocky": "rocky-9", "rockylinux": "rocky-9", "rockylinux-9": "rocky-9", "alma": "alma-9", "almalinux": "alma-9",
    "almalinux-9": "alma-9", "centos": "centos-stream-9", "opensuse": "opensuse-leap-16.0", "archlinux": "arch",
    "nixos": "nixos-25.11", "devuan": "devuan-6", "windows": "windows-11", "win10": "windows-10",
    "win11": "windows-11", "windows-server": "windows-server-2025", "freebsd": "freebsd-14",
    "haos": "home-assistant-os",
    "truenas": "truenas-scale", "freenas": "truenas-core", "proxmox": "proxmox-ve", "pve": "proxmox-ve",
    "pbs": "proxmox-backup-server", "pmg": "proxmox-mail-gateway", "mikrotik": "routeros", "chr": "routeros",
    "vmware": "esxi", "dragonfly": "dragonflybsd",
})  # fmt: skip
"""Other names."""

_APPLE = frozenset({"macos", "osx", "mac-os", "darwin"})


def find(name: str) -> System:
    """The system of a name or alias. Raises InvalidParameter for `os` that lists names like it."""
    known = SYSTEMS.get(ALIASES.get(name, name))
    if known is not None:
        return known
    if name in _APPLE:
        raise InvalidParameter({"os": f"'{name}' may run on Apple's own machines only, by its licence"})
    names = sorted({*SYSTEMS, *ALIASES})
    near = [one for one in names if one.startswith(name.rstrip("0123456789.-") + "-")][-4:] if len(name) > 2 else []
    near = near or get_close_matches(name, names, n=4, cutoff=0.6)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"known are {DEFAULT}, windows-11, freebsd-14, opnsense ..."
    )
    raise InvalidParameter({
        "os": f"'{name}' is no system that the architect knows; {hint} Anything else: os: appliance (Linux with a "
              "kernel of its own) or os: other"
    })  # fmt: skip
