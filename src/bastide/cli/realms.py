"""`realm`: where users' passwords are, and taking users over from directories."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter
from bastide.cli import output, progress
from bastide.cli.configure import key_values
from bastide.cli.session import Session
from bastide.cli.storage_options import secret
from bastide.client.http import segment

app = typer.Typer(
    help="List and change where users' passwords are: directories, OpenID providers.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_ROOT = "/access/domains"
_SECRETS = ("password", "client-key")


class Kind(StrEnum):
    """Types of realms that can be added."""

    LDAP = "ldap"
    AD = "ad"
    OPENID = "openid"


class Scope(StrEnum):
    """What a sync takes over."""

    USERS = "users"
    GROUPS = "groups"
    BOTH = "both"


RealmName = Annotated[str, typer.Argument(metavar="REALM", help="The part of user names after @.", show_default=False)]
Options = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Options, as the API names them.", show_default=False),
]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", metavar="FILE", help="The bind user's password; - is standard input."),
]
KeyFile = Annotated[
    str | None,
    typer.Option("--client-key-file", metavar="FILE", help="The key that the OpenID provider gave; - likewise."),
]


@app.command("list")
def list_realms(ctx: typer.Context) -> None:
    """List the realms."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get(_ROOT)
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column(title) for title in ("realm", "type", "default", "comment")]
    cells = [(row["realm"], row["type"], "yes" if row.get("default") else "", row.get("comment")) for row in rows]
    output.table(columns, cells)


@app.command("show")
def show_realm(ctx: typer.Context, realm: RealmName) -> None:
    """Show a realm's options; its secret is shown nowhere."""
    session: Session = ctx.obj
    found: dict[str, Any] = session.client().get(f"{_ROOT}/{segment(realm)}")
    if session.json:
        output.emit_json(found)
        return
    output.pairs({key: value for key, value in found.items() if key != "digest"})


@app.command("add")
def add_realm(
    ctx: typer.Context,
    kind: Annotated[Kind, typer.Argument(metavar="TYPE", help="ldap, ad or openid.", show_default=False)],
    realm: RealmName,
    options: Options = None,
    *,
    password_file: PasswordFile = None,
    client_key_file: KeyFile = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Try a directory first.")] = True,
) -> None:
    """Add a realm.

    bastide realm add ldap corp server1=ldap.corp base_dn=dc=corp user_attr=uid mode=ldaps verify=1

    bastide realm add ad corp server1=dc1.corp domain=corp.example bind_dn=reader@corp.example --password-file secret

    bastide realm add openid sso issuer-url=https://id.corp client-id=bastide --client-key-file key autocreate=1
    """
    session: Session = ctx.obj
    values = _read(options, password_file, client_key_file)
    if kind is not Kind.OPENID and check:
        values["check-connection"] = 1
    session.client().post(_ROOT, {"realm": realm, "type": kind.value, **values})
    output.emit_json({"realm": realm}, only_if=session.json)


@app.command("set")
def set_realm(
    ctx: typer.Context,
    realm: RealmName,
    options: Options = None,
    *,
    password_file: PasswordFile = None,
    client_key_file: KeyFile = None,
    delete: Annotated[str | None, typer.Option(metavar="KEYS", help="Options to unset, with commas.")] = None,
) -> None:
    """Change a realm's options."""
    session: Session = ctx.obj
    values = _read(options, password_file, client_key_file)
    if not values and delete is None:
        raise typer.BadParameter("nothing to change: see --help")
    session.client().put(f"{_ROOT}/{segment(realm)}", {**values, "delete": delete})
    output.emit_json({"realm": realm}, only_if=session.json)


@app.command("remove")
def remove_realm(ctx: typer.Context, realm: RealmName) -> None:
    """Forget a realm. Its users stay, and cannot log in."""
    session: Session = ctx.obj
    session.client().delete(f"{_ROOT}/{segment(realm)}")
    output.emit_json({"realm": realm}, only_if=session.json)


@app.command("sync")
def sync_realm(
    ctx: typer.Context,
    realm: RealmName,
    *,
    scope: Annotated[Scope | None, typer.Option(help="What to take over.", show_default=False)] = None,
    remove_vanished: Annotated[
        str | None,
        typer.Option(metavar="PARTS", help="What of the vanished goes: acl;entry;properties, or none."),
    ] = None,
    enable_new: Annotated[
        bool | None, typer.Option("--enable-new/--disable-new", help="New users may log in.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Take users and groups over from a directory. What is not said is as the realm's sync-defaults-options say."""
    session: Session = ctx.obj
    params = {
        "scope": scope.value if scope else None,
        "remove-vanished": remove_vanished,
        "enable-new": enable_new,
        "dry-run": dry_run or None,
    }
    client = session.client()
    upid = str(client.post(f"{_ROOT}/{segment(realm)}/sync", params))
    progress.follow(session, upid, f"syncing {realm}")
    if session.json:
        output.emit_json({"realm": realm, "upid": upid})
    else:
        progress.read_log(session, upid, print)


def _read(options: list[str] | None, password_file: str | None, client_key_file: str | None) -> dict[str, Any]:
    """The options that were given, and the secrets that lie in files. Raises InvalidParameter for one on the line."""
    values: dict[str, Any] = key_values(options or [])
    for key, file in zip(_SECRETS, (password_file, client_key_file), strict=True):
        if key in values:
            raise InvalidParameter({key: f"others can read the command line: give it with --{key}-file FILE"})
        if file is not None:
            values[key] = secret(file)
    return values
