"""`resize` and `move`: a guest's disks and volumes."""

import re
from typing import Annotated, Any

import typer

from bastide.base import units
from bastide.base.errors import InvalidParameter, NotFound, NotSupported
from bastide.cli import completing, output, progress
from bastide.cli.host import confirm
from bastide.cli.lazy import command_settings
from bastide.cli.session import GuestRef, Session
from bastide.cli.snapshots import Guest, NoWait

_DRIVE = re.compile(r"(scsi|virtio|sata|ide)\d+")
_VOLUME = re.compile(r"rootfs|efidisk0|tpmstate0|(mp|unused|scsi|virtio|sata|ide)\d+")
_NO_DISK = re.compile(r",media=cdrom,|:cloudinit,|-cloudinit[.,]|,none,")
_SIZE = re.compile(r",size=([^,]+)")


@command_settings(context_settings={"ignore_unknown_options": True})  # -5G is no option
def resize(
    ctx: typer.Context,
    guest: Guest,
    disk_and_size: Annotated[
        list[str],
        typer.Argument(
            metavar="[DISK] SIZE",
            help="20G, +5G for so much more, -5G for so much less. Without DISK the one that it boots from.",
            autocompletion=completing.disks_of_guest,
            show_default=False,
        ),
    ],
    *,
    disk: Annotated[
        str | None,
        typer.Option("--disk", metavar="KEY", help="rootfs, mp0, scsi1 ...", autocompletion=completing.disks_of_guest),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it shrinks.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Give a guest's disk another size.

    Every disk grows, also while its guest runs. A container's volume shrinks, too, while it is stopped, when what is
    on it fits.
    """
    session: Session = ctx.obj
    key, size = _read(disk_and_size, disk)
    found = session.guest(guest)
    config: dict[str, Any] = session.client().get(f"{found.path}/config")
    key = key or ("rootfs" if found.type == "lxc" else _boot_disk(config))
    if key is None:
        raise InvalidParameter({"disk": f"{found.shown} boots from no disk of its own: name one of {_disks(config)}"})
    if key not in config:
        raise NotFound(f"disk '{key}' of {found.shown} does not exist: it has {_disks(config)}")
    size, shrinks = _target(found, key, str(config[key]), size)
    if shrinks and not yes:
        confirm(session, f"Shrink {key} of {found.shown} to {size}? It is left as it is when its content does not fit.")
    answer = session.client().put(f"{found.path}/resize", {"disk": key, "size": size})
    doing = f"{'shrinking' if shrinks else 'growing'} {key} of {found.shown}"
    upid = progress.finish(session, answer, doing, no_wait=no_wait)
    if session.json:
        output.emit_json({"vmid": found.vmid, "disk": key, "upid": upid})
    elif no_wait and upid is not None:
        output.line(upid)


def _read(words: list[str], disk: str | None) -> tuple[str | None, str]:
    strange = next((word for word in words if word.startswith("-") and not word[1:2].isdigit()), None)
    if strange is not None:
        raise typer.BadParameter(f"no such option: {strange}")
    if len(words) == 1:
        return disk, words[0]
    if len(words) > 2 or disk is not None:
        raise typer.BadParameter("give one DISK and one SIZE")
    if _VOLUME.fullmatch(words[0]) is None:
        raise InvalidParameter({"disk": f"'{words[0][:40]}' is no disk's key: rootfs, mp0, scsi0 ..."})
    return words[0], words[1]


def _target(guest: GuestRef, key: str, value: str, size: str) -> tuple[str, bool]:
    """The size as the API takes it, and whether the disk gets smaller."""
    text = size.upper().removesuffix("IB")
    relative, number = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    try:
        wanted = units.parse_size(number)
    except ValueError:
        raise InvalidParameter({"size": f"'{size[:40]}' is not a size: 20G, +5G or -5G"}) from None
    now = _SIZE.search(value)
    present = units.parse_size(now[1]) if now else None
    if relative == "+" or present is None:
        if relative == "-":
            raise InvalidParameter({"size": f"the present size of {key} is not known: give the new one"})
        return text, False
    if relative == "-":
        wanted = present - wanted
    if wanted <= 0:
        raise InvalidParameter({"size": f"{key} has {units.format_size(present)}: nothing would be left"})
    if wanted < present and guest.type == "qemu":
        raise NotSupported(f"{key} of {guest.shown} has {units.format_size(present)}: a VM's disk can only grow")
    return (units.format_size(wanted) if relative else text), wanted < present


def _boot_disk(config: dict[str, Any]) -> str | None:
    """The first disk in a VM's boot order, or else its only disk."""
    drives = {key for key, value in config.items() if _DRIVE.fullmatch(key) and not _NO_DISK.search(f",{value},")}
    order = str(config.get("boot", "")).partition("order=")[2].partition(",")[0].split(";")
    first = next((key for key in order if key in drives), None)
    return first or (next(iter(drives)) if len(drives) == 1 else None)


def _disks(config: dict[str, Any]) -> str:
    keys = [key for key, value in config.items() if _VOLUME.fullmatch(key) and not _NO_DISK.search(f",{value},")]
    return ", ".join(sorted(keys)) or "none"


def move(
    ctx: typer.Context,
    guest: Guest,
    disk: Annotated[
        str,
        typer.Argument(
            metavar="DISK",
            help="rootfs, mp0, scsi1 ...",
            autocompletion=completing.disks_of_guest,
            show_default=False,
        ),
    ],
    storage: Annotated[
        str | None,
        typer.Argument(metavar="STORAGE", help="Where to.", autocompletion=completing.storages, show_default=False),
    ] = None,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the old one; else it stays as unused0 ...")] = False,
    form: Annotated[str | None, typer.Option("--format", metavar="FORMAT", help="Of a VM's: raw, qcow2.")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="GUEST", help="Give it to another guest instead.", autocompletion=completing.guests
        ),
    ] = None,
    key: Annotated[str | None, typer.Option("--as", metavar="KEY", help="With --to: its key there.")] = None,
    no_wait: NoWait = False,
) -> None:
    """Move a guest's disk to another storage, or to another guest.

    A VM's moves while it runs; a container has to be stopped.
    """
    session: Session = ctx.obj
    if (storage is None) == (to is None):
        raise typer.BadParameter("where to? give a STORAGE, or --to GUEST")
    found = session.guest(guest)
    config: dict[str, Any] = session.client().get(f"{found.path}/config")
    if disk not in config:
        raise NotFound(f"disk '{disk}' of {found.shown} does not exist: it has {_disks(config)}")
    if form is not None and found.type != "qemu":
        raise InvalidParameter({"format": f"{found.shown} is a container, whose volumes have no format to choose"})
    if key is not None and to is None:
        raise typer.BadParameter("--as goes with --to")
    is_vm = found.type == "qemu"
    other = session.guest(to) if to is not None else None
    if other is not None and other.type != found.type:
        raise InvalidParameter({"to": f"{other.shown} and {found.shown} are of different kinds"})
    params = {
        "disk" if is_vm else "volume": disk,
        "storage": storage,
        "delete": delete or None,
        "format": form,
        "target-vmid": other.vmid if other is not None else None,
        "target-disk" if is_vm else "target-volume": (key or disk) if to is not None else None,
    }
    path = f"{found.path}/{'move_disk' if is_vm else 'move_volume'}"
    title = f"moving {disk} of {found.shown} to {storage or to}"
    upid = progress.finish(session, session.client().post(path, params), title, no_wait=no_wait)
    if session.json:
        output.emit_json({"vmid": found.vmid, "disk": disk, "upid": upid})
    elif no_wait and upid is not None:
        output.line(upid)
    elif storage is not None and not delete:
        _tell_unused(session, found, set(config))


def _tell_unused(session: Session, guest: GuestRef, before: set[str]) -> None:
    config: dict[str, Any] = session.client().get(f"{guest.path}/config")
    for key in sorted(set(config) - before):
        if key.startswith("unused"):
            remove = f"bastide set{session.root_option} {guest.name or guest.vmid} --delete {key}"
            output.note(f"the old volume stays as {key}: {config[key]}; remove it with: {remove}")
