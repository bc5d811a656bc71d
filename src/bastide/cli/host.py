"""`up`, `down`, `status`, `doctor`: the daemon and the machine it runs on."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from bastide.base.errors import NotSupported
from bastide.cli import output
from bastide.cli.hosting import DownRequest, Finding, Host, UpReport, UpRequest
from bastide.cli.session import Session


def host_of(session: Session) -> Host:
    """The machine this runs on. Raises NotSupported where another machine is meant, or this is only a client."""
    if session.remote:
        raise NotSupported("BASTIDE_API names another machine: this works only on the machine itself")
    if session.host is None:
        raise NotSupported("this is only a client: start the daemon on its machine with ./bastide up")
    return session.host


def up(
    ctx: typer.Context,
    *,
    foreground: Annotated[bool, typer.Option("--foreground", help="Run in this terminal until interrupted.")] = False,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="HTTPS port. Default: 8006.")] = None,
    node: Annotated[str | None, typer.Option(metavar="NAME", help="Node name. Default: the host's.")] = None,
    bridge: Annotated[str | None, typer.Option(metavar="NAME", help="NAT bridge. Default: vmbr0.")] = None,
    listen: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: all.")] = None,
) -> None:
    """Start the daemon and wait until it answers.

    Nothing happens when it runs already.
    """
    session: Session = ctx.obj
    report = host_of(session).up(session.layout, UpRequest(foreground, port, node, bridge, listen))
    if report is None:
        return
    if session.json:
        output.emit_json(asdict(report))
    else:
        print_up(session, report)


def print_up(session: Session, report: UpReport) -> None:
    """Tell where the daemon answers and how to log in."""
    told = "is up" if report.started else "is up already"
    print(f"{output.styled('Bastide', '1')} {report.version} {told} on node {report.node}")
    values = {
        "  address": output.styled(report.url, "36"),
        "  login": "root@pam, with the password of this system's root",
    }
    if report.fingerprint:
        values["  certificate"] = f"SHA-256 {report.fingerprint}"
    values["  next"] = f"bastide launch{session.root_option} debian-12 web"
    width = max(map(len, values))
    for name, value in values.items():
        print(f"{name:<{width}}  {value}")
    for text in report.notes:
        output.note(text)


def down(
    ctx: typer.Context,
    *,
    guests: Annotated[bool, typer.Option("--guests", help="Shut the guests down first.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove bridge, firewall tables, state, images: every trace.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="With --purge: destroy the guests that exist.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: Annotated[int, typer.Option(metavar="SECONDS", help="For each guest's shutdown.")] = 60,
) -> None:
    """End the daemon. Guests keep running."""
    session: Session = ctx.obj
    host = host_of(session)
    if purge and not yes:
        confirm(session, f"Remove everything Bastide keeps{session.root_option or ' on this machine'}?")
    report = host.down(session.layout, DownRequest(guests, purge, force, timeout))
    if session.json:
        output.emit_json(asdict(report))
        return
    for text in report.lines:
        output.line(text)


def confirm(session: Session, question: str) -> None:
    """Ask a person; without one, say that `--yes` is needed. Raises Exit when the answer is no."""
    if not session.interactive:
        raise typer.BadParameter("there is no terminal to ask: add --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def status(ctx: typer.Context) -> None:
    """Tell what runs: daemon, node, guests, storages."""
    session: Session = ctx.obj
    client = session.client()
    own: dict[str, Any] = client.get("/bastide/status")
    node = own["node"]
    load: dict[str, Any] = client.get(f"/nodes/{node}/status")
    rows: list[dict[str, Any]] = client.get("/cluster/resources")
    guests = [row for row in rows if row.get("type") in ("lxc", "qemu")]
    storages = [row for row in rows if row.get("type") == "storage"]
    if session.json:
        output.emit_json({**own, "status": load, "guests": guests, "storages": storages})
        return
    running = sum(row.get("status") == "running" for row in guests)
    memory, root = load.get("memory", {}), load.get("rootfs", {})
    output.pairs(
        {
            "node": node,
            "version": own.get("version", ""),
            "address": _address(own),
            "daemon": f"process {own.get('pid', '?')}, port {own.get('port', '?')}",
            "guests": f"{len(guests)}, {running} running",
            "cpu": f"{load.get('cpu', 0):.0%} of {load.get('cpuinfo', {}).get('cpus', '?')}",
            "memory": f"{output.size(memory.get('used'))} of {output.size(memory.get('total'))}",
            "disk": f"{output.size(root.get('used'))} of {output.size(root.get('total'))}",
        }
    )
    if storages:
        output.line()
        output.table(
            [
                output.Column("storage"),
                output.Column("type"),
                output.Column("used", "right"),
                output.Column("size", "right"),
            ],
            [
                (
                    row.get("storage"),
                    row.get("plugintype"),
                    output.size(row.get("disk")),
                    output.size(row.get("maxdisk")),
                )
                for row in storages
            ],
        )


def _address(own: dict[str, Any]) -> str:
    address = str(own.get("address") or "")
    return address if "://" in address or not address else f"https://{address}:{own.get('port', 8006)}"


def doctor(ctx: typer.Context) -> None:
    """Tell what this host can do, and what to do about what it cannot.

    Works without a daemon. Ends with 1 when something must be repaired.
    """
    session: Session = ctx.obj
    findings: list[Finding] = host_of(session).doctor(session.layout)
    if session.json:
        output.emit_json([asdict(finding) for finding in findings])
    else:
        output.findings((finding.ok, finding.name, finding.message, finding.advice) for finding in findings)
    if any(finding.ok == "fail" for finding in findings):
        raise typer.Exit(1)
