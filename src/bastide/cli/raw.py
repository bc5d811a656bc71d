"""`api`: the raw door. Every method of the API by its path."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from bastide.base.errors import InvalidParameter
from bastide.cli import output, progress
from bastide.cli.configure import key_values
from bastide.cli.lazy import command_settings
from bastide.cli.session import Session
from bastide.client.http import PREFIX


class Verb(StrEnum):
    """What to do at a path, and its HTTP method."""

    GET = "get"
    SET = "set"
    CREATE = "create"
    DELETE = "delete"

    @property
    def method(self) -> str:
        """The HTTP method."""
        return {"get": "GET", "set": "PUT", "create": "POST", "delete": "DELETE"}[self.value]


@command_settings(epilog="Example: bastide api create /nodes/localhost/lxc/100/status/start")
def api(
    ctx: typer.Context,
    verb: Annotated[Verb, typer.Argument(help="get, set (PUT), create (POST) or delete.", show_default=False)],
    path: Annotated[str, typer.Argument(metavar="PATH", help="/nodes, /cluster/resources ...", show_default=False)],
    params: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Parameters; a repeated key is a list.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Where a task is answered, wait until it ends.")] = False,
) -> None:
    """Call the API and print what it answers as JSON."""
    session: Session = ctx.obj
    answer: Any = session.client().request(verb.method, _clean_path(path), key_values(params or []))
    output.emit_json(answer)
    progress.finish(session, answer, f"{verb.value} {path}", no_wait=not wait)


def _clean_path(path: str) -> str:
    """The path after `/api2/json`, however it was written. Raises InvalidParameter."""
    from urllib.parse import quote  # noqa: PLC0415 - already imported by the client, kept beside its use

    text = "/" + path.removeprefix(PREFIX).strip("/")
    if any(not char.isprintable() for char in text) or "?" in text:
        raise InvalidParameter({"path": "a path holds no control characters; parameters are KEY=VALUE arguments"})
    return quote(text, safe="/%:@!,=~+") if text != "/" else "/"
