"""The configured image servers: which there are, and what they have.

An administrator configures them, so they may lie in a private network; this host itself is out of reach as ever.
"""

import asyncio
import contextlib
import json
import re
import time
from dataclasses import replace
from pathlib import Path

from bastide.base.errors import BastideError, Conflict, InvalidParameter, NotFound
from bastide.base.units import MIB
from bastide.host import apt
from bastide.host.download import PUBLIC, Guard, check_url, fetch
from bastide.host.filesystems import make_folder, replace_text
from bastide.model.guest import Kind
from bastide.operations import simplestreams
from bastide.operations.rooms import Rooms
from bastide.operations.simplestreams import Image
from bastide.state.store import ABSENT

_KEY = "setting/image-servers"
_INDEX_LIMIT = 64 * MIB
_INDEX_SECONDS = 3600.0
_DEADLINE = 60.0
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_RESERVED = ("local", "build", "http", "https")


async def image_servers(rooms: Rooms) -> dict[str, str]:
    """The configured image servers: {name: URL}."""
    return (await _stored(rooms))[0]


async def set_image_server(rooms: Rooms, name: str, url: str) -> None:
    """Configure an image server, or change its URL. Raises InvalidParameter."""
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        raise InvalidParameter({"server": f"'{name[:40]}' can't be the name of an image server"})
    await _change(rooms, name, check_url(url))


async def remove_image_server(rooms: Rooms, name: str) -> None:
    """Forget an image server. Raises NotFound."""
    await _change(rooms, name, None)


def server_guard(guard: Guard) -> Guard:
    """Where a configured image server may lie."""
    return replace(guard, private=True)


async def find_image(rooms: Rooms, alias: str, guard: Guard = PUBLIC, kind: Kind = "lxc") -> Image:
    """The image for a guest that `SERVER:alias`, or an alias on any server, means. Raises NotFound, HostFailure."""
    server, colon, name = alias.rpartition(":")
    servers = await image_servers(rooms)
    if colon and server not in servers:
        known = ", ".join(servers) or "none is configured"
        raise NotFound(f"no such image server '{server[:60]}' ({known})")
    architecture = await apt.architecture()
    for candidate in [server] if colon else list(servers):
        offered = await _images_of(rooms, candidate, servers[candidate], guard, kind)
        found = simplestreams.find(offered, name, architecture)
        if found is not None:
            return found
    hint = "" if servers else "; no image server is configured"
    raise NotFound(f"no such image '{alias[:100]}' for {architecture}{hint}")


async def server_images(rooms: Rooms, guard: Guard = PUBLIC) -> list[tuple[str, Image]]:
    """What the image servers that answer have for containers: (server, image)."""
    found = []
    for name, url in (await image_servers(rooms)).items():
        with contextlib.suppress(BastideError):  # the list of one server that does not answer is missing, no more
            found += [(name, image) for image in await _images_of(rooms, name, url, guard)]
    return found


async def _images_of(rooms: Rooms, name: str, url: str, guard: Guard, kind: Kind = "lxc") -> list[Image]:
    """A server's images, from its index or from the last hour's copy of it."""
    folder = rooms.layout.state / "image-servers"
    base = url.rstrip("/") + "/"
    found: list[Image] = []
    index = await _document(folder / f"{name}.index.json", base + simplestreams.INDEX, guard)
    for number, path in enumerate(simplestreams.product_paths(index)[:20]):
        document = await _document(folder / f"{name}.{number}.json", base + path, guard)
        found += await asyncio.to_thread(simplestreams.images, document, base, kind)
    return found


async def _document(copy: Path, url: str, guard: Guard) -> str:
    note = copy.with_suffix(".url")
    with contextlib.suppress(OSError):
        fresh = time.time() - copy.stat().st_mtime < _INDEX_SECONDS
        if fresh and note.read_text() == url:
            return await asyncio.to_thread(copy.read_text)
    body = await fetch(url, server_guard(guard), limit=_INDEX_LIMIT, deadline=_DEADLINE)
    text = body.decode(errors="replace")
    make_folder(copy.parent, 0o700)
    await asyncio.to_thread(replace_text, copy, text)
    await asyncio.to_thread(replace_text, note, url)
    return text


async def _stored(rooms: Rooms) -> tuple[dict[str, str], int]:
    entry = await rooms.store.get(_KEY)
    return (dict(json.loads(entry.value)), entry.revision) if entry is not None else ({}, ABSENT)


async def _change(rooms: Rooms, name: str, url: str | None) -> None:
    while True:
        servers, revision = await _stored(rooms)
        if url is not None:
            servers[name] = url
        elif servers.pop(name, None) is None:
            raise NotFound(f"image server '{name[:60]}' does not exist")
        with contextlib.suppress(Conflict):
            await rooms.store.put(_KEY, json.dumps(servers, sort_keys=True), revision)
            return
