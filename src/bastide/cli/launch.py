"""`launch`: from nothing to a guest that runs and has an address, or back to nothing."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import typer

from bastide.base.errors import AlreadyExists, BastideError, InvalidParameter, NotFound
from bastide.cli import host, launch_ct, launch_vm, output, progress
from bastide.cli import launch_options as options
from bastide.cli.configure import key_values
from bastide.cli.hosting import UpRequest
from bastide.cli.launch_options import Asked
from bastide.cli.launching import Made, destroy
from bastide.cli.session import Session
from bastide.client.errors import Unreachable

_TRIES = 5  # another launch may take the id we were told is free


class Maker(Protocol):
    """How a kind of guest is made: the modules `launch_ct` and `launch_vm`."""

    BRANCH: str

    def local_parameters(self, asked: Asked) -> dict[str, Any]:
        """What the options say by themselves. Raises InvalidParameter."""

    def host_parameters(self, session: Session, asked: Asked) -> dict[str, Any]:
        """What depends on the host; obtains the image."""

    def prepare(self, session: Session, made: Made, asked: Asked) -> None:
        """What is to be done between the making and the first start."""

    def await_up(self, session: Session, made: Made, asked: Asked, params: dict[str, Any]) -> list[str]:
        """The guest's addresses, as soon as it has one. Raises DeadlineExceeded; the guest is kept then."""


def launch(
    ctx: typer.Context,
    image: options.Image = None,
    name: options.Name = None,
    *,
    vm: options.Vm = False,
    ct: options.Ct = False,
    cores: options.Cores = None,
    memory: options.Memory = options.DEFAULT_MEMORY,
    disk: options.Disk = options.DEFAULT_DISK,
    storage: options.Storage = "local",
    bridge: options.Bridge = None,
    ip: options.Ip = "dhcp",
    gateway: options.Gateway = None,
    net: options.Nets = None,
    ssh_key: options.Keys = None,
    password_stdin: options.PasswordStdin = False,
    user: options.User = None,
    user_data: options.UserData = None,
    network_data: options.NetworkData = None,
    vendor_data: options.VendorData = None,
    privileged: options.Privileged = False,
    nesting: options.Nesting = True,
    tag: options.Tags = None,
    onboot: options.Onboot = False,
    vmid: options.Vmid = None,
    no_start: options.NoStart = False,
    settings: options.Settings = None,
    timeout: options.Timeout = None,
    iso: options.Iso = None,
    os: options.Os = None,
    uefi: options.Uefi = False,
    secure_boot: options.SecureBoot = False,
    tpm: options.Tpm = False,
    machine: options.Machine = None,
    cpu: options.Cpu = None,
    name_option: options.NameOption = None,
    keep: options.Keep = False,
    catalog: options.Catalog = None,
) -> None:
    """Make a container, or with --vm a VM, and wait until it is up.

    Starts the daemon where none runs, and builds or pulls the image when it is missing.
    A service of the catalog (launch nginx) becomes the kind of guest that fits it, in its size, and is installed.
    When something fails, nothing is left behind; --keep keeps a guest whose service could not be installed.
    """
    given = {key: value for key, value in locals().items() if key not in ("ctx", "name_option")}
    given["image"], given["name"] = options.names(image, name, name_option, iso)
    given["vm"] = vm or iso is not None or ":import/" in given["image"]
    if ct and given["vm"]:
        raise InvalidParameter(
            {"ct": "this makes a VM: give --ct or --vm, and neither --iso nor a disk image with --ct"}
        )
    given["explicit"] = options.explicit(ctx)
    session, asked = ctx.obj, Asked(**given)
    if asked.may_be_service:
        from bastide.cli import launch_service  # noqa: PLC0415 - guests of an image with a plain name pay for it

        launch_service.run(session, asked)
    else:
        run(session, asked)


def run(session: Session, asked: Asked) -> None:
    """Make the guest that is asked for, and tell of it."""
    began = time.monotonic()
    if not asked.name:
        raise typer.BadParameter("give the guest a NAME")
    made, addresses = make(session, asked)
    _tell(session, made, addresses, time.monotonic() - began, asked)


def make(session: Session, asked: Asked, settled: Mapping[str, Any] | None = None) -> tuple[Made, list[str]]:
    """Make the guest that is asked for and wait until it is up; it and its addresses.

    `settled` overrules the parameters that launch itself finds, other than `--set`.
    """
    maker = maker_of(asked)
    params = maker.local_parameters(asked)
    ensure_daemon(session)
    _refuse_taken(session, asked.name, asked.vmid)
    params |= maker.host_parameters(session, asked)
    params |= {**(settled or {}), **key_values(asked.settings or [])}
    made = _create(session, maker.BRANCH, params, asked)
    or_undo(session, made, lambda: _bring_up(session, maker, made, asked))
    return made, [] if asked.no_start else maker.await_up(session, made, asked, params)


def maker_of(asked: Asked) -> Maker:
    """How the kind of guest is made that is asked for."""
    return launch_vm if asked.vm else launch_ct


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


def _refuse_taken(session: Session, name: str, vmid: int | None) -> None:
    """Before anything long begins: a taken name or id."""
    for wanted in (name, *([str(vmid)] if vmid else [])):
        with suppress(NotFound):
            guest = session.guest(wanted)
            raise AlreadyExists(
                f"a guest '{wanted}' already exists ({guest.name}, {guest.vmid}): choose another "
                f"{'id' if wanted != name else 'name'}, or remove it with bastide rm{session.root_option} {wanted}"
            )


def _create(session: Session, branch: str, params: dict[str, Any], asked: Asked) -> Made:
    """Create the guest under the asked or the next free id."""
    client = session.client()
    for attempt in range(_TRIES):
        chosen = asked.vmid or int(client.get("/cluster/nextid"))
        made = Made(chosen, f"/nodes/{session.node()}/{branch}/{chosen}", asked.name)
        try:
            made.upid = client.post(f"/nodes/{session.node()}/{branch}", {"vmid": chosen, **params})
        except (AlreadyExists, InvalidParameter) as error:
            taken = isinstance(error, AlreadyExists) or set(error.errors) == {"vmid"}
            if asked.vmid or not taken or attempt == _TRIES - 1:
                raise
            continue
        try:
            progress.follow(session, made.upid, f"creating {asked.name}", leave=False)
        except KeyboardInterrupt:
            _undo(session, made)
            raise
        return made
    raise AlreadyExists("no free id was found")  # not reached: the last attempt raises


def _bring_up(session: Session, maker: Maker, made: Made, asked: Asked) -> None:
    maker.prepare(session, made, asked)
    if not asked.no_start:
        made.upid = session.client().post(f"{made.path}/status/start")
        progress.follow(session, made.upid, f"starting {asked.name}", leave=False)


def or_undo(session: Session, made: Made, act: Callable[[], None]) -> None:
    """Do something with a guest that was made; when it fails, leave nothing behind."""
    try:
        act()
    except (BastideError, KeyboardInterrupt):
        _undo(session, made)
        raise


def _undo(session: Session, made: Made) -> None:
    """Leave nothing behind: stop the task at work, destroy the guest when it came to be."""
    with suppress(BastideError):
        progress.cancel(session, made.upid)
    try:
        guest = session.guest(str(made.vmid))
    except BastideError:
        return
    try:
        progress.finish(session, destroy(session, guest, force=True), f"removing {made.vmid}")
    except BastideError as error:
        output.note(f"guest {made.vmid} could not be removed: {error}")


def _tell(session: Session, made: Made, addresses: list[str], took: float, asked: Asked) -> None:
    if session.json:
        status = "stopped" if asked.no_start else "running"
        output.emit_json({"vmid": made.vmid, "name": made.name, "status": status, "addresses": addresses})
        return
    address = f"  {output.styled(addresses[0], '36')}" if addresses else ""
    print(f"{made.vmid}  {output.styled(made.name, '1')}{address}")
    if asked.iso is not None and not asked.no_start:
        picture = f"bastide screenshot{session.root_option} {made.name} -o {made.name}.png"
        output.note(f"look at its screen: {picture}, or VNC by POST {made.path}/vncproxy")
    elif sys.stderr.isatty():
        verb = "is made" if asked.no_start else "runs"
        output.note(
            f"{made.name} {verb} after {took:.1f} s; look inside: bastide exec{session.root_option} {made.name}"
        )
