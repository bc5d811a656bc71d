"""What `launch` is asked: its options as they are declared, read and checked before anything is done."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bastide.base import units
from bastide.base.errors import InvalidParameter
from bastide.cli import completing

DEFAULT_MEMORY = "1G"
DEFAULT_DISK = "8G"
_NAME = re.compile(
    r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_RELEASE = re.compile(r"(debian|ubuntu)-[0-9.]+(-cloud)?", re.ASCII)
_TEXT_LIMIT = 128 * 1024
_NETWORK, _LOGIN, _CLOUD, _MACHINE = "Network", "Log in", "First boot (cloud-init)", "Virtual machines"
_SERVICE = "Services"

Image = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGE|SERVICE",
        help="debian-12 ...; built or pulled when it is not there yet. Or a URL, or STORAGE:vztmpl/FILE, "
        "STORAGE:import/FILE. None with --iso. Or a service: nginx, jellyfin ...; see bastide catalog.",
        autocompletion=completing.launchable,
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Its name, also in DNS. Default: the service's.", show_default=False),
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The same as NAME.")]
Vm = Annotated[bool, typer.Option("--vm", help="Make a VM, with a kernel of its own, instead of a container.")]
Ct = Annotated[
    bool, typer.Option("--ct", help="Make a container, also of what should be a VM.", rich_help_panel=_SERVICE)
]
Keep = Annotated[
    bool,
    typer.Option("--keep", help="Keep the guest when its service cannot be installed.", rich_help_panel=_SERVICE),
]
Catalog = Annotated[
    str | None,
    typer.Option(
        "--catalog", metavar="DIR", help="Also the services in this folder of the host.", rich_help_panel=_SERVICE
    ),
]
Cores = Annotated[int | None, typer.Option(metavar="N", help="CPU cores. Default: all; 2 for a VM.")]
Memory = Annotated[str, typer.Option(metavar="SIZE", help="512M, 2G ...")]
Disk = Annotated[str, typer.Option("--disk", "--size", metavar="SIZE", help="Root file system, or disk.")]
Storage = Annotated[str, typer.Option(metavar="STORAGE", help="For its disks.", autocompletion=completing.storages)]
Bridge = Annotated[
    str | None, typer.Option(metavar="NAME", help="Bridge. Default: the NAT bridge.", rich_help_panel=_NETWORK)
]
Ip = Annotated[
    str, typer.Option(metavar="dhcp|CIDR", help="IPv4: dhcp, manual or ADDRESS/PREFIX.", rich_help_panel=_NETWORK)
]
Gateway = Annotated[
    str | None,
    typer.Option("--gw", metavar="ADDRESS", help="IPv4 gateway, with --ip CIDR.", rich_help_panel=_NETWORK),
]
Nets = Annotated[
    list[str] | None,
    typer.Option(
        "--net",
        metavar="STRING",
        help="net0, net1 ... in full: name=eth0,bridge=vmbr0,ip=dhcp,tag=5; of a VM: virtio,bridge=vmbr0,tag=5",
        rich_help_panel=_NETWORK,
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--ssh-key",
        metavar="FILE",
        help="Public key for root, or for the user of a VM. May be repeated.",
        rich_help_panel=_LOGIN,
    ),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.", rich_help_panel=_LOGIN)
]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME", help="Who logs in to a VM. Default: the image's.", rich_help_panel=_LOGIN),
]
UserData = Annotated[
    str | None, typer.Option("--user-data", metavar="FILE", help="User data in full.", rich_help_panel=_CLOUD)
]
NetworkData = Annotated[
    str | None,
    typer.Option("--network-data", metavar="FILE", help="Network configuration of a VM.", rich_help_panel=_CLOUD),
]
VendorData = Annotated[str | None, typer.Option("--vendor-data", metavar="FILE", rich_help_panel=_CLOUD)]
Privileged = Annotated[
    bool,
    typer.Option("--privileged/--unprivileged", help="A container: share the host's user ids: weaker walls."),
]
Nesting = Annotated[
    bool, typer.Option("--nesting/--no-nesting", help="A container: what systemd and containers inside need.")
]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated.")]
Onboot = Annotated[bool, typer.Option("--onboot", help="Start with the host.")]
Vmid = Annotated[int | None, typer.Option(metavar="ID", help="Default: the next free one.")]
NoStart = Annotated[bool, typer.Option("--no-start", help="Make it, do not start it.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other option. May be repeated.")
]
Timeout = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS",
        help="How long it may take to come up. Default: 60; 180 for a VM, 600 without KVM.",
        show_default=False,
    ),
]
Iso = Annotated[
    str | None,
    typer.Option(
        "--iso",
        metavar="ISO",
        help="Boot a VM with an empty disk from this CD: STORAGE:iso/FILE, or a file, which is uploaded.",
        rich_help_panel=_MACHINE,
    ),
]
Os = Annotated[
    str | None,
    typer.Option("--os", metavar="TYPE", help="l26, win11, win10, other ... Default: l26.", rich_help_panel=_MACHINE),
]
Uefi = Annotated[bool, typer.Option("--uefi", help="Boot by UEFI.", rich_help_panel=_MACHINE)]
SecureBoot = Annotated[
    bool, typer.Option("--secure-boot", help="Boot by UEFI what is signed only.", rich_help_panel=_MACHINE)
]
Tpm = Annotated[bool, typer.Option("--tpm", help="Give it a TPM 2.0.", rich_help_panel=_MACHINE)]
Machine = Annotated[str | None, typer.Option(metavar="TYPE", help="q35, pc ...", rich_help_panel=_MACHINE)]
Cpu = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="Default: the host's, where there is KVM.", rich_help_panel=_MACHINE),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of one `launch`, as they were given."""

    image: str
    name: str
    vm: bool
    cores: int | None
    memory: str
    disk: str
    storage: str
    bridge: str | None
    ip: str
    gateway: str | None
    net: list[str] | None
    ssh_key: list[str] | None
    password_stdin: bool
    user: str | None
    user_data: str | None
    network_data: str | None
    vendor_data: str | None
    privileged: bool
    nesting: bool
    tag: list[str] | None
    onboot: bool
    vmid: int | None
    no_start: bool
    settings: list[str] | None
    timeout: int | None
    iso: str | None
    os: str | None
    uefi: bool
    secure_boot: bool
    tpm: bool
    machine: str | None
    cpu: str | None
    ct: bool = False
    keep: bool = False
    catalog: str | None = None
    explicit: frozenset[str] = frozenset()
    """The parameters of `launch` that were given, rather than left at their defaults."""

    @property
    def mebibytes(self) -> int:
        """The memory. Raises InvalidParameter."""
        return _bytes("memory", self.memory, units.MIB, "512M or 2G") // units.MIB

    @property
    def disk_size(self) -> int:
        """The disk, in bytes. Raises InvalidParameter."""
        size = _bytes("disk", self.disk, units.GIB, "8G")
        if size < units.MIB:
            raise InvalidParameter({"disk": f"'{self.disk[:40]}' is too small for a root file system"})
        return size

    @property
    def gibibytes(self) -> str:
        """The disk, as a new volume's size is written."""
        return f"{self.disk_size / units.GIB:.6f}".rstrip("0").rstrip(".")

    @property
    def keys(self) -> str | None:
        """The public keys, one a line. Raises InvalidParameter."""
        texts = []
        for name in self.ssh_key or []:
            texts.append(read_text("ssh-key", name).strip())
            if "PRIVATE KEY" in texts[-1]:
                raise InvalidParameter({"ssh-key": f"{name} is a private key; give the public one, {name}.pub"})
        return "\n".join(texts) or None

    @property
    def cloud_texts(self) -> dict[str, str]:
        """The texts for cloud-init, by what they are. Raises InvalidParameter."""
        files = {"user": self.user_data, "network": self.network_data, "vendor": self.vendor_data}
        return {part: read_text(f"{part}-data", name) for part, name in files.items() if name is not None}

    @property
    def may_be_service(self) -> bool:
        """Whether the image may be a service's name: no URL, volume, path on an image server or release is."""
        plain = self.iso is None and not any(char in self.image for char in ":/")
        return plain and _RELEASE.fullmatch(self.image) is None

    def read_password(self) -> str | None:
        """The password, from standard input."""
        return sys.stdin.readline().rstrip("\n") or None if self.password_stdin else None


def explicit(ctx: typer.Context) -> frozenset[str]:
    """The parameters that the command line gives."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")


def names(image: str | None, name: str | None, option: str | None, iso: str | None) -> tuple[str, str]:
    """The image and the name: the name stands behind the image, alone where there is none, or in `--name`.

    Without a name the empty text, which a service does with. Raises BadParameter, InvalidParameter.
    """
    given = [text for text in (image, name) if text is not None]
    asked = "" if iso is not None else given.pop(0) if given else None
    if asked is None:
        raise typer.BadParameter("give an IMAGE such as debian-12, a SERVICE such as nginx, or --iso FILE")
    found = [*given, *([option] if option is not None else [])]
    if len(found) > 1:
        raise typer.BadParameter("give one NAME, not more")
    if not found:
        return asked, ""
    if len(found[0]) > 253 or _NAME.fullmatch(found[0]) is None:
        wrong = f"'{found[0][:60]}' is not a host name: use letters, digits and hyphens, and at least one letter"
        raise InvalidParameter({"name": wrong})
    return asked, found[0]


def _bytes(option: str, text: str, unit: int, example: str) -> int:
    try:
        return int(text) * unit if text.isdigit() else units.parse_size(text.upper().removesuffix("IB"))
    except ValueError:
        raise InvalidParameter({option: f"'{text[:40]}' is not a size such as {example}"}) from None


def read_text(option: str, name: str) -> str:
    """What a file holds that is small and text."""
    try:
        with Path(name).expanduser().open(encoding="utf-8") as file:
            text = file.read(_TEXT_LIMIT + 1)
    except (OSError, UnicodeDecodeError):
        raise InvalidParameter({option: f"{name} cannot be read"}) from None
    if len(text) > _TEXT_LIMIT:
        raise InvalidParameter({option: f"{name} is longer than {_TEXT_LIMIT >> 10} KiB"})
    return text
