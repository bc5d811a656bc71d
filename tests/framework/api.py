"""The API in process over the fakes: no socket, no root, no container."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from bastide.access.access import Access
from bastide.api.app import create_app
from bastide.api.services import Services
from bastide.storage.registry import Driver
from bastide.web.marks import LOCAL
from framework.rooms import PLAIN_STORAGES, fake_rooms


class Api:
    """The application and two ways in: `root` as over the UNIX socket, `client` as over the network."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.app = create_app(services)
        self.client = _client(self.app)
        self.root = _client(_marked(self.app))

    @classmethod
    async def make(cls, folder: Path, drivers: Mapping[str, Driver] = PLAIN_STORAGES) -> "Api":
        """A fresh one; `folder` holds its storage, of these drivers."""
        rooms = await fake_rooms(folder, drivers)
        access = Access(
            rooms.store, rooms.node, rooms.layout, pace=0
        )  # not the rooms' own: no waiting for bad passwords
        return cls(Services(rooms=rooms, access=access, sampler=rooms.sampler, version="0.1"))

    async def data(self, method: str, path: str, /, **values: Any) -> Any:
        """Call as root; returns `data` and fails on an error."""
        answer = await call(self.root, method, path, **values)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def wait(self, upid: str) -> str:
        """Wait for a task; returns how it ended."""
        record = await self.services.rooms.tasks.wait(upid)
        return str(record.exitstatus)

    async def token(self, userid: str = "ada@pve", *, grants: dict[str, str] | None = None, privsep: int = 0) -> Any:
        """Make a user with these roles (path -> role) and a token; returns a client that calls with it."""
        await self.data("POST", "/access/users", userid=userid)
        for path, role in (grants or {}).items():
            await self.data("PUT", "/access/acl", path=path, users=userid, roles=role)
        made = await self.data("POST", f"/access/users/{userid}/token/t", privsep=privsep)
        client = _client(self.app)
        client.headers["Authorization"] = f"PVEAPIToken={made['full-tokenid']}={made['value']}"
        return client


async def call(client: httpx.AsyncClient, method: str, path: str, /, **values: Any) -> httpx.Response:
    """One call; the values go into the query or a form."""
    where = "params" if method in ("GET", "DELETE") else "data"
    return await client.request(method, path, **{where: values})  # type: ignore[arg-type]


def _client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://pve:8006/api2/json")


def _marked(app: Any) -> Any:
    async def marked(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, LOCAL: True}, receive, send)

    return marked
