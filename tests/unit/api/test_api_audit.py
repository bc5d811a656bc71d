"""What the audit log says of calls, and who may read it."""

from typing import Any

import pytest

from bastide.api.branches import routes
from framework.api import Api, call

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse 1"


async def newest(api: Api, **wanted: Any) -> dict[str, Any]:
    rows = await api.data("GET", "/bastide/audit", limit=1, **wanted)
    assert rows, "nothing was recorded"
    return dict(rows[0])


async def test_a_write_is_recorded_with_who_what_and_the_task(api: Api) -> None:
    answer = await call(
        api.root, "POST", "/nodes/pve/lxc", vmid=100, ostemplate="local:vztmpl/debian-12-test_1_amd64.tar.gz",
        password="hunter2hunter2", rootfs="local:1",
    )  # fmt: skip
    row = await newest(api)
    assert row["user"] == "root@pam"
    assert row["address"] == "socket"
    assert (row["method"], row["path"], row["status"]) == ("POST", "/api2/json/nodes/pve/lxc", 200)
    assert row["parameters"]["password"] == "***"
    assert row["parameters"]["vmid"] == "100"
    assert row["upid"] == answer.json()["data"]


async def test_looks_are_not_recorded(api: Api) -> None:
    await api.data("POST", "/access/users", userid="ada@pve")
    before = (await newest(api))["id"]
    await api.data("GET", "/cluster/resources")
    await api.data("POST", "/architect/advise")
    assert (await newest(api))["id"] == before


async def test_what_is_refused_is_recorded(api: Api) -> None:
    ada = await api.token()
    await call(ada, "DELETE", "/access/users/root@pam")
    row = await newest(api, failed=1)
    assert (row["user"], row["status"]) == ("ada@pve!t", 403)
    await call(api.root, "PUT", "/access/password", userid="ada@pve", pasword="hunter2hunter2")
    row = await newest(api, failed=1)
    assert row["status"] == 400
    assert row["parameters"]["pasword"] == "***"
    assert "pasword" in row["error"]
    await call(api.root, "POST", "/no/such/method")
    assert (await newest(api))["status"] == 501


async def test_of_a_stranger_the_body_is_not_in_the_log(api: Api) -> None:
    await call(api.client, "POST", "/nodes/pve/lxc", vmid="hunter2")
    row = await newest(api)
    assert (row["user"], row["status"]) == ("", 401)
    assert "parameters" not in row
    api.client.headers["Authorization"] = "PVEAPIToken=eve@pve!guess=hunter2hunter2"
    await call(api.client, "GET", "/version")
    row = await newest(api)
    assert (row["event"], row["user"], row["status"]) == ("login", "eve@pve!guess", 401)
    assert "hunter2" not in str(row)


async def test_logins_are_recorded_renewals_are_not(api: Api) -> None:
    await api.data("POST", "/access/users", userid="ada@pve", password=PASSWORD)
    await call(api.client, "POST", "/access/ticket", username="ada", realm="pve", password="wrong")
    row = await newest(api)
    assert (row["event"], row["user"], row["status"]) == ("login", "ada@pve", 401)
    answer = await call(api.client, "POST", "/access/ticket", username="ada", realm="pve", password=PASSWORD)
    row = await newest(api)
    assert (row["event"], row["user"], row["status"]) == ("login", "ada@pve", 200)
    ticket = answer.json()["data"]["ticket"]
    await call(api.client, "POST", "/access/ticket", username="ada@pve", password=ticket)
    assert (await newest(api))["id"] == row["id"]
    assert PASSWORD not in str(await api.data("GET", "/bastide/audit"))


async def test_who_may_read_it(api: Api) -> None:
    ada = await api.token()
    assert (await call(ada, "GET", "/bastide/audit")).status_code == 403
    auditor = await api.token("eve@pve", grants={"/": "PVEAuditor"})
    assert (await call(auditor, "GET", "/bastide/audit")).status_code == 200


async def test_the_clusters_log_shows_ones_own_lines_else(api: Api) -> None:
    ada = await api.token()
    await call(ada, "DELETE", "/access/users/root@pam")
    own = (await call(ada, "GET", "/cluster/log", max=10)).json()["data"]
    assert {row["user"] for row in own} == {"ada@pve!t"}
    assert own[0]["msg"].startswith("DELETE /api2/json/access/users/root@pam from 127.0.0.1: 403 ")
    assert own[0]["pri"] == 4
    all_of_them = await api.data("GET", "/cluster/log", max=10)
    assert {"root@pam", "ada@pve!t"} <= {row["user"] for row in all_of_them}


async def test_an_error_is_recorded_and_what_was_lost_is_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.services.audit, "_append", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    assert (await call(api.root, "POST", "/access/users", userid="ada@pve")).status_code == 200
    answer = await call(api.root, "GET", "/bastide/audit")
    assert answer.json()["lost"] == 1


_LOOKING = {
    "/access/openid/auth-url",
    "/architect/advise",
    "/architect/placement",
    "/architect/plan",
    "/bastide/session",
}


def test_every_write_has_its_event() -> None:
    """A method that writes and is kept out of the log has to be named here."""
    silent = {route.path for route in routes() if (route.method != "GET" or route.websocket) and route.event is None}
    assert silent == _LOOKING
    assert all(route.event == "console" for route in routes() if route.websocket)
