"""`launch`: from nothing to a guest that runs and has an address, or back to nothing."""

import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bastide.base import units
from bastide.base.errors import AlreadyExists, BastideError, DeadlineExceeded, InvalidParameter, NotFound
from bastide.cli import completing, host, images, output, progress
from bastide.cli.configure import key_values
from bastide.cli.hosting import UpRequest
from bastide.cli.session import Session
from bastide.client.errors import Unreachable

DEFAULT_MEMORY = "1G"
DEFAULT_DISK = "8G"
_NAME = re.compile(
    r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_TRIES = 5  # another launch may take the id we were told is free


Storage = Annotated[str, typer.Option(metavar="STORAGE", help="For its disk.", autocompletion=completing.storages)]
Nets = Annotated[
    list[str] | None,
    typer.Option("--net", metavar="STRING", help="net0, net1 ... in full: name=eth0,bridge=vmbr0,ip=dhcp,tag=5"),
]
Keys = Annotated[
    list[str] | None, typer.Option("--ssh-key", metavar="FILE", help="Public key for root. May be repeated.")
]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read root's password from standard input.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other option. May be repeated.")
]


@dataclass(slots=True)
class Made:
    """What a launch has made so far, and the task that is at it."""

    vmid: int
    path: str
    upid: str = ""


def launch(
    ctx: typer.Context,
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="debian-12 ...; built or pulled when it is not there yet. Or a URL, or STORAGE:vztmpl/FILE.",
            autocompletion=completing.images,
            show_default=False,
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, also in DNS.", show_default=False)],
    *,
    cores: Annotated[int | None, typer.Option(metavar="N", help="CPU cores. Default: all.")] = None,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="512M, 2G ...")] = DEFAULT_MEMORY,
    disk: Annotated[str, typer.Option("--disk", "--size", metavar="SIZE", help="Root file system.")] = DEFAULT_DISK,
    storage: Storage = "local",
    bridge: Annotated[str | None, typer.Option(metavar="NAME", help="Bridge. Default: the NAT bridge.")] = None,
    ip: Annotated[str, typer.Option(metavar="dhcp|CIDR", help="IPv4: dhcp, manual or ADDRESS/PREFIX.")] = "dhcp",
    gateway: Annotated[
        str | None, typer.Option("--gw", metavar="ADDRESS", help="IPv4 gateway, with --ip CIDR.")
    ] = None,
    net: Nets = None,
    ssh_key: Keys = None,
    password_stdin: PasswordStdin = False,
    privileged: Annotated[
        bool, typer.Option("--privileged/--unprivileged", help="Share the host's user ids: weaker walls.")
    ] = False,
    nesting: Annotated[
        bool, typer.Option("--nesting/--no-nesting", help="What systemd and containers inside need.")
    ] = True,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated.")] = None,
    onboot: Annotated[bool, typer.Option("--onboot", help="Start with the host.")] = False,
    vmid: Annotated[int | None, typer.Option(metavar="ID", help="Default: the next free one.")] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Make it, do not start it.")] = False,
    settings: Settings = None,
    timeout: Annotated[int, typer.Option(metavar="SECONDS", help="How long it may take to come up.")] = 60,
) -> None:
    """Make a container and wait until it is up.

    Starts the daemon where none runs, and builds or pulls the image when it is missing.
    When something fails, nothing is left behind.
    """
    session: Session = ctx.obj
    began = time.monotonic()
    params: dict[str, Any] = {
        "hostname": _checked_name(name),
        "cores": cores,
        "memory": _mebibytes(memory),
        "rootfs": f"{storage}:{_gibibytes(disk)}",
        "unprivileged": not privileged,
        "features": "nesting=1" if nesting else None,
        "onboot": onboot or None,
        "tags": ";".join(tag) if tag else None,
        "ssh-public-keys": _keys(ssh_key or []),
        "password": sys.stdin.readline().rstrip("\n") or None if password_stdin else None,
    }
    ensure_daemon(session)
    _refuse_taken(session, name, vmid)
    params |= _interfaces(session, net, bridge, ip, gateway) | key_values(settings or [])
    params["ostemplate"] = images.obtain(session, image, storage)
    made = _create(session, params, vmid, name)
    try:
        if not no_start:
            made.upid = session.client().post(f"{made.path}/status/start")
            progress.follow(session, made.upid, f"starting {name}", leave=False)
    except (BastideError, KeyboardInterrupt):
        _undo(session, made)
        raise
    addresses = [] if no_start else _await_up(session, made, name, params, timeout)
    _tell(session, made, name, addresses, time.monotonic() - began, started=not no_start)


def ensure_daemon(session: Session) -> None:
    """Start the daemon when none answers on this machine."""
    try:
        session.node()
    except Unreachable:
        if session.remote or session.host is None:
            raise
        report = host.host_of(session).up(session.layout, UpRequest())
        if report is not None:
            output.note(f"started the daemon: {report.url}")


def _checked_name(name: str) -> str:
    if len(name) > 253 or _NAME.fullmatch(name) is None:
        raise InvalidParameter(
            {"name": f"'{name[:60]}' is not a host name: use letters, digits and hyphens, and at least one letter"}
        )
    return name


def _mebibytes(text: str) -> int:
    try:
        size = int(text) * units.MIB if text.isdigit() else units.parse_size(text.upper().removesuffix("IB"))
    except ValueError:
        raise InvalidParameter({"memory": f"'{text[:40]}' is not a size such as 512M or 2G"}) from None
    return size // units.MIB


def _gibibytes(text: str) -> str:
    try:
        size = int(text) * units.GIB if text.isdigit() else units.parse_size(text.upper().removesuffix("IB"))
    except ValueError:
        raise InvalidParameter({"disk": f"'{text[:40]}' is not a size such as 8G"}) from None
    if size < units.MIB:
        raise InvalidParameter({"disk": f"'{text[:40]}' is too small for a root file system"})
    return f"{size / units.GIB:.6f}".rstrip("0").rstrip(".")


def _keys(files: list[str]) -> str | None:
    texts = []
    for name in files:
        try:
            texts.append(Path(name).expanduser().read_text().strip())
        except (OSError, UnicodeDecodeError):
            raise InvalidParameter({"ssh-key": f"{name} cannot be read"}) from None
        if "PRIVATE KEY" in texts[-1]:
            raise InvalidParameter({"ssh-key": f"{name} is a private key; give the public one, {name}.pub"})
    return "\n".join(texts) or None


def _refuse_taken(session: Session, name: str, vmid: int | None) -> None:
    """Before anything long begins: a taken name or id."""
    for wanted in (name, *([str(vmid)] if vmid else [])):
        with suppress(NotFound):
            guest = session.guest(wanted)
            raise AlreadyExists(
                f"a guest '{wanted}' already exists ({guest.name}, {guest.vmid}): choose another "
                f"{'id' if wanted != name else 'name'}, or remove it with bastide rm{session.root_option} {wanted}"
            )


def _interfaces(
    session: Session, net: list[str] | None, bridge: str | None, ip: str, gateway: str | None
) -> dict[str, str]:
    if net:
        return {f"net{index}": text for index, text in enumerate(net)}
    parts = ["name=eth0", f"bridge={bridge or _default_bridge(session)}", f"ip={ip}"]
    if gateway:
        parts.append(f"gw={gateway}")
    elif "/" in ip and bridge is None:
        parts += _own_gateway(session, ip)
    parts.append("ip6=auto" if ip == "dhcp" else "")
    return {"net0": ",".join(part for part in parts if part)}


def _default_bridge(session: Session) -> str:
    return str(session.status().get("bridge") or "vmbr0")


def _own_gateway(session: Session, ip: str) -> list[str]:
    """The NAT bridge's own address is the way out for a guest with a fixed one in its network."""
    import ipaddress  # noqa: PLC0415 - imported by urllib already

    try:
        row = session.client().get(f"/nodes/{session.node()}/network/{_default_bridge(session)}")
        bridge, guest = ipaddress.ip_interface(row["address"] + f"/{row['netmask']}"), ipaddress.ip_interface(ip)
    except (NotFound, KeyError, ValueError):
        return []
    return [f"gw={bridge.ip}"] if guest.network == bridge.network else []


def _create(session: Session, params: dict[str, Any], vmid: int | None, name: str) -> Made:
    """Create the guest under the asked or the next free id."""
    client = session.client()
    for attempt in range(_TRIES):
        chosen = vmid or int(client.get("/cluster/nextid"))
        made = Made(chosen, f"/nodes/{session.node()}/lxc/{chosen}")
        try:
            made.upid = client.post(f"/nodes/{session.node()}/lxc", {"vmid": chosen, **params})
        except (AlreadyExists, InvalidParameter) as error:
            taken = isinstance(error, AlreadyExists) or set(error.errors) == {"vmid"}
            if vmid or not taken or attempt == _TRIES - 1:
                raise
            continue
        try:
            progress.follow(session, made.upid, f"creating {name}", leave=False)
        except KeyboardInterrupt:
            _undo(session, made)
            raise
        return made
    raise AlreadyExists("no free id was found")  # not reached: the last attempt raises


def _undo(session: Session, made: Made) -> None:
    """Leave nothing behind: stop the task at work, destroy the guest when it came to be."""
    with suppress(BastideError):
        progress.cancel(session, made.upid)
    try:
        session.guest(str(made.vmid))
    except BastideError:
        return
    try:
        upid = session.client().delete(made.path, force=True, purge=True)
        progress.follow(session, upid, f"removing {made.vmid}")
    except BastideError as error:
        output.note(f"guest {made.vmid} could not be removed: {error}")


def _await_up(session: Session, made: Made, name: str, params: dict[str, Any], timeout: int) -> list[str]:
    """The guest's addresses, as soon as it has one. Raises DeadlineExceeded; the guest is kept then, to look at."""
    wanted = [str(value) for key, value in params.items() if key.startswith("net") and "ip=manual" not in str(value)]
    until, pause = time.monotonic() + timeout, 0.02
    with progress.ProgressLine(f"waiting for {name}") as line:
        while True:
            status = session.client().get(f"{made.path}/status/current").get("status")
            if status != "running":
                raise NotFound(f"{name} ended right after its start: bastide console{session.root_option} {name}")
            addresses = addresses_of(session.client().get(f"{made.path}/interfaces"))
            if addresses or not any("ip" in text for text in wanted):
                return addresses
            if time.monotonic() > until:
                raise DeadlineExceeded(
                    f"{name} ({made.vmid}) runs and has no address after {timeout} seconds; it was kept: "
                    f"look with bastide console{session.root_option} {name}"
                )
            line.tick()
            time.sleep(pause)
            pause = min(pause * 1.3, 0.1)


def addresses_of(interfaces: list[dict[str, Any]]) -> list[str]:
    """Addresses that others can reach: no loopback, no link-local; IPv4 first."""
    found = []
    for row in interfaces:
        for entry in row.get("ip-addresses", []):
            text = str(entry.get("ip-address", ""))
            if row.get("name") != "lo" and not text.lower().startswith(("fe80:", "127.", "169.254.")) and text != "::1":
                found.append(text)
    return sorted(found, key=lambda text: ":" in text)


def _tell(session: Session, made: Made, name: str, addresses: list[str], took: float, *, started: bool) -> None:
    if session.json:
        status = "running" if started else "stopped"
        output.emit_json({"vmid": made.vmid, "name": name, "status": status, "addresses": addresses})
        return
    address = f"  {output.styled(addresses[0], '36')}" if addresses else ""
    print(f"{made.vmid}  {output.styled(name, '1')}{address}")
    if sys.stderr.isatty():
        verb = "runs" if started else "is made"
        output.note(f"{name} {verb} after {took:.1f} s; look inside: bastide exec{session.root_option} {name}")
