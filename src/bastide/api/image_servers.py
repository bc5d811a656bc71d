"""`/bastide/image-servers`: where container images can be pulled from."""

from typing import Annotated, Any

from pydantic import Field

from bastide.api.routing import Branch, Call, NoParameters
from bastide.api.shapes_storage import ImageServerRow
from bastide.model.record import Record
from bastide.operations import image_servers

branch = Branch("/bastide/image-servers")

_MODIFY = ("perm", "/", ("Sys.Modify",))


class ServerPath(Record):
    """An image server."""

    server: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class ServerChange(ServerPath):
    """An image server and the URL that its `streams/v1/index.json` lies below."""

    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=2048)]


@branch.get("", NoParameters, user="all", answer=list[ImageServerRow])
async def list_servers(call: Call, _p: NoParameters) -> list[dict[str, Any]]:
    """The configured image servers."""
    servers = await image_servers.image_servers(call.rooms)
    return [{"server": name, "url": url} for name, url in sorted(servers.items())]


@branch.put("/{server}", ServerChange, check=_MODIFY)
async def set_server(call: Call, p: ServerChange) -> None:
    """Configure an image server, or change where it is."""
    await image_servers.set_image_server(call.rooms, p.server, p.url)


@branch.delete("/{server}", ServerPath, check=_MODIFY)
async def remove_server(call: Call, p: ServerPath) -> None:
    """Forget an image server. What was pulled from it stays."""
    await image_servers.remove_image_server(call.rooms, p.server)
