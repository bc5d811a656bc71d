"""`user tfa`: a user's second factors."""

import base64
import secrets
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from bastide.cli import output
from bastide.cli.session import Session
from bastide.client.http import segment

factors = typer.Typer(help="List, add and unlock second factors.", no_args_is_help=True, rich_markup_mode="rich")
adding = typer.Typer(help="Add a second factor.", no_args_is_help=True, rich_markup_mode="rich")
factors.add_typer(adding, name="add")

UserId = Annotated[str, typer.Argument(metavar="USER", help="name@pve or name@pam.", show_default=False)]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="What it is: the phone's name.")]

_SECRET_BYTES = 20
"""Of a TOTP: as long as SHA-1's output, which RFC 4226 recommends."""


@factors.command("list")
def list_factors(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Argument(metavar="[USER]", help="Whose; without one, everybody's.")] = None,
) -> None:
    """List second factors, and what is locked after wrong answers."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/access/tfa")
    if user is not None:
        own = session.client().get(f"/access/tfa/{segment(user)}")  # who is not there is told of
        rows = [row for row in rows if row["userid"] == user] or [{"userid": user, "entries": own}]
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column(title) for title in ("user", "type", "id", "state", "created", "description")]
    cells = [
        (row["userid"], entry["type"], entry["id"], _state(row, entry), output.moment(entry["created"]),
         entry["description"])
        for row in rows
        for entry in row["entries"]
    ]  # fmt: skip
    output.table(columns, cells, empty="there are no second factors")


@adding.command("totp")
def add_totp(
    ctx: typer.Context,
    user: UserId,
    *,
    description: Description = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read an otpauth URI and a present code of it, a line each.")
    ] = False,
) -> None:
    """Add codes of the time, as an app on a phone shows them.

    Its secret is printed for the app; a first code of the app proves that it came there.
    """
    session: Session = ctx.obj
    if stdin:
        uri, code = sys.stdin.readline().strip(), sys.stdin.readline().strip()
    elif session.interactive:
        uri = new_uri(user, session.node())
        output.note(f"give this to the app:  {uri}")
        code = str(typer.prompt("Code of the app", err=True)).strip()
    else:
        raise typer.BadParameter("there is no terminal to ask for the app's code: add --stdin")
    params = {"type": "totp", "totp": uri, "value": code, "description": description}
    output.emit_json(session.client().post(f"/access/tfa/{segment(user)}", params), only_if=session.json)


@adding.command("recovery")
def add_recovery(ctx: typer.Context, user: UserId) -> None:
    """Make ten recovery codes, each good for one login. They are printed once and kept nowhere."""
    session: Session = ctx.obj
    made: dict[str, Any] = session.client().post(f"/access/tfa/{segment(user)}", {"type": "recovery"})
    if session.json:
        output.emit_json(made)
        return
    output.table([output.Column("number"), output.Column("code")], list(enumerate(made["recovery"])))
    output.note("keep them where the other factors are not: they are not shown again")


@factors.command("remove")
def remove_factor(
    ctx: typer.Context,
    user: UserId,
    factor: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.", show_default=False)],
) -> None:
    """Remove a second factor."""
    session: Session = ctx.obj
    session.client().delete(f"/access/tfa/{segment(user)}/{segment(factor)}")
    output.emit_json({"userid": user, "id": factor}, only_if=session.json)


@factors.command("unlock")
def unlock(ctx: typer.Context, user: UserId) -> None:
    """Unlock second factors after too many wrong answers: have the user change the password, which is known."""
    session: Session = ctx.obj
    done = bool(session.client().put(f"/access/users/{segment(user)}/unlock-tfa"))
    if session.json:
        output.emit_json({"userid": user, "unlocked": done})
    elif not done:
        output.note(f"nothing of {user} was locked")


def new_uri(user: str, node: str) -> str:
    """A new `otpauth:` URI (Google Authenticator's Key Uri Format) with a secret of 160 random bits."""
    secret = base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    issuer = quote(f"Bastide - {node}", safe="")
    return f"otpauth://totp/{issuer}:{quote(user, safe='')}?secret={secret}&issuer={issuer}&digits=6&period=30"


def _state(row: dict[str, Any], entry: dict[str, Any]) -> str:
    if "tfa-locked-until" in row:
        return f"locked until {output.moment(row['tfa-locked-until'])}"
    if entry["type"] == "totp" and row.get("totp-locked"):
        return "locked"
    return "enabled" if entry.get("enable", 1) else "disabled"
