"""What a root file system holds: its distribution's family and its architecture.

Sources: os-release(5); elf(5) for the header of a program.
"""

import shlex
import struct

from bastide.base.errors import HostFailure, NotFound
from bastide.host.rootdir import RootDir

_FAMILIES = {
    "debian": "debian", "devuan": "devuan", "ubuntu": "ubuntu", "alpine": "alpine", "fedora": "fedora",
    "centos": "centos", "rhel": "centos", "almalinux": "centos", "rocky": "centos", "ol": "centos", "amzn": "centos",
    "arch": "archlinux", "archarm": "archlinux", "opensuse": "opensuse", "suse": "opensuse", "sles": "opensuse",
    "opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse", "nixos": "nixos", "gentoo": "gentoo",
}  # fmt: skip
_RELEASE_FILES = (
    ("etc/devuan_version", "devuan"), ("etc/alpine-release", "alpine"), ("etc/fedora-release", "fedora"),
    ("etc/centos-release", "centos"), ("etc/redhat-release", "centos"), ("etc/arch-release", "archlinux"),
    ("etc/SuSE-release", "opensuse"), ("etc/gentoo-release", "gentoo"), ("etc/NIXOS", "nixos"),
    ("etc/debian_version", "debian"),
)  # fmt: skip
_MACHINES = {
    (62, 2): "amd64",
    (3, 1): "i386",
    (183, 2): "arm64",
    (40, 1): "armhf",
    (243, 1): "riscv32",
    (243, 2): "riscv64",
}
_PROGRAMS = (
    "bin/sh",
    "usr/bin/sh",
    "sbin/init",
    "usr/lib/systemd/systemd",
    "init",
    "nix/var/nix/profiles/system/sw/bin/sh",
)


def os_release(root: RootDir) -> dict[str, str]:
    """The keys of os-release; none when there is no such file."""
    text = root.read_text("etc/os-release") or root.read_text("usr/lib/os-release") or ""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                values[key] = " ".join(shlex.split(value))
            except ValueError:
                values[key] = value
    return values


def distribution(root: RootDir) -> str:
    """An `ostype`: the distribution itself, else one it is like, else `unmanaged`."""
    release = os_release(root)
    for name in [release.get("ID", ""), *release.get("ID_LIKE", "").split()]:
        if name.lower() in _FAMILIES:
            family = _FAMILIES[name.lower()]
            return "devuan" if family == "debian" and root.is_file("etc/devuan_version") else family
    for path, family in _RELEASE_FILES:
        if root.exists(path):
            return family
    return "unmanaged"


def architecture(root: RootDir) -> str:
    """The architecture of the root's own shell or init, `amd64` when there is none to look at."""
    for path in _PROGRAMS:
        try:
            with root.open(path, 0) as descriptor:
                header = _header(descriptor)
        except (NotFound, HostFailure):
            continue
        if header in _MACHINES:
            return _MACHINES[header]
    return "amd64"


def _header(descriptor: int) -> tuple[int, int]:
    """Machine and class (1: 32 bits, 2: 64 bits) of an ELF file; zeros for another."""
    with open(descriptor, "rb", closefd=False) as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return 0, 0
    return struct.unpack(("<" if head[5] == 1 else ">") + "H", head[18:20])[0], head[4]
