"""`user` and `token`: who may come in."""

import sys
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter
from bastide.cli import output
from bastide.cli.factors import factors
from bastide.cli.rights import show_permissions
from bastide.cli.session import Session
from bastide.client.http import segment

users = typer.Typer(help="List and change users.", no_args_is_help=True, rich_markup_mode="rich")
users.add_typer(factors, name="tfa")
tokens = typer.Typer(help="List and make API tokens.", no_args_is_help=True, rich_markup_mode="rich")

UserId = Annotated[str, typer.Argument(metavar="USER", help="name@pve or name@pam.", show_default=False)]
Comment = Annotated[str | None, typer.Option(metavar="TEXT", help="A note.")]
Email = Annotated[str | None, typer.Option(metavar="ADDRESS", help="E-mail address.")]
Expire = Annotated[int | None, typer.Option(metavar="EPOCH", help="Seconds since 1970; 0 is never.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def read_password(session: Session, prompt: str, *, from_stdin: bool) -> str:
    """A password from standard input's first line, or asked for twice on the terminal."""
    if from_stdin:
        text = sys.stdin.readline().rstrip("\n")
    elif session.interactive:
        text = str(typer.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise typer.BadParameter("there is no terminal to ask for the password: add --password-stdin")
    if not text:
        raise InvalidParameter({"password": "is empty"})
    return text


@users.command("ls")
def list_users(ctx: typer.Context) -> None:
    """List the users."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/access/users")
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column(title) for title in ("user", "enabled", "expires", "e-mail", "comment")]
    cells = [
        (row["userid"], "yes" if row.get("enable", 1) else "no", output.moment(row.get("expire")), row.get("email"),
         row.get("comment"))
        for row in rows
    ]  # fmt: skip
    output.table(columns, cells)


@users.command("create")
def create_user(
    ctx: typer.Context,
    user: UserId,
    *,
    password_stdin: PasswordStdin = False,
    comment: Comment = None,
    email: Email = None,
    expire: Expire = None,
) -> None:
    """Create a user.

    One of the realm pve gets a password of its own; one of pam has the system's.
    """
    session: Session = ctx.obj
    password = None
    if user.endswith("@pve"):
        password = read_password(session, f"Password for {user}", from_stdin=password_stdin)
    params = {"userid": user, "password": password, "comment": comment, "email": email, "expire": expire}
    session.client().post("/access/users", params)
    output.emit_json({"userid": user}, only_if=session.json)


@users.command("set")
def set_user(
    ctx: typer.Context,
    user: UserId,
    *,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="May log in.", show_default=False)] = None,
    comment: Comment = None,
    email: Email = None,
    expire: Expire = None,
) -> None:
    """Change a user."""
    session: Session = ctx.obj
    params = {"enable": enable, "comment": comment, "email": email, "expire": expire}
    if all(value is None for value in params.values()):
        raise typer.BadParameter("nothing to change: see --help")
    session.client().put(f"/access/users/{segment(user)}", params)
    output.emit_json({"userid": user}, only_if=session.json)


@users.command("passwd")
def set_password(ctx: typer.Context, user: UserId, password_stdin: PasswordStdin = False) -> None:
    """Set a user's password."""
    session: Session = ctx.obj
    password = read_password(session, f"New password for {user}", from_stdin=password_stdin)
    session.client().put("/access/password", {"userid": user, "password": password})
    output.emit_json({"userid": user}, only_if=session.json)


@users.command("rm")
def remove_user(ctx: typer.Context, user: UserId) -> None:
    """Remove a user with its tokens."""
    session: Session = ctx.obj
    session.client().delete(f"/access/users/{segment(user)}")
    output.emit_json({"userid": user}, only_if=session.json)


@users.command("permissions")
def list_permissions(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Argument(metavar="WHO", help="A user or a token; without one, you.")] = None,
    path: Annotated[str | None, typer.Option(metavar="PATH", help="On this path alone.")] = None,
) -> None:
    """Tell what somebody may do, and where."""
    show_permissions(ctx, user, path)


TokenName = Annotated[str, typer.Argument(metavar="NAME", help="The token's name.", show_default=False)]


@tokens.command("ls")
def list_tokens(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose.")] = "root@pam",
) -> None:
    """List a user's API tokens."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get(f"/access/users/{segment(user)}/token")
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column(title) for title in ("token", "privileges", "expires", "comment")]
    cells = [
        (f"{user}!{row['tokenid']}", "its own" if row.get("privsep", 1) else "the user's",
         output.moment(row.get("expire")), row.get("comment"))
        for row in rows
    ]  # fmt: skip
    output.table(columns, cells, empty=f"{user} has no tokens")


@tokens.command("create")
def create_token(
    ctx: typer.Context,
    user: UserId,
    name: TokenName,
    *,
    privsep: Annotated[
        bool,
        typer.Option("--privsep/--no-privsep", help="Only what is granted to the token itself, or all the user may."),
    ] = True,
    comment: Comment = None,
    expire: Expire = None,
) -> None:
    """Make an API token. Its secret is printed once and kept nowhere."""
    session: Session = ctx.obj
    params = {"privsep": privsep, "comment": comment, "expire": expire}
    made: dict[str, Any] = session.client().post(f"/access/users/{segment(user)}/token/{segment(name)}", params)
    if session.json:
        output.emit_json(made)
        return
    output.pairs({"token": made["full-tokenid"], "secret": output.styled(made["value"], "1")})
    output.note(f"use it as  BASTIDE_TOKEN='{made['full-tokenid']}={made['value']}'  - the secret is not shown again")
    if privsep:
        output.note("it may do nothing until rights are granted to it; --no-privsep gives it all its user may")


@tokens.command("rm")
def remove_token(ctx: typer.Context, user: UserId, name: TokenName) -> None:
    """Remove an API token."""
    session: Session = ctx.obj
    session.client().delete(f"/access/users/{segment(user)}/token/{segment(name)}")
    output.emit_json({"full-tokenid": f"{user}!{name}"}, only_if=session.json)
