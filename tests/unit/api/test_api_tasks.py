"""Finding the route of a request, and waiting for a task."""

import asyncio
from typing import Any

import pytest
from starlette.routing import Match

from bastide.api import branches
from bastide.api.app import PREFIXES, _mounted
from bastide.model.access import ROOT
from bastide.tasks.tasks import Task
from framework.api import Api, call

pytestmark = pytest.mark.anyio


def _scope(method: str, path: str) -> dict[str, Any]:
    kind = "websocket" if method == "WEBSOCKET" else "http"
    return {"type": kind, "method": method, "path": path, "headers": [], "path_params": {}, "root_path": ""}


async def test_a_request_finds_the_route_that_all_asked_in_turn_would_give(api: Api) -> None:
    declared = branches.routes()
    every = [_mounted(prefix, route, api.services) for prefix in PREFIXES for route in declared]
    paths = {f"/api2/json{route.path.replace('{', '').replace('}', '')}" for route in declared}
    paths |= {f"{path}/a/b" for path in paths} | {"/", "/api2/json", "/x/y", "/api2/json/nodes/n/lxc/100/snapshot/s/"}
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "WEBSOCKET"):
        for path in sorted(paths):
            wanted = next((r for r in every if r.matches(_scope(method, path))[0] is Match.FULL), None)
            match, child = api.app.router.routes[0].matches(_scope(method, path))
            assert (match is Match.FULL) == (wanted is not None), (method, path)
            if wanted is not None:
                assert child["bastide.route"].path == wanted.path
                assert child["path_params"] == wanted.matches(_scope(method, path))[1]["path_params"]


async def test_the_end_of_a_task_is_told_when_it_comes(api: Api) -> None:
    go = asyncio.Event()

    async def work(task: Task) -> None:
        await go.wait()
        task.log("done")

    upid = await api.services.rooms.tasks.start("vzstart", "100", ROOT, work)
    running = await api.data("GET", f"/bastide/tasks/{upid}", wait=0)
    assert running["status"] == "running"
    assert "log" not in running
    waiting = asyncio.create_task(api.data("GET", f"/bastide/tasks/{upid}", start=0))
    await asyncio.sleep(0.01)
    go.set()
    news = await waiting
    assert news["log"][0] == {"n": 1, "t": "done"}
    ended = await api.data("GET", f"/bastide/tasks/{upid}")
    assert (ended["status"], ended["exitstatus"]) == ("stopped", "OK")


async def test_another_users_task_is_not_told(api: Api) -> None:
    upid = await api.services.rooms.tasks.start("vzstart", "100", ROOT, lambda _task: asyncio.sleep(0))
    ada = await api.token()
    assert (await call(ada, "GET", f"/bastide/tasks/{upid}")).status_code == 403
    assert (await call(api.root, "GET", f"/bastide/tasks/{upid}", wait=31)).status_code == 400
    assert (await call(api.root, "GET", f"/bastide/tasks/{str(upid).replace(':100:', ':101:')}")).status_code == 500
