"""`image server`: where images can be pulled from."""

from typing import Annotated, Any

import typer

from bastide.cli import output
from bastide.cli.session import Session
from bastide.client.http import segment

app = typer.Typer(help="List, add and remove image servers.", no_args_is_help=True, rich_markup_mode="rich")

Name = Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)]


@app.command("ls")
def list_servers(ctx: typer.Context) -> None:
    """List the image servers."""
    session: Session = ctx.obj
    rows: list[dict[str, Any]] = session.client().get("/bastide/image-servers")
    if session.json:
        output.emit_json(rows)
        return
    output.table(
        [output.Column("server"), output.Column("url", wrap=True)],
        [(row["server"], row["url"]) for row in rows],
        empty=f"no image servers; add one with: bastide image server add{session.root_option} NAME URL",
    )


@app.command("add")
def add_server(
    ctx: typer.Context,
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="What streams/v1/index.json is below.", show_default=False)],
) -> None:
    """Add a simplestreams server, or change its URL."""
    session: Session = ctx.obj
    session.client().put(f"/bastide/image-servers/{segment(name)}", {"url": url})
    output.emit_json({"server": name, "url": url}, only_if=session.json)


@app.command("rm")
def remove_server(ctx: typer.Context, name: Name) -> None:
    """Forget an image server. Images pulled from it stay."""
    session: Session = ctx.obj
    session.client().delete(f"/bastide/image-servers/{segment(name)}")
    output.emit_json({"server": name}, only_if=session.json)
