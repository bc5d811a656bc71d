"""`acl`, `role`, `group`: who may do what, and where; `user permissions` tells what comes of it."""

from typing import Annotated, Any

import typer

from bastide.cli import output
from bastide.cli.session import Session
from bastide.client.http import segment

acl = typer.Typer(help="Say who may do what, and where.", no_args_is_help=True, rich_markup_mode="rich")
roles = typer.Typer(help="List and change roles.", no_args_is_help=True, rich_markup_mode="rich")
groups = typer.Typer(help="List and change groups of users.", no_args_is_help=True, rich_markup_mode="rich")

AclPath = Annotated[
    str, typer.Argument(metavar="PATH", help="/vms/100, /storage/local, /pool/team, / ...", show_default=False)
]
Subject = Annotated[
    list[str],
    typer.Argument(
        metavar="WHO", help="A user name@realm, a token name@realm!token, a group @name.", show_default=False
    ),
]
Role = Annotated[str, typer.Option(metavar="ROLE", help="One or more roles, with commas.", show_default=False)]
RoleId = Annotated[str, typer.Argument(metavar="ROLE", help="The role's name.", show_default=False)]
GroupId = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.", show_default=False)]
Privileges = Annotated[
    list[str] | None, typer.Argument(metavar="PRIVILEGE", help="VM.Audit, VM.Console ...", show_default=False)
]
GroupComment = Annotated[str | None, typer.Option(metavar="TEXT", help="A note.")]
Members = Annotated[list[str], typer.Argument(metavar="USER", help="name@pve, name@pam ...", show_default=False)]


@acl.command("list")
def list_acl(
    ctx: typer.Context,
    path: Annotated[str | None, typer.Argument(metavar="PATH", help="Only what is said there.")] = None,
) -> None:
    """List who has which role, where."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/access/acl")
    rows = [row for row in rows if path in (None, row["path"])]
    if session.json:
        output.emit_json(rows)
        return
    columns = [output.Column(title) for title in ("path", "who", "kind", "role", "below it, too")]
    cells = [
        (row["path"], row["ugid"], row["type"], row["roleid"], "yes" if row.get("propagate") else "no") for row in rows
    ]
    output.table(columns, cells, empty="nobody but root@pam has a role")


@acl.command("set")
def set_acl(
    ctx: typer.Context,
    path: AclPath,
    who: Subject,
    *,
    role: Role,
    propagate: Annotated[
        bool, typer.Option("--propagate/--no-propagate", help="On what is below the path, too.")
    ] = True,
) -> None:
    """Give a role on a path."""
    _change(ctx, path, who, {"roles": role, "propagate": propagate})


@acl.command("remove")
def remove_acl(ctx: typer.Context, path: AclPath, who: Subject, *, role: Role) -> None:
    """Take a role on a path away."""
    _change(ctx, path, who, {"roles": role, "delete": True})


def _change(ctx: typer.Context, path: str, who: list[str], values: dict[str, Any]) -> None:
    session: Session = ctx.obj
    subjects = {
        "groups": [name[1:] for name in who if name.startswith("@")],
        "tokens": [name for name in who if "!" in name],
        "users": [name for name in who if "!" not in name and not name.startswith("@")],
    }
    named = {kind: ",".join(names) for kind, names in subjects.items() if names}
    session.client().put("/access/acl", {"path": path, **named, **values})
    output.emit_json({"path": path, **named, "roles": values["roles"]}, only_if=session.json)


@roles.command("ls")
def list_roles(ctx: typer.Context) -> None:
    """List the roles with their privileges."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/access/roles")
    if session.json:
        output.emit_json(rows)
        return
    cells = [
        (row["roleid"], "built in" if row.get("special") else "own", row["privs"].replace(",", " ")) for row in rows
    ]
    output.table([output.Column(title) for title in ("role", "kind", "privileges")], cells)


@roles.command("create")
def create_role(ctx: typer.Context, role: RoleId, privileges: Privileges = None) -> None:
    """Make a role."""
    session: Session = ctx.obj
    session.client().post("/access/roles", {"roleid": role, "privs": ",".join(privileges or ())})
    output.emit_json({"roleid": role}, only_if=session.json)


@roles.command("set")
def set_role(
    ctx: typer.Context,
    role: RoleId,
    privileges: Privileges = None,
    *,
    append: Annotated[bool, typer.Option("--append", help="Beside those that it has.")] = False,
) -> None:
    """Give a role other privileges, or further ones."""
    session: Session = ctx.obj
    values = {"privs": ",".join(privileges or ()), "append": append or None}
    session.client().put(f"/access/roles/{segment(role)}", values)
    output.emit_json({"roleid": role}, only_if=session.json)


@roles.command("rm")
def remove_role(ctx: typer.Context, role: RoleId) -> None:
    """Remove a role, and take it from everybody who has it."""
    session: Session = ctx.obj
    session.client().delete(f"/access/roles/{segment(role)}")
    output.emit_json({"roleid": role}, only_if=session.json)


@groups.command("ls")
def list_groups(ctx: typer.Context) -> None:
    """List the groups with their members."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/access/groups")
    if session.json:
        output.emit_json(rows)
        return
    cells = [(row["groupid"], row.get("users", "").replace(",", " "), row.get("comment")) for row in rows]
    output.table([output.Column(title) for title in ("group", "users", "comment")], cells, empty="there are no groups")


@groups.command("create")
def create_group(ctx: typer.Context, group: GroupId, *, comment: GroupComment = None) -> None:
    """Make a group."""
    session: Session = ctx.obj
    session.client().post("/access/groups", {"groupid": group, "comment": comment})
    output.emit_json({"groupid": group}, only_if=session.json)


@groups.command("set")
def set_group(ctx: typer.Context, group: GroupId, *, comment: GroupComment = None) -> None:
    """Change a group's comment."""
    session: Session = ctx.obj
    session.client().put(f"/access/groups/{segment(group)}", {"comment": comment or ""})
    output.emit_json({"groupid": group}, only_if=session.json)


@groups.command("rm")
def remove_group(ctx: typer.Context, group: GroupId) -> None:
    """Remove a group with its rights; its users stay."""
    session: Session = ctx.obj
    session.client().delete(f"/access/groups/{segment(group)}")
    output.emit_json({"groupid": group}, only_if=session.json)


@groups.command("add")
def add_members(ctx: typer.Context, group: GroupId, users: Members) -> None:
    """Put users into a group."""
    session: Session = ctx.obj
    for user in users:
        session.client().put(f"/access/users/{segment(user)}", {"groups": group, "append": True})
    output.emit_json({"groupid": group, "users": users}, only_if=session.json)


@groups.command("drop")
def drop_members(ctx: typer.Context, group: GroupId, users: Members) -> None:
    """Take users out of a group."""
    session: Session = ctx.obj
    for user in users:
        path = f"/access/users/{segment(user)}"
        kept = [name for name in session.client().get(path).get("groups", ()) if name != group]
        session.client().put(path, {"groups": ",".join(kept)})
    output.emit_json({"groupid": group, "users": users}, only_if=session.json)


def show_permissions(ctx: typer.Context, user: str | None, path: str | None) -> None:
    """What somebody may do, path by path; without a user, the caller. `*` marks what reaches nothing below."""
    session: Session = ctx.obj
    found: dict[str, dict[str, int]] = session.client().get("/access/permissions", userid=user, path=path)
    if session.json:
        output.emit_json(found)
        return
    cells = [
        (place, " ".join(name if reach else f"{name}*" for name, reach in sorted(held.items())))
        for place, held in sorted(found.items())
        if held
    ]
    output.table([output.Column(title) for title in ("path", "privileges")], cells, empty="nothing")
    if any(not reach for held in found.values() for reach in held.values()):
        output.note("* on the path itself alone, not below it")
