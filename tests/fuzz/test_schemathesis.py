"""Requests made from the OpenAPI document, valid and not: the API never answers with an internal error.

Proxmox VE's API answers a missing guest with 500 and a text; those are answers on purpose. What must not happen is an
answer that says `internal error`, one that is not documented, or a daemon that stops answering.
"""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from bastide.api.branches import routes
from bastide.api.openapi import document, operation_id
from bastide.web.connection import GuardedProtocol
from bastide.web.marks import LOCAL
from bastide.web.status import install
from framework.api import Api

TEMPLATE = "local:vztmpl/debian-12-test_1_amd64.tar.gz"

# What would act on this machine or on the network, whatever rooms are behind the API.
ACTS_OUTSIDE = {
    "put_nodes_time", "post_storage", "put_storage_storage", "post_nodes_storage_content", "post_nodes_aplinfo",
    "get_nodes_aplinfo", "post_nodes_storage_download_url", "get_nodes_query_url_metadata",
    "get_bastide_images", "post_bastide_images_build", "post_bastide_images_pull", "get_bastide_guests_file",
    "put_bastide_guests_file", "delete_storage_storage",
}  # fmt: skip
# Handshakes of WebSockets, and a stream without an end; their unit tests are elsewhere.
SOCKETS = {operation_id(route) for route in routes() if route.websocket} | {"get_bastide_events"}

KNOWN = {"node": "pve", "storage": "local", "guest": "web", "userid": "ada@pve", "realm": "pve", "poolid": "team"}

schema = schemathesis.openapi.from_dict(document(routes(), "0")).exclude(
    operation_id=sorted((ACTS_OUTSIDE | SOCKETS) & {operation_id(route) for route in routes()})
)


@schema.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Half of the places are ones that exist, so that the request reaches what lies behind the parameters."""
    vmid = 102 if "/qemu/" in context.operation.path else 100
    for name, value in (path_parameters or {}).items():
        if name == "node" or len(str(value)) % 2:
            path_parameters[name] = KNOWN.get(name, vmid if name == "vmid" else value)  # type: ignore[index]
    return path_parameters


class Background:
    """The API over the fakes, served from a thread of its own to whoever asks as root."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self._folder = folder
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(20)

    async def _run(self) -> None:
        api = await Api.make(self._folder)
        for vmid, name in ((100, "web"), (101, "db")):
            await api.wait(
                await api.data(
                    "POST", "/nodes/pve/lxc", vmid=vmid, ostemplate=TEMPLATE, hostname=name, unprivileged="1"
                )
            )
        vm = {
            "name": "vm",
            "memory": 64,
            "agent": 1,
            "serial0": "socket",
            "scsi0": "local:1",
            "ide2": "local:cloudinit",
        }
        assert await api.wait(await api.data("POST", "/nodes/pve/qemu", vmid=102, start="1", **vm)) == "OK"
        await api.data("POST", "/access/users", userid="ada@pve")
        await api.data("POST", "/pools", poolid="team")
        install()

        async def as_root(scope: Any, receive: Any, send: Any) -> None:
            await api.app({**scope, LOCAL: True}, receive, send)

        config = uvicorn.Config(
            as_root, port=0, http=GuardedProtocol, ws="none", lifespan="off", log_config=None, access_log=False
        )
        self.server = uvicorn.Server(config)
        task = asyncio.create_task(self.server._serve())
        while not self.server.started:
            await asyncio.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        self._ready.set()
        await task
        await api.services.rooms.tasks.shutdown()


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Background]:
    with Background(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


# Under ids of our own: pytest-xdist runs tests that share one, as `schema.parametrize()` names them, a single time.
OPERATIONS = {found.ok().definition.raw["operationId"]: found.ok() for found in schema.get_all_operations()}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@given(data=st.data())
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_no_request_breaks_the_api(name: str, data: st.DataObject, background: Background) -> None:
    mode = data.draw(st.sampled_from(GenerationMode))
    case = data.draw(OPERATIONS[name].as_strategy(generation_mode=mode))
    response = case.call(base_url=background.url, timeout=30)
    text = response.content.decode("utf-8", "replace")
    assert "internal error" not in text, f"{case.as_curl_command()}\n{text}"
    assert response.status_code in (200, 400, 401, 403, 413, 415, 500, 501), text
    case.validate_response(response, excluded_checks=[not_a_server_error], checks=[body_is_as_promised])


def body_is_as_promised(_context: Any, response: Any, _case: Any) -> None:
    """`data` always, and a message with every error; nothing with a 401."""
    if response.status_code == 401:
        assert response.content == b""
        return
    if response.headers.get("content-type", [""])[0].startswith(("text/", "image/")):
        return
    body = response.json()
    assert "data" in body
    if response.status_code != 200:
        assert body["message"].endswith("\n")
        assert body["message"].splitlines()[0]


def test_the_api_still_answers(background: Background) -> None:
    """Last, after all the rest of this file."""
    assert httpx.get(f"{background.url}/api2/json/version").status_code == 200
