"""What `advise` is told: its options as they are declared."""

from typing import Annotated

import typer

from bastide.cli import completing

_IT, _KERNEL, _SIZE = "What it is and does", "Kernel and hardware", "Size"

Flag = bool | None

Service = Annotated[
    str | None,
    typer.Argument(
        metavar="SERVICE",
        help="What to run, as the catalog calls it: nginx, jellyfin ...",
        autocompletion=completing.services,
        show_default=False,
    ),
]
Os = Annotated[str | None, typer.Option("--os", metavar="NAME", help="debian-12, windows-server-2022, opnsense ...")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The guest's name.")]
File = Annotated[
    str | None, typer.Option("--file", "-f", metavar="FILE", help="A service as YAML; - is standard input.")
]
Exposure = Annotated[
    str | None, typer.Option(metavar="internet|lan|none", help="Who can reach it.", rich_help_panel=_IT)
]
Isolation = Annotated[
    str | None, typer.Option(metavar="absolute|normal", help="How thick its walls are.", rich_help_panel=_IT)
]
Tenants = Annotated[
    str | None,
    typer.Option(metavar="trusted|untrusted", help="Whether this host's guests trust each other.", rich_help_panel=_IT),
]
Engine = Annotated[
    str | None, typer.Option(metavar="docker|podman|kubernetes|none", help="Its container engine.", rich_help_panel=_IT)
]
UntrustedCode = Annotated[
    Flag, typer.Option("--untrusted-code/--no-untrusted-code", help="Runs strangers' code.", rich_help_panel=_IT)
]
Nfs = Annotated[
    str | None, typer.Option(metavar="client|server|none", help="Mounts or serves NFS.", rich_help_panel=_IT)
]
Nested = Annotated[Flag, typer.Option("--nested/--no-nested", help="Runs VMs inside.", rich_help_panel=_IT)]
LiveMigration = Annotated[
    Flag,
    typer.Option(
        "--live-migration/--no-live-migration", help="Moves between hosts while it runs.", rich_help_panel=_IT
    ),
]
Appliance = Annotated[
    Flag, typer.Option("--appliance/--no-appliance", help="Exists only as an image or installer.", rich_help_panel=_IT)
]
Ephemeral = Annotated[
    Flag, typer.Option("--ephemeral/--no-ephemeral", help="Is made and thrown away.", rich_help_panel=_IT)
]
Priority = Annotated[
    str | None, typer.Option(metavar="performance|density|isolation", help="What matters most.", rich_help_panel=_IT)
]
Device = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="TYPE[:MODE[:WHAT]]",
        help="gpu, pci, usb, serial, disk, tun, fuse, kvm, sound; whole or shared: gpu:shared, pci:whole:hba. "
        "May be repeated.",
        rich_help_panel=_KERNEL,
    ),
]
OwnKernel = Annotated[
    Flag, typer.Option("--own-kernel/--no-own-kernel", help="Needs its own.", rich_help_panel=_KERNEL)
]
KernelVersion = Annotated[str | None, typer.Option(metavar="VERSION", help="Needs this one.", rich_help_panel=_KERNEL)]
KernelModule = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Loads it. May be repeated.", rich_help_panel=_KERNEL)
]
KernelParameter = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="On its command line. May be repeated.", rich_help_panel=_KERNEL),
]
KernelTracing = Annotated[
    Flag, typer.Option("--kernel-tracing/--no-kernel-tracing", help="eBPF, perf ...", rich_help_panel=_KERNEL)
]
Cores = Annotated[int | None, typer.Option(metavar="N", help="CPU cores.", rich_help_panel=_SIZE)]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="512M, 2G ...", rich_help_panel=_SIZE)]
Disk = Annotated[str | None, typer.Option(metavar="SIZE", help="8G ...", rich_help_panel=_SIZE)]
Instances = Annotated[int | None, typer.Option(metavar="N", help="How many of it.", rich_help_panel=_SIZE)]
Kind = Annotated[str | None, typer.Option(metavar="ct|vm", help="The kind that it shall be anyway.")]
Ct = Annotated[bool, typer.Option("--ct", help="The same as --kind ct.")]
Vm = Annotated[bool, typer.Option("--vm", help="The same as --kind vm.")]
Catalog = Annotated[
    str | None, typer.Option("--catalog", metavar="DIR", help="Also the entries in this folder of the host.")
]
